"""Accuracy against depth, or another x of the cells: at equal updates and at equal compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trm_lab.plots import captions, style
from trm_lab.plots.abscissa import KNOWN, Abscissa, lines, values
from trm_lab.plots.ends import name_lines
from trm_lab.plots.fitted import frame
from trm_lab.plots.names import common
from trm_lab.plots.tables import (
    PANELS,
    At,
    cell_table,
    labels,
    metric,
    run_table,
    scale,
    title,
)

DODGE, BESIDE = 0.06, 0.022
"""From one cell to the next at the same x, and from a mean to the marks of its seeds: shares of the
range of x, in octaves where the axis is logarithmic."""
MARGIN = 0.1
"""Left free beside the outermost marks, a share of the same range."""
END = "_end "
"""Begins the label of marks that are named at their end, not in the legend."""
_SEEDS: dict[str, Any] = {"ms": 3, "mfc": "none", "mew": 0.7, "alpha": 0.75, "clip_on": False}


DEPTH = KNOWN["effective_depth"]


def table(tree: xr.DataTree, x: Abscissa = DEPTH) -> pd.DataFrame:
    """Give the points: one row per planned run."""
    runs = run_table(tree)
    cells = cell_table(tree, runs)
    places = dict(zip(cells["cell"], values(tree, cells, x.name), strict=True))
    runs[x.name] = runs["cell"].map(places)
    runs.insert(2, "label", runs["cell"].map(labels(tree)))
    return runs[["label", "series", x.name, "seed", "state", "at_updates", "at_compute"]]


@style.styled
def draw(
    tree: xr.DataTree,
    ax: Axes | None = None,
    *,
    x: Abscissa = DEPTH,
    at: At = "updates",
    fits: Sequence[xr.Dataset] = (),
    legend: bool = True,
) -> Axes:
    """Draw every seed, the mean and interval of every cell, and the laws fitted to the same data.

    Laws belong to the final test and are drawn there alone.  Several lines of one series have
    shades of its colour, and with the legend their names at their ends.
    """
    alone = ax is None
    ax = style.axes(ax)
    runs = run_table(tree)
    cells = cell_table(tree, runs)
    factor, unit, _ = scale(metric(tree))
    looks = style.looks(cells["series"])
    laws = _laws(tree, fits, x) if at == "updates" else []
    if not (cells[f"{at}_n"] > 0).any():
        return style.note(ax, "no completed run has this number")
    cells = cells.assign(real=values(tree, cells, x.name), line=lines(tree, cells, x.name))
    cells = cells[cells["real"].notna()]
    if cells.empty:
        return style.note(ax, f"{x.title}: no cell has a number")
    scale_ = Scale.of(cells["real"])
    cells = cells.assign(x=_side_by_side(cells["real"], scale_))
    places = cells.set_index("cell")["x"]
    for series, look in looks.items():
        groups = list(cells[cells["series"] == series].groupby("line", sort=False))
        for place, (_, planned) in enumerate(groups):
            mine = planned[planned[f"{at}_n"] > 0].sort_values("x", kind="stable")
            if mine.empty:
                continue
            color = style.shade(look.color, place, len(groups))
            seeds = runs[runs["cell"].isin(mine["cell"]) & runs[f"at_{at}"].notna()]
            beside = scale_.moved(seeds["cell"].map(places), BESIDE)
            ax.plot(beside, seeds[f"at_{at}"] * factor, look.marker, mec=color,
                    label=f"_{series} seeds", **_SEEDS)  # fmt: skip
            lower, mean, upper = (mine[f"{at}_{k}"] * factor for k in ("lower", "mean", "upper"))
            ax.vlines(mine["x"], lower, upper, color=color, lw=1.1, label=f"_{series} interval")
            label = series if len(groups) == 1 else END + common(list(planned["label"]))
            ax.plot(mine["x"], mean, look.marker, color=color, clip_on=False, label=label)
            if not any(name == series for name, _ in laws) and mine["real"].nunique() > 1:
                ax.plot(mine["x"], mean, "-", color=color, lw=1.0, label=f"_{series} line")
        if len(groups) > 1 and (cells.loc[cells["series"] == series, f"{at}_n"] > 0).any():
            ax.plot([], [], look.marker, color=look.color, label=series)  # for the legend
    forms = list(dict.fromkeys(fit.attrs.get("law_name") for _, fit in laws))
    for series, fit in laws:
        stroke = _STROKES[forms.index(fit.attrs.get("law_name")) % len(_STROKES)]
        _law(ax, fit, looks[series].color, factor, stroke)
    _axes(ax, cells, x, scale_)
    ax.set_ylabel(f"{title(metric(tree))} ({unit})" if unit else title(metric(tree)))
    if unit == "%":
        ax.set_ylim(0, 100)
    else:
        frame(ax)
    if legend and alone:
        ax.figure.legend(handles=entries(ax), loc="outside upper center", ncols=2)
    elif legend:
        ax.legend(handles=entries(ax), loc="best")
    if legend:
        name_lines(ax, prefix=END)
    return ax


@dataclass(frozen=True)
class Scale:
    """How x runs along the axis."""

    log: bool
    span: float
    """Range of x: in octaves where logarithmic, in its own unit else."""

    @classmethod
    def of(cls, real: pd.Series) -> "Scale":
        """Take logarithms of what is above 0 throughout."""
        low, high = float(real.min()), float(real.max())
        if low > 0:
            return cls(True, max(float(np.log2(high / low)), 1.0))
        return cls(False, high - low or 1.0)

    def moved(self, x: Any, share: Any) -> Any:
        """Move x to the right by a share of the range."""
        return x * 2 ** (share * self.span) if self.log else x + share * self.span

    def apart(self, a: float, b: float) -> float:
        """Give the distance from a to b as a share of the range."""
        return float(np.log2(b / a) if self.log else b - a) / self.span


def _side_by_side(real: pd.Series, scale_: Scale) -> pd.Series:
    """Give where each cell is drawn: at its x, moved aside where several share it."""
    place = real.groupby(real).cumcount() - (real.map(real.value_counts()) - 1) / 2
    return pd.Series(scale_.moved(real, DODGE * place))


def entries(ax: Axes) -> list[Line2D]:
    """Give the legend's entries: the series, and the law where one is drawn."""
    lines = {str(line.get_label()): line for line in ax.get_lines()}
    return [line for name, line in lines.items() if not name.startswith("_")] + [
        Line2D(
            [],
            [],
            color=style.GREY,
            ls=line.get_linestyle(),
            lw=1.2,
            label=name.removeprefix("_fit "),
        )
        for name, line in lines.items()
        if name.startswith("_fit ")
    ]


