"""Asking a fit again: a Dataset made by `fit`, or read back from a file, is all that is needed."""

from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, labels, near, numbers, table
from trm_lab.fit.intervals import OF_CLUSTERS, expanded, t_quantile
from trm_lab.fit.objectives import Objective
from trm_lab.fit.problem import Problem
from trm_lab.fit.rows import Rows
from trm_lab.laws import GROUP, Grouped, Law
from trm_lab.laws import law as law_named
from trm_lab.laws.base import Columns, FloatArray

_SIDES = np.array([[-1.0], [1.0]])


def law_of(made: xr.Dataset) -> Law:
    """Give the law that was fitted, for one group where there are several."""
    law = law_named(str(made.attrs["law"]))
    held = str(made.attrs.get("held", ""))
    if held:
        pairs = (one.split("=") for one in held.split(", "))
        law = law.hold(**{name: float(value) for name, value in pairs})
    return law


def expect_fit(made: xr.Dataset) -> None:
    """Refuse a Dataset that is no fit.

    Raises:
        ConfigError: what a fit has and it has not.
    """
    missing = [name for name in ("coefficients", "y", "weights") if name not in made]
    if missing or "law" not in made.attrs:
        raise ConfigError(f"not a fit of trm_lab: no {', '.join(missing) or 'law'}")


def estimated(made: xr.Dataset) -> bool:
    """Whether the rows gave estimates at all."""
    return bool(np.isfinite(made["coefficients"].values).any())


def rows_of(made: xr.Dataset) -> Rows:
    """Give the rows and the problem that a fit solved.

    Raises:
        ConfigError: the Dataset is no fit.
    """
    expect_fit(made)
    inner = law_of(made)
    law: Law = inner
    X: dict[str, FloatArray] = {n: made[n].values.astype(float) for n in inner.columns_read}
    groups = None
    if "group" in made.coords:
        groups = made["group"].values.astype(str)
        share = tuple(filter(None, str(made.attrs["share"]).split(", ")))
        law = Grouped(inner, tuple(str(one) for one in np.unique(groups)), share)
        X[GROUP] = np.unique(groups, return_inverse=True)[1].astype(float)
    delta = float(made.attrs["delta"])
    objective = Objective(
        str(made.attrs["objective"]), made.attrs["residuals"], delta if np.isfinite(delta) else 1e-3
    )
    m = made["of"].values if "of" in made else None
    problem = Problem(law, X, made["y"].values, made["weights"].values, objective, m)
    clusters, member = np.unique(made["cluster"].values.astype(str), return_inverse=True)
    return Rows(
        problem, member, clusters, str(made.attrs["cluster"]), groups, str(made.attrs["y_name"]),
        str(made.attrs["by"]), made["name_of_row"].values.astype(str),
        str(made.attrs.get("weights_name", "")),
    )  # fmt: skip


def fewest_clusters(made: xr.Dataset) -> int:
    """Give how many clusters stand behind the parameters that have fewest."""
    return int(made.attrs.get("fewest_clusters", made.attrs["n_clusters"]))


def usable(made: xr.Dataset) -> FloatArray:
    """Give the resampled estimates that exist, [draw, K]."""
    draws: FloatArray = made["draws"].values
    return draws[np.isfinite(draws).all(axis=1)]


def band_of(made: xr.Dataset, problem: Problem, X: Columns) -> FloatArray:
    """Give the pointwise band of the curve at X, [2, P]; NaN where the fit has no interval.

    Percentiles of the draws; without any, from the covariance by the slopes of the law, in logits
    of a share and logarithms of a loss, so that no end leaves what y can be.
    """
    level, draws, law = float(made.attrs["level"]), usable(made), problem.law
    if len(draws) > 1:
        ends = expanded(level, fewest_clusters(made))
        return np.asarray(np.quantile(law.value(draws, X), ends, axis=0))
    df = len(problem.y) - int(problem.free.sum())
    if made.attrs["interval_kind"] in OF_CLUSTERS:
        df = fewest_clusters(made) - 1
    params = made["coefficients"].values
    f, slopes = law.value(params, X), law.jacobian(params, X)
    variance = np.einsum("pk,kl,pl->p", slopes, made["covariance"].values, slopes)
    half = t_quantile(level, df) * np.sqrt(np.maximum(variance, 0.0))
    share = law.values == (0.0, 1.0)
    f = np.clip(f, 1e-300, 1 - 1e-15 if share else np.inf) if share or law.space == "log" else f
    with np.errstate(over="ignore"):
        if share:
            return np.asarray(special.expit(special.logit(f) + _SIDES * half / (f * (1 - f))))
        return np.asarray(
            f * np.exp(_SIDES * half / f) if law.space == "log" else f + _SIDES * half
        )


def predict(made: xr.Dataset, data: Data) -> xr.Dataset:
    """Give y and the band of the curve at other rows; a fit by groups needs its group column.

    The band says where the curve is, not where the next run will be, and says nothing of the law
    being wrong (`docs/laws.md`); `forecast` gives the band of back-tests.  `far` is 1 beyond twice
    the fitted range of any column.

    Returns:
        A Dataset over `at`: `prediction`, `band` [at, bound] and `far`.
    """
    rows, frame = rows_of(made), table(data)
    law = rows.problem.law
    X = {name: numbers(frame, name, f"law {made.attrs['law']}") for name in law.columns_read}
    law.check(X)
    if isinstance(law, Grouped):
        names, _ = labels(frame, rows.by, "by")
        unknown = sorted(set(names) - set(law.groups))
        if unknown:
            raise ConfigError(f"{rows.by}: no fit of {unknown[0]!r}{near(unknown[0], law.groups)}")
        X[GROUP] = np.searchsorted(np.array(law.groups), names).astype(float)
    value = law.value(made["coefficients"].values, X)
    band = band_of(made, rows.problem, X)
    far = np.zeros(len(value), dtype=int)
    for name in law.columns_read:
        seen = rows.problem.X[name]
        far |= (X[name] > 2 * seen.max()) | (X[name] < seen.min() / 2)
    variables: dict[str, Any] = {
        "prediction": ("at", value),
        "band": (("at", "bound"), band.T),
        "far": ("at", far),
        **{name: ("at", values) for name, values in X.items() if name != GROUP},
    }
    return xr.Dataset(variables, {"bound": ["lower", "upper"]}, {"level": made.attrs["level"]})
