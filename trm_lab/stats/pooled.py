"""A difference of two arms with the spread pooled over all arms that ran the same seeds."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trm_lab.stats.interval import FEW_SEEDS, Interval, check_level, finite, student


def pooled_difference(
    a: Mapping[int, float],
    b: Mapping[int, float],
    others: Sequence[Mapping[int, float]] = (),
    level: float = 0.95,
) -> Interval:
    """Give the mean of a - b over seeds with the t interval of the arm x seed pooled variance.

    Two-way additive model, value = arm + seed + error, the error of one variance in all arms: with
    A arms on the same S seeds the residual has (A - 1)(S - 1) degrees of freedom where the paired t
    has S - 1.  The others count on those of their seeds that a and b share; a run that one of them
    lacks costs a degree and biases nothing.  Without others this is the paired t interval.

    The assumption is strong near 0 and 1, where accuracies spread less: leave such arms out.
    """
    check_level(level)
    seeds = sorted(set(a) & set(b))
    arms = [a, b, *others]
    rows = [(i, j) for i, arm in enumerate(arms) for j, seed in enumerate(seeds) if seed in arm]
    values = finite([arms[i][seeds[j]] for i, j in rows])
    n = len(seeds)
    design = np.zeros((len(rows), len(arms) + n))
    for row, (i, j) in enumerate(rows):
        design[row, [i, len(arms) + j]] = 1.0
    estimate = math.nan
    lower = upper = math.nan
    df = 0
    if n:
        estimate = float(values[:n].mean() - values[n : 2 * n].mean())
        coefficients, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        df = len(rows) - int(rank)
        if df > 0:
            # a - b over their common seeds lies in the span of the arms' columns, so that its
            # error is independent of these residuals, and Student's t is exact.
            square = float(((values - design @ coefficients) ** 2).sum()) / df
            lower, upper = student(estimate, math.sqrt(2 * square / n), df, level)
    used = 2 + sum(not set(seeds).isdisjoint(arm) for arm in others)
    method = f"arm x seed pooled variance over paired seeds, {used} arms, {df} degrees of freedom"
    return Interval(estimate, lower, upper, n, method, descriptive=n < FEW_SEEDS)