def _laws(
    tree: xr.DataTree, fits: Sequence[xr.Dataset], x: Abscissa
) -> list[tuple[str, xr.Dataset]]:
    """Give the series and the fit of every law of this study's metric over x."""
    known = set(run_table(tree)["series"])
    return [
        (str(fit.attrs.get("series")), fit)
        for fit in fits
        if fit.attrs.get("series") in known
        and fit.attrs.get("x_name") == x.name
        and fit.attrs.get("y_name") == metric(tree)
        and "curve" in fit
        and bool(np.isfinite(fit["curve"]).any())
    ]


def _law(ax: Axes, fit: xr.Dataset, color: str, factor: float, stroke: str) -> None:
    """Draw a law and its band over the x it was fitted to; dotted if it did not converge."""
    x = fit["grid_x"].to_numpy()
    y = fit["curve"].to_numpy() * factor
    low, high = fit["band"].transpose("bound", "grid").to_numpy() * factor
    status = str(fit.attrs.get("status")).replace("_", " ")
    sure = status == "converged"
    label = f"_fit {fit.attrs.get('law_name')} law" + f" ({status})" * (not sure)
    ax.plot(x, y, ls=stroke if sure else ":", color=color, lw=1.2, zorder=1.5, label=label)
    ax.fill_between(x, low, high, color=color, alpha=0.11, lw=0, zorder=1, label="_band")


_STROKES = ("-", "-.", "--")


def _axes(ax: Axes, cells: pd.DataFrame, x: Abscissa, scale_: Scale) -> None:
    """Make an axis that holds every mark, with the real x as ticks; crowded ones are not named."""
    real = sorted(set(cells["real"]))
    width = max(map(len, map(x.text, real)))
    named: list[float] = []
    for value in real:
        if not named or scale_.apart(named[-1], value) > max(1 / 12, width / 48):
            named.append(value)
    if scale_.log:
        ax.set_xscale("log", base=2)
    low, high = float(cells["x"].min()), float(cells["x"].max())
    ax.set_xlim(scale_.moved(low, -MARGIN), scale_.moved(high, MARGIN))
    ax.set_xticks(real, [x.text(value) if value in named else "" for value in real])
    ax.minorticks_off()
    ax.set_xlabel(x.label)


@style.styled
def panels(tree: xr.DataTree, fits: Sequence[xr.Dataset] = (), x: Abscissa = DEPTH) -> Figure:
    """Draw both comparisons side by side: equal updates, equal compute."""
    fig = style.figure(style.WIDE, 2.75)
    runs = run_table(tree)
    left, right = fig.subplots(1, 2)
    draw(tree, left, x=x, at="updates", fits=fits, legend=False)
    draw(tree, right, x=x, at="compute", legend=False)
    for ax, (letter, at) in zip((left, right), PANELS, strict=True):
        ax.set_title(captions.heading(letter, runs, at))
    right.set_ylabel("")
    right.tick_params(labelleft=False)
    handles = entries(left) or entries(right)
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    name_lines(left, right, prefix=END)
    return fig


def caption(tree: xr.DataTree, fits: Sequence[xr.Dataset] = (), x: Abscissa = DEPTH) -> str:
    """Describe both panels in words: what, how many seeds, which interval, which law."""
    runs = run_table(tree)
    cells = cell_table(tree, runs)
    text = (
        f"{title(metric(tree))} against {x.about}. "
        f"{captions.both(tree, runs, cells)} Small open marks: one run per seed. Filled marks and "
        f"bars: mean and {captions.interval(cells)} over seeds. Marks at the same x "
        "stand side by side."
    )
    if (lines(tree, cells, x.name).groupby(cells["series"]).nunique() > 1).any():
        text += " Shades of a colour: lines of one series, named at their ends."
    text += captions.past_the_scale(cells, "updates") or captions.past_the_scale(cells, "compute")
    return text + "".join(_described(series, fit) for series, fit in _laws(tree, fits, x))


def _described(series: str, fit: xr.Dataset) -> str:
    """Describe a drawn law: form, data, interval, and whether to believe it."""
    return f" Line, {series}: {captions.fitted(fit, of='runs')}."
