"""The Dataset of a fit: estimates, intervals, rows, curve, and the whole recipe as attributes."""

from typing import Any

import numpy as np
import scipy
import xarray as xr

import trm_lab
from trm_lab.fit import intervals
from trm_lab.fit.clusters import fewest
from trm_lab.fit.covariance import dispersion
from trm_lab.fit.likelihood import EXTRAS
from trm_lab.fit.objectives import LIKELIHOODS, Objective
from trm_lab.fit.problem import Problem
from trm_lab.fit.rows import Rows
from trm_lab.fit.saved import band_of
from trm_lab.fit.search import Found
from trm_lab.fit.separation import told
from trm_lab.fit.verdicts import Verdict, distinct_rows, tightest
from trm_lab.laws import GROUP, Grouped
from trm_lab.laws.base import FloatArray

FEW_CLUSTERS = 8
"""Below this a percentile interval is too narrow to be more than a description."""
GRID_X = 129


def report(
    rows: Rows,
    found: Found | None,
    verdict: Verdict,
    spread: intervals.Spread | None,
    *,
    interval: str,
    level: float,
    seed: int,
    name: str,
) -> xr.Dataset:
    """Give everything that is known of a fit as one Dataset."""
    problem = rows.problem
    law, K = problem.law, len(problem.law.names)
    params = problem.own(found.u) if found else np.full(K, np.nan)
    none = np.full(K, np.nan)
    lower, upper, stderr = (
        (spread.lower, spread.upper, spread.stderr) if spread else (none, none, none)
    )
    made = spread.draws if spread else np.zeros((0, K))
    usable = made[np.isfinite(made).all(axis=1)]
    fitted = law.value(params, problem.X) if found else np.full(len(problem.y), np.nan)
    residual = problem.residual(found.u)[0] if found else np.full(len(problem.y), np.nan)
    has = bool(spread) and bool(np.isfinite(lower).any())
    n, least = len(rows.clusters), fewest(law, rows.member, problem.X.get(GROUP))
    few = interval in intervals.OF_CLUSTERS and least < FEW_CLUSTERS
    inner = law.law if isinstance(law, Grouped) else law
    attrs: dict[str, Any] = {
        "name": name,
        "law": str(inner),
        "law_name": inner.name,
        "held": ", ".join(f"{one}={float(value)!r}" for one, value in inner.fixed),
        "formula": inner.formula,
        "source": inner.source,
        "y_name": rows.y_name,
        "x_name": ", ".join(inner.columns_read),
        "weights_name": rows.weights_name,
        "by": rows.by,
        "share": ", ".join(law.share) if isinstance(law, Grouped) else "",
        "status": verdict.status,
        "at_bound": ", ".join(verdict.at_bound),
        "not_separable": ", ".join(verdict.entangled),
        "collinear": ", ".join(verdict.collinear),
        "floor_not_identified": ", ".join(verdict.floors),
        "objective": problem.objective.name,
        "delta": problem.objective.delta if problem.objective.robust else np.nan,
        "residuals": problem.objective.space,
        "objective_value": found.value if found else np.nan,
        "rmse": float(np.sqrt(np.mean((problem.y - fitted) ** 2))) if problem.y.size else np.nan,
        "n_points": len(problem.y),
        "n_distinct_x": distinct_rows(problem),
        "n_clusters": n,
        "fewest_clusters": least,
        "cluster": rows.cluster_name,
        "interval": intervals.KINDS[interval] if has else "none",
        "interval_kind": interval,
        "independent": rows.cluster_name if interval in intervals.OF_CLUSTERS else "row",
        "level": level,
        "seed": seed,
        "draws_failed": len(made) - len(usable),
        "agreement": found.agreement if found else np.nan,
        "starts": len(found.starts) if found else 0,
        "n_basins": _basins(found) if found else 0,
        "condition_number": verdict.condition,
        "gradient": verdict.gradient,
        "dispersion": dispersion(problem, found.u) if found else np.nan,
        "descriptive": int(few or verdict.status != "converged"),
        "data_hash": "",
        "trm_lab_version": trm_lab.__version__,
        "scipy_version": scipy.__version__,
        "numpy_version": np.__version__,
        **_information(problem, found),
    }
    attrs["note"] = _note(rows, found, verdict, interval, has, few, attrs)
    free = int(problem.free.sum())
    starts = found.starts if found else np.zeros(0)
    variables: dict[str, Any] = {
        "coefficients": ("param", params, _about("Estimate")),
        "stderr": ("param", stderr, _about("Standard error")),
        "ci": (("param", "bound"), np.stack([lower, upper], -1), _about(f"{level:.0%} interval")),
        "meaning": ("param", [p.meaning for p in law.parameters], _about("Meaning")),
        "covariance": (
            ("param", "param_2"),
            spread.covariance if spread else np.full((K, K), np.nan),
            _about("Covariance of the estimates"),
        ),
        "draws": (("draw", "param"), made, _about("Resampled estimates")),
        "start_objective": ("start", starts, _about("Objective that a start reached")),
        "y": ("row", problem.y, _about(rows.y_name)),
        "weights": ("row", problem.weights, _about("Weight")),
        "fitted": ("row", fitted, _about(f"Fitted {rows.y_name}")),
        "residuals": ("row", residual, _about(_residual_name(problem.objective))),
        **{c: ("row", problem.X[c], _about(c)) for c in inner.columns_read if c != "y"},
    }
    if problem.m is not None:
        variables["of"] = ("row", problem.m, _about("Number that y is a share of"))
    if found and len(found.extras):
        variables["extras"] = ("extra", found.extras, _about("Parameters of the likelihood"))
    if found and len(found.places):
        variables["start_params"] = (
            ("start", "free"),
            found.places.reshape(-1, free),
            _about("Coordinates"),
        )
    coords: dict[str, Any] = {
        "param": ("param", list(law.names), _about("Parameter")),
        "param_2": ("param_2", list(law.names), _about("Parameter")),
        "bound": ("bound", ["lower", "upper"], _about("End of the interval")),
        "cluster": ("row", rows.clusters[rows.member], _about(f"Cluster: {rows.cluster_name}")),
        "name_of_row": ("row", rows.names, _about("Row")),
    }
    if rows.groups is not None:
        coords["group"] = ("row", rows.groups, _about(rows.by))
    if found and len(found.extras):
        coords["extra"] = ("extra", list(EXTRAS[problem.objective.name]), _about("Parameter"))
    result = xr.Dataset(variables, coords, attrs)
    if len(inner.columns_read) == 1 and rows.groups is None and problem.y.size:
        result = result.merge(_curve(rows, params, result), combine_attrs="override")
    return result


