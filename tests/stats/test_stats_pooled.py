"""The arm x seed pooled variance, Dunnett and Holm."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from trm_lab.stats import (
    dunnett,
    holm,
    paired_difference,
    paired_dunnett,
    pooled_difference,
)
from trm_lab.stats.comparisons import _critical, _outside

RNG = np.random.default_rng(4)
SEEDS = RNG.normal(0, 0.05, 5)
ARMS = [dict(enumerate(0.5 + 0.03 * k + SEEDS + RNG.normal(0, 0.02, 5))) for k in range(4)]


def test_two_arms_alone_are_the_paired_t_interval():
    found, expected = pooled_difference(*ARMS[:2]), paired_difference(*ARMS[:2])
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), rel=1e-9)
    assert found.method == (
        "arm x seed pooled variance over paired seeds, 2 arms, 4 degrees of freedom"
    )


def test_it_is_the_contrast_of_the_two_way_additive_model():
    rows = [(f"a{i}", f"s{j}", y) for i, arm in enumerate(ARMS) for j, y in arm.items()]
    data = pd.DataFrame(rows, columns=["arm", "seed", "y"])
    model = ols("y ~ C(arm) + C(seed)", data).fit()
    test = model.t_test("C(arm)[T.a2] = 0")
    found = pooled_difference(ARMS[2], ARMS[0], [ARMS[1], ARMS[3]])
    assert found.estimate == pytest.approx(test.effect[0], rel=1e-9)
    np.testing.assert_allclose((found.lower, found.upper), test.conf_int()[0], rtol=1e-9)
    assert found.method.endswith("4 arms, 12 degrees of freedom")
    assert found.n == 5


def test_a_small_example_by_hand():
    """Arms (0, 2), (1, 1), (2, 3) on two seeds: 2 degrees, residual sum of squares 1."""
    a, b, c = {0: 0.0, 1: 2.0}, {0: 1.0, 1: 1.0}, {0: 2.0, 1: 3.0}
    found = pooled_difference(b, a, [c])
    # Row deviations (second minus first) are 2, 0, 1: residual sum of squares (1 + 1 + 0) / 2 = 1.
    error = np.sqrt(2 * (1 / 2) / 2)
    half = scipy_stats.t.ppf(0.975, 2) * error
    assert (found.estimate, found.n, found.descriptive) == (0.0, 2, True)
    assert (found.lower, found.upper) == pytest.approx((-half, half))


def test_a_run_that_another_arm_lacks_costs_one_degree_and_no_pair():
    lacking = {seed: y for seed, y in ARMS[2].items() if seed != 3}
    found = pooled_difference(ARMS[1], ARMS[0], [lacking, ARMS[3]])
    full = pooled_difference(ARMS[1], ARMS[0], [ARMS[2], ARMS[3]])
    assert found.estimate == full.estimate
    assert found.n == 5
    assert "4 arms, 11 degrees of freedom" in found.method


def test_arms_without_a_common_seed_add_nothing():
    away = {seed + 100: y for seed, y in ARMS[2].items()}
    found, alone = pooled_difference(ARMS[0], ARMS[1], [away]), pooled_difference(*ARMS[:2])
    assert (found.lower, found.method) == (pytest.approx(alone.lower, rel=1e-9), alone.method)


@pytest.mark.parametrize("arms", [({0: 0.5}, {0: 0.4}), ({0: 0.5}, {1: 0.4})])
def test_one_pair_or_none_has_no_interval(arms):
    found = pooled_difference(*arms, [{0: 0.3}])
    assert np.isnan([found.lower, found.upper]).all()
    assert found.n == (0 in arms[1])
    assert np.isnan(found.estimate) == (found.n == 0)


@given(st.permutations(range(5)), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_shift_and_scale_are_followed(order, scale, shift):
    moved = [{seed: scale * arm[seed] + shift for seed in order} for arm in ARMS]
    found = pooled_difference(moved[1], moved[0], moved[:1:-1])
    plain = pooled_difference(ARMS[1], ARMS[0], ARMS[2:])
    for name in ("estimate", "lower", "upper"):
        assert getattr(found, name) == pytest.approx(scale * getattr(plain, name), abs=1e-9)


# Many comparisons


def test_dunnett_is_scipys():
    values = {f"arm {k}": list(arm.values()) for k, arm in enumerate(ARMS[1:])}
    control = list(ARMS[0].values())
    expected = scipy_stats.dunnett(*values.values(), control=control, rng=np.random.default_rng(0))
    found = dunnett(values, control)
    assert list(found) == list(values)
    assert [row.p for row in found.values()] == expected.pvalue.tolist()
    ends = expected.confidence_interval(0.95)
    assert [row.difference.lower for row in found.values()] == ends.low.tolist()
    assert (
        found["arm 1"].difference.method == "Dunnett over unpaired seeds, 3 arms against a control"
    )
    assert found == dunnett(values, control)


@pytest.mark.parametrize(("k", "df", "edge"), [(2, 5, 3.03), (3, 10, 2.76), (9, 20, 2.95)])
def test_critical_values_are_those_of_dunnetts_table(k: int, df: int, edge: float):
    """Dunnett 1964 (Biometrics 20), table of the two-sided 5 % points, two decimals."""
    assert round(_critical(k, df, 0.95), 2) == edge


@pytest.mark.parametrize("df", [1, 2, 5, 30])
def test_one_contrast_has_students_distribution(df: int):
    for edge in (0.1, 1.0, 5.0):
        assert _outside(edge, 1, df) == pytest.approx(2 * scipy_stats.t.sf(edge, df), rel=1e-9)
    assert _critical(1, df, 0.9) == pytest.approx(scipy_stats.t.ppf(0.95, df), rel=1e-9)


def test_the_paired_dunnett_has_dunnetts_p_at_the_pooled_t():
    """The same t and degrees in scipy's one-way test give the same p."""
    found = paired_dunnett({"1": ARMS[1], "2": ARMS[2], "3": ARMS[3]}, ARMS[0])
    pooled = pooled_difference(ARMS[2], ARMS[0], [ARMS[1], ARMS[3]])
    row = found["2"].difference
    assert row.estimate == pytest.approx(pooled.estimate, rel=1e-12)
    stretch = _critical(3, 12, 0.95) / scipy_stats.t.ppf(0.975, 12)
    assert row.upper - row.lower == pytest.approx(stretch * (pooled.upper - pooled.lower), rel=1e-9)
    assert row.method.endswith("3 arms against a control, 12 degrees of freedom")
    # One-way with four groups of 4 has 12 degrees too.
    t = row.estimate / ((row.upper - row.lower) / 2 / _critical(3, 12, 0.95))
    base = np.array([-1.0, 1.0, -1.0, 1.0])
    spread = np.sqrt(4 / 3)
    groups = [base * 1.0, base + t * spread * np.sqrt(2 / 4), base - 0.5]
    expected = scipy_stats.dunnett(*groups[1:], base, control=groups[0]).pvalue[0]
    assert found["2"].p == pytest.approx(expected, abs=2e-4)


