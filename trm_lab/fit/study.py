"""Fits of a study's runs: what its plan asks for, saved beside its results."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import near
from trm_lab.fit.fitting import fit
from trm_lab.laws import law as law_named
from trm_lab.results import STATES, data_hash, not_in_sweep, states
from trm_lab.results.files import write_netcdf
from trm_lab.runs import NOT_IN_SWEEP

_SETTINGS = ("objective", "delta", "residuals", "by", "interval")
"""What a fit of a study may say beside law, x, y, series, variants and cluster."""


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

    `spec` has `name`, `law`, `y`, `x` where the law is a plain name, and optionally `series`,
    `variants`, `cluster` ("seed"), `share` and the settings of `trm_lab.fit.fit`.  Runs that are
    left out are counted in the note.

    Raises:
        ConfigError: the spec names something that the study does not have.
    """
    runs = tree["runs"].to_dataset()
    place = f"fit {spec.get('name', '?')}"
    missing = [key for key in ("name", "law", "y") if not spec.get(key)]
    if not missing and str(spec["law"]).isidentifier() and not spec.get("x"):
        missing = ["x"]
    if missing:
        raise ConfigError(f"{place}: {', '.join(missing)} not given")
    law = law_named(str(spec["law"]), str(spec["x"]) if spec.get("x") else None)
    numbers = [str(n) for n, v in runs.variables.items() if v.dtype.kind in "iuf"]
    cluster = str(spec.get("cluster") or "seed")
    y = str(spec["y"])
    for column in law.columns_read:
        _known(f"{place}: x", column, numbers)
    _known(f"{place}: y", y, numbers)
    _known(f"{place}: cluster", cluster, [str(n) for n in runs.coords])
    series = np.ones(runs.sizes["run"], dtype=np.bool_)
    if spec.get("series"):
        _known(f"{place}: series", str(spec["series"]), np.unique(runs["series"].values))
        series &= runs["series"].values == spec["series"]
    if spec.get("variants"):
        for variant in spec["variants"]:
            _known(f"{place}: variants", str(variant), np.unique(runs["variant"].values))
        series &= np.isin(runs["variant"].values, list(spec["variants"]))
    used, left_out = usable_runs(tree, (*law.columns_read, y), series)
    columns = dict.fromkeys(
        [*law.columns_read, y, cluster, *([spec["by"]] if spec.get("by") else [])]
    )
    frame = {name: runs[name].values[used] for name in columns} | {"run": runs["run"].values[used]}
    settings = {key: spec[key] for key in _SETTINGS if spec.get(key) is not None}
    made = fit(
        frame, y, law, cluster=cluster, draws=draws, level=level, seed=seed, name=str(spec["name"]),
        share=tuple(spec.get("share") or ()), **settings,
    )  # fmt: skip
    _units(made, runs, law.columns_read, y)
    softer = _softer(spec, str(law), cluster) if made.attrs["status"] == "all_zero" else ""
    made.attrs["note"] = "; ".join(filter(None, [made.attrs["note"] + softer, left_out]))
    made.attrs |= {
        "study": str(tree.attrs.get("study", "")),
        "series": str(spec.get("series") or ""),
        "variants": ", ".join(spec.get("variants") or ()),
        "data_hash": data_hash(tree),
    }
    return made


def usable_runs(
    tree: xr.DataTree, columns: Sequence[str], among: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], str]:
    """Choose the completed runs of the plan that have numbers in all `columns`, the last one y.

    `among` [run] says which runs are asked for.

    Returns:
        Which runs are used, [run], and how many others of `among` were left out and why.
    """
    runs, state = tree["runs"].to_dataset(), states(tree)
    wanted = among & (runs["planned"].values == 1)
    done = wanted & (state == "completed")
    used = done.copy()
    for column in columns:
        used &= np.isfinite(runs[column].values.astype(float))
    left_out = [
        f"{count} {name}"
        for name in STATES
        if name != "completed" and (count := int((wanted & (state == name)).sum()))
    ]
    if unmeasured := int((done & ~used).sum()):
        *others, last = dict.fromkeys(columns)
        left_out.append(f"{unmeasured} completed without {', '.join(others)} or {last}")
    told = [f"left out of {int(wanted.sum())} runs: {', '.join(left_out)}"] if left_out else []
    if elsewhere := int((among & not_in_sweep(tree)).sum()):
        told.append(f"{elsewhere} more {NOT_IN_SWEEP}")
    return used, "; ".join(told)


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


def _softer(spec: Mapping[str, Any], law: str, cluster: str) -> str:
    """Give the options of `trm-lab fit` for the same fit of the share of cells that are right."""
    if spec["y"] != "puzzle_accuracy" or spec.get("variants") or spec.get("by"):
        return ""
    words = ["--law", law, "--y", "cell_accuracy", "--cluster", cluster]
    words += ["--where", f"series={spec['series']}"] if spec.get("series") else []
    return f", as `{shlex.join(words)}`"


def _units(made: xr.Dataset, runs: xr.Dataset, columns: Iterable[str], y: str) -> None:
    """Carry names and units of the study's variables over to the fit."""
    for name in ("y", "fitted", "curve"):
        if name in made:
            made[name].attrs["units"] = runs[y].attrs["units"]
    made["y"].attrs["long_name"] = runs[y].attrs["long_name"]
    for column in columns:
        about = {key: runs[column].attrs[key] for key in ("units", "long_name")}
        made[column].attrs |= about
        if "grid_x" in made:
            made["grid_x"].attrs |= about


def _known(place: str, name: str, known: Iterable[str]) -> None:
    names = sorted(map(str, known))
    if name not in names:
        raise ConfigError(f"{place}: the study has no {name!r}{near(name, names)}")
