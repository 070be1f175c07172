import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from trm_lab.stats import (
    mean_interval,
    paired_difference,
    paired_differences,
    sign_flip_p,
    wilson,
)

A = [0.61, 0.64, 0.58, 0.66, 0.60]
B = [0.55, 0.60, 0.57, 0.58, 0.56]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_mean_interval_is_students(level: float):
    found = mean_interval(A, level)
    expected = scipy_stats.ttest_1samp(A, 0.0).confidence_interval(level)
    np.testing.assert_allclose((found.lower, found.upper), expected, rtol=1e-12)
    assert (found.estimate, found.n) == (pytest.approx(np.mean(A), rel=1e-15), 5)
    assert found.method == "Student t over seeds"
    assert not found.descriptive


def test_one_seed_has_a_mean_and_no_interval():
    found = mean_interval([0.4])
    assert (found.estimate, found.n, found.descriptive) == (0.4, 1, True)
    assert np.isnan([found.lower, found.upper]).all()
    none = mean_interval([])
    assert np.isnan([none.estimate, none.lower, none.upper]).all()
    assert none.n == 0


def test_fewer_than_five_seeds_are_descriptive():
    assert mean_interval(A[:4]).descriptive
    assert not mean_interval(A).descriptive


def test_equal_values_have_an_interval_of_no_width():
    found = mean_interval([0.5, 0.5, 0.5])
    assert (found.lower, found.upper) == (0.5, 0.5)


def test_intervals_of_accuracies_are_not_clipped():
    found = mean_interval([0.98, 1.0, 0.9])
    assert found.upper > 1


def test_missing_values_are_refused():
    with pytest.raises(ValueError, match="expected finite values"):
        mean_interval([0.5, np.nan])
    with pytest.raises(ValueError, match="level is a fraction between 0 and 1, not 95"):
        mean_interval(A, 95)


def test_the_paired_difference_is_a_minus_b_with_the_paired_t_interval():
    found = paired_difference(A, B)
    expected = scipy_stats.ttest_rel(A, B).confidence_interval(0.95)
    np.testing.assert_allclose((found.lower, found.upper), expected, rtol=1e-12)
    assert found.estimate == pytest.approx(np.mean(A) - np.mean(B))
    assert found.method == "Student t over paired seeds"


def test_mappings_are_paired_by_seed():
    a, b = {0: 0.6, 1: 0.7, 2: 0.8}, {3: 0.1, 2: 0.5, 0: 0.4}
    np.testing.assert_allclose(paired_differences(a, b), [0.2, 0.3])
    assert paired_difference(a, b).n == 2
    with pytest.raises(ValueError, match="3 and 2 values do not pair; give mappings by seed"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(TypeError, match="pair two mappings by seed"):
        paired_difference(a, [1, 2, 3])


@pytest.mark.parametrize(("n", "smallest"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625)])
def test_the_smallest_reachable_p_is_two_over_two_to_the_n(n: int, smallest: float):
    found = sign_flip_p(np.linspace(1, 2, n))
    assert (found.p, found.smallest_p, found.n, found.exact) == (smallest, smallest, n, True)


def test_the_sign_flip_p_counts_all_flips():
    differences = np.array([0.06, 0.04, 0.01, -0.08, 0.04, 0.03])
    flips = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    means = np.abs((flips * differences).mean(axis=1))
    expected = np.mean(means >= abs(differences.mean()) - 1e-12)
    assert sign_flip_p(differences).p == pytest.approx(expected)
    assert sign_flip_p([0.0, 0.0, 0.0]).p == 1.0
    assert np.isnan(sign_flip_p([]).p)


def test_many_pairs_are_flipped_at_random_and_said_so():
    found = sign_flip_p(np.random.default_rng(1).normal(0.2, 1, 20))
    assert not found.exact
    expected = scipy_stats.ttest_1samp(np.random.default_rng(1).normal(0.2, 1, 20), 0).pvalue
    assert found.p == pytest.approx(expected, abs=0.02)
    assert found == sign_flip_p(np.random.default_rng(1).normal(0.2, 1, 20))


@settings(deadline=None)
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


def test_wilson_of_nothing_is_nothing():
    assert np.isnan(wilson(0, 0).estimate)
    with pytest.raises(ValueError, match="5 of 4 puzzles"):
        wilson(5, 4)
