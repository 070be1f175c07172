"""Seeds x puzzles: components and intervals."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from trm_lab.stats import mean_interval, seed_puzzle_interval

RNG = np.random.default_rng(6)
Y = (RNG.random((4, 60)) < np.clip(RNG.random(60) + RNG.normal(0, 0.1, (4, 1)), 0, 1)).astype(int)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_start():
    RNG.bit_generator.state = START


ROWS = [Y[0, :40], Y[1, :30], Y[2], Y[3, :50]]


def test_components_by_hand():
    """Seeds (0, 1, 2) + puzzles (0, 2) without interaction: variances 1 and 2, nothing left."""
    y = np.array([[0, 2], [1, 3], [2, 4]])
    found = seed_puzzle_interval(y, crossed=True)
    assert (found.seeds.variance, found.seeds.of_mean) == (pytest.approx(1), pytest.approx(1 / 3))
    assert (found.puzzles.variance, found.puzzles.of_mean) == (pytest.approx(2), pytest.approx(1))
    assert found.interaction.variance == pytest.approx(0, abs=1e-15)
    assert (found.n_seeds, found.n_puzzles, found.interval.estimate) == (3, 2, 2.0)
    # The variance of the mean is 1/3 + 1; degrees (4/3)^2 / ((1/3)^2 / 2 + 1^2 / 1) = 1.684.
    half = scipy_stats.t.ppf(0.975, (16 / 9) / (1 / 18 + 1)) * np.sqrt(4 / 3)
    assert found.satterthwaite.upper == pytest.approx(2 + half)


def test_components_are_those_of_the_planted_truth():
    rng = np.random.default_rng(0)
    seeds, puzzles = rng.normal(0, 0.5, (40, 1)), rng.normal(0, 1.0, 500)
    y = seeds + puzzles + rng.normal(0, 2.0, (40, 500))
    found = seed_puzzle_interval(y, crossed=True, draws=100)
    assert found.seeds.variance == pytest.approx(seeds.var(ddof=1), rel=0.15)
    assert found.puzzles.variance == pytest.approx(puzzles.var(ddof=1), rel=0.15)
    assert found.interaction.variance == pytest.approx(4.0, rel=0.03)


def test_a_negative_moment_is_no_variance():
    """Seeds of one mean have less between them than chance gives."""
    found = seed_puzzle_interval([[0, 1], [1, 0]], crossed=True)
    assert (found.seeds.variance, found.puzzles.variance) == (0.0, 0.0)
    assert found.interaction.variance == 1.0


def test_over_seeds_the_t_interval_is_that_of_the_seeds_means():
    expected = mean_interval(Y.mean(axis=1))
    for table, crossed in ((Y, True), (Y, False)):
        found = seed_puzzle_interval(table, crossed=crossed, over="seeds").satterthwaite
        assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper))
    assert found.descriptive
    assert found.method == "variance components, t, nested, over seeds"


def test_over_puzzles_the_t_interval_is_that_of_the_puzzles_means():
    expected = mean_interval(Y.mean(axis=0))
    found = seed_puzzle_interval(Y, crossed=True, over="puzzles")
    for interval in (found.satterthwaite,):
        assert (interval.lower, interval.upper) == pytest.approx((expected.lower, expected.upper))
    assert (found.interval, found.interval.n) == (found.bootstrap, 60)
    assert not found.interval.descriptive


def test_the_crossed_bootstrap_has_the_pigeonholes_variance():
    """With the mean squares of seeds a, puzzles b and rest e: a / S + b / P + e / (S P)."""
    y = RNG.normal(0, 0.3, (12, 1)) + RNG.normal(0, 0.5, 40) + RNG.normal(0, 1.0, (12, 40))
    seeds, puzzles = y.mean(axis=1), y.mean(axis=0)
    rest = (y - seeds[:, None] - puzzles + y.mean()).var() / y.size
    parts = {"seeds": seeds.var() / 12, "puzzles": puzzles.var() / 40}
    for over, variance in {**parts, "both": sum(parts.values()) + rest}.items():
        found = seed_puzzle_interval(y, crossed=True, over=over, draws=20_000).bootstrap
        width = 2 * scipy_stats.norm.ppf(0.975) * np.sqrt(variance)
        assert found.upper - found.lower == pytest.approx(width, rel=0.03)


def test_puzzles_of_ones_own_are_drawn_within_their_seed():
    """Over puzzles alone the variance is the sum of the seeds' own, over S^2."""
    found = seed_puzzle_interval(ROWS, crossed=False, over="puzzles", draws=20_000)
    sd = np.sqrt(sum(row.var() / len(row) for row in ROWS)) / 4
    width = found.bootstrap.upper - found.bootstrap.lower
    assert width == pytest.approx(2 * scipy_stats.norm.ppf(0.975) * sd, rel=0.04)
    assert found.n_puzzles == 180
    assert found.interval.estimate == pytest.approx(np.mean([row.mean() for row in ROWS]))
    assert np.isnan(found.interaction.variance)


