"""Contrasts: a variant against its baseline, paired by seed."""

import json
import math
from typing import Any

import pandas as pd
import xarray as xr

from trm_lab.plots.tables import PANELS, At, arms_of, changed, labels, plan, planned, run_table
from trm_lab.stats import seed_interval


def contrast_table(tree: xr.DataTree, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Give one row per pair of cells that the plan compares.

    Differences are against minus baseline, over the seeds that completed in both; `*_seeds` holds
    them as JSON by seed.  A planned comparison without such a seed is a row with n = 0.
    """
    runs = run_table(tree) if runs is None else runs
    named = labels(tree)
    rows = []
    for contrast in plan(tree).get("contrasts") or []:
        for against in contrast["against"]:
            for old, new in _pairs(tree, contrast["baseline"], against):
                row: dict[str, Any] = {
                    "contrast": contrast["name"],
                    "title": contrast.get("title") or contrast["name"],
                    "baseline": named.get(old, contrast["baseline"]),
                    "against": named.get(new, against),
                    "baseline_cell": old,
                    "cell": new,
                    "changed": "; ".join(changed(tree, old, new)) if old and new else "",
                }
                for _, at in PANELS:
                    found = compare(runs, old, new, at)
                    row |= {f"{at}_{name}": value for name, value in found.items()}
                rows.append(row)
    return pd.DataFrame(rows)


def _pairs(tree: xr.DataTree, baseline: str, against: str) -> list[tuple[str, str]]:
    """Match the cells of two arms, crossed with factors: within each combination.

    A cell without its counterpart is paired with an empty name.
    """
    present = set(planned(tree)["runs"].to_dataset()["cell"].values.astype(str))
    arms = {cell: place for cell, place in arms_of(tree).items() if cell in present}
    old, new = (
        {factors: cell for cell, (arm, factors) in arms.items() if arm == name}
        for name in (baseline, against)
    )
    return [(old.get(factors, ""), new.get(factors, "")) for factors in new or old or {"": ""}]


def compare(runs: pd.DataFrame, old: str, new: str, at: At) -> dict[str, Any]:
    """Pair two cells by seed: the means over the common seeds, their difference, its interval."""
    a, b = _by_seed(runs, new, at), _by_seed(runs, old, at)
    both = sorted(a.keys() & b.keys())
    found = seed_interval(a, b)
    return {
        "n": found.n,
        "difference": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "seeds": json.dumps({seed: a[seed] - b[seed] for seed in both}),
        "old": sum(b[seed] for seed in both) / len(both) if both else math.nan,
        "new": sum(a[seed] for seed in both) / len(both) if both else math.nan,
    }


def _by_seed(runs: pd.DataFrame, cell: str, at: At) -> dict[int, float]:
    mine = runs[runs["cell"] == cell].dropna(subset=[f"at_{at}"])
    pairs = zip(mine["seed"], mine[f"at_{at}"], strict=True)
    return {int(seed): float(value) for seed, value in pairs}
