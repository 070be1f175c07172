"""Fit a law to runs: one Dataset with estimates, intervals, draws, residuals and the curve.

Points are runs; a cluster (a seed) is what the bootstrap draws, whole, because points of one
cluster are not independent.  Percentile intervals from few clusters are too narrow and are marked
`descriptive`.

Status: `converged`; `at_bound` (a parameter stands at its bound or at the edge of what these x can
tell); `not_converged` (independent starts do not agree); `not_identified` (no more distinct x than
parameters, so no degree of freedom and no interval; estimates only where the curve through the
means is unique); `too_few_points` (fewer than two distinct x); `all_zero` (every y is 0: nothing
was learned, so nothing is fitted).
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

import trm_lab
from trm_lab.errors import ConfigError
from trm_lab.laws import FloatArray, Law
from trm_lab.laws import law as law_named
from trm_lab.projection import Found, Problem, search
from trm_lab.results import STATES, data_hash, not_in_sweep, states
from trm_lab.results.files import write_netcdf
from trm_lab.runs import NOT_IN_SWEEP

FEW_CLUSTERS = 8
"""Below this a percentile interval is too narrow to be more than a description."""
_GRID_X = 129


def fit(
    law: Law | str,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    name: str = "fit",
    runs: Sequence[str] | None = None,
    x_name: str = "x",
    y_name: str = "y",
    cluster_name: str = "cluster",
) -> xr.Dataset:
    """Fit `law` to points (x, y) by weighted least squares with a cluster bootstrap.

    `cluster` names the cluster of every point; clusters are resampled whole.

    Raises:
        ConfigError: lengths differ, values are missing, or x or y lie outside the law's range.
    """
    law = law_named(law) if isinstance(law, str) else law
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    given = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    labels = np.asarray(cluster).astype(str)
    _check(law, x, y, given, labels)
    clusters, member = np.unique(labels, return_inverse=True)
    distinct, size = len(np.unique(x)), len(law.names)
    hopeless = _hopeless(y, distinct, size)
    if hopeless:
        found = Found(hopeless, np.full(size, np.nan), np.zeros((0, size)))
    else:
        found = search(Problem(law, x, y), given, member, len(clusters), draws, seed)
    interval = bool(len(found.draws))
    ends = [(1 - level) / 2, (1 + level) / 2]
    usable = found.draws[np.isfinite(found.draws).all(axis=1)]
    bounds = np.quantile(usable, ends, axis=0) if interval else np.full((2, size), np.nan)
    grid_x = _grid(x)
    curve = law.value(found.params, grid_x)
    band = np.full((2, len(grid_x)), np.nan)
    if interval:
        band = np.quantile(law.value(usable, grid_x), ends, axis=0)
    fitted = law.value(found.params, x)
    few = len(clusters) < FEW_CLUSTERS
    attrs: dict[str, Any] = {
        "name": name,
        "law": law.name,
        "formula": law.formula,
        "source": law.source,
        "x_name": x_name,
        "y_name": y_name,
        "status": found.status,
        "at_bound": ", ".join(found.at_bound),
        "objective": "least squares" if weights is None else "weighted least squares",
        "sum_of_squares": found.sum_of_squares,
        "rmse": float(np.sqrt(np.mean((y - fitted) ** 2))) if y.size else np.nan,
        "n_points": len(y),
        "n_distinct_x": distinct,
        "n_clusters": len(clusters),
        "cluster": cluster_name,
        "interval": "cluster bootstrap percentile" if interval else "none",
        "level": level,
        "seed": seed,
        "draws_failed": len(found.draws) - len(usable),
        "agreement": found.agreement,
        "starts": found.starts,
        "condition_number": found.condition,
        "descriptive": int(few or found.status != "converged"),
        "note": _note(found, y_name, len(clusters), cluster_name, distinct, size, len(usable)),
        "data_hash": "",
        "trm_lab_version": trm_lab.__version__,
    }
    names = [str(run) for run in runs] if runs is not None else [f"{i}" for i in range(len(y))]
    return xr.Dataset(
        {
            "estimate": ("parameter", found.params, _about("Estimate")),
            "lower": ("parameter", bounds[0], _about(f"Lower end of the {level:.0%} interval")),
            "upper": ("parameter", bounds[1], _about(f"Upper end of the {level:.0%} interval")),
            "meaning": ("parameter", [p.meaning for p in law.parameters], _about("Meaning")),
            "draws": (("draw", "parameter"), found.draws, _about("Bootstrap draws")),
            "x": ("point", x, _about(x_name)),
            "y": ("point", y, _about(y_name)),
            "weight": ("point", given, _about("Weight")),
            "fitted": ("point", fitted, _about(f"Fitted {y_name}")),
            "residual": ("point", y - fitted, _about(f"{y_name} less fitted")),
            "grid_x": ("grid", grid_x, _about(x_name)),
            "curve": ("grid", curve, _about(f"Fitted {y_name}")),
            "curve_lower": ("grid", band[0], _about("Lower end of the pointwise band")),
            "curve_upper": ("grid", band[1], _about("Upper end of the pointwise band")),
        },
        {
            "parameter": ("parameter", list(law.names), _about("Parameter")),
            "run": ("point", np.array(names, dtype=str), _about("Run")),
            "cluster": ("point", labels, _about(f"Cluster: {cluster_name}")),
        },
        attrs,
    )


def _hopeless(y: FloatArray, distinct: int, size: int) -> str:
    """Give the status of points that no law can be fitted to; empty if one can."""
    if y.size and not y.any():
        return "all_zero"
    if distinct < 2:
        return "too_few_points"
    return "not_identified" if distinct < size else ""


def _note(
    found: Found, y_name: str, clusters: int, cluster: str, distinct: int, size: int, usable: int
) -> str:
    notes = []
    if found.status == "all_zero":
        notes.append(f"nothing to fit: every {y_name.replace('_', ' ')} is 0")
    elif found.status in ("too_few_points", "not_identified"):
        notes.append(f"{distinct} distinct x for {size} parameters: no interval")
    elif clusters < 2:
        notes.append(f"{clusters} cluster ({cluster}): no interval")
    elif not len(found.draws):
        notes.append("fewer than half of the resamples have enough distinct x: no interval")
    elif clusters < FEW_CLUSTERS:
        notes.append(
            f"descriptive: percentile intervals from {clusters} clusters ({cluster}) are too narrow"
        )
    if found.status == "at_bound":
        notes.append(f"at the edge of what it can be: {', '.join(found.at_bound)}")
        if "a" in found.at_bound:
            notes.append("no change with x, so the law's scale in x is not identified")
    if found.status == "not_converged":
        notes.append(f"only {found.agreement:.0%} of {found.starts} starts reach the best optimum")
    if failed := len(found.draws) - usable:
        notes.append(f"{failed} of {len(found.draws)} resamples have too few distinct x, left out")
    return "; ".join(notes)


def _grid(x: FloatArray) -> FloatArray:
    """Give where the curve is drawn: the range of the data and no further."""
    if not x.size:
        return np.zeros(0)
    low, high = float(x.min()), float(x.max())
    wide = low > 0 and high / low > 3
    return np.geomspace(low, high, _GRID_X) if wide else np.linspace(low, high, _GRID_X)


def _about(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}


def _check(
    law: Law, x: FloatArray, y: FloatArray, weights: FloatArray, labels: npt.NDArray[Any]
) -> None:
    sizes = {"x": x.shape, "y": y.shape, "weights": weights.shape, "cluster": labels.shape}
    if any(shape != (y.size,) for shape in sizes.values()):
        raise ConfigError(f"fit: x, y, weights and cluster must be equally long, not {sizes}")
    law.check_x(x)
    low, high = law.range
    bad = y[~((y >= low) & (y <= high))]
    if bad.size:
        raise ConfigError(
            f"law {law.name} ({law.formula}): y must lie in [{low:g}, {high:g}], not {bad[0]:g}"
        )
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ConfigError("fit: weights must be finite and above 0")


def fit_specs(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Give the fits that the study's plan asks for."""
    text = str(tree.attrs.get("plan_json") or "{}")
    return list(json.loads(text).get("fits") or [])


