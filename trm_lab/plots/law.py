"""A fitted law over its data, with the band of the curve and what back-tests say of the rest."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trm_lab.errors import ConfigError
from trm_lab.fit import law_of, predict
from trm_lab.laws.base import FloatArray
from trm_lab.plots import captions, style
from trm_lab.plots.fitted import IN_LOGS, POWERS, column, frame, label, legend, log_x, tidy

MOST_CURVES = 8
"""Curves of one group; of more combinations of the other columns, so many are drawn."""
Rows = npt.NDArray[np.intp]
_POINTS = 129
_FEW = 4
"""Fewer places of a forecast are drawn as points with bars."""
_NAME = "#0072B2"


@style.styled
def draw(
    made: xr.Dataset,
    ax: Axes | None = None,
    *,
    x: str | None = None,
    tested: xr.Dataset | None = None,
) -> Axes:
    """Draw the rows of a fit, its curve with the band of the curve, and its floor as a line.

    A law of several columns is drawn against `x`, with one shade and one curve for every
    combination of the others' values (`MOST_CURVES` of them at most); groups have a colour each.
    The curve covers the range of x and no further.  `tested` adds what lies beyond: the prediction
    and band of a `forecast`, or, for a `backtest` along x, the curve up to twice the range with the
    errors of its held-out rows.  Data and curves set the y axis, and a band far wider is cut.

    Raises:
        ConfigError: the law does not read x, or `tested` is neither or is along another column.
    """
    ax = style.axes(ax)
    name = column(made, x)
    law = law_of(made)
    power = isinstance(law, POWERS)
    log_x(ax, made[name].values, always=isinstance(law, IN_LOGS))
    if power and bool((made["y"] > 0).all()):
        ax.set_yscale("log")
    floors = _floors(made, law.floor_name)
    series = _series(made, name)
    looks = style.looks(dict.fromkeys(group for group, _ in series)) if _grouped(made) else {}
    fitted = bool(np.isfinite(made["coefficients"].values).all())
    for place, ((group, text), rows) in enumerate(series.items()):
        mine = [key for key in series if key[0] == group]
        base = looks[group].color if looks else _NAME
        color = style.shade(base, mine.index((group, text)), len(mine))
        marker = looks[group].marker if looks else "o"
        shown = text in _picked([t for _, t in mine])
        words = ", ".join(filter(None, [group, text])) if shown else ""
        ax.plot(made[name].values[rows], made["y"].values[rows], marker, color=color, ms=3.5,
                ls="none", label=f"_data {place}", zorder=3)  # fmt: skip
        if fitted and shown:
            _curve(made, ax, name, rows, group, color, words or "_curve")
    for one, value in floors.items():
        color = looks[one].color if one in looks else style.GREY
        ax.axhline(value, color=color, lw=0.8, ls=":", label="_floor")
    if tested is not None and fitted:
        _beyond(made, ax, name, tested)
    ax.set(xlabel=label(made, name), ylabel=label(made, "y"))
    entries = _entries(series, looks) | _bands(ax, made, tested)
    if entries:
        titled = looks and not any(text for _, text in series)
        legend(ax, entries, str(made.attrs["by"]) if titled else "")
    return tidy(frame(ax))


def _grouped(made: xr.Dataset) -> bool:
    return "group" in made.coords


def _series(made: xr.Dataset, x: str) -> dict[tuple[str, str], Rows]:
    """Give the rows of every group and combination of the other columns, small values first."""
    others = [n for n in law_of(made).columns_read if n != x and np.ptp(made[n].values) > 0]
    frame = pd.DataFrame({name: made[name].values for name in others}, range(made.sizes["row"]))
    frame["_group"] = made["group"].values.astype(str) if _grouped(made) else ""
    found: dict[tuple[str, str], Rows] = {}
    for key, at in frame.groupby(["_group", *others], sort=True).indices.items():
        rows = np.asarray(at, dtype=np.intp)
        group, *values = key if isinstance(key, tuple) else (key,)
        text = ", ".join(f"{n} = {value:.3g}" for n, value in zip(others, values, strict=True))
        both = (str(group), text)
        found[both] = np.concatenate([found[both], rows]) if both in found else rows
    return found


def _entries(series: dict[tuple[str, str], Rows], looks: dict[str, style.Look]) -> dict[str, Any]:
    """Give what a legend says of the curves.

    Groups and values of the others one after the other, where every group has the same values and
    that is shorter; else every curve.
    """
    texts = list(dict.fromkeys(text for _, text in series))
    crossed = len(series) == len(looks) * len(texts) > len(looks) + len(texts)
    found: dict[str, Any] = {}
    if crossed:
        found = {group: _line(look.color, look.marker) for group, look in looks.items()}
        series = {("", text): rows for (_, text), rows in series.items()}
    for group, text in series:
        mine = [t for g, t in series if g == group]
        words = ", ".join(filter(None, [group, text]))
        if words and text in _picked(mine):
            base = style.GREY if crossed else looks[group].color if looks else _NAME
            color = style.shade(base, mine.index(text), len(mine))
            found[words] = _line(color, "" if crossed else looks[group].marker if looks else "o")
    return found


def _line(color: str, marker: str) -> Line2D:
    return Line2D([], [], color=color, marker=marker, ms=3.5)


def _bands(ax: Axes, made: xr.Dataset, tested: xr.Dataset | None) -> dict[str, Any]:
    """Give what a legend says of the bands and floors that were drawn."""
    drawn = {str(one.get_label()): one for one in (*ax.get_lines(), *ax.collections)}
    found: dict[str, Any] = {}
    if "_band" in drawn:
        color = _NAME if "_curve" in drawn else style.GREY
        found[f"{captions.level(made)} band of the curve"] = Patch(color=color, alpha=0.2, lw=0)
    if tested is not None and "_forecast" in drawn:
        of = tested if "level" in tested.attrs else made
        found[f"{captions.level(of)} back-tested band"] = (
            drawn["_back-tested band"],
            drawn["_forecast"],
        )
    if "_floor" in drawn:
        found["floor"] = Line2D([], [], color=style.GREY, lw=0.8, ls=":")
    return found


def _picked(texts: list[str]) -> set[str]:
    at = np.linspace(0, len(texts) - 1, min(len(texts), MOST_CURVES)).round().astype(int)
    return {texts[i] for i in at}


def _at(made: xr.Dataset, x: str, grid: FloatArray, rows: Rows, group: str) -> xr.Dataset:
    """Predict along x with the other columns at their values in these rows."""
    names = law_of(made).columns_read
    there = {n: np.full(len(grid), np.median(made[n].values[rows])) for n in names} | {x: grid}
    frame = pd.DataFrame(there)
    if group:
        frame[str(made.attrs["by"])] = group
    return predict(made, frame)


def _grid(ax: Axes, low: float, high: float) -> FloatArray:
    if ax.get_xscale() == "log":
        return np.geomspace(low, high, _POINTS)
    return np.linspace(low, high, _POINTS)


def _curve(
    made: xr.Dataset, ax: Axes, x: str, rows: Rows, group: str, color: str, text: str
) -> None:
    seen = made[x].values
    if group:
        seen = seen[made["group"].values == group]
    grid = _grid(ax, float(seen.min()), float(seen.max()))
    found = _at(made, x, grid, rows, group)
    ax.plot(grid, found["prediction"].values, color=color, label=text, zorder=2)
    lower, upper = found["band"].values.T
    if np.isfinite(lower).all():
        ax.fill_between(grid, lower, upper, color=color, alpha=0.2, lw=0, label="_band")


def _floors(made: xr.Dataset, floor: str) -> dict[str, float]:
    """Give the floor of every group that has one; of the fit under "" without groups."""
    found, unknown = {}, str(made.attrs["floor_not_identified"]).split(", ")
    for name, value in zip(made["param"].values, made["coefficients"].values, strict=True):
        stem, _, group = str(name).partition("[")
        if floor and stem == floor and value > 0 and name not in unknown:
            found[group.rstrip("]")] = float(value)
    return found


def _beyond(made: xr.Dataset, ax: Axes, x: str, tested: xr.Dataset) -> None:
    if str(tested.attrs.get("along", "")) != x:
        raise ConfigError(f"tested: give a forecast or a back-test along {x}")
    if "at" in tested.dims:
        order = np.argsort(tested[x].values)
        there, middle = tested[x].values[order], tested["prediction"].values[order]
        band = tested["band"].values[order]
    elif "stacked_error" in tested:
        if _grouped(made) or len(law_of(made).columns_read) > 1:
            raise ConfigError("tested: a back-test extends the curve of one column and one group")
        end = float(made[x].max())
        there = _grid(ax, end, 2 * end)
        middle = _at(made, x, there, np.arange(made.sizes["row"]), "")["prediction"].values
        half = missed(tested, str(made.attrs["law"]), float(made.attrs["level"]))
        log = tested.attrs["residuals"] == "log"
        shift = np.array([-half, half])
        band = middle[:, None] * np.exp(shift) if log else middle[:, None] + shift
    else:
        raise ConfigError("tested: give what forecast or backtest returned")
    ax.plot(there, middle, "--", marker="." if len(there) < _FEW else "", color=style.GREY, lw=1.0,
            label="_forecast")  # fmt: skip
    if len(there) < _FEW:
        ax.vlines(
            there, band[:, 0], band[:, 1], color=style.GREY, lw=0.8, label="_ends of the band"
        )
    ax.fill_between(there, band[:, 0], band[:, 1], color=style.GREY, alpha=0.15, lw=0,
                    label="_back-tested band")  # fmt: skip


def missed(tested: xr.Dataset, law: str, level: float) -> float:
    """Give the size below which that share of the held-out errors of a law lie.

    The errors are the law's own where it was tested, else those of the stack.
    """
    names = str(tested.attrs["laws"]).split("; ")
    error = tested["error"].values[names.index(law)] if law in names else tested["stacked_error"]
    size = np.abs(np.asarray(error))
    size = size[np.isfinite(size)]
    return float(np.quantile(size, level)) if size.size else float("nan")
