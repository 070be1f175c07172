"""What every figure of a fit asks of it: which axes are logarithmic, what columns are called."""

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from trm_lab.errors import ConfigError
from trm_lab.fit import law_of
from trm_lab.laws import BNSL, M3, M4, LogQuadratic, PowerError, Sigmoid, SumPower

POWERS = (SumPower, M3, M4, BNSL)
"""Laws that are a line on two logarithmic axes, up to floors and breaks."""
IN_LOGS = (*POWERS, PowerError, Sigmoid, LogQuadratic)
"""Laws that see their columns by logarithm only."""
_WIDE = 10.0


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


def tidy(ax: Axes) -> Axes:
    """Number logarithmic axes of less than a decade at round values, not at powers of ten."""
    for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        low, high = sorted(limits)
        if axis.get_scale() == "log" and low > 0 and high / low < _WIDE:
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
            axis.set_minor_locator(NullLocator())
    return ax


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
