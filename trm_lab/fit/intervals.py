"""Intervals: cluster bootstrap, wild bootstrap, sandwich, Wald, profile.

The resampling unit decides whether an interval is honest: runs that share a cell, resampled singly,
give intervals that are too narrow (`docs/laws.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from trm_lab.fit.clusters import resample
from trm_lab.fit.covariance import curvature, noise
from trm_lab.fit.likelihood import EXTRAS
from trm_lab.fit.problem import Problem
from trm_lab.fit.search import refit
from trm_lab.fit.separation import CONDITION, separation
from trm_lab.fit.verdicts import tightest
from trm_lab.laws import GROUP, Grouped
from trm_lab.laws.base import FloatArray

KINDS = {
    "bootstrap": "cluster bootstrap, expanded percentile",
    "wild": "wild cluster bootstrap of the residuals, expanded percentile",
    "sandwich": "cluster-robust sandwich, Student t",
    "wald": "curvature of the objective, Student t",
    "profile": "profile of the objective",
    "none": "none",
}
"""Kinds of interval and what they are called in a report."""
OF_CLUSTERS = ("bootstrap", "wild", "sandwich")
"""Kinds that take clusters as what is independent; the others take rows."""
LEAST = 1e-6
"""Share of the data's information about some combination of parameters below which a resample does
not tell it: nothing but rounding.  Poor resamples keep 1e-4 or more, and are an uncertainty of the
data: those without its one large model, say."""


@dataclass(frozen=True)
class Spread:
    """What resampling or curvature says about the law's own parameters, [K]."""

    lower: FloatArray
    upper: FloatArray
    stderr: FloatArray
    covariance: FloatArray
    """[K, K]."""
    draws: FloatArray
    """[draw, K]; empty without resampling."""


def normal_quantile(level: float) -> float:
    """Give the two-sided quantile of the normal distribution."""
    return float(special.ndtri(0.5 + level / 2))


def t_quantile(level: float, df: int) -> float:
    """Give the two-sided quantile of Student's t."""
    return float(special.stdtrit(max(df, 1), 0.5 + level / 2))


def bootstrap(
    problem: Problem, u: FloatArray, member: npt.NDArray[np.intp], n: int, draws: int, seed: int
) -> FloatArray:
    """Refit resamples of whole clusters: own parameters [draw, K], NaN where one is degenerate.

    One is where any value fits: no more places than parameters, or places that lose what the data
    tell of a combination of parameters (of a floor and an exponent, where all N drawn are two).
    """
    rng = np.random.default_rng(seed)
    counts = resample(rng, member, n, problem.X.get(GROUP), draws)
    unique, which = np.unique(counts, axis=0, return_inverse=True)
    made = np.full((len(unique), len(problem.law.names)), np.nan)
    told = directions(problem, u)
    for i, row in enumerate(unique):
        drawn = row[member]
        weights = drawn * problem.weights
        if information(told, drawn) >= LEAST and tightest(problem, weights > 0).spare > 0:
            made[i] = problem.own(refit(problem, u, weights))
    return np.asarray(made[which.ravel()])


def directions(problem: Problem, u: FloatArray) -> FloatArray:
    """Give an orthonormal basis [P, at most free] of how the rows move with the parameters near u.

    Of groups, near u with what each has for itself at its mean: where they differ by noise, rows of
    theirs at one x seem to tell parameters in common that only other x can tell.  Directions that
    the data do not tell either (`CONDITION`) are not in it.
    """
    if isinstance(problem.law, Grouped):
        whole, places = np.zeros(len(problem.free)), problem.law.places.astype(int)
        whole[problem.free] = u
        whole[places] = whole[places].mean(axis=0)
        u = whole[problem.free]
    slopes = np.sqrt(problem.weights)[:, None] * problem.residual(u)[1]
    norms = np.linalg.norm(slopes, axis=0)
    basis, values, _ = np.linalg.svd(slopes / np.maximum(norms, 1e-300), full_matrices=False)
    return np.asarray(basis[:, values * CONDITION > values[:1]])