def test_the_paired_dunnett_of_one_arm_is_the_paired_t_test():
    found = paired_dunnett({"only": ARMS[1]}, ARMS[0])["only"]
    expected = scipy_stats.ttest_rel(list(ARMS[1].values()), list(ARMS[0].values()))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    np.testing.assert_allclose(
        (found.difference.lower, found.difference.upper), expected.confidence_interval(), rtol=1e-8
    )


def test_what_dunnett_cannot_compare_is_refused():
    with pytest.raises(ValueError, match="two seeds or more in every arm: b, control"):
        dunnett({"a": [1, 2], "b": [1]}, [1])
    with pytest.raises(ValueError, match="all values within each arm are equal"):
        dunnett({"a": [1, 1]}, [2, 2])
    with pytest.raises(ValueError, match="no arms"):
        dunnett({}, [1, 2])
    with pytest.raises(ValueError, match="no arms"):
        paired_dunnett({}, ARMS[0])
    with pytest.raises(ValueError, match="not the seeds of the control: short"):
        paired_dunnett({"short": {0: 1.0}}, ARMS[0])
    with pytest.raises(ValueError, match="two seeds or more, not 1"):
        paired_dunnett({"a": {0: 1.0}}, {0: 0.5})
    with pytest.raises(ValueError, match="every seed shifts all arms alike"):
        paired_dunnett({"a": {0: 1.0, 1: 2.0}}, {0: 0.0, 1: 1.0})


def test_holm_by_hand():
    """0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to the one before it."""
    assert holm({"b": 0.04, "a": 0.01, "c": 0.03}) == pytest.approx(
        {"b": 0.06, "a": 0.03, "c": 0.06}
    )
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@pytest.mark.slow
@settings(max_examples=8)  # statsmodels collects garbage in every call: 0.1 s and more
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_statsmodels_and_between_p_and_bonferroni(p):
    found = list(holm({str(i): value for i, value in enumerate(p)}).values())
    assert found == multipletests(p, method="holm")[1].tolist()
    assert all(v <= f <= min(1, len(p) * v) + 1e-12 for v, f in zip(p, found, strict=True))


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match=r"p values lie in \[0, 1\]"):
        holm({"a": 1.2})
    with pytest.raises(ValueError, match="expected finite values"):
        holm({"a": float("nan")})
