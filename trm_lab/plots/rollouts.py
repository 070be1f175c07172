"""Accuracy by the number of rollouts at test time, one line per selector, one panel per depth.

Drawn from one dataset of `trm-lab eval`; `trm_lab.results.grid` says what is in it.
"""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm_lab.plots import style
from trm_lab.results.grid import perturbation

SELECTORS = {
    "head": "halting head",
    "residual": "smallest residual",
    "vote": "vote",
    "oracle": "any right (oracle)",
}
"""Names of the selectors in a legend."""


@style.styled
def draw(grid: xr.Dataset, ax: Axes | None = None, *, steps: int | None = None) -> Axes:
    """Draw one depth (the largest if not given): a line per selector over K, in log scale."""
    ax = style.axes(ax)
    steps = int(grid["steps"][-1]) if steps is None else steps
    look = style.looks(SELECTORS.values())
    for selector in grid["selector"].values:
        curve = grid["puzzle_accuracy"].sel(selector=selector, steps=steps)
        name = SELECTORS[str(selector)]
        ax.plot(
            grid["rollouts"].values, 100 * curve.values, color=look[name].color,
            marker=look[name].marker, ls=":" if selector == "oracle" else "-", label=name,
            clip_on=False, zorder=3,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ticks = [int(K) for K in grid["rollouts"].values]
    ax.set_xticks(ticks, [str(K) for K in ticks])
    ax.minorticks_off()
    ax.set_ylim(0, 100)
    ax.set_xlabel("Rollouts, K")
    ax.set_ylabel("Puzzle accuracy (%)")
    ax.set_title(f"{steps} step{'s' if steps > 1 else ''}")
    return ax


@style.styled
def panels(grid: xr.Dataset) -> Figure:
    """Draw one panel per depth, on one scale, with one legend."""
    depths = [int(step) for step in grid["steps"].values]
    across = min(4, len(depths))
    down = -(-len(depths) // across)
    fig = style.figure(style.WIDE, 0.5 + 1.9 * down)
    places = fig.subplots(down, across, squeeze=False, sharey=True).ravel()
    for place, ax in enumerate(places):
        if place >= len(depths):
            ax.set_axis_off()
            continue
        draw(grid, ax, steps=depths[place])
        if place % across:
            ax.set_ylabel("")
    handles, names = places[0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=len(names))
    return fig


def caption(grid: xr.Dataset) -> str:
    """Describe the figure in words."""
    attrs = grid.attrs
    return (
        f"Puzzle accuracy on {attrs['puzzles']} {attrs['split']} puzzles of one run by the number "
        f"of rollouts out of which an answer is chosen ({perturbation(attrs)}), by "
        f"supervision steps; trained with N_sup {attrs['N_sup']}."
    )
