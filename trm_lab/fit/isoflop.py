"""The best size at every budget: from the fitted surface, and from a parabola per budget.

Parabolas (approach 2 of arXiv 2203.15556) are biased even without noise as soon as the two
exponents differ (arXiv 2603.22339); they stand beside the surface's optimum, never instead.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, near, numbers, table
from trm_lab.fit.fitting import fit
from trm_lab.fit.intervals import expanded
from trm_lab.fit.saved import law_of, usable
from trm_lab.laws import Law
from trm_lab.laws.base import Columns, FloatArray

Rows = npt.NDArray[np.intp]
_GRID = 257
_FEWEST = 3
_NEAR, _NEWTON = 3, 4
OPTIMA = ("surface", "parabola")


def isoflop(
    data: Data,
    budget: str | npt.ArrayLike,
    along: str,
    *,
    y: str | None = None,
    law: Law | str | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Find the `along` at which y is lowest, for every `budget`.

    `data` is a fit, or rows to which `law` is fitted first (`settings` as for `fit`).  `budget` is
    one number per row, or a column; a fit holds the columns of its law only, so that there the
    column is assigned first: `made.assign(C=("row", values))`.

    At one budget the law's other columns follow from `along`: a line through the logarithms of that
    budget's rows says how (C = 6 N D is one).  The surface's optimum is the lowest point of the law
    on that line within the rows' range, NaN if it lies at the end; the parabola's is that of y
    against ln `along`.  Its interval comes from the fit's draws.

    Returns:
        A Dataset over `budget`: `surface`, `surface_ci` [bound] and `parabola`, the optima;
        over `optimum`: `exponent` and `intercept` of log10 optimum = intercept + exponent log10
        budget; the rows (`x`, `y`, `of`, the number of the budget) and both curves over `grid`.

    Raises:
        ConfigError: a column is missing, budgets do not fit the rows, or one has fewer than 3 rows.
    """
    made, budgets = _fitted(data, budget, y, law, settings)
    read = law_of(made)
    if along not in read.columns_read:
        raise ConfigError(f"along: the law reads no {along!r}{near(along, read.columns_read)}")
    if "group" in made.coords:
        raise ConfigError("isoflop: give a fit of one group")
    values, of = np.unique(budgets, return_inverse=True)
    x, seen = made[along].values.astype(float), made["y"].values
    params, draws = made["coefficients"].values, usable(made)
    ends = expanded(float(made.attrs["level"]), int(made.attrs["n_clusters"]))
    shape = (len(values), _GRID)
    grid, surface_curve, parabola_curve = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    surface, parabola = np.full(len(values), np.nan), np.full(len(values), np.nan)
    ci = np.full((len(values), 2), np.nan)
    for i in range(len(values)):
        rows = np.flatnonzero(of == i)
        if len(np.unique(x[rows])) < _FEWEST:
            raise ConfigError(
                f"budget {values[i]:g}: fewer than {_FEWEST} different {along}; group near budgets "
                "under one number first"
            )
        logs = np.linspace(np.log(x[rows]).min(), np.log(x[rows]).max(), _GRID)
        line = _line(made, read.columns_read, along, rows, logs)
        grid[i] = np.exp(logs)
        surface_curve[i] = read.value(params, line)
        surface[i] = _lowest(logs, surface_curve[i][None])[0]
        if len(draws) > 1:
            found = _lowest(logs, read.value(draws, line))
            if np.isfinite(found).all():
                ci[i] = np.quantile(found, ends)
        centre = float(logs.mean())
        bent = np.polyfit(np.log(x[rows]) - centre, seen[rows], 2)
        parabola_curve[i] = np.polyval(bent, logs - centre)
        if bent[0] > 0:
            parabola[i] = np.exp(centre - bent[1] / (2 * bent[0]))
    lines = np.array([_power(values, one) for one in (surface, parabola)])
    return xr.Dataset(
        {
            "surface": ("budget", surface),
            "surface_ci": (("budget", "bound"), ci),
            "parabola": ("budget", parabola),
            "exponent": ("optimum", lines[:, 0]),
            "intercept": ("optimum", lines[:, 1]),
            "x": ("row", x),
            "y": ("row", seen),
            "of": ("row", of),
            "grid_x": (("budget", "grid"), grid),
            "surface_curve": (("budget", "grid"), surface_curve),
            "parabola_curve": (("budget", "grid"), parabola_curve),
        },
        {"budget": values, "bound": ["lower", "upper"], "optimum": list(OPTIMA)},
        {
            "along": along,
            "budget_name": budget if isinstance(budget, str) else "budget",
            **{k: made.attrs[k] for k in ("law", "y_name", "level", "status", "note", "cluster")},
        },
    )


def _fitted(
    data: Data,
    budget: str | npt.ArrayLike,
    y: str | None,
    law: Law | str | None,
    settings: dict[str, Any],
) -> tuple[xr.Dataset, FloatArray]:
    """Give the fit and every row's budget."""
    if isinstance(data, xr.Dataset) and "coefficients" in data:
        made = data
        if isinstance(budget, str):
            if budget not in made:
                raise ConfigError(
                    f"budget: the fit has no column {budget!r}; assign it: "
                    f'made.assign({budget}=("row", values)), or give the values'
                )
            budget = made[budget].values
    else:
        if y is None or law is None:
            raise ConfigError("isoflop: rows need y= and law=, which is fitted to them first")
        frame = table(data)
        made = fit(frame, y, law, **settings)
        if isinstance(budget, str):
            budget = numbers(frame, budget, "budget")
    budgets = np.asarray(budget, dtype=float)
    if budgets.shape != (made.sizes["row"],):
        raise ConfigError(f"budget: {budgets.shape} values for {made.sizes['row']} rows")
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise ConfigError("budget must be finite and above 0")
    return made, budgets


def _line(
    made: xr.Dataset, names: tuple[str, ...], along: str, rows: Rows, logs: FloatArray
) -> Columns:
    """Give the law's columns on the line that one budget's rows lie on."""
    here = np.log(made[along].values[rows])
    middle = float(here.mean())
    line = {along: np.exp(logs)}
    for name in names:
        if name != along:
            slope = np.polyfit(here - middle, np.log(made[name].values[rows]), 1)
            line[name] = np.exp(np.polyval(slope, logs - middle))
    return line


def _lowest(logs: FloatArray, curves: FloatArray) -> FloatArray:
    """Give exp(log) of the lowest point of curves [..., grid]; NaN where that is an end.

    A quartic through seven points leaves an error far below the step of the grid.
    """
    step = logs[1] - logs[0]
    at = curves.argmin(axis=-1)
    result = np.full(len(curves), np.nan)
    away = np.arange(-_NEAR, _NEAR + 1)
    for i in np.flatnonzero((at >= _NEAR) & (at < len(logs) - _NEAR)):
        here = curves[i, at[i] + away]
        slope = np.polyder(np.polyfit(away, here - here[_NEAR], 4))
        bend, z = np.polyder(slope), 0.0
        for _ in range(_NEWTON):
            z -= np.polyval(slope, z) / np.polyval(bend, z)
        result[i] = np.exp(logs[at[i]] + step * np.clip(z, -1.0, 1.0))
    return result


def _power(budget: FloatArray, optimum: FloatArray) -> tuple[float, float]:
    """Give slope and intercept of log10 optimum by log10 budget; NaN below two optima."""
    good = np.isfinite(optimum)
    if good.sum() < 2:
        return float("nan"), float("nan")
    slope, intercept = np.polyfit(np.log10(budget[good]), np.log10(optimum[good]), 1)
    return float(slope), float(intercept)
