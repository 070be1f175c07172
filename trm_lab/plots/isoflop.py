"""IsoFLOP curves: loss against size at every budget, and the optima of surface and parabola."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from trm_lab.plots import style
from trm_lab.plots.fitted import legend, tidy

_COLOR = "#0072B2"
_LOOKS = (("surface", "o", "-"), ("parabola", "x", "--"))


@style.styled
def draw(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw what `trm_lab.fit.isoflop` found: rows, the fitted surface and both optima per budget.

    The surface's curve is solid and its optimum a disc; the parabola is dashed and its optimum a
    cross, because it is biased even without noise.  An optimum at the end of the rows is not drawn.
    """
    ax = style.axes(ax)
    budgets = found["budget"].values
    entries: dict[str, Any] = {}
    for i, budget in enumerate(budgets):
        color = style.shade(_COLOR, i, len(budgets))
        rows = found["of"].values == i
        x, y = found["x"].values[rows], found["y"].values[rows]
        grid = found["grid_x"].values[i]
        curves = {name: found[f"{name}_curve"].values[i] for name in ("surface", "parabola")}
        ax.plot(x, y, "o", color=color, ms=2.5, label="_data")
        (line,) = ax.plot(grid, curves["surface"], color=color, lw=1.2, label=f"{budget:.3g}")
        entries[f"{budget:.3g}"] = line
        ax.plot(grid, curves["parabola"], "--", color=color, lw=0.8, label="_parabola")
        for name, marker, _ in _LOOKS:
            best = float(found[name].values[i])
            if np.isfinite(best):
                there = np.interp(np.log(best), np.log(grid), curves[name])
                ax.plot([best], [there], marker, color="black", ms=4.5, label=f"_{name} optimum")
    ax.set_xscale("log")
    ax.set(xlabel=str(found.attrs["along"]), ylabel=str(found.attrs["y_name"]))
    for name, marker, stroke in _LOOKS:
        entries[f"{name}, optimum"] = Line2D(
            [], [], color="black", marker=marker, ms=4.5, lw=0.8, ls=stroke
        )
    legend(ax, entries, str(found.attrs["budget_name"]))
    return tidy(ax)


@style.styled
def draw_optima(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw both optima against the budget, with the power law through each and the interval."""
    ax = style.axes(ax)
    budgets = found["budget"].values
    entries: dict[str, Any] = {}
    for (name, marker, line), color in zip(_LOOKS, (_COLOR, style.GREY), strict=True):
        exponent = float(found["exponent"].sel(optimum=name))
        intercept = float(found["intercept"].sel(optimum=name))
        optimum = found[name].values
        (marks,) = ax.plot(budgets, optimum, marker, color=color, ms=4, label=f"_{name}")
        entries[f"{name} {exponent:.3f}"] = marks
        ax.plot(budgets, 10**intercept * budgets**exponent, line, color=color, lw=1.0,
                label=f"_{name} line")  # fmt: skip
        if name == "surface":
            lower, upper = found["surface_ci"].values.T
            good = np.isfinite(lower)
            bars = ax.vlines(budgets[good], lower[good], upper[good], color=color, lw=0.8)
            if good.any():
                entries[f"{100 * found.attrs['level']:g} % interval"] = bars
    ax.set(xscale="log", yscale="log", xlabel=str(found.attrs["budget_name"]))
    ax.set_ylabel(f"Best {found.attrs['along']}")
    legend(ax, entries, "exponent")
    return tidy(ax)


@style.styled
def panels(found: xr.Dataset) -> npt.NDArray[Any]:
    """Draw the curves and the optima side by side: axes [2]."""
    fig = style.figure(style.WIDE, 2.6)
    axes = fig.subplots(1, 2)
    draw(found, axes[0])
    draw_optima(found, axes[1])
    return np.asarray(axes)
