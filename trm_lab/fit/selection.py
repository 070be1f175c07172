"""Choosing a law by what it predicts: forward chaining, groups left out, stacking.

For curves of one axis the window and the form matter more than the noise, and a good fit says
little about a forecast: AIC and BIC stand beside, never instead (`docs/laws.md`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, column, numbers, table
from trm_lab.fit.objectives import Objective, Space
from trm_lab.fit.problem import Problem
from trm_lab.fit.rows import check
from trm_lab.fit.search import estimate
from trm_lab.fit.separation import ROUNDING
from trm_lab.laws import BNSL, M3, M4, Law, PowerFloor
from trm_lab.laws import law as law_named
from trm_lab.laws.base import Columns, FloatArray

HORIZONS = (1.5, 2.0, 3.0)
"""How many times beyond their data the fits of a back-test must reach."""
_FEWEST = 4
_TRIM = 3.0
"""How many times the best law's held-out error a law of the stack may have."""
Split = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


def curve_laws(x: str = "x") -> dict[str, Law]:
    """Give the laws that a forecast of one curve is stacked from by default."""
    return {"power_floor": PowerFloor(x), "m3": M3(x), "m4": M4(x), "bnsl": BNSL(x)}


def backtest(
    data: Data,
    y: str,
    laws: Mapping[str, Law | str] | Sequence[Law | str],
    *,
    along: str | None = None,
    by: str | None = None,
    horizons: Sequence[float] = HORIZONS,
    objective: str = "least_squares",
    delta: float = 1e-3,
    residuals: Space | None = None,
) -> xr.Dataset:
    """Predict what was held out: the far end of the column `along`, or each group of `by`.

    For every horizon h a fit sees only rows up to 1/h of the largest `along`, and predicts the
    rest: h is how many times beyond its data it must reach.

    Returns:
        A Dataset over `law`, `split` and `row`: predictions where held out, and by law the root
        mean square error (`score`; of ln y where residuals are logarithmic) and the stacking
        weight.

    Raises:
        ConfigError: neither or both of `along` and `by`, or too few values to cut.
    """
    if (along is None) == (by is None):
        raise ConfigError("backtest: give either along= (a column of numbers) or by= (groups)")
    frame = table(data)
    named = _named(laws)
    splits = _chain(frame, along, horizons) if along else _groups(frame, str(by))
    target = numbers(frame, y, "y")
    made = np.full((len(named), len(splits), len(frame)), np.nan)
    residuals = residuals or next(iter(named.values())).space
    chosen = Objective(objective, residuals, delta)
    if not target.any():
        raise ConfigError(f"y: every {y} is 0, so there is nothing to predict")
    columns = {}
    for law in sorted(named.values(), key=lambda one: not one.positive):  # the narrowest first
        columns[law] = X = {name: numbers(frame, name, f"law {law}") for name in law.columns_read}
        check(law, X, target, np.ones(len(target)), chosen, y)
    for i, law in enumerate(named.values()):
        for j, (train, test) in enumerate(splits):
            fitted = _fitted(frame, y, law, chosen, train)
            if fitted is not None:
                there = {name: values[test] for name, values in columns[law].items()}
                made[i, j, test] = law.value(fitted[1], there)
    given = np.log(target) if residuals == "log" else target
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.log(made) if residuals == "log" else made
    errors = predicted - given
    weights = _stack(errors)
    scores = np.array([_root_mean_square(one) for one in errors])
    return xr.Dataset(
        {
            "prediction": (("law", "split", "row"), made),
            "error": (("law", "split", "row"), errors),
            "y": ("row", target),
            "score": ("law", scores),
            "weight": ("law", weights),
            "stacked_error": (("split", "row"), _combine(errors, weights)),
            **({"along": ("row", numbers(frame, along, "along"))} if along else {}),
        },
        {"law": list(named), "split": np.arange(len(splits))},
        {
            "y_name": y, "along": along or "", "by": by or "", "residuals": residuals,
            "laws": "; ".join(str(law) for law in named.values()),
            "stacked_score": _root_mean_square(_combine(errors, weights)),
            "selected": list(named)[int(np.nanargmin(scores))] if np.isfinite(scores).any() else "",
        },
    )  # fmt: skip


