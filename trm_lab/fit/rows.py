"""What a fit is made of: rows checked, clusters named, the problem posed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, Labels, column, labels, numbers, table
from trm_lab.fit.objectives import COUNTS, Objective, Space
from trm_lab.fit.problem import Problem
from trm_lab.laws import GROUP, Grouped, Law
from trm_lab.laws import law as law_named
from trm_lab.laws.base import FloatArray

RESERVED = frozenset(
    {
        "band", "bound", "ci", "cluster", "coefficients", "covariance", "curve", "draw", "draws",
        "extra", "extras", "fitted", "free", "grid", "grid_x", "group", "meaning", "name_of_row",
        "of", "param", "param_2", "residuals", "row", "start", "start_objective", "start_params",
        "stderr", "weights", "y",
    }
)  # fmt: skip
"""Names of a fit's Dataset, which no column of a law can have."""


_DROP = "; drop such rows first, and say why"
_COUNTS = "; give counts with their total, --y {0},TOTAL"
_SHARE = f"{_COUNTS}, and divide percentages by 100 first"


class ClusterWarning(UserWarning):
    """Rows are taken as independent though they share clusters, or cells of the design."""

    def __init__(self, text: str, cells: Sequence[str] = ()) -> None:
        """Tell `text`, which ends in the advice to resample by the columns `cells`, if any."""
        super().__init__(text + f", such as cluster={list(cells)!r}" * bool(cells))
        self.text, self.cells = text, tuple(cells)

    def for_cli(self) -> str:
        """Give the text as the command line takes its advice."""
        return self.text + f", such as --cluster {','.join(self.cells)}" * bool(self.cells)


@dataclass(frozen=True)
class Rows:
    """What a fit is made of, checked."""

    problem: Problem
    member: npt.NDArray[np.intp]
    clusters: npt.NDArray[np.str_]
    """Names of the clusters."""
    cluster_name: str
    groups: npt.NDArray[np.str_] | None
    y_name: str
    by: str
    names: npt.NDArray[np.str_]
    """A name for every row."""
    weights_name: str = ""
    """The column of weights; empty where all rows weigh 1."""


def prepare(
    data: Data,
    y: str | tuple[str, str],
    law: Law | str,
    *,
    cluster: Labels | None,
    objective: str | None,
    delta: float,
    residuals: Space | None,
    weights: str | None,
    by: str | None,
    share: Sequence[str],
) -> Rows:
    """Check rows and give the problem they pose."""
    frame = table(data)
    law = law_named(law) if isinstance(law, str) else law
    for one in law.columns_read:
        if one in RESERVED:
            raise ConfigError(f"law {law}: a fit uses the name {one!r} itself; rename the column")
    X = {one: numbers(frame, one, f"law {law}") for one in law.columns_read}
    y_name = y if isinstance(y, str) else f"{y[0]} / {y[1]}"
    chosen = _objective(law, y, objective, delta, residuals)
    m = None
    if isinstance(y, str):
        values = numbers(frame, y, "y")
    else:
        solved, m = numbers(frame, y[0], "y"), numbers(frame, y[1], "y")
        bad = np.flatnonzero((m <= 0) | (solved < 0) | (solved > m))
        if bad.size:
            turned = ((solved > 0) & (m >= 0) & (m <= solved)).all()
            fix = f"; did you mean {y[1]},{y[0]}?" if turned else _DROP
            at = bad[0]
            raise ConfigError(f"y: {solved[at]:g} of {m[at]:g} in row {at} is no share{fix}")
        values = solved / m
    given = np.ones(len(values)) if weights is None else numbers(frame, weights, "weights")
    check(law, X, values, given, chosen, y_name)
    given = given / (given.mean() if given.size else 1.0)  # relative: rows stay what is counted
    groups = None
    if by is not None:
        groups, _ = labels(frame, by, "by")
        law = _grouped(law, groups, share)
        X = {**X, GROUP: np.unique(groups, return_inverse=True)[1].astype(float)}
    elif share:
        raise ConfigError(f"share={list(share)} needs by=, the column of the groups that share")
    who, cluster_name = _clusters(frame, cluster, X)
    clusters, member = np.unique(who, return_inverse=True)
    problem = Problem(law, X, values, given, chosen, m)
    names = column(frame, "run", "run") if "run" in frame else np.arange(len(frame))
    return Rows(
        problem, member, clusters, cluster_name, groups, y_name, by or "",
        np.asarray(names).astype(str), weights or "",
    )  # fmt: skip


