"""What accuracy is drawn against: the x of the study's fits, else what varies over its cells."""

import json
from dataclasses import dataclass

import pandas as pd
import xarray as xr

from trm_lab.plots.captions import quantity
from trm_lab.plots.tables import arms_of, cell_table, plan, planned

RECURSION = ("model.T", "model.n", "model.layers")
"""Factors that act through the effective depth."""


@dataclass(frozen=True)
class Abscissa:
    """One x of the cells."""

    name: str
    """Variable of /runs."""
    title: str
    label: str
    """Of the axis."""
    about: str
    """For a caption."""
    more: str
    """Larger values as words."""
    at: str
    """One value as words, {} its number."""

    @property
    def stem(self) -> str:
        """End of a file's name."""
        return self.name.rpartition(".")[2].removeprefix("effective_")

    def text(self, value: float) -> str:
        """Write one value."""
        return f"{value:g}" if abs(value) < 1e4 else quantity(value, "").strip()

    def said(self, value: float) -> str:
        """Write one value with its name."""
        return self.at.format(self.text(value))


KNOWN = {
    x.name: x
    for x in (
        Abscissa(
            "effective_depth", "effective depth", "Effective depth (layers)",
            "effective depth, layers × T × (n + 1)", "greater effective depth",
            "effective depth {}",
        ),
        Abscissa(
            "max_depth", "max depth", "Max depth (layers, all supervision steps)",
            "max depth, effective depth × N_sup", "greater max depth", "max depth {}",
        ),
        Abscissa(
            "params", "parameters", "Parameters", "parameters, the puzzle table left out",
            "more parameters", "{} parameters",
        ),
        Abscissa(
            "flops", "training compute", "Training compute (FLOP)",
            "training compute, mean over completed seeds", "more training compute", "{} FLOP",
        ),
        Abscissa(
            "graph_updates", "graph updates", "Graph updates",
            "graph updates, those of a supervision step that keep their graph",
            "more graph updates", "{} graph updates",
        ),
    )
}  # fmt: skip


def abscissas(tree: xr.DataTree) -> list[Abscissa]:
    """Give what the study's accuracy is drawn against, at least one.

    The x of every fit that the study declares; without fits effective depth, where it varies, and
    every other numeric factor that varies; without either what else varies over the cells.
    """
    asked = list(dict.fromkeys(str(fit["x"]) for fit in plan(tree).get("fits") or []))
    if asked:
        return [named(name) for name in asked]
    cells = cell_table(tree)
    varying = [name for name in ("effective_depth", *_factors(tree)) if _varies(tree, cells, name)]
    rest = [n for n in ("graph_updates", "params", "max_depth") if _varies(tree, cells, n)]
    return [named(name) for name in varying or rest[:1] or ["effective_depth"]]


def named(name: str) -> Abscissa:
    """Give the x of this name: a variable of /runs, or a setting by its dotted name."""
    own = Abscissa(name, name, name, name, f"greater {name}", f"{name} {{}}")
    return KNOWN.get(name, own)


def values(tree: xr.DataTree, cells: pd.DataFrame, name: str) -> pd.Series:
    """Give x of every row of a cell table; NaN where it is not known."""
    if name in cells:
        return cells[name].astype(float)
    runs = planned(tree)["runs"].to_dataset()
    if name not in runs or runs[name].dtype.kind not in "iuf":
        return pd.Series(float("nan"), index=cells.index)
    found = dict(zip(runs["cell"].values.astype(str), runs[name].values, strict=True))
    return cells["cell"].map(found).astype(float)


def lines(tree: xr.DataTree, cells: pd.DataFrame, name: str) -> pd.Series:
    """Name the line that each cell belongs to: cells of a series between which x varies.

    Where arms make x vary, a line is a combination of the factors; where a factor does, it is an
    arm with the other factors.
    """
    x = values(tree, cells, name)
    if (x.groupby([cells["series"], cells["factors"]]).nunique() > 1).any():
        return cells["factors"]
    places = [arms_of(tree).get(cell, ("", "")) for cell in cells["cell"]]
    arms = [(arm, json.loads(factors) if factors else {}) for arm, factors in places]
    for driver in dict.fromkeys([name, *(key for _, own in arms for key in own)]):
        keys = [json.dumps([arm, {k: v for k, v in own.items() if k != driver}])
                for arm, own in arms]  # fmt: skip
        made = pd.Series(keys, index=cells.index)
        if (x.groupby([cells["series"], made]).nunique() > 1).any():
            return made
    return cells["factors"]


def _factors(tree: xr.DataTree) -> list[str]:
    """Name the plan's factors that do not act through the effective depth."""
    cells = plan(tree).get("cells") or []
    names = dict.fromkeys(name for cell in cells for name in cell.get("factors") or {})
    return [name for name in names if name not in RECURSION]


def _varies(tree: xr.DataTree, cells: pd.DataFrame, name: str) -> bool:
    return bool(values(tree, cells, name).nunique() > 1)
