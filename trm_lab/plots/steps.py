"""Accuracy by the number of supervision steps granted at evaluation."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm_lab.plots import captions, style
from trm_lab.plots.ends import name_lines
from trm_lab.plots.names import brief, wrapped
from trm_lab.plots.tables import cell_table, labels, metric, run_table, scale, title
from trm_lab.stats import seed_interval

COLUMNS = ("cell", "label", "series", "N_sup", "step", "n", "mean", "lower", "upper")


def table(tree: xr.DataTree, weights: str = "last") -> pd.DataFrame:
    """Give one row per cell and number of steps: mean and interval over the completed seeds."""
    runs = run_table(tree)
    named = labels(tree)
    values = tree["eval"][metric(tree)].sel(weights=weights).transpose("run", "step")
    by_run = dict(zip(values["run"].values.astype(str), values.values, strict=True))
    rows = []
    for cell, group in runs.groupby("cell", sort=False):
        done = group.loc[group["state"] == "completed", "run"]
        found = [by_run[run] for run in done if run in by_run]
        for place, step in enumerate(values["step"].values):
            seeds = np.array([curve[place] for curve in found], dtype=float)
            interval = seed_interval(seeds[np.isfinite(seeds)])
            rows.append(
                {
                    "cell": cell,
                    "label": named[str(cell)],
                    "series": group["series"].iloc[0],
                    "N_sup": group["N_sup"].iloc[0],
                    "step": int(step),
                    "n": interval.n,
                    "mean": interval.estimate,
                    "lower": interval.lower,
                    "upper": interval.upper,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


@style.styled
def draw(
    tree: xr.DataTree,
    ax: Axes | None = None,
    *,
    series: str | None = None,
    weights: str = "last",
    names: bool = True,
) -> Axes:
    """Draw one line per cell with its band, and ring the N_sup it was trained with."""
    ax = style.axes(ax)
    rows = table(tree, weights)
    look = style.looks(rows["series"])
    if series is not None:
        rows = rows[rows["series"] == series]
    rows, lost = rows[rows["n"] > 0], set(rows["label"]) - set(rows.loc[rows["n"] > 0, "label"])
    if rows.empty:
        return style.note(ax, "no completed run was evaluated")
    factor, unit, _ = scale(metric(tree))
    for name, family in rows.groupby("series", sort=False):
        cells = list(family.groupby("cell", sort=False))
        for place, (_, line) in enumerate(cells):
            color = style.shade(look[str(name)].color, place, len(cells))
            x, y = line["step"].to_numpy(), line["mean"].to_numpy() * factor
            label = str(line["label"].iloc[0])
            ax.plot(x, y, color=color, label=label, clip_on=False, zorder=3)
            low, high = (line[side].to_numpy() * factor for side in ("lower", "upper"))
            ax.fill_between(x, low, high, color=color, alpha=0.12, lw=0)
            trained = x == line["N_sup"].iloc[0]
            if trained.any():
                ax.plot(x[trained], y[trained], look[str(name)].marker, mfc="white", mec=color,
                        mew=1.2, clip_on=False, zorder=4, label=f"_{label} trained")  # fmt: skip
    steps = np.unique(rows["step"])
    ax.set_xscale("log", base=2)
    powers = [int(s) for s in steps if s & (s - 1) == 0]
    ax.set_xticks(powers, [str(s) for s in powers])
    ax.minorticks_off()
    if len(steps) > 1:
        ax.set_xlim(steps[0] / 1.12, steps[-1])
    ax.set_ylim(0, 100)
    ax.set_xlabel("Evaluation steps")
    ax.set_ylabel(f"{title(metric(tree))} ({unit})")
    if names:
        name_lines(ax)
    if lost:
        text = wrapped(f"no completed run: {'; '.join(brief(sorted(lost)))}")
        ax.text(0.98, 0.03, text, transform=ax.transAxes, ha="right", color=style.GREY)
    return ax


@style.styled
def panels(tree: xr.DataTree) -> Figure:
    """Draw one panel per series."""
    series = list(style.looks(run_table(tree)["series"]))
    across = min(3, len(series))
    down = -(-len(series) // across)
    fig = style.figure(style.WIDE, 0.5 + 2.1 * down)
    grid = fig.subplots(down, across, squeeze=False).ravel()
    for place, ax in enumerate(grid):
        if place >= len(series):
            ax.set_axis_off()
            continue
        draw(tree, ax, series=series[place], names=False)
        ax.set_title(series[place])
        if place % across:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
    name_lines(*grid)
    return fig


def caption(tree: xr.DataTree) -> str:
    """Describe the figure in words."""
    runs = run_table(tree)
    cells = cell_table(tree, runs)
    return (
        f"{title(metric(tree))} on the test set by the number of supervision steps granted at "
        f"evaluation, last weights, {captions.after(runs)}. Lines and bands: mean and "
        f"{captions.interval(cells)} over seeds. Open marks: N_sup of training. "
        f"{captions.coverage(cells, 'updates')}"
    )
