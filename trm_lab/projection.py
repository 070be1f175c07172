"""Variable projection: least squares where only the nonlinear parameters are searched.

For every value of the nonlinear parameters the best linear ones are found exactly, within their
bounds.  What remains is searched on a grid and then polished (Golub & Pereyra 1973, with Kaufman's
1975 Jacobian).  An optimiser's own flag decides nothing: see `agreement`.

P points, L linear and N nonlinear parameters, K = L + N, G grid points, B sets of weights.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from trm_lab.laws import FloatArray, Law

GRID = 64
"""Grid points over the range of each nonlinear parameter, equally spaced in its logarithm."""
_RIDGE = 1e-13
"""Relative; keeps the scan's normal equations solvable where two columns coincide."""
_STARTS = 4
"""Starts from the scan of all data, and at most as many from scans without one cluster."""
_FINE, _QUICK = 1e-14, 1e-9
"""Tolerances of the fit and of the bootstrap's fits."""
_EXACT = 1e-30
"""Share of the sum of squares below which a fit is exact to rounding."""
_UNIT = 1e8
"""Size of the data while polishing.  The optimiser's gradient tolerance is absolute, and steep laws
have tiny gradients far from the optimum."""
_SAME = 1e-6
"""Objectives that differ by less than this share are the same optimum."""


@dataclass(frozen=True)
class Solution:
    """One local optimum."""

    amplitudes: FloatArray
    """Linear parameters at the problem's origin, [L]."""
    logs: FloatArray
    """Logarithms of the nonlinear parameters, [N]."""
    objective: float
    """Weighted sum of squared residuals."""
    residual: FloatArray
    """Fitted less data, times the root of the weight, [P]."""


