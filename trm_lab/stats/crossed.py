"""Seeds x puzzles: how much of an accuracy's uncertainty is the seeds', how much the puzzles'.

Letters: S seeds, P puzzles, Y[s, p] in [0, 1] solved or not, or any finite value per seed and
puzzle, such as the difference of two arms on the same seeds and puzzles.  One column is one
independent puzzle: average augmented copies of a puzzle first.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trm_lab.stats.interval import (
    BOOTSTRAP_SEEDS,
    FEW_SEEDS,
    Floats,
    Interval,
    check_draws,
    check_level,
    finite,
    percentiles,
    student,
)

Over = Literal["both", "seeds", "puzzles"]
Table = npt.NDArray[Any] | Sequence[Sequence[float]] | Sequence[npt.NDArray[Any]]
_CHUNK = 4_000_000
"""Numbers drawn at once: 32 MB."""


@dataclass(frozen=True)
class Component:
    """One source of variance."""

    variance: float
    """Of one seed, one puzzle or one seed on one puzzle, by the method of moments: 0 where the
    moments give less."""
    of_mean: float
    """Its part of the variance of the mean: the variance over the number of its units."""


@dataclass(frozen=True)
class SeedPuzzle:
    """A mean over seeds and puzzles, and where its uncertainty comes from."""

    interval: Interval
    """That of the two below which the number of seeds allows: the bootstrap from 8 seeds on."""
    bootstrap: Interval
    satterthwaite: Interval
    """Student's t of the variance components, with Satterthwaite's degrees (1946)."""
    seeds: Component
    puzzles: Component
    """Difficulty that all seeds share; nested, the puzzles within a seed."""
    interaction: Component
    """What is left: a seed on a puzzle.  NaN when nested, where it is in `puzzles`."""
    n_seeds: int
    n_puzzles: int
    """Of each seed; nested, of all seeds together."""


def seed_puzzle_interval(
    table: Table,
    level: float = 0.95,
    *,
    crossed: bool,
    over: Over = "both",
    draws: int = 2_000,
    seed: int = 0,
) -> SeedPuzzle:
    """Give the mean of Y with intervals for new seeds, new puzzles, or both.

    crossed: every seed has the same puzzles, in the same columns.  Seeds and puzzles are drawn
    independently of each other, with replacement (Owen 2007, the pigeonhole bootstrap).
    Otherwise every seed has puzzles of its own, in any number: seeds are drawn, then puzzles within
    each drawn seed, and the mean is that of the seeds' means.

    `over` says what another study would draw anew; what it would not is kept as it is.  Where both
    are drawn, the interaction counts up to three times and, nested, the puzzles twice, so the
    bootstrap is wide where puzzles matter; over a handful of seeds it is narrow.  `n` counts seeds,
    or puzzles where only those are drawn.
    """
    check_level(level)
    check_draws(draws)
    if over not in ("both", "seeds", "puzzles"):
        raise ValueError(f'over is "both", "seeds" or "puzzles", not {over!r}')
    rows = _rows(table)
    rng = np.random.default_rng(seed)
    if crossed:
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            raise ValueError(
                f"seeds with {min(lengths)} and {max(lengths)} puzzles do not share them: "
                "give crossed=False"
            )
        y = np.stack(rows)
        parts, square, df = _crossed(y, over)
        drawn = _draw_crossed(_canonical(y), over, draws, rng)
        n_puzzles = y.shape[1]
    else:
        parts, square, df = _nested(rows, over)
        rows = sorted(rows, key=lambda row: (row.mean(), len(row)))
        drawn = _draw_nested(rows, over, draws, rng)
        n_puzzles = sum(map(len, rows))
    estimate = float(np.mean([row.mean() for row in rows]))
    n = n_puzzles if over == "puzzles" else len(rows)
    few = over != "puzzles" and n < FEW_SEEDS
    known = n > 1 and not math.isnan(square)
    ends = percentiles(drawn, level) if known else (math.nan, math.nan)
    how = f"{'crossed' if crossed else 'nested'}, over "
    how += "seeds and puzzles" if over == "both" else over
    bootstrap = Interval(estimate, *ends, n, f"percentile bootstrap, {how}", few)
    ends = student(estimate, math.sqrt(square), df, level) if known else (math.nan, math.nan)
    satterthwaite = Interval(estimate, *ends, n, f"variance components, t, {how}", few)
    enough = over == "puzzles" or n >= BOOTSTRAP_SEEDS
    return SeedPuzzle(
        bootstrap if enough else satterthwaite, bootstrap, satterthwaite, *parts, len(rows),
        n_puzzles,
    )  # fmt: skip


Parts = tuple[Component, Component, Component]


def _crossed(y: Floats, over: Over) -> tuple[Parts, float, float]:
    """Give the components, the variance of the mean and its degrees: two-way random effects."""
    S, P = y.shape
    seeds, puzzles, mean = y.mean(axis=1), y.mean(axis=0), float(y.mean())
    ms_s = P * _square((seeds - mean) ** 2, S - 1)
    ms_p = S * _square((puzzles - mean) ** 2, P - 1)
    ms_e = _square((y - seeds[:, None] - puzzles + mean) ** 2, (S - 1) * (P - 1))
    var_s, var_p = _variance((ms_s - ms_e) / P), _variance((ms_p - ms_e) / S)
    parts = (
        Component(var_s, var_s / S),
        Component(var_p, var_p / P),
        Component(ms_e, ms_e / (S * P)),
    )
    if over == "seeds":
        return parts, ms_s / (S * P), S - 1
    if over == "puzzles":
        return parts, ms_p / (S * P), P - 1
    # E(MS_s + MS_p - MS_e) is S P times the variance of the mean.  It is not let fall below either
    # of the two, which it would only by chance.
    total = max(ms_s + ms_p - ms_e, ms_s, ms_p)
    terms = [(ms_s, S - 1), (ms_p, P - 1), (ms_e, (S - 1) * (P - 1))]
    return parts, total / (S * P), _satterthwaite(total, terms)


def _nested(rows: Sequence[Floats], over: Over) -> tuple[Parts, float, float]:
    """Do the same for seeds with puzzles of their own."""
    S, sizes = len(rows), np.array([len(row) for row in rows])
    means = np.array([row.mean() for row in rows])
    within_df = int((sizes - 1).sum())
    within = _square(np.concatenate([row - row.mean() for row in rows]) ** 2, within_df)
    between = _square((means - means.mean()) ** 2, S - 1)
    # Of the mean of seeds' means: within enters by the harmonic mean of the sizes.
    inverse = float((1 / sizes).mean())
    var_s = _variance(between - within * inverse)
    parts = (
        Component(var_s, var_s / S),
        Component(within, within * inverse / S),
        Component(math.nan, math.nan),
    )
    if over == "puzzles":
        squares = [_square((row - row.mean()) ** 2, len(row) - 1) / len(row) for row in rows]
        terms = [(v, len(row) - 1) for v, row in zip(squares, rows, strict=True)]
        return parts, sum(squares) / S**2, _satterthwaite(sum(squares), terms)
    # The spread of the seeds' means has the puzzles' part in it already.
    return parts, between / S, S - 1


def _variance(moment: float) -> float:
    """Cut a moment off at 0; NaN, of one seed or one puzzle, stays NaN."""
    return float(np.maximum(moment, 0.0))


def _square(squares: Floats, df: int) -> float:
    return float(squares.sum()) / df if df > 0 else math.nan


def _satterthwaite(total: float, terms: Sequence[tuple[float, int]]) -> float:
    weight = sum(term**2 / df for term, df in terms if df > 0)
    # Without any spread the ends are the mean, for whatever degrees.
    return total**2 / weight if weight else 1.0


def _draw_crossed(y: Floats, over: Over, draws: int, rng: np.random.Generator) -> Floats:
    """Draw seeds and puzzles as weights: how often each was drawn."""
    S, P = y.shape
    found = []
    for chunk in _chunks(draws, max(S, P)):
        u = np.ones((chunk, S)) if over == "puzzles" else _counts(rng, chunk, S)
        if over == "seeds":
            found.append(u @ y.mean(axis=1) / S)
        else:
            found.append(((u @ y) * _counts(rng, chunk, P)).sum(axis=1) / (S * P))
    return np.concatenate(found)


def _draw_nested(
    rows: Sequence[Floats], over: Over, draws: int, rng: np.random.Generator
) -> Floats:
    """Draw seeds, then puzzles anew for every time that a seed was drawn."""
    S = len(rows)
    picked = np.tile(np.arange(S), (draws, 1))
    if over != "puzzles":
        picked = rng.integers(S, size=(draws, S))
    means = np.empty(picked.shape)
    for place, row in enumerate(rows):
        here = picked == place
        if over == "seeds":
            means[here] = row.mean()
            continue
        # n draws with replacement are a multinomial over the distinct values: few, for 0 and 1.
        values, counts = np.unique(row, return_counts=True)
        share = counts / len(row)
        drawn = [
            rng.multinomial(len(row), share, size=chunk) @ values
            for chunk in _chunks(int(here.sum()), len(values))
        ]
        means[here] = np.concatenate([*drawn, np.empty(0)]) / len(row)
    return np.asarray(means.mean(axis=1))


def _counts(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """Say how often each of n units comes up in n draws with replacement, (draws, n)."""
    picked = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    counted = np.bincount(picked.ravel(), minlength=draws * n).reshape(draws, n)
    return counted.astype(np.float64)


def _chunks(draws: int, width: int) -> Iterator[int]:
    at_once = max(1, _CHUNK // width)
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


def _canonical(y: Floats) -> Floats:
    """Order rows and columns by what they hold, so that names of seeds and puzzles do not matter.

    Ties of the means keep their order: the table then differs, by as little as the draws do.
    """
    y = y[np.argsort(y.mean(axis=1), kind="stable")]
    return y[:, np.argsort(y.mean(axis=0), kind="stable")]


def _rows(table: Table) -> list[Floats]:
    rows = [finite(np.asarray(row, dtype=np.float64)) for row in table]
    if not rows or any(len(row) == 0 for row in rows):
        raise ValueError("expected one row per seed with a value per puzzle; there is an empty one")
    return rows