def information(told: FloatArray, drawn: npt.NDArray[Any]) -> float:
    """Give the share of the data's information in rows `drawn` so often, [P], where least is left.

    The smallest eigenvalue of the resample's J'J relative to that of the data: the least over all
    combinations of parameters, whatever their units; 1 for the data themselves.
    """
    return float(np.linalg.eigvalsh((told * drawn[:, None]).T @ told).min(initial=np.inf))


def wild(
    problem: Problem, u: FloatArray, member: npt.NDArray[np.intp], n: int, draws: int, seed: int
) -> FloatArray:
    """Refit data with residuals whose sign flips cluster by cluster: own parameters [draw, K].

    Residuals are those to the fit without their cluster: a fit pulls its own ones towards 0, which
    makes intervals too narrow (HC3 where every row is a cluster).  Webb's six-point weights (2023),
    which few clusters need.
    """
    rng = np.random.default_rng([seed, 3])
    r = _left_out(problem, u, member, n)
    params, _ = problem.decode(u)
    f, _ = problem.law.centred(params, problem.X, problem.centre)
    points = np.sqrt([0.5, 1.0, 1.5])
    points = np.concatenate([-points, points])
    made = np.full((draws, len(problem.law.names)), np.nan)
    for i in range(draws):
        flipped = rng.choice(points, size=n)[member] * r
        y = f * np.exp(-flipped) if problem.objective.space == "log" else f - flipped
        again = Problem(problem.law, problem.X, y, problem.weights, problem.objective)
        made[i] = again.own(refit(again, again.from_own(problem.own(u)), again.weights))
    return made


def _left_out(problem: Problem, u: FloatArray, member: npt.NDArray[np.intp], n: int) -> FloatArray:
    """Give every row's residual to least squares without its cluster, [P], to first order.

    Of directions that only that cluster tells nothing is known without it: they keep their fit.
    """
    r, J = problem.residual(u)
    weighted = problem.weights[:, None] * J
    scale = np.maximum(np.linalg.norm(J, axis=0), 1e-300)
    gram = J.T @ weighted / np.outer(scale, scale)
    away = r.copy()
    for c in range(n):
        rows = member == c
        rest = gram - J[rows].T @ weighted[rows] / np.outer(scale, scale)
        shift = np.linalg.pinv(rest, rcond=1e-10, hermitian=True) @ (
            weighted[rows].T @ r[rows] / scale
        )
        away[rows] += J[rows] @ (shift / scale)
    return away


def from_covariance(
    problem: Problem, u: FloatArray, covariance: FloatArray, df: int, level: float
) -> Spread:
    """Turn a covariance of coordinates into intervals of the law's own parameters.

    Ends are taken where a parameter is searched (logarithms of what is above 0; amplitudes by their
    logarithm) and stay inside its bounds.
    """
    law = problem.law
    centred, _ = problem.decode(u)
    inner = problem.own_slopes(u)
    whole = inner @ covariance @ inner.T
    own = law.own(centred, problem.centre)
    stderr = np.sqrt(np.maximum(np.diag(whole), 0.0))
    t = t_quantile(level, df)
    lower, upper = own - t * stderr, own + t * stderr
    for i, parameter in enumerate(law.parameters):
        scaled = parameter.linear and not np.allclose(
            law.own_jacobian(centred, problem.centre)[i, i], 1.0
        )
        if (parameter.log or scaled) and own[i] > 0:
            with np.errstate(over="ignore"):
                lower[i] = own[i] * np.exp(-t * stderr[i] / own[i])
                upper[i] = own[i] * np.exp(t * stderr[i] / own[i])
        lower[i] = max(lower[i], parameter.lower)
        upper[i] = min(upper[i], parameter.upper)
    return Spread(lower, upper, stderr, whole, np.zeros((0, len(own))))


