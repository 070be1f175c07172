import numpy as np
import pytest
from scipy.optimize import approx_fprime

from trm_lab.errors import ConfigError
from trm_lab.laws import LAWS, Law, PowerError, Saturating, law

X = np.array([6.0, 12.0, 18.0, 36.0, 54.0, 80.0])
PARAMS = {"saturating": np.array([0.85, 0.9, 20.0]), "power": np.array([0.1, 3.0, 0.8])}

every_law = pytest.mark.parametrize("one", LAWS, ids=lambda one: one.name)


def test_the_laws_are_their_formulas():
    np.testing.assert_allclose(
        Saturating().value(PARAMS["saturating"], X), 0.85 - 0.9 * np.exp(-X / 20), rtol=1e-15
    )
    np.testing.assert_allclose(
        1 - PowerError().value(PARAMS["power"], X), 0.1 + 3.0 * X**-0.8, rtol=1e-14
    )


@every_law
def test_the_jacobian_is_that_of_finite_differences(one: Law):
    params = PARAMS[one.name]
    numeric = approx_fprime(params, lambda p: one.value(p, X), 1e-7 * np.abs(params))
    np.testing.assert_allclose(one.jacobian(params, X), numeric, rtol=1e-5, atol=1e-9)


@every_law
def test_the_slopes_are_those_of_the_columns_at_any_origin(one: Law):
    at = PARAMS[one.name][one.linear :]
    step = 1e-6 * at
    numeric = (one.columns(at + step, X, 6.0) - one.columns(at - step, X, 6.0)) / (2 * step)
    np.testing.assert_allclose(one.slopes(at, X, 6.0)[..., 0], numeric, rtol=1e-7, atol=1e-12)


@every_law
def test_amplitudes_translate_between_origins(one: Law):
    params = PARAMS[one.name]
    nonlinear = params[one.linear :]
    inner = params[: one.linear] / one.amplitudes(nonlinear, 6.0)
    moved = one.offset + one.columns(nonlinear, X, 6.0) @ inner
    np.testing.assert_allclose(moved, one.value(params, X), rtol=1e-13)


@every_law
def test_parameters_broadcast_over_leading_axes(one: Law):
    params = PARAMS[one.name] * np.array([[1.0], [1.1], [0.9]])
    values, slopes = one.value(params, X), one.jacobian(params, X)
    assert values.shape == (3, 6)
    assert slopes.shape == (3, 6, 3)
    for i in range(3):
        np.testing.assert_allclose(values[i], one.value(params[i], X), rtol=1e-14)
        np.testing.assert_allclose(slopes[i], one.jacobian(params[i], X), rtol=1e-14)


@every_law
def test_accuracy_rises_with_x_and_stays_below_the_ceiling(one: Law):
    values = one.value(PARAMS[one.name], np.linspace(6, 1e4, 200))
    assert (np.diff(values) >= 0).all()
    assert values.max() <= (0.85 if one.name == "saturating" else 0.9)


@every_law
def test_linear_parameters_come_first_and_bounds_survive_a_change_of_origin(one: Law):
    flags = [p.linear for p in one.parameters]
    assert flags == sorted(flags, reverse=True)
    scales = one.amplitudes(PARAMS[one.name][one.linear :], 6.0)
    for p, scale in zip(one.parameters, scales, strict=False):
        assert scale == 1 or (p.lower, p.upper) == (0, np.inf)
    assert one.source
    assert one.formula


@every_law
def test_the_box_is_a_range_for_any_x(one: Law):
    for x in (X, np.array([1e6, 1e6 + 1]), np.array([1e-3, 1e15]), np.array([2.0, 2.0, 4.0])):
        low, high = one.box(x)[0]
        assert 0 < low < high < np.inf
        for nonlinear in (low, high):
            assert np.isfinite(one.amplitudes(np.array([nonlinear]), float(x.min()))).all()


def test_laws_are_values():
    assert Saturating() == Saturating()
    assert law("power") == PowerError()
    with pytest.raises(ConfigError, match=r"'satrating' is not one of saturating, power; did you"):
        law("satrating")


def test_x_outside_a_law_is_refused():
    Saturating().check_x(np.array([0.0, 1.0]))
    with pytest.raises(ConfigError, match=r"law power .*: x must be above 0, not 0"):
        PowerError().check_x(np.array([0.0, 1.0]))
    with pytest.raises(ConfigError, match=r"law saturating .*: x must be 0 or more, not -1"):
        Saturating().check_x(np.array([-1.0, 1.0]))
    with pytest.raises(ConfigError, match="not nan"):
        Saturating().check_x(np.array([np.nan]))
