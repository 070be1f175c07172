"""What a parameter would have been under other choices that a reader could have made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.errors import ConfigError
from trm_lab.plots import style
from trm_lab.plots.fitted import amplitudes, free_parameters, tidy


@style.styled
def draw(made: xr.Dataset, changed: xr.Dataset, parameter: str, ax: Axes | None = None) -> Axes:
    """Draw one row per case of `sensitivity`, the first on top, and the fit's interval as a band.

    Raises:
        ConfigError: no such parameter.
    """
    ax = style.axes(ax, height=0.9 + 0.18 * changed.sizes["case"])
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
    ax.set_xlabel(parameter)
    ax.grid(visible=False)
    return tidy(ax)


@style.styled
def panels(
    made: xr.Dataset, changed: xr.Dataset, names: Sequence[str] | None = None
) -> npt.NDArray[Any]:
    """Draw the strips of several parameters side by side: axes [parameter]."""
    chosen = list(names) if names is not None else free_parameters(made)
    width = max(style.NARROW, min(1.2 + 1.4 * len(chosen), 1.5 * style.WIDE))
    fig = style.figure(width, 0.9 + 0.18 * changed.sizes["case"])
    axes = fig.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, chosen, strict=True):
        draw(made, changed, name, ax)
    return np.asarray(axes)
