"""What a number of seeds can show."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from trm_lab.stats import detectable_effect, seeds_needed, t_power

A = [0.61, 0.64, 0.58, 0.66, 0.60]
B = [0.55, 0.60, 0.57, 0.58, 0.56]


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("size", [0.3, 1.0, 1.3])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_power_is_statsmodels(n: int, size: float, level: float):
    alpha = 1 - level
    paired = TTestPower().power(size, n, alpha)
    unpaired = TTestIndPower().power(size, n, alpha)
    assert t_power(2 * size, 2.0, n, paired=True, level=level) == pytest.approx(paired, rel=1e-6)
    assert t_power(-2 * size, 2.0, n, paired=False, level=level) == pytest.approx(
        unpaired, rel=1e-6
    )


def test_without_an_effect_power_is_the_false_alarm_rate():
    assert t_power(0.0, 1.0, 5, paired=True) == pytest.approx(0.05)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [None, 3, 12])
def test_the_detectable_effect_has_the_power_asked(paired: bool, n: int | None):
    found = detectable_effect(A, B, paired=paired, n=n, power=0.9)
    assert found.n == (n or 5)
    assert t_power(found.effect, found.sd, found.n, paired=paired) == pytest.approx(0.9, abs=1e-9)
    assert (found.paired, found.power, found.level, found.descriptive) == (paired, 0.9, 0.95, False)


def test_the_spread_is_that_of_the_differences_or_pooled_within_arms():
    paired = detectable_effect(A, B, paired=True)
    assert paired.sd == pytest.approx(np.std(np.subtract(A, B), ddof=1))
    unpaired = detectable_effect(A, B, paired=False)
    assert unpaired.sd == pytest.approx(np.sqrt((np.var(A, ddof=1) + np.var(B, ddof=1)) / 2))
    # The interval of the effect is that of the standard deviation: chi-squared, 4 and 8 degrees.
    for found, df in ((paired, 4), (unpaired, 8)):
        ends = [np.sqrt(df / scipy_stats.chi2.ppf(q, df)) for q in (0.975, 0.025)]
        assert found.lower / found.effect == pytest.approx(ends[0])
        assert found.upper / found.effect == pytest.approx(ends[1])


def test_three_pairs_do_not_know_their_spread():
    found = detectable_effect(A[:3], B[:3], paired=True)
    assert found.descriptive
    assert found.upper / found.lower == pytest.approx(12.1, abs=0.1)


@given(st.floats(0.2, 5), st.booleans())
def test_seeds_needed_are_the_fewest(size: float, paired: bool):
    n = seeds_needed(size, 1.0, paired=paired)
    assert t_power(size, 1.0, n, paired=paired) >= 0.8
    assert n == 2 or t_power(size, 1.0, n - 1, paired=paired) < 0.8


def test_seeds_needed_of_the_textbook():
    """An effect of half a standard deviation takes 64 in each arm and 34 pairs (Cohen 1988)."""
    assert seeds_needed(0.5, 1.0, paired=False) == 64
    assert seeds_needed(-0.5, 1.0, paired=True) == 34


@given(st.permutations(range(5)), st.floats(0.1, 10), st.floats(-5, 5), st.booleans())
def test_order_shift_and_scale_are_followed(order, scale, shift, paired):
    a, b = ([scale * x[i] + shift for i in order] for x in (A, B))
    found, plain = detectable_effect(a, b, paired=paired), detectable_effect(A, B, paired=paired)
    assert found.effect == pytest.approx(scale * plain.effect, rel=1e-9)


def test_what_has_no_power_is_refused():
    with pytest.raises(ValueError, match="2 seeds or more, not 1"):
        t_power(1.0, 1.0, 1, paired=True)
    with pytest.raises(ValueError, match="2 seeds or more, not 1"):
        detectable_effect(A, B, paired=True, n=1)
    with pytest.raises(ValueError, match="2 seeds or more in each arm, not 1"):
        detectable_effect([0.5], [0.4], paired=True)
    with pytest.raises(ValueError, match="5 and 4 values do not pair"):
        detectable_effect(A, B[:4], paired=True)
    with pytest.raises(ValueError, match="standard deviation is positive, not 0"):
        seeds_needed(0.1, 0.0, paired=True)
    with pytest.raises(ValueError, match="an effect of 0 is found by no number"):
        seeds_needed(0.0, 1.0, paired=True)
    with pytest.raises(ValueError, match="more than 10000000 seeds"):
        seeds_needed(1e-9, 1.0, paired=True)
    with pytest.raises(ValueError, match="power is a fraction between 0 and 1, not 80"):
        detectable_effect(A, B, paired=True, power=80)
    with pytest.raises(ValueError, match=r"power 0\.05 is what no effect gives"):
        detectable_effect(A, B, paired=True, power=0.05)


def test_the_spread_of_pairs_is_that_of_equal_labels():
    a = pd.Series([0.5, 0.6, 0.72], index=[0, 1, 2])
    b = pd.Series([0.7, 0.59, 0.49], index=[2, 1, 0])
    assert detectable_effect(a, b, paired=True).sd == pytest.approx(np.std([1, 1, 2], ddof=1) / 100)
