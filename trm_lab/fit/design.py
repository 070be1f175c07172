"""What the design of the runs can tell, and which runs would tell more."""

import itertools

import numpy as np
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, near, numbers, table
from trm_lab.fit.problem import Problem
from trm_lab.fit.saved import estimated, rows_of
from trm_lab.fit.separation import collinear, off_diagonal, separation, told
from trm_lab.laws import GROUP, Grouped
from trm_lab.laws.base import FloatArray


def design_report(made: xr.Dataset) -> xr.Dataset:
    """Say which parameters the runs can tell apart.

    Returns:
        A Dataset over `param` and `direction`: `inflation` (the variance of a parameter against a
        design that told it apart from all others), `singular_value` and `loading` of the slopes,
        each scaled to length 1; attributes `condition_number`, `separable` and `advice`.
    """
    problem = _problem(made)
    apart = separation(problem, problem.from_own(made["coefficients"].values))
    together = collinear(problem)
    advice = ""
    if together:
        advice = told(problem, together)
        cells = _crossed(problem)
        far = off_diagonal(problem, cells)
        if far.max(initial=0.0) > 0:
            advice += "; add at least one arm off the diagonal, where one of them changes and the "
            advice += f"others do not: for example {_cell(problem, cells, far)}"
        else:
            advice += "; add runs where it changes alone, or hold its exponent at a value"
    elif apart.entangled:
        advice = (
            f"{' and '.join(apart.entangled)} trade places over these runs; widen the range of "
            "their axes"
        )
        if still := [n for n in problem.law.columns_read if len(np.unique(problem.X[n])) == 1]:
            advice += f" ({', '.join(still)}: one value only)"
    return xr.Dataset(
        {
            "inflation": ("param", apart.inflation),
            "singular_value": ("direction", apart.values),
            "loading": (("direction", "param"), apart.directions),
        },
        {"param": list(apart.names), "direction": np.arange(len(apart.values))},
        {
            "condition_number": apart.condition,
            "separable": int(not together and not apart.entangled),
            "collinear": ", ".join(together),
            "not_separable": ", ".join(apart.entangled),
            "advice": advice,
        },
    )


def suggest_runs(
    made: xr.Dataset, parameter: str, candidates: Data | None = None, count: int = 3
) -> xr.Dataset:
    """Name the cells whose runs would shrink the interval of `parameter` most, one after another.

    Each is chosen by the local information of the fit (D. V. Lindley's greedy design, linearised).
    Without `candidates` every combination is tried of the nets, and of the values of other columns,
    that the runs already have.

    Returns:
        A Dataset over `pick`: the columns of every cell, and `width`, the interval's expected width
        after it and those before it, relative to now.

    Raises:
        ConfigError: no such parameter, or no candidates.
    """
    problem = _problem(made)
    law = problem.law
    if isinstance(law, Grouped):
        raise ConfigError("suggest_runs: give a fit of one group")
    if parameter not in law.names:
        raise ConfigError(f"suggest_runs: no parameter {parameter!r}{near(parameter, law.names)}")
    if law.parameters[law.names.index(parameter)].fixed:
        raise ConfigError(f"suggest_runs: {parameter} is held at a value")
    if candidates is None:
        kinds = law.choices(problem.X)
        seen = [np.unique([problem.X[n] for n in kind], axis=1).T for kind in kinds]
        order = [law.columns_read.index(name) for kind in kinds for name in kind]
        cells = np.array([np.concatenate(one) for one in itertools.product(*seen)])
        cells = cells[:, np.argsort(order)]
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


def _crossed(problem: Problem) -> dict[str, FloatArray]:
    """Give the rows that were not run, and differ from one that was in one choice."""
    names = [*problem.law.columns_read, *([GROUP] if GROUP in problem.X else [])]
    run = np.unique(np.stack([problem.X[name] for name in names], axis=-1), axis=0)
    parts = []
    for kind in problem.law.choices(problem.X):
        at = [names.index(name) for name in kind]
        for value in np.unique(run[:, at], axis=0):
            parts.append(run.copy())
            parts[-1][:, at] = value
    cells = np.unique(np.concatenate(parts), axis=0)
    both, times = np.unique(np.concatenate([cells, run]), axis=0, return_counts=True)
    return dict(zip(names, both[times == 1].T, strict=True))


def _cell(problem: Problem, cells: dict[str, FloatArray], far: FloatArray) -> str:
    """Write the cell that lies farthest off, the first of those that lie equally far."""
    best = int(np.flatnonzero(far >= far.max() * (1 - 1e-9))[0])
    moving = [n for n in problem.law.columns_read if len(np.unique(problem.X[n])) > 1]
    return ", ".join(f"{n} = {cells[n][best]:g}" for n in moving)


def _problem(made: xr.Dataset) -> Problem:
    rows = rows_of(made)
    if not estimated(made):
        raise ConfigError(f"the fit has no estimates: {made.attrs['note'] or made.attrs['status']}")
    return rows.problem
