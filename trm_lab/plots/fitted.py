"""What every figure of a fit asks of it: which axes are logarithmic, what columns are called."""

from collections.abc import Iterable, Mapping
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from trm_lab.errors import ConfigError
from trm_lab.fit import law_of
from trm_lab.laws import BNSL, M3, M4, LogQuadratic, PowerError, Sigmoid, SumPower
from trm_lab.plots import style

POWERS = (SumPower, M3, M4, BNSL)
"""Laws that are a line on two logarithmic axes, up to floors and breaks."""
IN_LOGS = (*POWERS, PowerError, Sigmoid, LogQuadratic)
"""Laws that see their columns by logarithm only."""
INSIDE = 4
"""More lines of a legend stand beside the axes."""
_WIDE = 10.0
_SUBS = ((1,), (1, 3), (1, 2, 5))
_MORE = 0.25
_LETTERS = 26


def column(made: xr.Dataset, x: str | None) -> str:
    """Give the column to draw against: x, or the first of the law's that varies.

    Raises:
        ConfigError: the law does not read x.
    """
    names = law_of(made).columns_read
    if x is None:
        varying = [name for name in names if np.ptp(made[name].values) > 0]
        return (varying or list(names))[0]
    if x not in names:
        raise ConfigError(f"the law {made.attrs['law']} reads {', '.join(names)}, not {x!r}")
    return x


def label(made: xr.Dataset, name: str) -> str:
    """Give the text of an axis: the long name, with its unit if it has one."""
    about = made[name].attrs
    unit = str(about.get("units", "1"))
    text = str(about.get("long_name", name))
    return text if unit in ("", "1") else f"{text} ({unit})"


def log_x(ax: Axes, x: npt.ArrayLike, always: bool = False) -> None:
    """Make the x axis logarithmic if always told to, or where x spans a factor of ten."""
    values = np.asarray(x, dtype=float)
    if values.size and values.min() > 0 and (always or values.max() / values.min() >= _WIDE):
        ax.set_xscale("log")


def tidy(ax: Axes, most: int = 4) -> Axes:
    """Number logarithmic axes at no more than about `most` round values, and no small tick.

    Numbered are decades; where fewer than two are in sight 1 and 3, or 1, 2 and 5 of each; and
    where these are fewer than three, what a linear axis would number.
    """
    for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        low, high = sorted(limits)
        if axis.get_scale() == "log" and low > 0:
            subs = next((s for s in _SUBS if min(len(s), 2) < _within(s, low, high) <= most), None)
            if high / low >= _WIDE**2 or subs:
                axis.set_major_locator(LogLocator(subs=subs or (1,), numticks=most))
            else:
                axis.set_major_locator(MaxNLocator(most))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axis.set_minor_formatter(NullFormatter())
            if high / low < _WIDE:
                axis.set_minor_locator(NullLocator())
    return ax


def number(value: float) -> str:
    """Write a number for an axis: plain from 0.001 to 10,000, else with its power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    digits, _, power = f"{value:.2e}".partition("e")
    digits = digits.rstrip("0").rstrip(".")
    front = {"1": "", "-1": "-"}.get(digits, digits + r"\times ")
    return f"${front}10^{{{int(power)}}}$"


def frame(ax: Axes) -> Axes:
    """Let data and curves set the y axis: a band widens it by a quarter, and is cut there.

    Bands are filled or drawn with a label that ends in "band".
    """
    log = ax.get_yscale() == "log"

    def ends(parts: Iterable[npt.ArrayLike]) -> tuple[float, float] | None:
        y = np.concatenate([np.zeros(0), *(np.asarray(part, dtype=float) for part in parts)])
        y = y[np.isfinite(y) & ((y > 0) | (not log))]
        y = np.log(y) if log else y
        return (float(y.min()), float(y.max())) if y.size else None

    drawn: dict[bool, list[npt.ArrayLike]] = {
        True: [],
        False: [line.get_ydata() for line in ax.get_lines()],
    }
    for one in ax.collections:
        drawn[str(one.get_label()).endswith("band")] += [
            np.asarray(path.vertices)[:, 1] for path in one.get_paths()
        ]
    seen = ends(drawn[False])
    if seen is None or seen[0] == seen[1]:
        return ax
    low, high = ends(drawn[True]) or seen
    more = _MORE * (seen[1] - seen[0])
    low, high = min(seen[0], max(low, seen[0] - more)), max(seen[1], min(high, seen[1] + more))
    margin = 0.05 * (high - low)
    limits = np.array([low - margin, high + margin])
    ax.set_ylim(*(np.exp(limits) if log else limits))
    return ax


def legend(ax: Axes, entries: Mapping[str, Any], title: str = "") -> None:
    """Name what is drawn: inside the axes, or beside them if it is much.

    A figure with one pair of axes grows by what stands beside them; any other makes them narrower.
    """
    names = [fill(name, _LETTERS) for name in entries]
    high = sum(1 + name.count("\n") for name in names) + bool(title)
    about: dict[str, Any] = {"title": title, "alignment": "left"}
    if high <= INSIDE:
        ax.legend(entries.values(), names, loc="best", **about)
        return
    made = ax.legend(entries.values(), names, loc="upper left", bbox_to_anchor=(1.0, 1.0), **about)
    fig = ax.figure
    if isinstance(fig, Figure) and fig.axes == [ax]:
        box = made.get_window_extent()
        width, height = fig.get_size_inches()
        fig.set_size_inches(width + box.width / fig.dpi, max(height, box.height / fig.dpi + 0.2))


def grid(count: int, width: float, height: float, left: float = 0.0) -> npt.NDArray[Any]:
    """Make a figure of `count` axes on one y scale, as many side by side as a page is wide.

    Args:
        count: how many axes.
        width: of one, in inches.
        height: of one, in inches.
        left: width of what stands left of every row, in inches.

    Returns:
        The axes [count].
    """
    down = -(-count // int((style.WIDE + 0.01 - left) / width))
    across = -(-count // down)
    fig = style.figure(max(style.NARROW, left + across * width), down * height)
    places = fig.subplots(down, across, sharey=True, squeeze=False).ravel()
    for ax in places[count:]:
        ax.remove()
    return np.asarray(places[:count])


def _within(subs: tuple[int, ...], low: float, high: float) -> int:
    """Count the multiples of powers of ten from low to high."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(powers, subs)
    return int(((ticks >= low) & (ticks <= high)).sum())


def amplitudes(made: xr.Dataset) -> set[str]:
    """Name the parameters whose logarithm is what the data tell: factors, rates and scales."""
    law = law_of(made)
    inner = {
        p.name
        for p in law.own_parameters
        if p.log or (p.linear and p.lower == 0 and np.isinf(p.upper) and p.name != law.floor_name)
    }
    return {str(name) for name in made["param"].values if str(name).partition("[")[0] in inner}


def free_parameters(made: xr.Dataset) -> list[str]:
    """Name the parameters that were estimated, not held."""
    held = {p.name for p in law_of(made).parameters if p.fixed}
    names = [str(name) for name in made["param"].values]
    return [name for name in names if name.partition("[")[0] not in held]
