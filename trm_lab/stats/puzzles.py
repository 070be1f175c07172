"""Puzzle sampling error of one run, and of two runs on the same puzzles.

Nothing here speaks of seeds: another seed of the same recipe differs by more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from trm_lab.stats.interval import Interval, check_level, counted, in_one_order

Solved = Sequence[bool] | Sequence[int] | npt.NDArray[np.bool_] | npt.NDArray[np.integer]


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Give the share k of n puzzles with Wilson's score interval (1927): puzzle sampling error.

    It says nothing about seeds.  No puzzles, no estimate.
    """
    return share(k, n, level, "wilson", "puzzles")


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Interval:
    """Give the share k of n puzzles with the exact interval (Clopper and Pearson 1934).

    It covers at least what is asked, for every share; Wilson's is shorter and covers it on average.
    """
    return share(k, n, level, "exact", "puzzles")


def share(k: int, n: int, level: float, kind: Literal["wilson", "exact"], units: str) -> Interval:
    """Give k of n units with a binomial interval."""
    check_level(level)
    k, n = counted(k, units), counted(n, units)
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} {units}")
    method = f"{'Wilson score' if kind == 'wilson' else 'Clopper-Pearson'} over {units}"
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, method, descriptive=True)
    interval = stats.binomtest(k, n).proportion_ci(level, method=kind)
    return Interval(k / n, float(interval.low), float(interval.high), n, method, descriptive=False)


@dataclass(frozen=True)
class McNemar:
    """Two runs on the same puzzles."""

    both: int
    only_a: int
    only_b: int
    neither: int
    difference: Interval
    """Share solved by a minus share solved by b; `n` counts puzzles."""
    p: float
    """Two-sided: a and b are equally likely to be the one that solves a puzzle alone."""
    method: str


def mcnemar(
    a: Solved, b: Solved, *, method: Literal["mid-p", "exact"] = "mid-p", level: float = 0.95
) -> McNemar:
    """Test whether two runs solve equally many of the same puzzles (McNemar 1947).

    Only the puzzles that one of them alone solves count.  "exact" is the binomial test of those;
    "mid-p" takes half the probability of the split seen, and is not conservative (Fagerland,
    Lydersen and Laake 2013, BMC Med Res Methodol 13:91).  The interval is Bonett and Price's
    adjusted Wald interval (2012).  It is a statement on these two runs, not on their recipes.
    Puzzles are paired by their order, those of two pandas Series or DataArrays by their labels.
    """
    check_level(level)
    if method not in ("mid-p", "exact"):
        raise ValueError(f'method is "mid-p" or "exact", not {method!r}')
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} puzzles are not the same puzzles")
    a, b = in_one_order(a, b)
    first, second = _solved(a, "a"), _solved(b, "b")
    n = len(first)
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    both = int((first & second).sum())
    if n == 0:
        p = math.nan
    elif only_a + only_b == 0:
        p = 1.0
    else:
        fewer = min(only_a, only_b)
        p = float(stats.binomtest(fewer, only_a + only_b).pvalue)
        if method == "mid-p":
            seen = float(stats.binom.pmf(fewer, only_a + only_b, 0.5))
            p -= seen * (0.5 if only_a == only_b else 1.0)
    difference = _bonett_price(only_a, only_b, n, level)
    return McNemar(both, only_a, only_b, n - both - only_a - only_b, difference, p, method)


def _bonett_price(only_a: int, only_b: int, n: int, level: float) -> Interval:
    method = "Bonett-Price over paired puzzles"
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, method, descriptive=True)
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    lower, upper = max(-1.0, a - b - half), min(1.0, a - b + half)
    return Interval((only_a - only_b) / n, lower, upper, n, method, descriptive=False)


def _solved(values: Solved, name: str) -> npt.NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} holds one 0 or 1 per puzzle, solved or not")
    return array.astype(bool)
