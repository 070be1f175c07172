"""`fit`: a law, rows and a cluster in; one labelled Dataset out."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit import intervals
from trm_lab.fit.clusters import fewest
from trm_lab.fit.covariance import curvature, sandwich
from trm_lab.fit.data import Data, Labels
from trm_lab.fit.dataset import report
from trm_lab.fit.likelihood import EXTRAS
from trm_lab.fit.objectives import LIKELIHOODS, Space
from trm_lab.fit.problem import Problem
from trm_lab.fit.rows import ClusterWarning, Rows, prepare
from trm_lab.fit.search import MOST, Found, refit, search
from trm_lab.fit.verdicts import (
    Verdict,
    distinct_rows,
    free_floors,
    judge,
    nothing,
    objective_at,
    tightest,
    with_interval,
)
from trm_lab.laws import GROUP, Law
from trm_lab.laws.base import FloatArray


def fit(
    data: Data,
    y: str | tuple[str, str],
    law: Law | str,
    *,
    cluster: Labels | None = None,
    objective: str | None = None,
    delta: float = 1e-3,
    residuals: Space | None = None,
    weights: str | None = None,
    by: str | None = None,
    share: Sequence[str] = (),
    interval: str | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    starts: int = MOST,
    name: str = "fit",
) -> xr.Dataset:
    """Fit `law` to the rows of `data`.

    `y` is a column, or for counts a pair (solved, of how many).  `cluster` names the column (or
    columns) of what was drawn independently: a seed, a cell of the design, a training run; it can
    be left out only where rows neither repeat an x nor share columns.  `objective` is
    `least_squares`, `huber` (with `delta`), `scaled_huber`, `student_t`, or for counts
    `quasi_binomial` and `beta_binomial`; without it, Huber for losses, least squares for accuracies
    and quasi-binomial for counts.
    `residuals` are of ln y ("log") or of y ("raw"); without it, what suits the law.  `by` names a
    column of groups which have the parameters in `share` in common and all others of their own.
    `interval` is one of `bootstrap`, `wild`, `sandwich`, `wald`, `profile`, `none`; without it,
    `sandwich` for quasi-binomial counts and `bootstrap` for others; `wald` and `profile` take rows
    as independent whatever the cluster; `draws` are resamples of a bootstrap.  `weights` names a
    column of how much rows count against each other: only their ratios matter.
    `starts` is the most starts from resampled data, taken where the first eight do not agree.

    Returns:
        A Dataset over `param`, `row`, `draw` and `start`; `docs/laws.md` describes it.

    Raises:
        ConfigError: a column, value or name does not fit; the message says which and what to do.
    """
    rows = prepare(
        data, y, law, cluster=cluster, objective=objective, delta=delta, residuals=residuals,
        weights=weights, by=by, share=share,
    )  # fmt: skip
    name_of = rows.problem.objective.name
    interval = interval or intervals.default(name_of)
    if interval not in intervals.KINDS:
        raise ConfigError(f"interval: {interval!r} is not one of {', '.join(intervals.KINDS)}")
    if interval == "sandwich" and name_of in EXTRAS:
        raise ConfigError(f"interval sandwich: {name_of} has none; give bootstrap or wald")
    if interval == "profile" and name_of not in (*LIKELIHOODS, "quasi_binomial"):
        raise ConfigError(f"interval profile: {name_of} is no likelihood; give bootstrap or wald")
    if interval == "wild" and rows.problem.m is not None:
        raise ConfigError("interval wild: counts have no residuals to flip; give bootstrap or wald")
    if interval == "wild" and name_of != "least_squares":
        raise ConfigError(f"interval wild: is for least_squares, not {name_of}; give bootstrap")
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, not {level:g}")
    for what, given, least in (("draws", draws, 2), ("seed", seed, 0)):
        if given < least:
            raise ConfigError(f"{what} must be {least} or more, not {given}")
    if interval in ("wald", "profile") and len(rows.clusters) < len(rows.member):
        warnings.warn(
            f"interval {interval} takes rows as independent, though {len(rows.clusters)} clusters "
            f"({rows.cluster_name}) hold {len(rows.member)} of them: if rows of one cluster have "
            "anything in common, it is too narrow; give bootstrap",
            ClusterWarning,
            stacklevel=2,
        )
    solved = solve(rows, seed, starts)
    spread = _spread(rows, solved, interval, draws, level, seed)
    verdict = solved.verdict
    if spread is not None and solved.found is not None:
        if interval != "profile":  # which refits, and needs no slopes
            spread = intervals.with_untold(rows.problem, solved.found.u, spread)
        estimate = rows.problem.own(solved.found.u)
        verdict = with_interval(
            verdict, rows.problem.law.names, spread.lower, estimate,
            floors=free_floors(rows.problem), size=float(np.abs(rows.problem.y).max(initial=0.0)),
            resampled=len(spread.draws) > 0,
        )  # fmt: skip
    return report(
        rows, solved.found, verdict, spread,
        interval=interval, level=level, seed=seed, name=name,
    )  # fmt: skip


@dataclass(frozen=True)
class Solved:
    """A fit before its intervals."""

    found: Found | None
    verdict: Verdict


def solve(rows: Rows, seed: int, starts: int = MOST) -> Solved:
    """Find the optimum and judge it."""
    problem = rows.problem
    if problem.y.size and not problem.y.any():
        return Solved(None, nothing("all_zero"))
    if distinct_rows(problem) < 2:
        return Solved(None, nothing("too_few_points"))
    if tightest(problem).spare < 0:
        return Solved(None, nothing("not_identified"))
    found = search(problem, rows.member, len(rows.clusters), seed, starts)
    if not np.isfinite(found.u).all():
        return Solved(None, nothing("not_converged"))
    return Solved(found, judge(problem, found))


def _spread(
    rows: Rows, solved: Solved, interval: str, draws: int, level: float, seed: int
) -> intervals.Spread | None:
    found, problem, n = solved.found, rows.problem, len(rows.clusters)
    if found is None or solved.verdict.status == "not_identified" or interval == "none":
        return None
    least = fewest(problem.law, rows.member, problem.X.get(GROUP))
    if interval in intervals.OF_CLUSTERS and least < 2:
        return None
    if interval in ("bootstrap", "wild"):
        make = intervals.bootstrap if interval == "bootstrap" else intervals.wild
        made = make(problem, found.u, rows.member, n, draws, seed)
        return intervals.from_draws(made, level, least)
    if interval == "sandwich":
        covariance = sandwich(problem, found.u, rows.member, n)
        return intervals.from_covariance(problem, found.u, covariance, least - 1, level)
    if interval == "wald":
        covariance, df = curvature(problem, found.u, found.extras)
        return intervals.from_covariance(problem, found.u, covariance, df, level)

    best = found

    def held(name: str, at: float) -> tuple[float, FloatArray]:
        law = problem.law.hold(**{name: at})
        part = Problem(law, problem.X, problem.y, problem.weights, problem.objective, problem.m)
        u = refit(part, part.from_own(problem.own(best.u)), part.weights)
        return objective_at(part, u), u

    return intervals.profile(problem, found.u, found.value, found.extras, level, held)
