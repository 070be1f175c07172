"""IsoFLOP curves: loss against size at every budget, and the optima of surface and parabola."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.plots import style

_COLOR = "#0072B2"


@style.styled
def draw(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw what `trm_lab.fit.isoflop` found: rows, the fitted surface and both optima per budget.

    The surface's curve is solid and its optimum a disc; the parabola is dashed and its optimum a
    cross, because it is biased even without noise.  An optimum at the end of the rows is not drawn.
    """
    ax = style.axes(ax)
    budgets = found["budget"].values
    for i, budget in enumerate(budgets):
        color = style.shade(_COLOR, i, len(budgets))
        rows = found["of"].values == i
        x, y = found["x"].values[rows], found["y"].values[rows]
        grid = found["grid_x"].values[i]
        curves = {name: found[f"{name}_curve"].values[i] for name in ("surface", "parabola")}
        ax.plot(x, y, "o", color=color, ms=2.5, label="_data")
        ax.plot(grid, curves["surface"], color=color, lw=1.2, label=f"{budget:.3g}")
        ax.plot(grid, curves["parabola"], "--", color=color, lw=0.8, label="_parabola")
        for name, marker in (("surface", "o"), ("parabola", "x")):
            best = float(found[name].values[i])
            if np.isfinite(best):
                there = np.interp(np.log(best), np.log(grid), curves[name])
                ax.plot([best], [there], marker, color="black", ms=4.5, label=f"_{name} optimum")
    ax.set_xscale("log")
    ax.set(xlabel=str(found.attrs["along"]), ylabel=str(found.attrs["y_name"]))
    ax.legend(title=str(found.attrs["budget_name"]))
    return ax


@style.styled
def draw_optima(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw both optima against the budget, with the power law through each and the interval."""
    ax = style.axes(ax)
    budgets = found["budget"].values
    for name, marker, line, color in (
        ("surface", "o", "-", _COLOR),
        ("parabola", "x", "--", style.GREY),
    ):
        exponent = float(found["exponent"].sel(optimum=name))
        intercept = float(found["intercept"].sel(optimum=name))
        optimum = found[name].values
        ax.plot(
            budgets, optimum, marker, color=color, ms=4, label=f"{name}: exponent {exponent:.3f}"
        )
        ax.plot(budgets, 10**intercept * budgets**exponent, line, color=color, lw=1.0,
                label=f"_{name} line")  # fmt: skip
        if name == "surface":
            lower, upper = found["surface_ci"].values.T
            good = np.isfinite(lower)
            ax.vlines(budgets[good], lower[good], upper[good], color=color, lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel=str(found.attrs["budget_name"]))
    ax.set_ylabel(f"Best {found.attrs['along']}")
    ax.legend()
    return ax


@style.styled
def panels(found: xr.Dataset) -> npt.NDArray[Any]:
    """Draw the curves and the optima side by side: axes [2]."""
    fig = style.figure(style.WIDE, 2.6)
    axes = fig.subplots(1, 2)
    draw(found, axes[0])
    draw_optima(found, axes[1])
    return np.asarray(axes)
