"""What the design of the runs can tell, and which runs would tell more."""

import itertools

import numpy as np
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, near, numbers, table
from trm_lab.fit.saved import law_of, rows_of
from trm_lab.fit.verdicts import CONDITION, collinear
from trm_lab.laws import GROUP, Grouped
from trm_lab.laws.base import FloatArray


def design_report(made: xr.Dataset) -> xr.Dataset:
    """Say which parameters the runs can tell apart.

    Returns:
        A Dataset over `param` and `direction`: `inflation` (the variance of a parameter against a
        design that told it apart from all others), `singular_value` and `loading` of the slopes,
        each scaled to length 1; attributes `condition_number`, `separable` and `advice`.
    """
    rows = rows_of(made)
    problem = rows.problem
    u = problem.from_own(made["coefficients"].values)
    _, J = problem.residual(u)
    J = np.sqrt(problem.weights)[:, None] * J
    norms = np.linalg.norm(J, axis=0)
    scaled = J / np.where(norms > 0, norms, 1.0)
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    gram = scaled.T @ scaled
    inflation = np.diag(np.linalg.pinv(gram, rcond=1e-15))
    names = [n for n, free in zip(problem.law.names, problem.free, strict=True) if free]
    condition = float(values[0] / max(values[-1], 1e-300))
    together = collinear(problem)
    advice = ""
    if together:
        names_text = " and ".join(together)
        advice = (
            f"{names_text} cannot be separated by these runs; add at least one arm off the "
            "diagonal, where one of them changes and the others do not"
        )
        if cell := _off_diagonal(made):
            advice += f": for example {cell}"
    elif condition > CONDITION:
        worst = [n for n, w in zip(names, np.abs(vectors[-1]), strict=True) if w > 0.2]
        advice = (
            f"{' and '.join(worst)} trade places over these runs; widen the range of their axes"
        )
    return xr.Dataset(
        {
            "inflation": ("param", inflation),
            "singular_value": ("direction", values),
            "loading": (("direction", "param"), vectors),
        },
        {"param": names, "direction": np.arange(len(values))},
        {
            "condition_number": condition,
            "separable": int(not together and condition <= CONDITION),
            "collinear": ", ".join(together),
            "advice": advice,
        },
    )


def suggest_runs(
    made: xr.Dataset, parameter: str, candidates: Data | None = None, count: int = 3
) -> xr.Dataset:
    """Name the cells whose runs would shrink the interval of `parameter` most, one after another.

    Each is chosen by the local information of the fit (D. V. Lindley's greedy design, linearised).
    Without `candidates` every combination of the values that the columns already have is tried.

    Returns:
        A Dataset over `pick`: the columns of every cell, and `width`, the interval's expected width
        after it and those before it, relative to now.

    Raises:
        ConfigError: no such parameter, or no candidates.
    """
    rows = rows_of(made)
    problem, law = rows.problem, rows.problem.law
    if isinstance(law, Grouped):
        raise ConfigError("suggest_runs: give a fit of one group")
    if parameter not in law.names:
        raise ConfigError(f"suggest_runs: no parameter {parameter!r}{near(parameter, law.names)}")
    if law.parameters[law.names.index(parameter)].fixed:
        raise ConfigError(f"suggest_runs: {parameter} is held at a value")
    if candidates is None:
        seen = [np.unique(problem.X[name]) for name in law.columns_read]
        cells = np.array(list(itertools.product(*seen)))
    else:
        frame = table(candidates)
        cells = np.stack([numbers(frame, n, "candidates") for n in law.columns_read], axis=-1)
    if not len(cells):
        raise ConfigError("suggest_runs: no candidates")
    u = problem.from_own(made["coefficients"].values)
    _, J = problem.residual(u)
    scale = np.maximum(np.linalg.norm(J, axis=0), 1e-300)
    information = (J / scale).T @ (problem.weights[:, None] * J / scale)
    information = information + 1e-12 * np.trace(information) * np.eye(len(u))
    centred, slopes = problem.decode(u)
    inner = (law.own_jacobian(centred, problem.centre) * slopes)[:, problem.free]
    direction = inner[law.names.index(parameter)] / scale
    there = {name: cells[:, i] for i, name in enumerate(law.columns_read)}
    new = _slopes(made, u, there) / scale
    now = float(direction @ np.linalg.solve(information, direction))
    picks, widths = [], []
    for _ in range(min(count, len(cells))):
        inverse = np.linalg.inv(information)
        toward = new @ inverse @ direction
        gain = toward**2 / (1 + np.einsum("ck,kl,cl->c", new, inverse, new))
        best = int(np.argmax(gain))
        information = information + np.outer(new[best], new[best])
        picks.append(best)
        after = float(direction @ np.linalg.solve(information, direction))
        widths.append(float(np.sqrt(after / now)))
    return xr.Dataset(
        {
            **{n: ("pick", cells[picks, i]) for i, n in enumerate(law.columns_read)},
            "width": ("pick", widths),
        },
        {"pick": np.arange(1, len(picks) + 1)},
        {"parameter": parameter},
    )


def _slopes(made: xr.Dataset, u: FloatArray, there: dict[str, FloatArray]) -> FloatArray:
    """Give the slopes of the residuals at other rows."""
    problem = rows_of(made).problem
    params, slopes = problem.decode(u)
    f, J = problem.law.centred(params, there, problem.centre)
    if problem.objective.space == "log":
        J = J / f[:, None]
    elif problem.m is not None:
        p = np.clip(f, 1e-9, 1 - 1e-9)
        J = J * np.sqrt(float(np.mean(problem.m)) / (p * (1 - p)))[:, None]
    return np.asarray((J * slopes)[:, problem.free])


def _off_diagonal(made: xr.Dataset) -> str:
    """Name one combination of seen values of the collinear columns that has not been run."""
    law = law_of(made)
    columns = [name for name in law.columns_read if name != GROUP]
    if len(columns) < 2:
        return ""
    moving = [n for n in columns if len(np.unique(made[n].values)) > 1][:4]
    run = {tuple(row) for row in np.stack([made[n].values for n in moving], axis=-1)}
    ends = [(np.unique(made[n].values)[0], np.unique(made[n].values)[-1]) for n in moving]
    for cell in itertools.product(*ends):
        if tuple(cell) not in run:
            return ", ".join(f"{n} = {value:g}" for n, value in zip(moving, cell, strict=True))
    return ""