def test_the_nested_components_by_hand():
    """Means 0.5 and 3; within (2 x 0.25 + 0) / 3 degrees; between 3.125 less its part of within."""
    found = seed_puzzle_interval([[0, 1], [3, 3, 3]], crossed=False)
    within = 0.5 / 3
    assert found.puzzles.variance == pytest.approx(within)
    assert found.seeds.variance == pytest.approx(3.125 - within * (1 / 2 + 1 / 3) / 2)
    total = found.seeds.of_mean + found.puzzles.of_mean
    assert total == pytest.approx(3.125 / 2)


def test_below_eight_seeds_the_t_interval_is_given_and_from_eight_the_bootstrap():
    few = seed_puzzle_interval(Y, crossed=True)
    assert few.interval == few.satterthwaite
    assert few.interval.descriptive
    many = seed_puzzle_interval(np.vstack([Y, Y[:, ::-1]]), crossed=True)
    assert many.interval == many.bootstrap
    assert not many.interval.descriptive
    assert many.interval.method == "percentile bootstrap, crossed, over seeds and puzzles"


def test_a_difference_of_two_arms_on_the_same_puzzles_is_free_of_their_difficulty():
    easy = RNG.random(300) < 0.5
    y, better = (np.where(RNG.random((6, 300)) < p, 1, easy) for p in (0.02, 0.10))
    apart = seed_puzzle_interval(better, crossed=True).interval
    paired = seed_puzzle_interval(better - y, crossed=True).interval
    assert paired.estimate == pytest.approx(better.mean() - y.mean())
    assert paired.upper - paired.lower < 0.5 * (apart.upper - apart.lower)
    assert paired.lower > 0


@pytest.mark.parametrize("crossed", [True, False])
@pytest.mark.parametrize("over", ["both", "seeds", "puzzles"])
def test_order_shift_and_scale_are_followed(crossed: bool, over):
    y = RNG.random((5, 30))
    moved = 3 * y[RNG.permutation(5)][:, RNG.permutation(30)] + 2
    plain = seed_puzzle_interval(y, crossed=crossed, over=over, draws=200)
    found = seed_puzzle_interval(moved, crossed=crossed, over=over, draws=200)
    for kind in ("bootstrap", "satterthwaite"):
        for end in ("estimate", "lower", "upper"):
            expected = 3 * getattr(getattr(plain, kind), end) + 2
            assert getattr(getattr(found, kind), end) == pytest.approx(expected, rel=1e-9)
    assert found.puzzles.variance == pytest.approx(9 * plain.puzzles.variance)


def test_one_seed_says_nothing_of_seeds():
    found = seed_puzzle_interval(Y[:1], crossed=True)
    assert np.isnan([found.interval.lower, found.bootstrap.upper, found.seeds.variance]).all()
    puzzles = seed_puzzle_interval(Y[:1], crossed=True, over="puzzles").satterthwaite
    expected = mean_interval(Y[0])
    assert (puzzles.lower, puzzles.upper) == pytest.approx((expected.lower, expected.upper))


def test_one_puzzle_splits_nothing_and_its_seeds_have_their_t():
    column = RNG.random((6, 1))
    found = seed_puzzle_interval(column, crossed=True)
    assert np.isnan([found.seeds.variance, found.puzzles.variance, found.interval.lower]).all()
    seeds = seed_puzzle_interval(column, crossed=True, over="seeds").interval
    assert seeds.lower == pytest.approx(mean_interval(column[:, 0]).lower)
    lone = seed_puzzle_interval([[0.5], [0.7], [0.9]], crossed=False)
    assert np.isnan([lone.seeds.variance, lone.puzzles.variance]).all()
    assert lone.interval.upper == pytest.approx(mean_interval([0.5, 0.7, 0.9]).upper)


def test_equal_values_have_an_interval_of_no_width():
    for crossed in (True, False):
        found = seed_puzzle_interval(np.ones((3, 4)), crossed=crossed)
        assert (found.interval.lower, found.interval.upper) == (1.0, 1.0)


def test_what_is_no_table_is_refused():
    with pytest.raises(ValueError, match="seeds with 30 and 60 puzzles do not share them"):
        seed_puzzle_interval(ROWS, crossed=True)
    with pytest.raises(ValueError, match="there is an empty one"):
        seed_puzzle_interval([[], [1]], crossed=False)
    with pytest.raises(ValueError, match="there is an empty one"):
        seed_puzzle_interval([], crossed=True)
    with pytest.raises(ValueError, match='over is "both", "seeds" or "puzzles", not \'all\''):
        seed_puzzle_interval(Y, crossed=True, over="all")
    with pytest.raises(ValueError, match="expected finite values"):
        seed_puzzle_interval([[0.0, np.nan]], crossed=True)
    with pytest.raises(TypeError, match="crossed"):
        seed_puzzle_interval(Y)
