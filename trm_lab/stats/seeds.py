"""Means and differences over seeds.

Seeds are the unit of replication: `n` counts seeds, or pairs of them.  Missing values are refused,
so that leaving a failed run out is the caller's visible act.  t intervals of accuracies are not
clipped to [0, 1]: an end outside says that the t interval is too coarse there, and hiding that
would be worse.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from trm_lab.stats.interval import (
    BOOTSTRAP_SEEDS,
    FEW_SEEDS,
    Floats,
    Interval,
    Values,
    check_draws,
    check_level,
    finite,
    in_one_order,
    percentiles,
    student,
)
from trm_lab.stats.pooled import pooled_difference

Kind = Literal["expanded", "percentile"]


def seed_interval(
    a: Values | Mapping[int, float],
    b: Values | Mapping[int, float] | None = None,
    *,
    others: Sequence[Mapping[int, float]] = (),
    level: float = 0.95,
) -> Interval:
    """Give the interval that the number of seeds allows: of the mean of a, or of a - b paired.

    Below 8 seeds Student's t, or, with `others` (further arms on the same seeds), the t of the
    arm x seed pooled variance; from 8 on the expanded percentile bootstrap.  `method` names the one
    that was used; below 5 seeds the result is `descriptive`, whatever the others add.
    """
    if others and b is None:
        raise ValueError("others pool the spread of a difference: give b")
    values = finite(_ordered(a)) if b is None else paired_differences(a, b)
    if len(values) >= BOOTSTRAP_SEEDS:
        return seed_bootstrap(values, level) if b is None else paired_bootstrap(a, b, level)
    if b is None:
        return mean_interval(values, level)
    if not others:
        return paired_difference(a, b, level)
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        raise TypeError("arms are pooled by seed: give mappings from seed to value")
    return pooled_difference(a, b, others, level)


def mean_interval(values: Values, level: float = 0.95) -> Interval:
    """Give the mean over seeds with Student's t interval; one seed has no interval."""
    return _student(finite(values), level, "Student t over seeds")


def paired_difference(
    a: Values | Mapping[int, float], b: Values | Mapping[int, float], level: float = 0.95
) -> Interval:
    """Give the mean of a - b over seeds with Student's t interval of the paired differences.

    Mappings from seed to value are paired by seed, and seeds that only one of them has are not
    used (`n` says how many pairs there are).  Two pandas Series, or DataArrays with a coordinate,
    are paired by their labels, which must be the same; other sequences must have the same seeds in
    the same order.
    """
    return _student(paired_differences(a, b), level, "Student t over paired seeds")


def paired_differences(a: Values | Mapping[int, float], b: Values | Mapping[int, float]) -> Floats:
    """Give a - b, one value per common seed: of mappings in rising order of seeds, else as in a."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        common = sorted(set(a) & set(b))
        return finite([a[seed] for seed in common]) - finite([b[seed] for seed in common])
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        raise TypeError("pair two mappings by seed, or two sequences in one order")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values do not pair; give mappings by seed")
    first, second = in_one_order(a, b)
    return finite(first) - finite(second)


def unpaired_difference(a: Values, b: Values, level: float = 0.95) -> Interval:
    """Give mean(a) - mean(b) with Welch's t interval (1947): other seeds, or other numbers of them.

    `n` is the number of seeds of the smaller arm.
    """
    check_level(level)
    a, b = finite(a), finite(b)
    n, method = min(len(a), len(b)), "Welch t over unpaired seeds"
    estimate = float(a.mean() - b.mean()) if n else math.nan
    lower = upper = math.nan
    if n > 1:
        parts = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
        weight = sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True))
        # Equal values in both arms have no spread, and any number of degrees gives the same ends.
        df = sum(parts) ** 2 / weight if weight else 1.0
        lower, upper = student(estimate, math.sqrt(sum(parts)), df, level)
    return Interval(estimate, lower, upper, n, method, descriptive=n < FEW_SEEDS)


def seed_bootstrap(
    values: Values,
    level: float = 0.95,
    *,
    kind: Kind = "expanded",
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Give the mean over seeds with a bootstrap interval: seeds are drawn with replacement.

    "percentile" is Efron's.  "expanded" takes percentiles further out, which mends its narrowness:
    the tail a of each side becomes Phi(-sqrt(n / (n - 1)) t(1 - a, n - 1)) (Hesterberg 2015,
    arXiv 1411.5279).  Both stay within the range of the values, and neither is fit for a handful
    of seeds.
    """
    return _bootstrap(finite(values), level, kind, draws, seed, "seeds")


def paired_bootstrap(
    a: Values | Mapping[int, float],
    b: Values | Mapping[int, float],
    level: float = 0.95,
    *,
    kind: Kind = "expanded",
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Give the mean of a - b over seeds with a bootstrap interval: pairs are drawn together."""
    return _bootstrap(paired_differences(a, b), level, kind, draws, seed, "paired seeds")


def _bootstrap(
    values: Floats, level: float, kind: Kind, draws: int, seed: int, units: str
) -> Interval:
    check_level(level)
    check_draws(draws)
    names = {"expanded": "expanded percentile bootstrap", "percentile": "percentile bootstrap"}
    if kind not in names:
        raise ValueError(f"kind is one of {', '.join(names)}, not {kind!r}")
    n, method = len(values), f"{names[kind]} over {units}"
    estimate = float(values.mean()) if n else math.nan
    lower = upper = math.nan
    if n > 1:
        if kind == "expanded":
            far = math.sqrt(n / (n - 1)) * float(stats.t.ppf(0.5 + level / 2, n - 1))
            level = 1 - 2 * float(stats.norm.sf(far))
        picked = np.random.default_rng(seed).integers(n, size=(draws, n))
        # Sorted, so that the order of the seeds is of no account.
        lower, upper = percentiles(np.sort(values)[picked].mean(axis=1), level)
    return Interval(estimate, lower, upper, n, method, descriptive=n < FEW_SEEDS)


def _student(values: Floats, level: float, method: str) -> Interval:
    check_level(level)
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    lower = upper = math.nan
    if n > 1:
        lower, upper = student(mean, float(values.std(ddof=1)) / math.sqrt(n), n - 1, level)
    return Interval(mean, lower, upper, n, method, descriptive=n < FEW_SEEDS)


def _ordered(a: Values | Mapping[int, float]) -> Values:
    return [a[seed] for seed in sorted(a)] if isinstance(a, Mapping) else a
