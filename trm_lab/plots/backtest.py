"""Back-tests as a fan: what fits of less and less data said of the rest."""

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from trm_lab.errors import ConfigError
from trm_lab.laws.base import FloatArray
from trm_lab.plots import style
from trm_lab.plots.fitted import legend, tidy

STACK = "stack"
_COLOR = "#D55E00"


@style.styled
def draw(tested: xr.Dataset, ax: Axes | None = None, *, law: str = STACK) -> Axes:
    """Draw the data and, for every split, what a fit of the rows before its cut said of the others.

    `law` is one of the tested laws or "stack", their weighted combination.  The further a fit had
    to reach, the paler; a dotted line stands at the last x that it saw.  Back-tests by group have
    no axis: there predictions are drawn against the data, and a perfect one lies on the diagonal.

    Raises:
        ConfigError: that law was not tested.
    """
    ax = style.axes(ax)
    made, y = predictions(tested, law), tested["y"].values
    ordered = [int(j) for j in np.argsort(np.isfinite(made).sum(axis=1), kind="stable")[::-1]]
    log = tested.attrs["residuals"] == "log"
    if not tested.attrs["along"]:
        for place, j in enumerate(ordered):
            color = style.shade(_COLOR, place, len(ordered))
            ax.plot(y, made[j], "o", color=color, ms=3.5, label=f"_split {j}")
        ends = [float(y.min()), float(y.max())]
        ax.plot(ends, ends, color="black", lw=0.7, label="_right")
        if log:
            ax.set(xscale="log", yscale="log")
        ax.set(xlabel=str(tested.attrs["y_name"]), ylabel="Predicted, held out")
        return tidy(ax)
    x = tested["along"].values
    if x.min() > 0:
        ax.set_xscale("log")
    if log:
        ax.set_yscale("log")
    ax.plot(x, y, "o", color="black", mfc="none", ms=3.5, mew=0.7, label="_data")
    entries = {f"data (n = {len(y)})": ax.get_lines()[0]}
    for place, j in enumerate(ordered):
        color = style.shade(_COLOR, place, len(ordered))
        held = _held(tested, j)
        rows = np.flatnonzero(held)[np.argsort(x[held], kind="stable")]
        one = len(np.unique(x[rows])) == len(rows)
        cut = float(x[~held].max())
        (line,) = ax.plot(x[rows], made[j, rows], "x-" if one else "x", color=color, ms=4, lw=1.0,
                          label=f"to {cut:.3g}", zorder=3)  # fmt: skip
        entries[f"fitted to {cut:.3g}"] = line
        ax.axvline(cut, color=color, lw=0.7, ls=":", label="_cut")
    legend(ax, entries)
    ax.set(xlabel=str(tested.attrs["along"]), ylabel=str(tested.attrs["y_name"]))
    return tidy(ax)


def predictions(tested: xr.Dataset, law: str = STACK) -> FloatArray:
    """Give what a law, or the stack, predicted: [split, row], NaN where nothing was held out.

    Raises:
        ConfigError: that law was not tested.
    """
    if law != STACK:
        known = [str(name) for name in tested["law"].values]
        if law not in known:
            raise ConfigError(f"backtest: no law {law!r}; there are {STACK}, {', '.join(known)}")
        return np.asarray(tested["prediction"].values[known.index(law)])
    error, y = tested["stacked_error"].values, tested["y"].values
    return np.asarray(y * np.exp(error) if tested.attrs["residuals"] == "log" else y + error)


def _held(tested: xr.Dataset, split: int) -> npt.NDArray[np.bool_]:
    """Which rows a split held out: those that any law predicted."""
    return np.asarray(np.isfinite(tested["prediction"].values[:, split]).any(axis=0))
