"""What a parameter would have been under other choices that a reader could have made."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.errors import ConfigError
from trm_lab.plots import style
from trm_lab.plots.fitted import amplitudes, free_parameters, grid, tidy


@style.styled
def draw(made: xr.Dataset, changed: xr.Dataset, parameter: str, ax: Axes | None = None) -> Axes:
    """Draw one row per case of `sensitivity`, the first on top, and the fit's interval as a band.

    Raises:
        ConfigError: no such parameter.
    """
    ax = style.axes(ax, height=_height(changed))
    known = [str(name) for name in made["param"].values]
    if parameter not in known:
        raise ConfigError(f"sensitivity: no parameter {parameter!r}; there are {', '.join(known)}")
    values = changed["coefficients"].sel(param=parameter).values
    rows = np.arange(len(values))
    if parameter in amplitudes(made) and bool((values > 0).all()):
        ax.set_xscale("log")
    lower, upper = made["ci"].sel(param=parameter).values
    if np.isfinite([lower, upper]).all():
        ax.axvspan(lower, upper, color="#0072B2", alpha=0.15, lw=0, label="_interval")
    ax.axvline(values[0], color="#0072B2", lw=0.8, label="_estimate")
    ax.plot(values, rows, "o", color="#0072B2", ms=4, label="_cases", zorder=3)
    ax.set_yticks(rows, [str(name) for name in changed["case"].values])
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlabel(fill(parameter, style.WRAP))
    ax.grid(visible=False)
    return tidy(ax, 3)


@style.styled
def panels(
    made: xr.Dataset, changed: xr.Dataset, names: Sequence[str] | None = None
) -> npt.NDArray[Any]:
    """Draw the strips of several parameters, about four to a row: axes [parameter]."""
    chosen = list(names) if names is not None else free_parameters(made)
    lines = max(fill(name, style.WRAP).count("\n") for name in chosen)
    longest = max(len(str(name)) for name in changed["case"].values)
    axes = grid(len(chosen), 1.35, _height(changed) + 0.14 * lines, left=0.055 * longest)
    for ax, name in zip(axes, chosen, strict=True):
        draw(made, changed, name, ax)
        ax.tick_params(labelleft=ax.get_subplotspec().is_first_col())
    return axes


def _height(changed: xr.Dataset) -> float:
    return 0.9 + 0.18 * changed.sizes["case"]
