"""Residuals against every column, and by group and cluster: a law that is wrong bends here."""

from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.errors import ConfigError
from trm_lab.fit import law_of
from trm_lab.plots import style
from trm_lab.plots.fitted import IN_LOGS, grid, label, log_x, tidy

MOST_CLUSTERS = 24
"""More clusters than this are not drawn by name."""
_WIDTH, _HEIGHT = 2.25, 2.4
_LETTER = 0.06
"""Width of a letter, in inches."""
_LINES = 15
"""Turned names of more lines do not stand side by side, and are not wrapped."""
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
        texts = [fill(name, style.WRAP) for name in names]
        if len(names) * (1 + max(text.count("\n") for text in texts)) > _LINES:
            texts = list(names)
        ax.set_xticks(np.arange(len(names)), texts, rotation=90 if _turned(names) else 0)
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
    """Draw all of `places` on one scale, three to a row; the axes [panel] know their figure."""
    along = places(made)
    axes = grid(len(along), _WIDTH, _HEIGHT)
    fig, longest = axes[0].figure, 0
    for ax, name in zip(axes, along, strict=True):
        draw(made, ax, along=name)
        if not ax.get_subplotspec().is_first_col():
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
        turned = [one for one in ax.get_xticklabels() if one.get_rotation()]
        lines = [line for one in turned for line in one.get_text().splitlines()]
        longest = max([longest, *map(len, lines)])
    fig.set_figheight(fig.get_figheight() + _LETTER * longest)
    return axes


def _turned(names: npt.NDArray[np.str_]) -> bool:
    """Whether names are too long to stand side by side below axes."""
    return sum(len(name) + 1 for name in names) > 24 or len(names) > 8