def forecast(
    data: Data,
    y: str,
    at: Data,
    laws: Mapping[str, Law | str] | Sequence[Law | str] | None = None,
    *,
    along: str = "x",
    horizons: Sequence[float] = HORIZONS,
    level: float = 0.95,
    objective: str = "least_squares",
    delta: float = 1e-3,
    residuals: Space | None = None,
) -> xr.Dataset:
    """Predict y at other x: a stack of laws, weighted by how they did in back-tests along `along`.

    Back-tests know nothing of the fit to all rows: where these leave the prediction at the farthest
    horizon more open than its own size, as after a break at the last points, a law has no weight,
    however well it did; unless none is told better.
    The band is what the stack's back-tests missed by, not what a fit believes of itself; beyond
    twice the fitted range `far` is 1 and no band is given.

    Returns:
        A Dataset over `at` and `law`: `prediction`, `band` [at, bound], `by_law`, `weight`, `far`.
    """
    frame, there = table(data), table(at)
    named = _named(laws if laws is not None else curve_laws(along))
    tested = backtest(
        frame, y, named, along=along, horizons=horizons, objective=objective, delta=delta,
        residuals=residuals,
    )  # fmt: skip
    chosen = Objective(objective, tested.attrs["residuals"], delta)
    log = tested.attrs["residuals"] == "log"
    made = np.full((len(named), len(there)), np.nan)
    x = numbers(frame, along, "along")
    beyond = numbers(there, along, "along")
    unsure = np.full(len(named), np.inf)
    for i, law in enumerate(named.values()):
        fitted = _fitted(frame, y, law, chosen, np.ones(len(frame), dtype=bool))
        if fitted is not None:
            X = {name: numbers(there, name, f"law {law}") for name in law.columns_read}
            made[i] = law.value(fitted[1], X)
            last = {name: values[[np.argmax(x)]] for name, values in fitted[0].X.items()}
            if along in last:
                last[along] = last[along] * max(horizons)
            unsure[i] = _unsure(*fitted, last)
    weights = np.where(np.isfinite(made).all(axis=1), tested["weight"].values, 0.0)
    told = np.where(unsure < 1, weights, 0.0)
    weights = told if told.any() else weights
    if weights.sum() <= 0:
        raise ConfigError(
            "forecast: no law could be fitted and tested; give more rows or simpler laws"
        )
    weights = weights / weights.sum()
    shown = np.log(np.where(weights[:, None] > 0, made, 1.0)) if log else np.nan_to_num(made)
    middle = weights @ shown
    missed = np.abs(_combine(tested["error"].values, weights))
    missed = missed[np.isfinite(missed)]
    half = float(np.quantile(missed, level)) if missed.size else np.nan
    far = (beyond > 2 * x.max()) | (beyond < x.min() / 2)
    band = np.stack([middle - half, middle + half], axis=-1)
    band[far] = np.nan
    return xr.Dataset(
        {
            "prediction": ("at", np.exp(middle) if log else middle),
            "band": (("at", "bound"), np.exp(band) if log else band),
            "by_law": (("law", "at"), made),
            "weight": ("law", weights),
            "score": ("law", tested["score"].values),
            "far": ("at", far.astype(int)),
            along: ("at", beyond),
        },
        {"law": list(named), "bound": ["lower", "upper"]},
        {**tested.attrs, "level": level, "band": "quantile of the stack's back-tested errors"},
    )


def _named(laws: Mapping[str, Law | str] | Sequence[Law | str]) -> dict[str, Law]:
    if not isinstance(laws, Mapping):
        laws = {str(law): law for law in laws}
    if not laws:
        raise ConfigError("laws: give at least one")
    return {n: law_named(one) if isinstance(one, str) else one for n, one in laws.items()}


