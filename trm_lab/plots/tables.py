"""The numbers behind the figures: one row a run, one row a cell.

Only a completed run with a finite value enters a mean.  Every other planned run is counted by its
state, and named in the captions.  `at` says what is held equal: "updates" is the final test of the
last weights, "compute" the validation accuracy at one budget of training FLOPs for all runs.
"""

import json
import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.results import equal_compute, states, views
from trm_lab.stats import seed_interval

At = Literal["updates", "compute"]
PANELS: tuple[tuple[str, At], ...] = (("a", "updates"), ("b", "compute"))
"""The two comparisons that stand side by side."""
COLUMNS = {
    "T": "model.T",
    "n": "model.n",
    "layers": "model.layers",
    "N_sup": "supervision.N_sup",
    "updates_planned": "train.updates",
}
"""Column of the tables: name of the recipe's field."""
NUMBERS = ("effective_depth", "max_depth", "graph_updates", "params", "flops", "updates", "seconds")


def plan(tree: xr.DataTree) -> dict[str, Any]:
    """Give the plan that the study was run by; empty if the file has none."""
    found = json.loads(str(tree.attrs.get("plan_json") or "{}"))
    return found if isinstance(found, dict) else {}


def arms_of(tree: xr.DataTree) -> dict[str, tuple[str, str]]:
    """Give the arm and the factors of every planned cell; factors as JSON, empty for none."""
    return {
        str(cell["cell"]): (
            str(cell.get("arm", cell.get("variant"))),
            json.dumps(cell["factors"]) if cell.get("factors") else "",
        )
        for cell in plan(tree).get("cells") or []
    }


def metric(tree: xr.DataTree) -> str:
    """Give the name of the study's metric."""
    return str(tree.attrs.get("metric") or "puzzle_accuracy")


def scale(name: str) -> tuple[float, str, str]:
    """Give the factor to the printed unit, that unit, and the unit of a difference."""
    return (100.0, "%", "pp") if name.endswith("accuracy") else (1.0, "", "")


def title(name: str) -> str:
    """Give a variable's name as words: puzzle_accuracy is "Puzzle accuracy"."""
    return name.replace("_", " ").capitalize()


def fits(tree: xr.DataTree, *, stale: bool = False) -> list[xr.Dataset]:
    """Give the study's fits; those made from other data only if asked for."""
    found = [node.to_dataset() for node in tree["fits"].children.values()] if "fits" in tree else []
    return [fit for fit in found if stale or not fit.attrs.get("stale")]


def planned(tree: xr.DataTree) -> xr.DataTree:
    """Leave out the runs of an older plan: they enter no figure and no budget."""
    kept = views.planned(tree)
    if kept.all():
        return tree
    keep = np.flatnonzero(kept)
    groups = {
        f"/{name}": node.to_dataset().isel(run=keep) if "run" in node.dims else node.to_dataset()
        for name, node in tree.children.items()
        if name != "fits"
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})


def run_table(tree: xr.DataTree) -> pd.DataFrame:
    """Give one row per planned run, in plan order.

    The columns `at_updates` and `at_compute` are NaN for every run that is not completed; the
    attribute `budget` is the training FLOPs at which `at_compute` is read.
    """
    tree = planned(tree)
    runs = tree["runs"].to_dataset()
    names = ("run", "cell", "variant", "series", "seed")
    table = pd.DataFrame({name: runs[name].values for name in names} | {"state": states(tree)})
    for name, field in {**COLUMNS, **{name: name for name in NUMBERS}}.items():
        table[name] = runs[field].values if field in runs else np.nan
    done = table["state"] == "completed"
    factors = {cell: found for cell, (_, found) in arms_of(tree).items()}
    table["factors"] = table["cell"].map(factors).fillna("")
    table["at_updates"] = np.where(done, runs[metric(tree)].values, np.nan)
    equal, table.attrs["budget"] = at_compute(tree)
    table["at_compute"] = equal.where(done)
    return table


def at_compute(tree: xr.DataTree) -> tuple[pd.Series, float]:
    """Give every run's validation metric at the common budget, and that budget in FLOPs.

    NaN where the study's metric is not recorded while training, or no run has completed.
    """
    tree = planned(tree)
    nothing = pd.Series(np.full(tree["runs"].sizes["run"], np.nan))
    try:
        found = equal_compute(tree)
    except ConfigError:
        return nothing, math.nan
    if metric(tree) not in found.data_vars:
        return nothing, math.nan
    return pd.Series(found[metric(tree)].values), float(found["flops"])


def labels(tree: xr.DataTree) -> dict[str, str]:
    """Name every cell by its variant, or by its folder should several share one."""
    runs = planned(tree)["runs"].to_dataset()
    variants = dict(zip(runs["cell"].values.astype(str), runs["variant"].values, strict=True))
    shared = list(variants.values())
    return {c: str(v) if shared.count(v) == 1 else c for c, v in variants.items()}


def fields(runs: xr.Dataset) -> list[str]:
    """Give the names of the recipe's fields among the variables."""
    return [str(name) for name in runs.data_vars if runs[name].attrs.get("source") == "recipe"]


def _text(value: Any) -> str:
    """Give a recipe's value as text; absent is a dash."""
    if isinstance(value, float | np.floating):
        return "-" if math.isnan(value) else f"{value:g}"
    return str(value) or "-"


def changed(tree: xr.DataTree, old: str, new: str) -> list[str]:
    """Say which fields of the recipe differ between two cells, as "field: old -> new"."""
    runs = planned(tree)["runs"].to_dataset()
    cells = [str(cell) for cell in runs["cell"].values]
    a, b = cells.index(old), cells.index(new)
    pairs = {}
    for name in fields(runs):
        before, after = _text(runs[name].values[a]), _text(runs[name].values[b])
        if before != after:
            pairs[name] = (before, after)
    replaced = {name.removesuffix("kind") for name in pairs if name.endswith(".kind")}
    return [
        f"{name}: {before} -> {after}"
        for name, (before, after) in pairs.items()
        if after != "-" or name.rpartition(".")[0] + "." not in replaced
    ]


def cell_table(tree: xr.DataTree, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Give one row per cell, in plan order: where it stands, its runs by state, its two means."""
    runs = run_table(tree) if runs is None else runs
    named = labels(tree)
    rows = []
    for cell, group in runs.groupby("cell", sort=False):
        head, done = group.iloc[0], group[group["state"] == "completed"]
        row: dict[str, Any] = {"cell": cell, "label": named[str(cell)]}
        row |= {name: head[name] for name in ("variant", "series", "factors", *COLUMNS)}
        row |= {name: head[name] for name in NUMBERS[:4]}
        row["planned"] = len(group)
        count = group["state"].value_counts(sort=False)
        row["states"] = ", ".join(f"{runs_} {state}" for state, runs_ in count.items())
        for state in ("completed", "diverged", "failed"):
            row[state] = int((group["state"] == state).sum())
        for at in ("updates", "compute"):
            found = seed_interval(group[f"at_{at}"].dropna().to_numpy())
            row |= {f"{at}_n": found.n, f"{at}_mean": found.estimate}
            row |= {f"{at}_lower": found.lower, f"{at}_upper": found.upper}
        row["seconds"] = float(done["seconds"].mean()) if len(done) else math.nan
        row["flops"] = float(done["flops"].mean()) if len(done) else math.nan
        rows.append(row)
    return pd.DataFrame(rows)
