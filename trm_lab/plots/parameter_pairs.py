"""Resampled estimates two by two: amplitude and exponent lie on a ridge."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.errors import ConfigError
from trm_lab.fit.saved import estimated
from trm_lab.plots import style
from trm_lab.plots.fitted import amplitudes, free_parameters, tidy

_COLOR = "#0072B2"
_BINS = 24
_SIDE = 1.35


@style.styled
def draw(made: xr.Dataset, a: str, b: str, ax: Axes | None = None) -> Axes:
    """Draw the draws of parameter b over those of a, and the estimate as a cross.

    Amplitudes, rates and scales are on logarithmic axes.

    Raises:
        ConfigError: no such parameter, or the fit's interval has no draws.
    """
    ax = style.axes(ax)
    draws = _draws(made, (a, b))
    _scale(made, ax, a, b)
    ax.plot(draws[a], draws[b], ".", color=_COLOR, ms=2, alpha=0.4, label="_draws", rasterized=True)
    there = made["coefficients"].sel(param=[a, b]).values
    ax.plot(there[:1], there[1:], "+", color="black", ms=8, mew=1.4, label="_estimate")
    ax.set(xlabel=fill(a, style.WRAP), ylabel=fill(b, style.WRAP))
    return tidy(ax, 3)


@style.styled
def draw_one(made: xr.Dataset, name: str, ax: Axes | None = None) -> Axes:
    """Draw the draws of one parameter as a histogram, its interval and its estimate.

    Raises:
        ConfigError: no such parameter, or the fit's interval has no draws.
    """
    ax = style.axes(ax)
    values = _draws(made, (name,))[name]
    logs = name in amplitudes(made) and bool((values > 0).all())
    ends = np.histogram_bin_edges(np.log(values) if logs else values, _BINS)
    bins = [float(end) for end in (np.exp(ends) if logs else ends)]
    ax.hist(values, bins, color=_COLOR, alpha=0.5)
    if logs:
        ax.set_xscale("log")
    one = made.sel(param=name)
    ax.axvline(float(one["coefficients"]), color="black", lw=1.0, label="_estimate")
    for end in one["ci"].values:
        ax.axvline(float(end), color=style.GREY, lw=0.8, ls=":", label="_interval")
    ax.set(xlabel=fill(name, style.WRAP), yticks=[])
    return tidy(ax, 3)


@style.styled
def panels(made: xr.Dataset, names: Sequence[str] | None = None) -> npt.NDArray[Any]:
    """Draw every pair below the diagonal and every histogram on it: axes [parameter, parameter].

    Axes above the diagonal are not visible.  Without `names` all parameters that were estimated;
    a fit by groups has many, of which five fill the width of a page.
    """
    chosen = list(names) if names is not None else free_parameters(made)
    size = max(style.NARROW, _SIDE * len(chosen))
    fig = style.figure(size, size)
    axes = fig.subplots(len(chosen), len(chosen), squeeze=False)
    for i, b in enumerate(chosen):
        for j, a in enumerate(chosen):
            ax = axes[i, j]
            if j > i:
                ax.set_visible(False)
            elif i == j:
                draw_one(made, a, ax)
            else:
                draw(made, a, b, ax)
            if i < len(chosen) - 1:
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)
            else:
                ax.tick_params(axis="x", labelrotation=45)
            if 0 < j < i:
                ax.set_ylabel("")
                ax.tick_params(labelleft=False)
    fig.align_labels()
    return np.asarray(axes)


def _draws(made: xr.Dataset, names: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    known = [str(name) for name in made["param"].values]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"parameter_pairs: no parameter {name!r}; there are {', '.join(known)}"
            )
    if not estimated(made):
        why = made.attrs["note"] or made.attrs["status"]
        raise ConfigError(f"parameter_pairs: the fit has no estimates: {why}")
    values = made["draws"].values
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise ConfigError("parameter_pairs: the fit has no draws; give interval='bootstrap'")
    return {name: values[:, known.index(name)] for name in names}


def _scale(made: xr.Dataset, ax: Axes, a: str, b: str) -> None:
    logs = amplitudes(made)
    draws = _draws(made, (a, b))
    if a in logs and bool((draws[a] > 0).all()):
        ax.set_xscale("log")
    if b in logs and bool((draws[b] > 0).all()):
        ax.set_yscale("log")