@dataclass(frozen=True)
class Problem:
    """A law, points, and what the points can tell."""

    law: Law
    x: FloatArray
    """[P]."""
    y: FloatArray
    """[P]."""

    @property
    def origin(self) -> float:
        """Where amplitudes are read while fitting."""
        return float(self.x.min())

    @property
    def box(self) -> FloatArray:
        """Logarithms of the least and greatest nonlinear parameters, [N, 2]."""
        return np.log(self.law.box(self.x))

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of the linear parameters; those that rescale are bounded by 0 or not at all."""
        linear = [p for p in self.law.parameters if p.linear]
        return np.array([p.lower for p in linear]), np.array([p.upper for p in linear])

    def params(self, solution: Solution) -> FloatArray:
        """Give the law's own parameters, [K]."""
        nonlinear = np.exp(solution.logs)
        linear = solution.amplitudes * self.law.amplitudes(nonlinear, self.origin)
        return np.concatenate([linear, nonlinear])

    def grid(self) -> FloatArray:
        """Give the grid, [G, N], as logarithms."""
        axes = [np.linspace(low, high, GRID) for low, high in self.box]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    def scan(self, weights: FloatArray, grid: FloatArray) -> FloatArray:
        """Give the projected objective, [B, G], for weights [B, P] and logarithms [G, N]."""
        columns = self.law.columns(np.exp(grid), self.x, self.origin)
        target = self.y - self.law.offset
        products = np.einsum("gpl,gpm->pglm", columns, columns)
        gram = np.tensordot(weights, products, axes=1)
        right = np.tensordot(weights, np.moveaxis(columns, 1, 0) * target[:, None, None], axes=1)
        size = columns.shape[-1]
        gram = gram + _RIDGE * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] * np.eye(size)
        total = (weights @ target**2)[:, None]
        best = np.full(right.shape[:2], np.inf)
        for free, fixed in _active_sets(*self.bounds):
            linear = np.broadcast_to(fixed, right.shape).copy()
            if free.any():
                rest = right - gram @ fixed
                part = gram[..., free, :][..., free]
                linear[..., free] = np.linalg.solve(part, rest[..., free, None])[..., 0]
            lower, upper = self.bounds
            inside = ((linear >= lower) & (linear <= upper)).all(axis=-1)
            bent = np.einsum("bgl,bglm,bgm->bg", linear, gram, linear)
            value = total - 2 * (linear * right).sum(axis=-1) + bent
            best = np.where(inside & (value < best), value, best)
        return best

    def solve(self, weights: FloatArray, logs: FloatArray) -> Solution:
        """Give the best amplitudes at fixed logarithms [N], exactly and within their bounds."""
        root, (lower, upper) = np.sqrt(weights), self.bounds
        columns = root[:, None] * self.law.columns(np.exp(logs), self.x, self.origin)
        target = root * (self.y - self.law.offset)
        linear: FloatArray = np.linalg.lstsq(columns, target, rcond=None)[0].astype(float)
        if not ((linear >= lower) & (linear <= upper)).all():
            linear = optimize.lsq_linear(columns, target, (lower, upper), method="bvls").x
        residual = columns @ linear - target
        return Solution(linear, logs, float(residual @ residual), residual)

    def polish(self, weights: FloatArray, start: FloatArray, tolerance: float) -> Solution:
        """Descend from logarithms `start` to a local optimum, by weights [P]."""
        root, (lower, upper), box = np.sqrt(weights), self.bounds, self.box
        unit = _UNIT / (float(np.linalg.norm(root * (self.y - self.law.offset))) or 1.0)
        latest: dict[bytes, Solution] = {}

        def solved(logs: FloatArray) -> Solution:
            if (key := logs.tobytes()) not in latest:
                latest.clear()  # residual and Jacobian are asked for at the same place
                latest[key] = self.solve(weights, logs.copy())
            return latest[key]

        def residual(logs: FloatArray) -> FloatArray:
            return np.asarray(unit * solved(logs).residual)

        def jacobian(logs: FloatArray) -> FloatArray:
            linear = solved(logs).amplitudes
            whole = root[:, None] * self.jacobian(solved(logs))
            columns, bent = whole[:, : len(linear)], whole[:, len(linear) :]
            basis = np.linalg.qr(columns[:, (linear > lower) & (linear < upper)])[0]
            return np.asarray(unit * (bent - basis @ (basis.T @ bent)))

        start = np.clip(start, box[:, 0], box[:, 1])
        if solved(start).objective <= _EXACT * float(weights @ self.y**2):
            return solved(start)  # nothing left to descend, and a zero step to divide by
        found = optimize.least_squares(
            residual,
            start,
            jacobian,
            bounds=(box[:, 0], box[:, 1]),
            ftol=tolerance,
            xtol=tolerance,
            gtol=1e-15,
            max_nfev=100,
        )
        return self.solve(weights, found.x)

    def jacobian(self, solution: Solution) -> FloatArray:
        """Give dy/d(amplitudes at the origin, log nonlinear), [P, K]."""
        nonlinear = np.exp(solution.logs)
        slopes = self.law.slopes(nonlinear, self.x, self.origin)
        bent = np.einsum("pln,l->pn", slopes, solution.amplitudes) * nonlinear
        return np.concatenate([self.law.columns(nonlinear, self.x, self.origin), bent], axis=1)

    def at_bound(self, solution: Solution, weights: FloatArray) -> tuple[str, ...]:
        """Name the parameters at the edge of what they can be, or that x cannot tell from it."""
        lower, upper = self.bounds
        scale = 1e-9 * np.maximum(1.0, np.abs(solution.amplitudes))
        edge = (solution.amplitudes <= lower + scale) | (solution.amplitudes >= upper - scale)
        ends = []
        for n, limits in enumerate(self.box):
            moved = [np.where(np.arange(len(self.box)) == n, end, solution.logs) for end in limits]
            there = np.array([self.solve(weights, logs).objective for logs in moved])
            ends.append(_same(there, solution.objective, float(weights @ self.y**2)).any())
        flags = np.concatenate([edge, ends])
        return tuple(n for n, flag in zip(self.law.names, flags, strict=True) if flag)


@dataclass(frozen=True)
class Found:
    """The best optimum, how it was found, and what resamples of whole clusters give."""

    status: str
    params: FloatArray
    draws: FloatArray
    """[draw, K]; rows of NaN where a resample could not be fitted."""
    sum_of_squares: float = np.nan
    agreement: float = np.nan
    starts: int = 0
    condition: float = np.nan
    at_bound: tuple[str, ...] = ()


