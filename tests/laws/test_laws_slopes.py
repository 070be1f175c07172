"""Values, slopes and centring of every law."""

import numpy as np
import pytest
from law_cases import CASES, Case, columns, name
from scipy.optimize import brentq

from trm_lab.errors import ConfigError
from trm_lab.laws import (
    BNSL,
    GROUP,
    LAWS,
    M3,
    M4,
    EffectiveN,
    Grouped,
    Law,
    Logistic,
    NeverSolved,
    Power,
    PowerError,
    Saturating,
    SumPower,
    TestTime,
)

every_case = pytest.mark.parametrize("case", CASES, ids=name)
X = np.array([6.0, 12.0, 18.0, 36.0, 54.0, 80.0])


def differences(function, at: np.ndarray) -> np.ndarray:
    """Give central differences along the last axis, of second order: their error is near 1e-10."""
    result = []
    for k in range(len(at)):
        step = np.zeros(len(at))
        step[k] = 6e-6 * max(abs(at[k]), 0.1)
        result.append((function(at + step) - function(at - step)) / (2 * step[k]))
    return np.stack(result, axis=-1)


def test_every_law_has_an_instance():
    assert {type(law) for law, _ in CASES} == set(LAWS)


@every_case
def test_the_jacobian_is_that_of_central_differences(case: Case):
    law, params = case[0], np.array(case[1])
    where = columns(law)
    got = law.jacobian(params, where)
    numeric = differences(lambda p: law.value(p, where), params)
    assert got.shape == (60, len(law.names))
    for k, one in enumerate(law.names):
        scale = np.abs(got[:, k]).max()
        np.testing.assert_allclose(got[:, k], numeric[:, k], atol=2e-8 * scale, err_msg=one)


@every_case
def test_the_slopes_are_those_of_the_columns_at_any_centre(case: Case):
    law, params = case[0], np.array(case[1])
    where = columns(law)
    centre = law.centre(where)
    at = params[law.linear :]
    got = law.slopes(at, where, centre)
    assert got.shape == (60, law.linear, len(at))
    if got.size:
        numeric = differences(lambda one: law.columns(one, where, centre), at)
        np.testing.assert_allclose(got, numeric, atol=1e-7 * max(np.abs(got).max(), 1))


@every_case
def test_amplitudes_translate_between_centre_and_origin(case: Case):
    law, params = case[0], np.array(case[1])
    where = columns(law)
    centre = law.centre(where)
    inner = law.from_own(params, centre)
    np.testing.assert_allclose(law.own(inner, centre), params, rtol=1e-14)
    np.testing.assert_allclose(
        law.centred(inner, where, centre)[0], law.value(params, where), rtol=1e-13
    )
    numeric = differences(lambda p: law.own(p, centre), inner)
    got = law.own_jacobian(inner, centre)
    np.testing.assert_allclose(got, numeric, atol=1e-7 * np.abs(got).max())


AMPLITUDES = {
    "power": {"A"}, "power_floor": {"A"}, "test_time": {"Z"}, "m3": {"B"}, "m4": {"b"},
    "bnsl": {"b"}, "saturating": {"a"}, "power_error": {"a"},
}  # fmt: skip


@every_case
def test_amplitudes_are_what_the_centre_moves(case: Case):
    law, where = case[0], columns(case[0], 2.0)  # from 2 on: at 1 some have their centre
    expected = AMPLITUDES.get(law.name, {one for one in law.names if one.startswith("A_")})
    assert law.moved_by(where, law.centre(where)) == expected
    assert law.moved_by(where, {}) == set()


@every_case
def test_parameters_broadcast_over_leading_axes(case: Case):
    law, params = case[0], np.array(case[1])
    where = columns(law)
    many = params * np.array([[1.0], [1.02], [0.98]])
    values, slopes = law.value(many, where), law.jacobian(many, where)
    assert values.shape == (3, 60)
    assert slopes.shape == (3, 60, len(params))
    for i in range(3):
        np.testing.assert_allclose(values[i], law.value(many[i], where), rtol=1e-13)
        np.testing.assert_allclose(slopes[i], law.jacobian(many[i], where), rtol=1e-11, atol=1e-14)


