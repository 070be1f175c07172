"""Runs that failed are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from trm_lab.stats import compare_failures, failure_rate, mean_interval, summarize


@given(st.integers(1, 30), st.data())
def test_rates_are_statsmodels(n: int, data):
    k = data.draw(st.integers(0, n))
    for method, name in (("wilson", "wilson"), ("exact", "beta")):
        found = failure_rate(k, n, method=method)
        expected = proportion_confint(k, n, method=name)
        np.testing.assert_allclose((found.lower, found.upper), expected, atol=1e-9)
        assert (found.estimate, found.n) == (k / n, n)
    assert failure_rate(k, n).method == "Wilson score over runs"


def test_five_of_five_against_none_of_five():
    found = compare_failures(5, 5, 0, 5)
    assert found.p == pytest.approx(2 / 2**10, rel=1e-3)  # both extremes at a rate of one half
    fisher = compare_failures(5, 5, 0, 5, test="fisher")
    assert fisher.p == pytest.approx(2 / 252)  # of 10 choose 5 tables
    assert (found.method, fisher.method) == ("barnard", "fisher")
    assert (found.difference.estimate, found.difference.n) == (1.0, 5)


@given(*[st.integers(1, 12)] * 2, st.data())
def test_the_difference_is_newcombes(n_a: int, n_b: int, data):
    a, b = (data.draw(st.integers(0, n)) for n in (n_a, n_b))
    found = compare_failures(a, n_a, b, n_b, test="fisher")
    expected = confint_proportions_2indep(a, n_a, b, n_b, method="newcomb", compare="diff")
    np.testing.assert_allclose(
        (found.difference.lower, found.difference.upper), expected, atol=1e-9
    )
    table = [[a, b], [n_a - a, n_b - b]]
    assert found.p == pytest.approx(scipy_stats.fisher_exact(table).pvalue)
    turned = compare_failures(b, n_b, a, n_a, test="fisher")
    assert turned.difference.upper == pytest.approx(-found.difference.lower, abs=1e-12)


def test_barnard_is_scipys():
    found = compare_failures(4, 6, 1, 7)
    assert found.p == scipy_stats.barnard_exact([[4, 1], [2, 6]]).pvalue
    assert found.p < compare_failures(4, 6, 1, 7, test="fisher").p


@pytest.mark.parametrize("failed", [0, 5])
def test_arms_without_a_difference_have_a_p_of_one(failed: int):
    assert compare_failures(failed, 5, failed, 5).p == 1.0


def test_a_handful_of_runs_is_descriptive():
    assert [failure_rate(1, n).descriptive for n in (2, 4, 5)] == [True, True, False]
    few, enough = compare_failures(1, 4, 0, 9), compare_failures(1, 5, 0, 9)
    assert (few.a.descriptive, few.b.descriptive, few.difference.descriptive) == (True, False, True)
    assert not enough.difference.descriptive
    assert summarize([0.8, 0.9], 1).failure_rate.descriptive


def test_no_runs_no_comparison():
    found = compare_failures(0, 0, 1, 5)
    assert np.isnan([found.p, found.difference.estimate]).all()
    assert found.b.estimate == 0.2


def test_a_summary_counts_failures_and_says_what_its_mean_is_of():
    values = {0: 0.8, 2: 0.9, 5: 0.7}
    found = summarize(values, 2)
    assert (found.n, found.n_failed) == (5, 2)
    assert found.failure_rate == failure_rate(2, 5)
    assert found.value_if_completed == mean_interval([0.8, 0.9, 0.7])
    assert summarize([], 3).failure_rate.estimate == 1.0
    assert np.isnan(summarize([], 3).value_if_completed.estimate)
    assert np.isnan(summarize([], 0).failure_rate.estimate)


def test_missing_values_are_no_way_to_hide_a_failure():
    with pytest.raises(ValueError, match="expected finite values"):
        summarize([0.8, np.nan], 1)
    with pytest.raises(TypeError, match="n_failed"):
        summarize([0.8])
    with pytest.raises(ValueError, match="n_failed is 0 or more, not -1"):
        summarize([0.8], -1)
    with pytest.raises(ValueError, match="6 of 5 runs"):
        failure_rate(6, 5)
    with pytest.raises(ValueError, match=r"1\.5 runs: a count is a whole number"):
        failure_rate(1.5, 5)
    with pytest.raises(ValueError, match=r"0\.5 failed runs: a count is a whole number"):
        summarize([0.8], 0.5)
    assert compare_failures(0.29 * 100, 100, 5, 100) == compare_failures(29, 100, 5, 100)
    with pytest.raises(ValueError, match='"wilson" or "exact", not \'wald\''):
        failure_rate(1, 5, method="wald")
    with pytest.raises(ValueError, match='"barnard" or "fisher", not \'z\''):
        compare_failures(1, 5, 2, 5, test="z")