def _objective(
    law: Law, y: str | tuple[str, str], name: str | None, delta: float, residuals: Space | None
) -> Objective:
    counts = not isinstance(y, str)
    if name is None:
        name = "quasi_binomial" if counts else "huber" if law.space == "log" else "least_squares"
    if counts != (name in COUNTS):
        fix = 'a pair y=("solved", "of")' if name in COUNTS else f"one of {', '.join(COUNTS)}"
        raise ConfigError(f"objective {name}: give {fix}")
    if counts and law.values != (0.0, 1.0):
        raise ConfigError(f"law {law.name}: counts need a law of a share, such as Logistic")
    space: Space = "count" if counts else residuals or law.space
    if residuals not in (None, "log", "raw"):
        raise ConfigError(f"residuals: {residuals!r} is neither 'log' nor 'raw'")
    return Objective(name, space, delta)


def check(
    law: Law,
    X: dict[str, FloatArray],
    y: FloatArray,
    weights: FloatArray,
    objective: Objective,
    name: str,
) -> None:
    """Refuse rows that the law or the objective cannot have.

    Raises:
        ConfigError: x, y or a weight has a value that is not allowed; the message says which row.
    """
    law.check(X)
    low, high = law.values
    bad = np.flatnonzero(~((y >= low) & (y <= high)))
    if bad.size:
        raise ConfigError(
            f"law {law.name} ({law.formula}): {name} must lie in [{low:g}, {high:g}], not "
            f"{y[bad[0]]:g} (row {bad[0]})"
            + (_SHARE.format(name) if high == 1 and y[bad[0]] > 1 and " / " not in name else _DROP)
        )
    # None or all of a count is what chance makes of a share between; to drop such rows is bias.
    strict = law.positive and objective.space != "count"
    fix = _COUNTS.format(name) if high == 1 else _DROP
    if strict and (y >= high).any():
        at = int(np.flatnonzero(y >= high)[0])
        raise ConfigError(
            f"law {law.name} ({law.formula}): {name} must lie in ({low:g}, {high:g}), not "
            f"{y[at]:g} (row {at}){fix}"
        )
    if (y <= 0).any() and y.any() and (objective.space == "log" or strict):
        at = int(np.flatnonzero(y <= 0)[0])
        if strict:
            raise ConfigError(
                f"{name} is {y[at]:g} in row {at}: law {law.name} needs values above 0{fix}"
            )
        raise ConfigError(
            f"{name} is {y[at]:g} in row {at}: residuals of ln y need values above 0; "
            "give residuals='raw', or counts for an accuracy"
        )
    if not (np.isfinite(weights) & (weights > 0)).all():
        at = int(np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))[0])
        raise ConfigError(
            f"weights must be finite and above 0, not {weights[at]:g} (row {at}){_DROP}"
        )


def _grouped(law: Law, groups: npt.NDArray[np.str_], share: Sequence[str]) -> Law:
    unknown = [one for one in share if one not in law.names]
    if unknown:
        raise ConfigError(
            f"share: law {law.name} has no parameter {unknown[0]!r}; it has {', '.join(law.names)}"
        )
    return Grouped(law, tuple(str(one) for one in np.unique(groups)), tuple(share))


def _clusters(
    frame: pd.DataFrame,
    cluster: Labels | None,
    X: dict[str, FloatArray],
) -> tuple[npt.NDArray[np.str_], str]:
    each = np.array([f"row {i}" for i in range(len(next(iter(X.values()))))])
    if cluster is None:
        rows = np.stack([*X.values()], axis=-1)
        if len(np.unique(rows, axis=0)) < len(rows):
            raise ConfigError(
                "cluster: rows repeat the same x, so they may not be independent; say what was "
                "drawn independently: a column such as seed, several such as budget and T, or row"
            )
    if cluster is None or (isinstance(cluster, str) and cluster == "row" and "row" not in frame):
        who, name = each, "row"
    else:
        who, name = labels(frame, cluster, "cluster")
    shared = _shared(X) if len(np.unique(who)) == len(who) else []
    cells = _cells(X, shared)
    cells_asked = cells != shared and set(shared) <= set(name.split(" x "))  # of one row each
    if shared and not cells_asked:
        text = (
            f"every row is a cluster of its own, though rows share {', '.join(shared)}: if rows of "
            "one cell have anything else in common, these intervals are too narrow; resample cells"
        )
        warnings.warn(ClusterWarning(text, cells), stacklevel=4)
    return who, name


def _cells(X: dict[str, FloatArray], shared: list[str]) -> list[str]:
    """Give as many of the columns as leave a cell of more than one row."""
    cells = list(shared)
    while len(cells) > 1:
        rows = np.stack([X[name] for name in cells], axis=-1)
        if len(np.unique(rows, axis=0)) < len(rows):
            break
        cells.pop()
    return cells


def _shared(X: dict[str, FloatArray]) -> list[str]:
    """Name the columns of which the rows, of one group, have half as many values or fewer."""
    group = X.get(GROUP, np.zeros(len(next(iter(X.values())))))
    parts = [group == g for g in np.unique(group)]
    return [
        name
        for name, x in X.items()
        if name != GROUP
        and any(1 < len(np.unique(x[part])) <= np.count_nonzero(part) / 2 for part in parts)
    ]