@every_case
def test_linear_parameters_come_first_and_can_be_centred(case: Case):
    law, params = case[0], np.array(case[1])
    flags = [p.linear for p in law.parameters]
    assert flags == sorted(flags, reverse=True)
    where = columns(law)
    scales = law.factors(params[law.linear :], law.centre(where))
    for p, scale in zip(law.parameters, scales, strict=False):
        # an amplitude with another bound than 0 would change its meaning with the centre
        assert scale == 1 or (p.lower, p.upper) == (0, np.inf)
    for text in (law.source, law.formula, law.use, *(p.meaning for p in law.parameters)):
        assert text


@every_case
@pytest.mark.parametrize("stretch", [1.0, 1e9, 1e-6])
def test_the_box_is_a_range_for_any_unit_of_x(case: Case, stretch: float):
    law = case[0]
    where = columns(law, stretch)
    box = law.box(where)
    moving = [p for p in law.parameters if not p.linear]
    assert box.shape == (len(moving), 2)
    assert (box[:, 0] < box[:, 1]).all()
    if not isinstance(law, M4):  # M4 is not scanned
        for nonlinear in box.T:
            assert np.isfinite(law.factors(nonlinear, law.centre(where))).all()


@pytest.mark.parametrize(
    "x", [np.array([1e6, 1e6 + 1]), np.array([1e-3, 1e15]), np.array([2.0, 2.0, 4.0])]
)
@pytest.mark.parametrize("law", [Saturating("x"), PowerError("x"), TestTime("x")], ids=str)
def test_the_box_is_a_range_for_any_spacing(law: Law, x: np.ndarray):
    low, high = law.box({"x": x})[0]
    assert 0 < low < high < np.inf
    for nonlinear in (low, high):
        assert np.isfinite(law.columns(np.array([nonlinear]), {"x": x}, law.centre({"x": x}))).all()


def test_the_laws_are_their_formulas():
    where = {"x": X, "N": X, "D": 7 * X, "r": X / 6, "T": X, "T_train": np.full(6, 9.0)}

    def close(law: Law, params: list[float], expected: np.ndarray) -> None:
        np.testing.assert_allclose(law.value(np.array(params), where), expected, rtol=1e-13)

    close(Saturating("x"), [0.85, 0.9, 20], 0.85 - 0.9 * np.exp(-X / 20))
    close(PowerError("x"), [0.1, 3.0, 0.8], 0.9 - 3.0 * X**-0.8)
    close(Power("x"), [3, -0.2], 3 * X**0.2)
    close(SumPower("N", "D"), [1, 2, 3, 0.4, 0.5], 1 + 2 * X**-0.4 + 3 * (7 * X) ** -0.5)
    close(SumPower("N", "D", shared=True), [1, 2, 3, 0.4], 1 + 2 * X**-0.4 + 3 * (7 * X) ** -0.4)
    effective = X + (X / 6) ** 0.46 * 7 * X
    close(SumPower(EffectiveN("N", "D", r="r")), [1, 2, 0.4, 0.46], 1 + 2 * effective**-0.4)
    two = X + (X / 6 + 1) ** 0.3 * X**0.7 * 7 * X
    close(SumPower(EffectiveN("N", "D", n="r", T="T")), [1, 2, 0.4, 0.3, 0.7], 1 + 2 * two**-0.4)
    close(TestTime("T", train="T_train"), [1, 2, 0.5], 1 + 2 * np.exp(-0.5 * X / 9))
    close(M3("x"), [2, 0.5, 0.1], 2 * (1 / X + 0.1) ** 0.5)
    rise = 1 / (1 + np.exp(-1.5 * (np.log(X) - 3)))
    close(Logistic("x", chance=None), [0.9, 0.1, 3, 1.5], 0.1 + 0.8 * rise)
    close(NeverSolved("x"), [0.8, 20, 1.3], 0.8 * (1 - np.exp(-((X / 20) ** 1.3))))
    broken = 0.2 + 2 * X**-0.3 * (1 + (X / 20) ** (1 / 0.7)) ** (-0.4 * 0.7)
    close(BNSL("x"), [0.2, 2, 0.3, 0.4, 20, 0.7], broken)


