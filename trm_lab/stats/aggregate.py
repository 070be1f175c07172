"""Interquartile means over strata (tasks, arms, datasets) and seeds, with a stratified bootstrap.

Agarwal et al. 2021 (arXiv 2108.13264, sections 4.1 and 4.3).  Scores of different strata must be
on one scale.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from trm_lab.stats.interval import (
    FEW_SEEDS,
    Floats,
    Interval,
    Values,
    check_draws,
    check_level,
    finite,
    percentiles,
)

Size = Literal["n", "n-1"]
Strata = Mapping[str, Values] | Mapping[str, Mapping[int, float]]
Places = npt.NDArray[np.int64]
_CHUNK = 2_000_000
"""Numbers drawn at once: 16 MB."""


def iqm(scores: Values) -> float:
    """Give the mean of the middle half: int(n / 4) scores are cut from each end."""
    values = finite(scores)
    return float(stats.trim_mean(values, 0.25)) if len(values) else math.nan


def iqm_interval(
    strata: Strata,
    level: float = 0.95,
    *,
    size: Size = "n",
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Give the interquartile mean over all runs of all strata with its stratified bootstrap.

    Runs are drawn within each stratum, strata are kept: the interval speaks of new seeds on these
    strata.  Percentiles, as the paper has them.  Each draw takes `size` runs of a stratum of n:
    "n" as in the paper, whose spread is too small by (n - 1) / n, however many strata there are;
    "n-1" is free of that for a mean (Rao and Wu 1988).  `n` counts runs; fewer than 5 in any
    stratum are `descriptive`.
    """
    columns = [np.sort(_column(name, s)) for name, s in _named(strata)]
    sizes = [len(column) for column in columns]
    picked = _picked(sizes, size, draws, seed)
    drawn = [_iqms(columns, chunk) for chunk in picked] if min(sizes) > 1 else []
    return _interval(iqm(np.concatenate(columns)), drawn, level, sizes, size, "stratified")


def iqm_difference(
    a: Mapping[str, Mapping[int, float]],
    b: Mapping[str, Mapping[int, float]],
    level: float = 0.95,
    *,
    size: Size = "n",
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Give IQM(a) - IQM(b) over the strata and seeds of both: pairs of runs are drawn together.

    Strata and, within them, seeds that only one of the two has are refused, not left out: choose
    them yourself.  Otherwise as `iqm_interval`; `n` counts pairs.
    """
    if set(a) != set(b):
        raise ValueError(f"strata of one arm alone: {sorted(set(a) ^ set(b))}")
    for name in a:
        if set(a[name]) != set(b[name]):
            raise ValueError(
                f"seeds of one arm alone in {name!r}: {sorted({*a[name]} ^ {*b[name]})}"
            )
    # Pairs in the order of their values, so that neither names nor order of seeds matter.
    pairs = [
        np.array(sorted((a[n][s], b[n][s]) for s in a[n]), dtype=np.float64) for n, _ in _named(a)
    ]
    if any(len(pair) == 0 for pair in pairs):
        raise ValueError("a stratum without a run")
    columns_a, columns_b = ([finite(pair[:, arm]) for pair in pairs] for arm in (0, 1))
    sizes = [len(pair) for pair in pairs]
    picked = _picked(sizes, size, draws, seed)
    drawn = (
        [_iqms(columns_a, chunk) - _iqms(columns_b, chunk) for chunk in picked]
        if min(sizes) > 1
        else []
    )
    estimate = iqm(np.concatenate(columns_a)) - iqm(np.concatenate(columns_b))
    return _interval(estimate, drawn, level, sizes, size, "paired stratified")


def _named(strata: Strata) -> list[tuple[str, Values | Mapping[int, float]]]:
    if not strata:
        raise ValueError("no strata: give {name: scores}")
    return [(name, strata[name]) for name in sorted(strata)]


def _column(name: str, scores: Values | Mapping[int, float]) -> Floats:
    column = finite(list(scores.values()) if isinstance(scores, Mapping) else scores)
    if len(column) == 0:
        raise ValueError(f"stratum {name!r} has no run")
    return column


def _picked(sizes: Sequence[int], size: Size, draws: int, seed: int) -> list[list[Places]]:
    """Draw places within every stratum, in chunks of draws."""
    check_draws(draws)
    if size not in ("n", "n-1"):
        raise ValueError(f'size is "n" or "n-1", not {size!r}')
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // sum(sizes))
    chunks = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    fewer = int(size == "n-1")
    return [[rng.integers(n, size=(chunk, max(1, n - fewer))) for n in sizes] for chunk in chunks]


def _iqms(columns: Sequence[Floats], picked: Sequence[Places]) -> Floats:
    scores = [column[place] for column, place in zip(columns, picked, strict=True)]
    return np.asarray(stats.trim_mean(np.concatenate(scores, axis=1), 0.25, axis=1))


def _interval(
    estimate: float,
    drawn: Sequence[Floats],
    level: float,
    sizes: Sequence[int],
    size: Size,
    kind: str,
) -> Interval:
    check_level(level)
    ends = percentiles(np.concatenate(drawn), level) if drawn else (math.nan, math.nan)
    strata = "1 stratum" if len(sizes) == 1 else f"{len(sizes)} strata"
    method = f"IQM, {kind} percentile bootstrap of {size} runs in {strata}"
    return Interval(estimate, *ends, sum(sizes), method, descriptive=min(sizes) < FEW_SEEDS)