def fit_study(
    tree: xr.DataTree,
    spec: Mapping[str, Any],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Fit what `spec` says to the completed runs of a study's plan.

    `spec` has `name`, `law`, `x`, `y` and optionally `series`, `variants` and `cluster` ("seed").
    Runs that are left out are counted in the note.

    Raises:
        ConfigError: the spec names something that the study does not have.
    """
    runs = tree["runs"].to_dataset()
    place = f"fit {spec.get('name', '?')}"
    missing = [key for key in ("name", "law", "x", "y") if not spec.get(key)]
    if missing:
        raise ConfigError(f"{place}: {', '.join(missing)} not given")
    numbers = [str(n) for n, v in runs.variables.items() if v.dtype.kind in "iuf"]
    cluster = str(spec.get("cluster") or "seed")
    for key in ("x", "y"):
        _known(f"{place}: {key}", str(spec[key]), numbers)
    _known(f"{place}: cluster", cluster, [str(n) for n in runs.coords])
    series = np.ones(runs.sizes["run"], dtype=np.bool_)
    if spec.get("series"):
        _known(f"{place}: series", str(spec["series"]), np.unique(runs["series"].values))
        series &= runs["series"].values == spec["series"]
    if spec.get("variants"):
        for variant in spec["variants"]:
            _known(f"{place}: variants", str(variant), np.unique(runs["variant"].values))
        series &= np.isin(runs["variant"].values, list(spec["variants"]))
    wanted = series & (runs["planned"].values == 1)
    x, y = (runs[str(spec[key])].values.astype(np.float64) for key in ("x", "y"))
    state = states(tree)
    used = wanted & (state == "completed") & np.isfinite(x) & np.isfinite(y)
    made = fit(
        str(spec["law"]),
        x[used],
        y[used],
        cluster=runs[cluster].values[used],
        draws=draws,
        level=level,
        seed=seed,
        name=str(spec["name"]),
        runs=list(runs["run"].values[used]),
        x_name=str(spec["x"]),
        y_name=str(spec["y"]),
        cluster_name=cluster,
    )
    for names, key in ((("x", "grid_x"), "x"), (("y", "fitted", "residual", "curve"), "y")):
        about = runs[str(spec[key])].attrs
        for variable in names:
            made[variable].attrs["units"] = about["units"]
            if variable in ("x", "grid_x", "y"):
                made[variable].attrs["long_name"] = about["long_name"]
    left_out = [
        f"{count} {name}"
        for name in STATES
        if name != "completed" and (count := int((wanted & (state == name)).sum()))
    ]
    if unmeasured := int((wanted & (state == "completed") & ~used).sum()):
        left_out.append(f"{unmeasured} completed without {spec['x']} or {spec['y']}")
    told = [f"left out of {int(wanted.sum())} runs: {', '.join(left_out)}"] if left_out else []
    if elsewhere := int((series & not_in_sweep(tree)).sum()):
        told.append(f"{elsewhere} more {NOT_IN_SWEEP}")
    if text := "; ".join(told):
        made.attrs["note"] = "; ".join(filter(None, [made.attrs["note"], text]))
    made.attrs |= {
        "study": str(tree.attrs.get("study", "")),
        "series": str(spec.get("series") or ""),
        "variants": ", ".join(spec.get("variants") or ()),
        "data_hash": data_hash(tree),
    }
    return made


def save_fit(made: xr.Dataset, study: Path | str) -> Path:
    """Write a fit to fits/<name>.nc of the study folder, atomically, and give the path.

    Raises:
        ConfigError: the fit's name is not a plain file name.
    """
    name = str(made.attrs["name"])
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"fit {name!r}: a name has letters, digits, '_', '-' and '.' only")
    path = Path(study) / "fits" / f"{name}.nc"
    write_netcdf(made, path)
    return path


def _known(place: str, name: str, known: Iterable[str]) -> None:
    names = sorted(map(str, known))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
        raise ConfigError(f"{place}: the study has no {name!r}{hint}")