def test_m4_solves_its_equation():
    e_inf, e_0, a, b, c = params = np.array([0.5, 9, 2.7, 30, 0.6])
    y = M4("x").value(params, {"x": X})
    np.testing.assert_allclose((y - e_inf) / (e_0 - y) ** a, b * X**-c, rtol=1e-12)
    by_bisection = [
        brentq(lambda v, x=x: v - e_inf - (e_0 - v) ** a * b * x**-c, e_inf, e_0, xtol=1e-14)
        for x in X
    ]
    np.testing.assert_allclose(y, by_bisection, rtol=1e-12)


@pytest.mark.parametrize("law", [Saturating("x"), PowerError("x")], ids=str)
def test_accuracy_rises_with_x_and_stays_below_the_ceiling(law: Law):
    params = np.array([0.85, 0.9, 20.0] if law.name == "saturating" else [0.1, 3.0, 0.8])
    values = law.value(params, {"x": np.linspace(6, 1e4, 200)})
    assert (np.diff(values) >= 0).all()
    assert values.max() <= (0.85 if law.name == "saturating" else 0.9)


def test_x_outside_a_law_is_refused():
    Saturating("x").check({"x": np.array([0.0, 1.0])})
    with pytest.raises(ConfigError, match=r"law power_error .*: x must be .* above 0, not 0"):
        PowerError("x").check({"x": np.array([0.0, 1.0])})
    with pytest.raises(ConfigError, match=r"law saturating .*: x must be 0 or more, not -1"):
        Saturating("x").check({"x": np.array([-1.0, 1.0])})
    with pytest.raises(ConfigError, match="not nan"):
        Saturating("x").check({"x": np.array([np.nan])})
    with pytest.raises(ConfigError, match=r"law sum_power .*: D must be finite and above 0"):
        SumPower("N", "D").check({"N": X, "D": np.array([1.0, -2.0])})


@pytest.mark.parametrize("share", [(), ("alpha_N",), ("A_N", "alpha_N"), ("E", "A_D")])
def test_a_law_of_groups_is_the_law_in_every_group(share: tuple[str, ...]):
    law = Grouped(SumPower("N", "D"), ("a", "b"), share)
    which = np.arange(60) % 2
    where = {**columns(law.law), GROUP: which.astype(float)}
    params = np.random.default_rng(1).uniform(0.2, 1, len(law.names))
    values = law.value(params, where)
    for g, group in enumerate(law.groups):
        own = [
            params[law.names.index(one if one in share else f"{one}[{group}]")]
            for one in law.law.names
        ]
        part = {key: values[which == g] for key, values in columns(law.law).items()}
        expected = law.law.value(np.array(own), part)
        np.testing.assert_allclose(values[which == g], expected, rtol=1e-14)
    numeric = differences(lambda p: law.value(p, where), params)
    np.testing.assert_allclose(law.jacobian(params, where), numeric, atol=1e-8)
    centre = law.centre(where)
    inner = law.from_own(params, centre)
    np.testing.assert_allclose(law.own(inner, centre), params, rtol=1e-14)
    np.testing.assert_allclose(law.centred(inner, where, centre)[0], values, rtol=1e-13)
    outer = differences(lambda p: law.own(p, centre), inner)
    np.testing.assert_allclose(law.own_jacobian(inner, centre), outer, atol=1e-7)
