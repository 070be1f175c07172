"""Puzzle sampling error: shares, and two runs on the same puzzles."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar as theirs

from trm_lab.stats import clopper_pearson, mcnemar, wilson


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_is_scipys(k: int, n: int):
    k = min(k, n)
    found = wilson(k, n)
    expected = scipy_stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert (found.lower, found.upper) == (expected.low, expected.high)
    assert 0 <= found.lower <= found.estimate <= found.upper <= 1
    assert found.method == "Wilson score over puzzles"


def test_none_of_400_puzzles_is_still_up_to_one_in_a_hundred():
    assert wilson(0, 400).upper == pytest.approx(0.0095, abs=1e-4)
    # Clopper and Pearson of none: 1 - 0.025**(1 / n).
    assert clopper_pearson(0, 400).upper == pytest.approx(1 - 0.025 ** (1 / 400), rel=1e-9)


@given(st.integers(1, 60), st.data())
def test_the_exact_interval_has_tails_of_a_fortieth(n: int, data):
    k = data.draw(st.integers(0, n))
    found = clopper_pearson(k, n)
    assert found.method == "Clopper-Pearson over puzzles"
    if k > 0:
        assert scipy_stats.binom.sf(k - 1, n, found.lower) == pytest.approx(0.025, rel=1e-6)
    if k < n:
        assert scipy_stats.binom.cdf(k, n, found.upper) == pytest.approx(0.025, rel=1e-6)


def test_a_share_of_nothing_is_nothing():
    assert np.isnan(wilson(0, 0).estimate)
    assert np.isnan(clopper_pearson(0, 0).upper)
    with pytest.raises(ValueError, match="5 of 4 puzzles"):
        wilson(5, 4)
    with pytest.raises(ValueError, match="level is a fraction between 0 and 1, not 95"):
        wilson(1, 4, 95)


def test_a_count_is_a_whole_number():
    assert wilson(0.29 * 100, 100) == wilson(29, 100)  # 28.999999999999996
    assert clopper_pearson(3.0, 10.0) == clopper_pearson(3, 10)
    for k, n in ((2.5, 5), (2, 5.5), (28.9999, 100), (np.nan, 5)):
        with pytest.raises(ValueError, match="puzzles: a count is a whole number"):
            wilson(k, n)


def test_series_of_puzzles_are_paired_by_their_labels():
    a, b = pd.Series([1, 0, 1], index=["p", "q", "r"]), pd.Series([0, 1, 0], index=["q", "r", "p"])
    assert (mcnemar(a, b).both, mcnemar(a, b).only_a, mcnemar(a, b).neither) == (1, 1, 1)
    with pytest.raises(ValueError, match="two Series pair by their labels: one lacks r, s"):
        mcnemar(a, pd.Series([0, 1, 0], index=["q", "p", "s"]))


def outcomes(both: int, only_a: int, only_b: int, neither: int):
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    return a, b


def test_mcnemar_of_the_published_example():
    """Fagerland et al. 2013, table 1: 1, 1, 7, 12; exact 0.0703, mid-p 0.0391."""
    a, b = outcomes(1, 1, 7, 12)
    mid, exact = mcnemar(a, b), mcnemar(a, b, method="exact")
    assert (mid.both, mid.only_a, mid.only_b, mid.neither) == (1, 1, 7, 12)
    assert round(mid.p, 4) == 0.0391
    assert round(exact.p, 4) == 0.0703
    assert (mid.method, exact.method) == ("mid-p", "exact")
    assert mid.difference.estimate == pytest.approx(-6 / 21)
    assert mid.difference.n == 21


def test_the_adjusted_wald_interval_by_hand():
    """One in each cell is added: (2 - 8) / 23, and its variance with 23 puzzles."""
    found = mcnemar(*outcomes(1, 1, 7, 12)).difference
    a, b = 2 / 23, 8 / 23
    half = scipy_stats.norm.ppf(0.975) * np.sqrt((a + b - (a - b) ** 2) / 23)
    assert (found.lower, found.upper) == pytest.approx((a - b - half, a - b + half))


@given(*[st.integers(0, 30)] * 4)
def test_exact_is_statsmodels_and_mid_p_takes_half_the_split_seen(both, only_a, only_b, neither):
    a, b = outcomes(both, only_a, only_b, neither)
    if len(a) == 0:
        assert np.isnan(mcnemar(a, b).p)
        assert np.isnan(mcnemar(a, b).difference.estimate)
        return
    exact, mid = mcnemar(a, b, method="exact").p, mcnemar(a, b).p
    expected = theirs([[both, only_a], [only_b, neither]], exact=True).pvalue
    assert exact == pytest.approx(expected, rel=1e-9)
    if only_a + only_b == 0:
        assert mid == exact == 1.0
        return
    one_sided = scipy_stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
    seen = scipy_stats.binom.pmf(only_a, only_a + only_b, 0.5)
    expected = 2 * (one_sided - seen / 2) if only_a != only_b else 1 - seen / 2
    assert mid == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_order_of_puzzles_is_of_no_account_and_of_runs_turns_the_sign(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    (a, b), (c, d) = zip(*pairs, strict=True), zip(*shuffled, strict=True)
    assert mcnemar(a, b) == mcnemar(c, d)
    turned = mcnemar(b, a)
    assert turned.p == mcnemar(a, b).p
    assert turned.difference.lower == pytest.approx(-mcnemar(a, b).difference.upper, abs=1e-12)


def test_what_is_no_outcome_is_refused():
    with pytest.raises(ValueError, match="b holds one 0 or 1 per puzzle"):
        mcnemar([0, 1], [0, 2])  # 2 is not_evaluated in results.nc
    with pytest.raises(ValueError, match="2 and 3 puzzles are not the same puzzles"):
        mcnemar([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match='"mid-p" or "exact", not \'chi2\''):
        mcnemar([0, 1], [0, 1], method="chi2")
