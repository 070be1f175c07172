"""What figures and tables ask of a results tree."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.results.folders import ACCURACIES
from trm_lab.results.schema import STATES

_ABOUT_A_RUN = ("cell", "variant", "series", "seed", "state")


def states(tree: xr.DataTree) -> npt.NDArray[np.str_]:
    """Give the state of every run as text, [run]."""
    index = tree["runs"].to_dataset()["state"].values
    names: npt.NDArray[np.str_] = np.array(STATES)[index]
    return names


def planned(tree: xr.DataTree) -> npt.NDArray[np.bool_]:
    """Say of every run, [run], whether the last plan and its sweep have it; all, if none says."""
    runs = tree["runs"].to_dataset()
    if "planned" not in runs:
        return np.ones(runs.sizes["run"], dtype=np.bool_)
    kept: npt.NDArray[np.bool_] = runs["planned"].values == 1
    return kept


def not_in_sweep(tree: xr.DataTree) -> npt.NDArray[np.bool_]:
    """Say of every run, [run], whether the study plans it but its last sweep leaves it out.

    Such a run never began.  It is in state waiting and not `planned`, and is not missing.
    """
    runs = tree["runs"].to_dataset()
    made = json.loads(str(tree.attrs.get("plan_json") or "{}"))
    cells = [str(cell["cell"]) for cell in made.get("cells") or []]
    of_study = np.isin(runs["cell"].values, cells)
    of_study &= np.isin(runs["seed"].values, made.get("seeds") or [])
    left: npt.NDArray[np.bool_] = of_study & ~planned(tree)
    left &= states(tree) == "waiting"
    return left


def frame(tree: xr.DataTree) -> pd.DataFrame:
    """Give /runs as a table, one row per run in study order, `state` as text."""
    runs = tree["runs"].to_dataset()
    table = runs.to_dataframe().reset_index()
    table["state"] = states(tree)
    return table[[*runs.coords, *runs.data_vars]]


def at_step(tree: xr.DataTree, step: int) -> xr.Dataset:
    """Give /eval after `step` supervision steps, with variant, series, seed and state of each run.

    Raises:
        ConfigError: no run was evaluated at that step.
    """
    evaluation = tree["eval"].to_dataset()
    _known_step(step, evaluation["step"].values, "test")
    return _described(tree, evaluation.sel(step=step))


def outcomes(tree: xr.DataTree, weights: str = "last") -> xr.DataArray:
    """Give who solved what, (run, puzzle, step): 1 solved, 0 wrong, NaN not evaluated."""
    solved = tree["puzzles"]["solved"].sel(weights=weights)
    return solved.where(solved < 2).astype(np.float32)


def equal_compute(
    tree: xr.DataTree, flops: float | None = None, step: int | None = None
) -> xr.Dataset:
    """Give every run's validation accuracies at one common training budget.

    Linear between the two evaluations around `flops`; NaN where a run's curve does not reach so
    far, before its first evaluation too: nothing is extrapolated.  `flops` defaults to the
    smallest final budget over the completed runs, `step` to the step of the study's metric.

    Raises:
        ConfigError: no completed run has a validation curve at that step.
    """
    curves = tree["curves"].to_dataset()
    steps = _metric_steps(tree) if step is None else np.full(curves.sizes["run"], step)
    known = curves["validation_step"].values
    paths = {name: _paths(curves, f"validation_{name}", known, steps) for name in ACCURACIES}
    if flops is None:
        finished = states(tree) == "completed"
        ends = [
            x[-1]
            for (x, _), done in zip(paths[ACCURACIES[0]], finished, strict=True)
            if done and x.size
        ]
        if not ends:
            asked = "the metric's step" if step is None else f"step {step}"
            raise ConfigError(
                f"equal compute: no completed run has a validation curve at {asked};"
                f" evaluated steps: {', '.join(map(str, known)) or 'none'}"
            )
        flops = float(min(ends))
    values = {
        name: ("run", [_at(flops, x, y) for x, y in found], curves[f"validation_{name}"].attrs)
        for name, found in paths.items()
    }
    budget = xr.Variable((), flops, {"long_name": "Training compute spent", "units": "FLOP"})
    return _described(tree, xr.Dataset(values, {"run": curves["run"], "flops": budget}))


def _at(budget: float, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    return float(np.interp(budget, x, y, left=np.nan, right=np.nan)) if x.size else np.nan


def _paths(
    curves: xr.Dataset, name: str, known: npt.NDArray[Any], steps: npt.NDArray[Any]
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Give (FLOPs, accuracy) of every run at its step, where both are known, FLOPs rising."""
    paths = []
    for r, step in enumerate(steps):
        x = curves["validation_flops"].values[r]
        y = curves[name].values[r][:, known == step]
        y = y[:, 0] if y.shape[1] else np.full(len(x), np.nan)
        finite = np.isfinite(x) & np.isfinite(y)
        paths.append((x[finite], y[finite]))
    return paths


def _metric_steps(tree: xr.DataTree) -> npt.NDArray[Any]:
    """Supervision step of the metric for every run: 0 in the file is each run's own N_sup."""
    runs = tree["runs"].to_dataset()
    common = int(tree.attrs["metric_steps"])
    if common:
        return np.full(runs.sizes["run"], common)
    if "supervision.N_sup" in runs:
        return runs["supervision.N_sup"].values
    return np.full(runs.sizes["run"], np.nan)


def _described(tree: xr.DataTree, data: xr.Dataset) -> xr.Dataset:
    runs = tree["runs"].to_dataset()
    about = {name: ("run", runs[name].values, runs[name].attrs) for name in _ABOUT_A_RUN}
    return data.assign_coords({**about, "state": ("run", states(tree))})


def _known_step(step: int, known: npt.NDArray[Any], split: str) -> None:
    if step not in known:
        steps = ", ".join(map(str, known)) or "none"
        raise ConfigError(f"step {step} was not evaluated on the {split} puzzles, only: {steps}")