def with_untold(problem: Problem, u: FloatArray, spread: Spread) -> Spread:
    """Give the spread where what the rows do not tell has all that it can be as its interval.

    Resamples leave that where it was, and no score of a cluster moves it: no certainty.
    """
    untold = separation(problem, u).untold(problem.own_slopes(u)) & ~np.isnan(spread.lower)
    bounds = np.array([(p.lower, p.upper) for p in problem.law.parameters])
    return replace(
        spread, lower=np.where(untold, bounds[:, 0], spread.lower),
        upper=np.where(untold, bounds[:, 1], spread.upper),
        stderr=np.where(untold, np.inf, spread.stderr),
    )  # fmt: skip


def default(objective: str) -> str:
    """Give the kind of interval that suits an objective: for counts what few seeds can bear."""
    return "sandwich" if objective == "quasi_binomial" else "bootstrap"


def expanded(level: float, n: int) -> tuple[float, float]:
    """Give the shares of draws from n clusters between which an interval of that level lies."""
    wide = np.sqrt(n / max(n - 1, 1)) * t_quantile(level, n - 1)
    tail = float(special.ndtr(-wide))
    return tail, 1 - tail


def from_draws(draws: FloatArray, level: float, n: int) -> Spread:
    """Turn draws [draw, K] from n clusters into expanded percentile intervals.

    Plain percentiles from n clusters are too narrow by sqrt((n - 1) / n) and by Student's t against
    the normal; the levels are widened by both (Hesterberg 2015, arXiv 1411.5279, section 3.4).
    """
    size = draws.shape[1]
    usable = draws[np.isfinite(draws).all(axis=1)]
    if len(usable) < max(2, 0.5 * len(draws)):
        nothing = np.full(size, np.nan)
        return Spread(nothing, nothing, nothing, np.full((size, size), np.nan), draws[:0])
    lower, upper = np.quantile(usable, expanded(level, n), axis=0)
    covariance = np.atleast_2d(np.cov(usable.T))
    return Spread(lower, upper, usable.std(axis=0, ddof=1), covariance, draws)


def profile(
    problem: Problem,
    u: FloatArray,
    value: float,
    extras: FloatArray,
    level: float,
    held: Callable[[str, float], tuple[float, FloatArray]],
) -> Spread:
    """Give the ends at which refits with one parameter held have lost what chance would lose.

    `held(name, at)` gives the objective refitted with that parameter held, and its coordinates.
    """
    covariance, df = curvature(problem, u, extras)
    quick = from_covariance(problem, u, covariance, df, level)
    own = problem.own(u)
    rows = len(problem.y)
    lower, upper = quick.lower.copy(), quick.upper.copy()
    z2 = normal_quantile(level) ** 2
    t2 = t_quantile(level, df) ** 2

    def lost(found: float) -> float:
        if problem.objective.name in EXTRAS:
            return 2 * (found - value) - z2
        if problem.objective.space == "count":
            return (found - value) / noise(problem, u) - t2
        return (found / value - 1) * max(rows - len(u), 1) - t2

    for i, parameter in enumerate(problem.law.parameters):
        if parameter.fixed:
            lower[i] = upper[i] = own[i]
            continue
        for side, bound in ((-1.0, parameter.lower), (1.0, parameter.upper)):
            end = quick.lower[i] if side < 0 else quick.upper[i]
            step = abs(end - own[i])
            step = step if 0 < step < np.inf else 1e-3 * max(abs(own[i]), 1e-3)
            inside, outside = own[i], own[i] + side * step
            for _ in range(12):
                outside = max(outside, bound) if side < 0 else min(outside, bound)
                if lost(held(parameter.name, outside)[0]) > 0 or outside == bound:
                    break
                inside, outside = outside, own[i] + side * 2 * abs(outside - own[i])
            if lost(held(parameter.name, outside)[0]) <= 0:
                found = bound
            else:
                found = optimize.brentq(
                    lambda at, name=parameter.name: lost(held(name, at)[0]),
                    inside, outside, xtol=1e-6 * step, rtol=1e-8,
                )  # fmt: skip
            (lower if side < 0 else upper)[i] = found
    return Spread(lower, upper, quick.stderr, quick.covariance, quick.draws)
