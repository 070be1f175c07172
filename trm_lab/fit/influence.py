"""How far a fit hangs on single rows, on delta, and on where the data begin."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import near
from trm_lab.fit.fitting import solve
from trm_lab.fit.saved import rows_of
from trm_lab.fit.search import refit
from trm_lab.laws.base import FloatArray


def influence(made: xr.Dataset) -> xr.Dataset:
    """Refit without each cluster in turn.

    Returns:
        A Dataset over `cluster` and `param`: `shift`, the estimate without the cluster less the
        estimate, and `jackknife_stderr` [param].
    """
    rows = rows_of(made)
    problem, n = rows.problem, len(rows.clusters)
    whole = made["coefficients"].values
    u = problem.from_own(whole)
    shifts = np.full((n, len(whole)), np.nan)
    for c in range(n):
        weights = problem.weights * (rows.member != c)
        if (weights > 0).sum() > len(u):
            shifts[c] = problem.own(refit(problem, u, weights)) - whole
    away = shifts - np.nanmean(shifts, axis=0)
    jackknife = np.sqrt((n - 1) / n * np.nansum(away**2, axis=0))
    return xr.Dataset(
        {"shift": (("left_out", "param"), shifts), "jackknife_stderr": ("param", jackknife)},
        {"left_out": rows.clusters, "param": made["param"].values},
    )


def sensitivity(
    made: xr.Dataset,
    *,
    drop: Sequence[int] = (1, 3, 5),
    deltas: Sequence[float] = (1e-4, 1e-3, 1e-2),
    along: str | None = None,
    windows: Sequence[float] = (0.25, 0.5),
) -> xr.Dataset:
    """Refit with other choices that a reader could have made.

    `drop` leaves out the rows with the largest residuals; `deltas` are tried where the objective is
    Huber's; with `along`, `windows` leave out that share of the range of ln x from below.

    Returns:
        A Dataset over `case` and `param`: `coefficients`, and `rows` [case], how many were used.
    """
    rows = rows_of(made)
    problem = rows.problem
    cases: list[tuple[str, FloatArray, int]] = [
        ("as fitted", made["coefficients"].values, len(problem.y))
    ]
    worst = np.argsort(-np.abs(made["residuals"].values))
    for k in drop:
        if 0 < k < len(worst) - int(problem.free.sum()):
            keep = np.ones(len(worst), dtype=bool)
            keep[worst[:k]] = False
            name = f"without the {k} worst rows" if k > 1 else "without the worst row"
            cases.append((name, _again(made, keep), int(keep.sum())))
    if problem.objective.robust:
        for delta in deltas:
            if delta != problem.objective.delta:
                params = _again(made, np.ones(len(worst), dtype=bool), delta)
                cases.append((f"delta {delta:g}", params, len(worst)))
    if along is not None:
        if along not in problem.X:
            raise ConfigError(f"along: the fit has no column {along!r}{near(along, problem.X)}")
        x = np.log(problem.X[along])
        for share in windows:
            keep = x >= x.min() + share * np.ptp(x)
            if keep.sum() > int(problem.free.sum()):
                name = f"the upper {1 - share:.0%} of ln {along}"
                cases.append((name, _again(made, keep), int(keep.sum())))
    return xr.Dataset(
        {
            "coefficients": (("case", "param"), np.stack([params for _, params, _ in cases])),
            "rows": ("case", [count for _, _, count in cases]),
        },
        {"case": [name for name, _, _ in cases], "param": made["param"].values},
        {"law": made.attrs["law"], "y_name": made.attrs["y_name"]},
    )


def _again(made: xr.Dataset, keep: FloatArray, delta: float | None = None) -> FloatArray:
    """Search anew over some rows: a choice can move the fit to another optimum."""
    rows = rows_of(made.isel(row=np.flatnonzero(keep)))
    if delta is not None:
        objective = replace(rows.problem.objective, delta=delta)
        rows = replace(rows, problem=replace(rows.problem, objective=objective))
    found = solve(rows, int(made.attrs["seed"])).found
    return rows.problem.own(found.u) if found else np.full(made.sizes["param"], np.nan)
