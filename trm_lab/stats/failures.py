"""Runs that diverged or failed: counted, compared, never left out in silence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from trm_lab.stats.interval import FEW_SEEDS, Interval, Values, counted
from trm_lab.stats.puzzles import share
from trm_lab.stats.seeds import seed_interval

Method = Literal["wilson", "exact"]


@dataclass(frozen=True)
class FailureContrast:
    """Failure rates of two arms."""

    a: Interval
    b: Interval
    difference: Interval
    """Rate of a minus rate of b, Newcombe's hybrid score interval; `n` is the runs of the smaller
    arm."""
    p: float
    """Two-sided."""
    method: str


@dataclass(frozen=True)
class ArmSummary:
    """One arm, failures included."""

    n: int
    """Runs that ended."""
    n_failed: int
    failure_rate: Interval
    value_if_completed: Interval
    """Mean over the seeds that completed: conditional on completion, and no estimate of what the
    arm reaches where runs fail because they do badly."""


def failure_rate(
    failed: int, n: int, level: float = 0.95, *, method: Method = "wilson"
) -> Interval:
    """Give the share of runs that failed, with Wilson's or the exact (Clopper-Pearson) interval."""
    if method not in ("wilson", "exact"):
        raise ValueError(f'method is "wilson" or "exact", not {method!r}')
    return replace(share(failed, n, level, method, "runs"), descriptive=n < FEW_SEEDS)


def compare_failures(
    failed_a: int,
    n_a: int,
    failed_b: int,
    n_b: int,
    level: float = 0.95,
    *,
    test: Literal["barnard", "fisher"] = "barnard",
) -> FailureContrast:
    """Compare the failure rates of two arms with independent runs.

    Barnard's exact test (1945) sees more than Fisher's at a handful of runs: 5 of 5 against 0 of 5
    give p = 0.002 and 0.008.  The interval is Newcombe's (1998, method 10).
    """
    if test not in ("barnard", "fisher"):
        raise ValueError(f'test is "barnard" or "fisher", not {test!r}')
    failed_a, n_a, failed_b, n_b = (counted(k, "runs") for k in (failed_a, n_a, failed_b, n_b))
    a, b = failure_rate(failed_a, n_a, level), failure_rate(failed_b, n_b, level)
    n, name = min(n_a, n_b), "Newcombe hybrid score over runs"
    if n == 0:
        nothing = Interval(math.nan, math.nan, math.nan, 0, name, descriptive=True)
        return FailureContrast(a, b, nothing, math.nan, test)
    gap = a.estimate - b.estimate
    lower = gap - math.hypot(a.estimate - a.lower, b.upper - b.estimate)
    upper = gap + math.hypot(a.upper - a.estimate, b.estimate - b.lower)
    difference = Interval(gap, lower, upper, n, name, descriptive=n < FEW_SEEDS)
    table = np.array([[failed_a, failed_b], [n_a - failed_a, n_b - failed_b]])
    if failed_a + failed_b in (0, n_a + n_b):
        p = 1.0  # nothing sets the arms apart, and Barnard's statistic is 0 / 0
    elif test == "barnard":
        p = float(stats.barnard_exact(table).pvalue)
    else:
        p = float(stats.fisher_exact(table).pvalue)
    return FailureContrast(a, b, difference, p, test)


def summarize(
    completed: Values | Mapping[int, float], n_failed: int, level: float = 0.95
) -> ArmSummary:
    """Sum up an arm: its failure rate, and its mean over the seeds that completed.

    `n_failed` is asked for, so that no failure is forgotten; 0 is an answer.  A failed run is
    neither a zero nor a missing row.
    """
    n_failed = counted(n_failed, "failed runs")
    if n_failed < 0:
        raise ValueError(f"n_failed is 0 or more, not {n_failed}")
    n = len(completed) + n_failed
    return ArmSummary(
        n,
        n_failed,
        failure_rate(n_failed, n, level),
        seed_interval(completed, level=level),
    )