def _same(objective: FloatArray, best: float, scale: float) -> FloatArray:
    """Which objectives are the best one, to rounding of sums of squares of size `scale`."""
    return np.asarray(objective <= best * (1 + _SAME) + 1e-24 * scale)


def search(
    problem: Problem, weights: FloatArray, member: npt.NDArray[Any], n: int, draws: int, seed: int
) -> Found:
    """Find the best optimum from starts that differ, and bootstrap over n clusters.

    `member` says which cluster each point is of, [P].
    """
    grid = problem.grid()
    # Starts must differ in data too: the best grid points of the data without one cluster.
    without = np.unique(np.linspace(0, n - 1, _STARTS).astype(int)) if n > 1 else np.zeros(0)
    held = np.array([weights, *(weights * (member != c) for c in without)])
    scans = problem.scan(held, grid)
    chosen = [*np.argsort(scans[0])[:_STARTS], *scans[1:].argmin(axis=1)]
    found = [problem.polish(weights, grid[g], _FINE) for g in chosen]
    best = min(found, key=lambda s: s.objective)
    found += [problem.polish(weights, best.logs + shift, _FINE) for shift in (-0.3, 0.3)]
    best = min(found, key=lambda s: s.objective)
    scale = float(weights @ problem.y**2)
    agree = _same(np.array([s.objective for s in found]), best.objective, scale)
    at_bound = problem.at_bound(best, weights)
    jacobian = np.sqrt(weights)[:, None] * problem.jacobian(best)
    norms = np.linalg.norm(jacobian, axis=0)
    condition = float(np.linalg.cond(jacobian / norms)) if norms.all() else np.inf
    params = problem.params(best)
    distinct = len(np.unique(problem.x))
    if distinct <= len(params):
        status, made = "not_identified", np.zeros((0, len(params)))
    else:
        settled = agree.sum() >= 2 and _stationary(best, jacobian, scale)
        status = "at_bound" if at_bound else "converged" if settled else "not_converged"
        made = _bootstrap(problem, weights, member, n, draws, seed)
    return Found(
        status,
        params,
        made,
        best.objective,
        float(agree.mean()),
        len(found),
        condition,
        at_bound,
    )


def _stationary(best: Solution, jacobian: FloatArray, scale: float) -> bool:
    """Whether the residuals stand at right angles to every direction, to 1e-5."""
    if best.objective <= 1e-24 * scale:
        return True
    norms = np.linalg.norm(jacobian, axis=0) * np.sqrt(best.objective)
    return bool((np.abs(jacobian.T @ best.residual) <= 1e-5 * norms).all())


def _bootstrap(
    problem: Problem, weights: FloatArray, member: npt.NDArray[Any], n: int, draws: int, seed: int
) -> FloatArray:
    """Give parameters by draw, [draws, K], or [0, K] where resampling says nothing.

    Equal resamples are solved once: three seeds have ten.
    """
    size = len(problem.law.names)
    if n < 2:
        return np.zeros((0, size))
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    unique, which = np.unique(counts, axis=0, return_inverse=True)
    resampled = unique[:, member] * weights
    grid = problem.grid()
    starts = grid[problem.scan(resampled, grid).argmin(axis=1)]
    made = np.full((len(unique), size), np.nan)
    for i, (row, start) in enumerate(zip(resampled, starts, strict=True)):
        if len(np.unique(problem.x[row > 0])) > size:
            made[i] = problem.params(problem.polish(row, start, _QUICK))
    result = made[which.ravel()]
    return result if np.isfinite(result).all(axis=1).mean() >= 0.5 else np.zeros((0, size))


def _active_sets(lower: FloatArray, upper: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Give every choice of which linear parameters are free and which stand at which bound."""
    choices = [
        [np.nan, *(bound for bound in pair if np.isfinite(bound))]
        for pair in zip(lower, upper, strict=True)
    ]
    for choice in itertools.product(*choices):
        values = np.array(choice)
        yield np.isnan(values), np.nan_to_num(values)
