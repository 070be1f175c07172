from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from trm_lab.stats import (
    mean_interval,
    paired_bootstrap,
    paired_difference,
    paired_differences,
    pooled_difference,
    seed_bootstrap,
    seed_interval,
    sign_flip_p,
    unpaired_difference,
)

A = [0.61, 0.64, 0.58, 0.66, 0.60]
B = [0.55, 0.60, 0.57, 0.58, 0.56]
C = [0.61, 0.64, 0.58, 0.66, 0.60, 0.71, 0.52, 0.63]
D = [0.55, 0.60, 0.57, 0.58, 0.56, 0.60, 0.49, 0.66]


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


def test_series_are_paired_by_their_labels():
    """By place they would be 0.5 - 0.7, 0.6 - 0.61 and 0.71 - 0.49."""
    a = pd.Series([0.5, 0.6, 0.71], index=[0, 1, 2])
    b = pd.Series([0.7, 0.59, 0.49], index=[2, 1, 0])
    found = seed_interval(a, b)
    assert found == seed_interval(a.to_dict(), b.to_dict())
    assert found == seed_interval(*(one.rename_axis("seed").to_xarray() for one in (a, b)))
    assert found.upper - found.lower < 1e-9
    by_place = xr.DataArray(b.to_numpy(), dims="run")
    np.testing.assert_allclose(paired_differences(a, by_place), [-0.2, 0.01, 0.22])
    np.testing.assert_allclose(paired_differences(a, b.to_numpy()), [-0.2, 0.01, 0.22])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, 3], "one lacks 2, 3; make the seed or puzzle the index, or give both as numpy"),
        ([10, 11, 12], "one lacks 0, 1, 2, 10, 11, ...; make"),
        ([0, 0, 1], "one lacks 2; make"),
        (["0", "1", "2"], "one lacks 0, 1, 2, 0, 1, ...; make"),
    ],
)
def test_series_with_other_labels_are_refused(labels: list, said: str):
    a, b = pd.Series([0.5, 0.6, 0.7]), pd.Series([0.4, 0.5, 0.6], index=labels)
    with pytest.raises(ValueError, match=f"two Series pair by their labels: {said}"):
        paired_difference(a, b)
    repeated = pd.Series([0.4, 0.5, 0.6, 0.7], index=[0, 0, 1, 2])
    with pytest.raises(ValueError, match="by their labels: some repeat; make the seed"):
        paired_difference(repeated, repeated[::-1])


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


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_test_that_cannot_reach_five_percent_says_so(n: int):
    assert sign_flip_p(np.ones(n)).note == (
        f"{n} paired seeds cannot reach p < {2 / 2**n:g}, whatever the differences; "
        "p < 0.05 takes 6 pairs"
    )
    assert sign_flip_p(np.ones(6)).note == ""
    assert sign_flip_p(np.ones(6)).p == 0.03125
    assert sign_flip_p([0.1]).note.startswith("1 paired seed cannot reach p < 1,")
    assert sign_flip_p([]).note == "no paired seeds, no test"


# Bootstraps


def test_the_percentile_bootstrap_is_scipys():
    expected = scipy_stats.bootstrap(
        (C,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    found = seed_bootstrap(C, kind="percentile")
    assert found.lower == pytest.approx(expected.low, abs=0.003)
    assert found.upper == pytest.approx(expected.high, abs=0.003)
    assert found.method == "percentile bootstrap over seeds"


def test_expanded_percentiles_are_those_of_the_wider_level():
    """At 8 seeds Phi(-sqrt(8 / 7) x 2.3646) = 0.00574 is left outside on either side."""
    level = 1 - 2 * 0.0057375205
    found, expected = seed_bootstrap(C), seed_bootstrap(C, level, kind="percentile")
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), abs=1e-9)
    assert min(C) < found.lower < seed_bootstrap(C, kind="percentile").lower
    assert seed_bootstrap([0.0, 1.0]).upper == 1.0


def test_pairs_are_drawn_together():
    """A constant difference has no spread of its own."""
    found = paired_bootstrap([y + 0.25 for y in C], C)
    assert (found.lower, found.upper) == (pytest.approx(0.25), pytest.approx(0.25))
    mapped = paired_bootstrap({i: y + 0.25 * i for i, y in enumerate(C)}, dict(enumerate(C)))
    assert mapped.lower == pytest.approx(seed_bootstrap([0.25 * i for i in range(8)]).lower)
    assert mapped.method == "expanded percentile bootstrap over paired seeds"


def test_bad_settings_of_a_bootstrap_are_refused():
    with pytest.raises(ValueError, match="kind is one of expanded, percentile, not 'bca'"):
        seed_bootstrap(C, kind="bca")
    with pytest.raises(ValueError, match="draws is at least 100, not 99"):
        paired_bootstrap(C, C, draws=99)


def test_the_unpaired_difference_is_welchs():
    found = unpaired_difference(A, C)
    expected = scipy_stats.ttest_ind(A, C, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose((found.lower, found.upper), expected, rtol=1e-9)
    assert (found.n, found.method) == (5, "Welch t over unpaired seeds")
    flat = unpaired_difference([0.5, 0.5], [0.25, 0.25])
    assert (flat.lower, flat.upper) == (0.25, 0.25)
    assert np.isnan(unpaired_difference([0.5], C).lower)


# The one that chooses


@pytest.mark.parametrize("n", range(9))
def test_the_number_of_seeds_chooses_the_interval(n: int):
    one, two = seed_interval(C[:n]), seed_interval(C[:n], D[:n])
    assert one.n == two.n == n
    assert one.descriptive == two.descriptive == (n < 5)
    if n < 8:
        np.testing.assert_equal(asdict(one), asdict(mean_interval(C[:n])))
        np.testing.assert_equal(asdict(two), asdict(paired_difference(C[:n], D[:n])))
    else:
        assert one == seed_bootstrap(C)
        assert two == paired_bootstrap(C, D)


def test_with_other_arms_few_pairs_take_the_pooled_variance():
    c, d, e = (dict(enumerate(x[:5])) for x in (C, D, np.multiply(C, D)))
    assert seed_interval(c, d, others=[e]) == pooled_difference(c, d, [e])
    assert seed_interval(c, level=0.9) == mean_interval(C[:5], 0.9)
    with pytest.raises(ValueError, match="others pool the spread of a difference: give b"):
        seed_interval(c, others=[e])
    with pytest.raises(TypeError, match="give mappings from seed to value"):
        seed_interval(C[:5], D[:5], others=[e])


@settings(max_examples=30)
@given(st.integers(3, 9), st.randoms(), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_shift_and_scale_are_followed(n: int, random, scale: float, shift: float):
    moved = [scale * y + shift for y in random.sample((C + D)[:n], n)]
    found, plain = seed_interval(moved), seed_interval((C + D)[:n])
    for end in ("estimate", "lower", "upper"):
        assert getattr(found, end) == pytest.approx(scale * getattr(plain, end) + shift, abs=1e-9)
