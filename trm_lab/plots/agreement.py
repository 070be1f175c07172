"""How many starts found the best optimum, and how far the others stayed from it."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from trm_lab.fit.search import SAME
from trm_lab.laws.base import FloatArray
from trm_lab.plots import style

LEAST = 1e-12
"""Excesses below this are rounding and drawn here."""


@style.styled
def draw(made: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the objectives that starts reached, sorted, as their excess over the best.

    Starts below the line count as the same optimum; their share is the fit's `agreement`.
    """
    ax = style.axes(ax)
    excess = excesses(made)
    if not excess.size:
        return style.note(ax, str(made.attrs["note"]) or "nothing was searched")
    ax.plot(np.arange(1, len(excess) + 1), np.maximum(excess, LEAST), "o", color="#0072B2", ms=3.5,
            label="_starts")  # fmt: skip
    ax.axhline(SAME, color=style.GREY, lw=0.8, ls="--", label="_same optimum")
    ax.annotate("the same optimum below", (0, SAME), (2, 2), ax.get_yaxis_transform(),
                textcoords="offset points", color=style.GREY)  # fmt: skip
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(LEAST / 3, max(1e-3, 3 * float(excess.max())))
    ax.set(xlabel="Start, the best first", ylabel="Objective above the best (relative)")
    ax.set_title(f"{made.attrs['agreement']:.0%} of {len(excess)} starts agree")
    return ax


def excesses(made: xr.Dataset) -> FloatArray:
    """Give (objective - best) / |best| of every start, sorted; 0 where the best fit is exact."""
    reached = np.sort(made["start_objective"].values.astype(float))
    best = float(made.attrs["objective_value"])
    if not reached.size or not np.isfinite(best):
        return np.zeros(0)
    away = np.maximum(reached - best, 0.0)
    away[away <= 1e-24] = 0.0
    return np.asarray(away / max(abs(best), 1e-24))
