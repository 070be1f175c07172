"""Intervals and tests for a handful of seeds.

Seeds are the unit of replication: `n` counts seeds everywhere but in `wilson`, where it counts
puzzles, whose sampling error is another quantity.  Missing values are refused, so that leaving a
failed run out is the caller's visible act.  Intervals of accuracies are not clipped to [0, 1]: an
end outside says that the t interval is too coarse there, and hiding that would be worse.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FEW_SEEDS = 5
"""Below this an interval over seeds describes these seeds and no more: with 4 pairs the smallest
two-sided sign-flip p is 2 / 2**4 = 0.125."""
_MOST_EXACT = 16
"""Pairs up to which all 2**n sign flips are enumerated."""
_RANDOM_FLIPS = 99_999

Values = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval, in the unit of the values."""

    estimate: float
    lower: float
    """NaN where the data give no interval."""
    upper: float
    n: int
    """Independent units behind it."""
    method: str
    descriptive: bool
    """Too few units to generalise from."""


@dataclass(frozen=True)
class SignFlip:
    """A two-sided sign-flip test of paired differences."""

    p: float
    smallest_p: float
    """What n pairs can reach at best: 2 / 2**n."""
    n: int
    exact: bool
    """All sign flips were enumerated."""


def mean_interval(values: Values, level: float = 0.95) -> Interval:
    """Give the mean over seeds with Student's t interval; one seed has no interval."""
    return _student(_finite(values), level, "Student t over seeds")


def paired_difference(
    a: Values | Mapping[int, float], b: Values | Mapping[int, float], level: float = 0.95
) -> Interval:
    """Give the mean of a - b over seeds with Student's t interval of the paired differences.

    Mappings from seed to value are paired by seed, and seeds that only one of them has are not
    used (`n` says how many pairs there are).  Sequences must have the same seeds in the same order.
    """
    return _student(paired_differences(a, b), level, "Student t over paired seeds")


def paired_differences(
    a: Values | Mapping[int, float], b: Values | Mapping[int, float]
) -> npt.NDArray[np.float64]:
    """Give a - b, one value per common seed in rising order of seeds."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        common = sorted(set(a) & set(b))
        return _finite([a[seed] for seed in common]) - _finite([b[seed] for seed in common])
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        raise TypeError("pair two mappings by seed, or two sequences in one order")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values do not pair; give mappings by seed")
    return _finite(a) - _finite(b)


def sign_flip_p(differences: Values) -> SignFlip:
    """Test whether paired differences are symmetric about zero: exact, two-sided.

    With n pairs p cannot fall below 2 / 2**n: 0.25 with 3, 0.0625 with 5.  Above 16 pairs the
    flips are 99,999 random ones.
    """
    values = _finite(differences)
    n = len(values)
    smallest = 2.0 / 2**n if n else math.nan
    if n == 0:
        return SignFlip(math.nan, math.nan, 0, exact=True)
    if n == 1:
        return SignFlip(1.0, 1.0, 1, exact=True)
    exact = n <= _MOST_EXACT
    result = stats.permutation_test(
        (values,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**n if exact else _RANDOM_FLIPS,
        batch=4096,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return SignFlip(float(result.pvalue), smallest, n, exact)


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Give the share k of n puzzles with Wilson's score interval (1927): puzzle sampling error.

    It says nothing about seeds.  No puzzles, no estimate.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} puzzles")
    method = "Wilson score over puzzles"
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, method, descriptive=True)
    interval = stats.binomtest(int(k), int(n)).proportion_ci(level, method="wilson")
    return Interval(k / n, float(interval.low), float(interval.high), n, method, descriptive=False)


def _student(values: npt.NDArray[np.float64], level: float, method: str) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level is a fraction between 0 and 1, not {level}")
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    half = math.nan
    if n > 1:
        quantile = float(stats.t.ppf(0.5 + level / 2, n - 1))
        half = quantile * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, method, descriptive=n < FEW_SEEDS)


def _mean(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))


def _finite(values: Values) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"expected finite values in one dimension, not {array!r}")
    return array
