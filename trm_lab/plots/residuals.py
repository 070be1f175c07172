"""Residuals against every column, and by group and cluster: a law that is wrong bends here."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.errors import ConfigError
from trm_lab.fit import law_of
from trm_lab.plots import style
from trm_lab.plots.fitted import IN_LOGS, label, log_x, tidy

MOST_CLUSTERS = 24
"""More clusters than this are not drawn by name."""
_COLOR = "#0072B2"


@style.styled
def draw(made: xr.Dataset, ax: Axes | None = None, *, along: str | None = None) -> Axes:
    """Draw the residuals of a fit against `along`, with a line at 0.

    `along` is a column of the law (the first without it), "group" or "cluster"; of the latter two
    every name has a place, and its median a bar.

    Raises:
        ConfigError: the fit has no such column.
    """
    ax = style.axes(ax)
    columns = places(made)
    along = along or columns[0]
    if along not in {*columns, "cluster"}:
        raise ConfigError(f"residuals: the fit has {', '.join(columns)}, not {along!r}")
    residual = made["residuals"].values
    if along in ("group", "cluster"):
        names, at = np.unique(made[along].values.astype(str), return_inverse=True)
        ax.plot(at, residual, "o", color=_COLOR, ms=3.5, label="_residuals")
        middle = [float(np.median(residual[at == i])) for i in range(len(names))]
        ax.plot(np.arange(len(names)), middle, "_", color="black", ms=12, mew=1.4, label="_median")
        ax.set_xticks(np.arange(len(names)), names, rotation=90 if len(names) > 4 else 0)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_xlabel(str(made.attrs["by" if along == "group" else "cluster"]))
    else:
        log_x(ax, made[along].values, always=isinstance(law_of(made), IN_LOGS))
        ax.plot(made[along].values, residual, "o", color=_COLOR, ms=3.5, label="_residuals")
        ax.set_xlabel(label(made, along))
    ax.axhline(0.0, color="black", lw=0.7, label="_zero")
    ax.set_ylabel(label(made, "residuals"))
    return tidy(ax)


def places(made: xr.Dataset) -> list[str]:
    """Name what residuals are drawn against: columns that vary, groups, clusters of rows."""
    law = law_of(made)
    found = [n for n in law.columns_read if np.ptp(made[n].values) > 0] or [law.columns_read[0]]
    if "group" in made.coords:
        found.append("group")
    count = len(np.unique(made["cluster"].values))
    if 1 < count <= min(MOST_CLUSTERS, made.sizes["row"] - 1):
        found.append("cluster")
    return found


@style.styled
def panels(made: xr.Dataset) -> npt.NDArray[Any]:
    """Draw all of `places` side by side on one scale; the axes [panel] know their figure."""
    names = places(made)
    fig = style.figure(max(style.NARROW, min(2.2 * len(names), 1.5 * style.WIDE)), 2.4)
    axes = fig.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        draw(made, ax, along=name)
        ax.label_outer(remove_inner_ticks=False)
        ax.set_xlabel(ax.get_xlabel(), visible=True)
    return np.asarray(axes)