def _chain(frame: pd.DataFrame, along: str, horizons: Sequence[float]) -> list[Split]:
    """Split at 1/h of the largest value; horizons that leave fewer than 3 values say nothing."""
    x = numbers(frame, along, "along")
    splits: list[Split] = []
    for h in horizons:
        if not h > 1:
            raise ConfigError(f"horizons: {h:g} is not above 1")
        train = x <= x.max() / h * (1 + 1e-9)
        seen = any(np.array_equal(train, other) for other, _ in splits)
        if not seen and len(np.unique(x[train])) >= _FEWEST:
            splits.append((train, ~train))
    if not splits:
        raise ConfigError(
            f"along: no horizon of {list(horizons)} leaves {_FEWEST} distinct values of {along} to "
            "fit; give smaller ones"
        )
    return splits


def _groups(frame: pd.DataFrame, by: str) -> list[Split]:
    groups = column(frame, by, "by").to_numpy()
    values = pd.unique(groups)
    if len(values) < 2:
        raise ConfigError(f"by: {by} has one value only; leaving it out leaves nothing")
    return [(groups != value, groups == value) for value in values]


def _fitted(
    frame: pd.DataFrame, y: str, law: Law, chosen: Objective, train: npt.NDArray[np.bool_]
) -> tuple[Problem, FloatArray] | None:
    """Fit the rows of `train`: the problem, and the law's parameters; None where they tell none."""
    rows = frame[train]
    X = {name: numbers(rows, name, f"law {law}") for name in law.columns_read}
    values = numbers(rows, y, "y")
    problem = Problem(law, X, values, np.ones(len(values)), chosen, inside=isinstance(law, BNSL))
    params = estimate(problem)
    return None if params is None else (problem, params)


def _unsure(problem: Problem, params: FloatArray, X: Columns) -> float:
    """Give the standard error of y at X [1], as a share of y: by the slopes, and the rows' noise.

    It is infinite where no row is left to tell the noise.
    """
    u = problem.from_own(params)
    r, J = problem.residual(u)
    spare = len(r) - len(u)
    if spare < 1:
        return np.inf
    own, by = problem.decode(u)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        f, there = problem.law.centred(own, X, problem.centre)
        lengths = np.linalg.norm(J, axis=0)
        lengths = np.where(lengths > 0, lengths, 1.0)
        _, values, directions = np.linalg.svd(J / lengths, full_matrices=False)
        moved = directions @ ((there * by)[0, problem.free] / lengths)
        share = np.linalg.norm(moved / np.maximum(values, ROUNDING * values[0])) / np.abs(f[0])
        found = float(np.sqrt(r @ r / spare) * share)
    return found if np.isfinite(found) else np.inf


def _stack(errors: FloatArray) -> FloatArray:
    """Give the share of every law in the stack, from held-out errors [law, split, row].

    Shares go with 1 / mean squared error (Bates and Granger 1969); a law that missed more than
    `_TRIM` times as much as the best, or could not predict everything that others did, has none.
    Least squares of the errors themselves, on so few of them, rewards laws whose large errors
    happen to cancel.
    """
    flat = errors.reshape(len(errors), -1)
    finite = np.isfinite(flat)
    if not finite.any():
        return np.zeros(len(flat))
    usable = finite.sum(axis=1) == finite.sum(axis=1).max()
    scores = np.array([_root_mean_square(one) for one in flat])
    scores = np.maximum(scores, 1e-12)
    usable &= scores <= _TRIM * scores[usable].min()
    weights = np.where(usable, (scores[usable].min() / scores) ** 2, 0.0)
    return np.asarray(weights / weights.sum())


def _combine(errors: FloatArray, weights: FloatArray) -> FloatArray:
    """Give the stack's errors [split, row]; NaN where a law that counts made no prediction."""
    used = weights > 0
    return np.asarray(np.tensordot(weights[used], errors[used], axes=1))


def _root_mean_square(errors: FloatArray) -> float:
    finite = errors[np.isfinite(errors)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else float("nan")
