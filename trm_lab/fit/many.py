"""Many starts at once: a damped Gauss-Newton descent of least squares over all of them.

One start after the other spends most of its time outside the law.  S starts, P rows, F free
coordinates.
"""

import numpy as np

from trm_lab.fit.problem import Problem
from trm_lab.laws.base import FloatArray

_DAMPED = 1e-3
"""Damping at first, relative to the diagonal of J'J."""
_ENOUGH = 1e-9
"""Relative gain of a step that is hardly damped, below which a start is left where it is."""
_LEAST, _MOST = 1e-12, 1e8


def sums(problem: Problem, places: FloatArray, weights: FloatArray) -> FloatArray:
    """Give the weighted sum of squares, [S], at places [S, F]; infinite where there is none."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        r, _ = problem.residual(places)
        found = (weights * r**2).sum(axis=-1)
    return np.where(np.isfinite(found), found, np.inf)


def descend(problem: Problem, places: FloatArray, weights: FloatArray, most: int) -> FloatArray:
    """Descend from every place [S, F] under its own weights [S, P]; give where each ended.

    Levenberg's and Marquardt's damping; coordinates at a bound that the gradient points beyond are
    held there for the step.
    """
    at, (lower, upper) = places.copy(), problem.bounds
    damping = np.full(len(at), _DAMPED)
    values = np.full(len(at), np.inf)
    going = np.arange(len(at))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        r, J = problem.residual(at)
        values = _finite((weights * r**2).sum(axis=-1))
        going = going[np.isfinite(values) & np.isfinite(J).all(axis=(1, 2))]
        gram, slope = _normal(r, J, weights)
        for _ in range(most):
            if not len(going):
                break
            step = _step(gram[going], slope[going], damping[going], at[going], lower, upper)
            there = np.clip(at[going] + step, lower, upper)
            r, J = problem.residual(there)
            new = _finite((weights[going] * r**2).sum(axis=-1))
            new = np.where(np.isfinite(J).all(axis=(1, 2)), new, np.inf)
            better = new < values[going]
            gain = np.where(better, values[going] - new, np.inf)
            moved = going[better]
            gram[moved], slope[moved] = _normal(r[better], J[better], weights[moved])
            done = (gain <= _ENOUGH * values[going]) & (damping[going] <= _DAMPED)
            at[moved], values[moved] = there[better], new[better]
            damping[going] *= np.where(better, 0.2, 6.0)
            damping = np.clip(damping, _LEAST, None)
            going = going[~done & (damping[going] < _MOST)]
    return at


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.inf)


def _normal(r: FloatArray, J: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give J'WJ, [S, F, F], and J'Wr, [S, F]."""
    turned = np.swapaxes(J * weights[..., None], -1, -2)
    return turned @ J, (turned @ r[..., None])[..., 0]


def _step(
    gram: FloatArray,
    slope: FloatArray,
    damping: FloatArray,
    at: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
) -> FloatArray:
    """Give the damped steps, [S, F]; coordinates of no effect and those held have none."""
    diagonal = np.diagonal(gram, axis1=1, axis2=2)
    held = ((at <= lower) & (slope > 0)) | ((at >= upper) & (slope < 0)) | (diagonal <= 0)
    scale = np.where(held, 1.0, np.sqrt(np.where(diagonal > 0, diagonal, 1.0)))
    free = np.where(held, 0.0, 1.0)
    system = gram / (scale[:, :, None] * scale[:, None, :]) * free[:, :, None] * free[:, None, :]
    ones = np.eye(gram.shape[-1])
    system = system + ones * (damping[:, None, None] + (1 - free)[:, :, None])
    solved = np.linalg.solve(system, (-slope / scale * free)[..., None])[..., 0]
    return np.asarray(solved / scale * free)
