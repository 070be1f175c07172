"""Contrasts as a forest: paired differences from a baseline, at equal updates and equal compute."""

import json
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm_lab.plots import captions, style
from trm_lab.plots.contrasts import contrast_table
from trm_lab.plots.ends import LINE
from trm_lab.plots.names import brief, distinct, wrapped
from trm_lab.plots.tables import PANELS, At, cell_table, metric, run_table, scale, title

ROW = 0.33
"""Height of a row, the unit of y, in inches."""


class Entry(NamedTuple):
    """What stands at one height of the forest."""

    y: float
    text: str
    row: pd.Series | None
    """Of the contrasts; none at the name of a baseline, which stands above its rows."""


def table(tree: xr.DataTree) -> pd.DataFrame:
    """Give the rows of the forest."""
    return contrast_table(tree)


def ordered(rows: pd.DataFrame, at: At) -> pd.DataFrame:
    """Sort the rows inside each baseline, the best first; those without a pair come last."""
    rank = {name: place for place, name in enumerate(dict.fromkeys(rows["baseline"]))}
    return rows.assign(
        _group=rows["baseline"].map(rank), _size=-rows[f"{at}_difference"]
    ).sort_values(["_group", "_size"], kind="stable", na_position="last")


def spoken(difference: float, lower: float, upper: float, count: int, factor: float) -> str:
    """Write a difference, its interval and n in two short lines."""
    if not count:
        return "no pair of seeds\nhas this number"
    text = f"{difference * factor:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")
    if math.isfinite(lower):
        text += f" [{lower * factor:.1f}, {upper * factor:.1f}]"
    return f"{text}\nn = {count}".replace("-", "\N{MINUS SIGN}")


@style.styled
def draw(
    tree: xr.DataTree, ax: Axes | None = None, *, at: At = "updates", order: At | None = None
) -> Axes:
    """Draw one row per contrast: all seed differences, their mean, its interval, and n."""
    rows = contrast_table(tree)
    lines = entries(ordered(rows, order or at)) if len(rows) else []
    ax = style.axes(ax, style.WIDE / 2 + 0.6, height(lines))
    if rows.empty:
        return style.note(ax, "the study plans no contrast")
    runs = run_table(tree)
    looks = style.looks(runs["series"])
    series = dict(zip(runs["cell"], runs["series"], strict=True))
    factor, _, unit = scale(metric(tree))
    left, right = (bound * factor for bound in limits(rows))
    for y, _, row in lines:
        if row is None:
            continue
        look = looks.get(series.get(row["cell"], ""), style.Look(style.GREY, "o"))
        apart = [value * factor for value in json.loads(row[f"{at}_seeds"]).values()]
        low, middle, high = (row[f"{at}_{k}"] * factor for k in ("lower", "difference", "upper"))
        ax.plot(apart, [y + 0.22] * len(apart), look.marker, ms=3, mfc="none", mec=look.color,
                mew=0.7, label="_seeds")  # fmt: skip
        ax.hlines(y, low, high, color=look.color, lw=1.3)
        for end, edge, arrow, inward in ((low, left, "<", 1), (high, right, ">", -1)):
            if inward * (end - edge) < 0:
                tip = edge + inward * 0.02 * (right - left)
                ax.plot([tip], [y], arrow, color=look.color, ms=4, label="_goes on")
        ax.plot([middle], [y], look.marker, color=look.color, ms=5.5, label="_mean")
        ax.text(
            1.05,
            y,
            spoken(middle / factor, low / factor, high / factor, int(row[f"{at}_n"]), factor),
            transform=ax.get_yaxis_transform(),
            va="center",
            linespacing=1.15,
        )
    ax.axvline(0, color="black", lw=0.8, zorder=1)
    ax.set_yticks([line.y for line in lines], [line.text for line in lines])
    for tick, line in zip(ax.get_yticklabels(), lines, strict=True):
        if line.row is None:
            tick.set(style="italic", color=style.GREY)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    ax.set(xlim=(left, right), ylim=ends(lines)[::-1])
    ax.set_xlabel(f"Difference in {title(metric(tree)).lower()} ({unit})")
    return ax


def limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Give the range of both panels: all seeds, and intervals up to three times as far out."""
    seeds = [v for at in ("updates", "compute") for text in rows[f"{at}_seeds"]
             for v in json.loads(text).values()]  # fmt: skip
    far = 3 * max(map(abs, seeds), default=0.0) or 0.01
    ends = rows[[f"{at}_{end}" for at in ("updates", "compute") for end in ("lower", "upper")]]
    reach = [0.0, *seeds, *ends.to_numpy(float).ravel()]
    inside = np.clip([value for value in reach if np.isfinite(value)], -far, far)
    low, high = float(inside.min()), float(inside.max())
    pad = 0.06 * (high - low) or 0.01
    return low - pad * (low > -far), high + pad * (high < far)


def entries(rows: pd.DataFrame) -> list[Entry]:
    """Place the rows from above, each baseline before its own, as far apart as their names need.

    A row is called by what it does not share with its baseline.
    """
    names = [*rows["baseline"], *rows["against"]]
    short = dict(zip(names, brief(names), strict=True))
    found: list[Entry] = []

    def add(text: str, row: pd.Series | None) -> None:
        y = 0.0
        if found:
            above = found[-1]
            apart = (_tall(above.text) + _tall(text)) / 2
            y = above.y + max(0.8 if above.row is None else 1.0, apart + 0.1)
        found.append(Entry(y, text, row))

    baseline = None
    for _, row in rows.iterrows():
        if row["baseline"] != baseline:
            baseline = row["baseline"]
            add(wrapped(f"against {short[baseline]}:", style.WRAP + 6), None)
        add(wrapped(distinct([short[row["against"]], short[baseline]])[0]), row)
    return found


def _tall(text: str) -> float:
    """Give the height of a name in rows."""
    return (1 + text.count("\n")) * style.TEXT * LINE / 72 / ROW


def ends(lines: list[Entry]) -> tuple[float, float]:
    """Give the least and the greatest y that hold all names."""
    first, last = lines[0], lines[-1]
    return first.y - max(0.4, _tall(first.text) / 2), last.y + max(0.6, _tall(last.text) / 2)


def height(lines: list[Entry]) -> float:
    """Give the height in inches for these lines."""
    top, bottom = ends(lines) if lines else (0, 0)
    return 0.75 + ROW * max(bottom - top + 0.2, 2)


@style.styled
def panels(tree: xr.DataTree) -> Figure:
    """Draw both comparisons side by side, the rows in one order."""
    rows = contrast_table(tree)
    lines = entries(ordered(rows, "updates")) if len(rows) else []
    fig = style.figure(style.WIDE, height(lines) + 0.15)
    runs = run_table(tree)
    left, right = fig.subplots(1, 2, sharex=True)
    draw(tree, left, at="updates")
    draw(tree, right, at="compute", order="updates").tick_params(labelleft=False)
    for ax, (letter, at) in zip((left, right), PANELS, strict=True):
        ax.set_title(captions.heading(letter, runs, at))
    return fig


def caption(tree: xr.DataTree) -> str:
    """Describe the forest in words."""
    rows = contrast_table(tree)
    if rows.empty:
        return "The study plans no contrast."
    runs = run_table(tree)
    cells = cell_table(tree, runs)
    involved = cells[cells["cell"].isin({*rows["cell"], *rows["baseline_cell"]})]
    return (
        "Differences from the baseline, paired by seed; right of zero is above the baseline. "
        f"{captions.both(tree, runs, involved)} Open marks: the difference of each seed. Filled "
        f"marks and bars: mean and {captions.interval(rows)} of the paired differences, with n "
        "pairs; an "
        "arrow marks an interval that goes on. Inside each baseline the rows are sorted by the "
        "difference in (a)."
    )