def _curve(rows: Rows, params: FloatArray, made: xr.Dataset) -> xr.Dataset:
    """Give the curve over the range of x and no further, with its pointwise band."""
    law = rows.problem.law
    name = law.columns_read[0]
    x = rows.problem.X[name]
    low, high = float(x.min()), float(x.max())
    wide = low > 0 and high / low > 3
    grid = np.geomspace(low, high, GRID_X) if wide else np.linspace(low, high, GRID_X)
    solved = bool(np.isfinite(params).all())
    curve = law.value(params, {name: grid}) if solved else np.full(GRID_X, np.nan)
    band = np.full((2, GRID_X), np.nan)
    if solved:
        band = band_of(made, rows.problem, {name: grid})
    return xr.Dataset(
        {
            "grid_x": ("grid", grid, _about(name)),
            "curve": ("grid", curve, _about(f"Fitted {rows.y_name}")),
            "band": (("grid", "bound"), band.T, _about("Pointwise band of the curve")),
        }
    )


def _information(problem: Problem, found: Found | None) -> dict[str, float]:
    """Give log likelihood, AIC and BIC where the objective is a likelihood."""
    name = problem.objective.name
    if found is None or name not in LIKELIHOODS:
        return {"loglik": np.nan, "aic": np.nan, "bic": np.nan}
    n = len(problem.y)
    if name == "least_squares":
        loglik = -0.5 * n * (np.log(2 * np.pi * max(found.value, 1e-300) / n) + 1)
        loglik += 0.5 * float(np.log(problem.weights).sum())
        k = len(found.u) + 1
    else:
        loglik, k = -found.value, len(found.u) + len(found.extras)
    return {
        "loglik": float(loglik),
        "aic": float(2 * k - 2 * loglik),
        "bic": float(k * np.log(n) - 2 * loglik),
    }


def _basins(found: Found) -> int:
    """Count different optima that starts ended in."""
    values = np.sort(found.starts)
    if not len(values):
        return 0
    apart = np.diff(values) > 1e-4 * np.abs(values[:-1]) + 1e-24
    return int(apart.sum()) + 1


def _residual_name(objective: Objective) -> str:
    return {
        "log": "ln fitted less ln y",
        "raw": "fitted less y",
        "count": "signed root of the deviance",
    }[objective.space]


def _note(
    rows: Rows,
    found: Found | None,
    verdict: Verdict,
    interval: str,
    has: bool,
    few: bool,
    attrs: dict[str, Any],
) -> str:
    n, cluster = attrs["fewest_clusters"], rows.cluster_name
    count = tightest(rows.problem)
    of, own = (f" in {count.group}", " of its own") if count.group else ("", "")
    percentile = "percentile " * (interval != "sandwich")
    smallest = " in the smallest group" if n < attrs["n_clusters"] else ""
    notes = []
    if verdict.status == "all_zero":
        all_zero = f"every {rows.y_name.replace('_', ' ')} is 0"
        notes.append(f"nothing to fit: {all_zero}; train longer, or take a softer y")
    elif verdict.status in ("too_few_points", "not_identified"):
        lacks = "interval" if found else f"estimates; add rows at other x, or {_hold(rows.problem)}"
        notes.append(
            f"{count.distinct} distinct x{of} for {count.free} parameters{own}: no {lacks}"
        )
    elif interval in intervals.OF_CLUSTERS and n < 2:
        notes.append(f"{n} cluster ({cluster}){smallest}: no interval")
    elif found is None:
        notes.append("no start reached a finite optimum: no estimates; hold fewer parameters")
    elif not has and interval == "bootstrap":
        notes.append(
            f"fewer than half of the resamples of {n} clusters ({cluster}){smallest} tell "
            f"{count.free} parameters: no interval; add clusters"
            + ", or take interval sandwich"
            * (rows.problem.objective.name not in EXTRAS)
        )
    elif not has and interval != "none":
        notes.append("fewer than half of the resamples tell the parameters: no interval")
    elif few and has:
        notes.append(
            f"descriptive: {percentile}intervals from {n} clusters ({cluster}){smallest} are too "
            "narrow"
        )
    if verdict.entangled or verdict.collinear:
        what = told(rows.problem, verdict.collinear or verdict.entangled)
        notes.append(f"{what}; see design_report for what to add")
    if verdict.floors:
        are = "is" if len(verdict.floors) == 1 else "are"
        notes.append(
            f"{' and '.join(verdict.floors)} {are} not told from 0 by these rows: report no floor"
        )
    if verdict.at_bound:
        notes.append(f"at the edge of what it can be: {', '.join(verdict.at_bound)}")
    if verdict.flat:
        notes.append("no change with x, so the law's scale in x is not identified")
    if found is not None and found.agreement < 1:
        notes.append(
            f"{found.agreement:.0%} of {len(found.starts)} starts reach the best optimum "
            f"({attrs['n_basins']} optima seen)"
        )
    if attrs["draws_failed"]:
        notes.append(
            f"{attrs['draws_failed']} resamples tell too little of the parameters, left out"
        )
    return "; ".join(notes)


def _hold(problem: Problem) -> str:
    """Say how a parameter is held."""
    law = problem.law
    free = [n.partition("[")[0] for n, moves in zip(law.names, problem.free, strict=True) if moves]
    return f"hold parameters, as `{str(law)[:-1]}, {(free or ['NAME'])[0]}=VALUE)`"


def _about(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}
