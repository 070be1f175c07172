"""Where to begin: the projected objective over a grid of the nonlinear parameters.

For every value of the nonlinear parameters the best linear ones are found exactly within their
bounds (variable projection, Golub & Pereyra 1973).  G grid points, P rows, L linear and N nonlinear
parameters.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trm_lab.fit.many import sums
from trm_lab.fit.problem import Problem
from trm_lab.laws.base import FloatArray

_GRID = {0: 1, 1: 64, 2: 1024, 3: 2048, 4: 4096}
_MOST_GRID = 8192
_CHUNK = 256
_KEEP = 4_000_000
"""Numbers of the scan's designs that are kept for the next scan: 32 MB."""
_RIDGE = 1e-13
"""Relative; keeps the scan's normal equations solvable where two columns coincide."""


@dataclass(frozen=True)
class Scan:
    """The grid of a problem."""

    problem: Problem

    @cached_property
    def grid(self) -> FloatArray:
        """Nonlinear parameters to try, [G, N]."""
        low, high = self.problem.box[:, 0], self.problem.box[:, 1]
        moving = np.flatnonzero(low < high)
        count = _GRID.get(len(moving), _MOST_GRID)
        if len(moving) == 2:
            side = np.linspace(0, 1, 32)
            unit = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
        elif len(moving) == 1:
            unit = np.linspace(0, 1, count)[:, None]
        else:
            unit = _spread(count, len(moving))
        result = np.broadcast_to(low, (len(unit), len(low))).copy()
        for at, column in zip(moving, unit.T, strict=True):
            if low[at] > 0:
                result[:, at] = np.exp(np.log(low[at]) + column * np.log(high[at] / low[at]))
            else:
                result[:, at] = low[at] + column * (high[at] - low[at])
        return result

    @cached_property
    def _inside(self) -> FloatArray:
        """The data, [P]; of counts with half a success and half a failure more: not 0 or 1."""
        y, m = self.problem.y, self.problem.m
        return y if m is None else (y * m + 0.5) / (m + 1)

    @cached_property
    def _relative(self) -> FloatArray:
        """Weights under which plain least squares of y resembles the objective, [P]."""
        if self.problem.objective.space == "log":
            return 1 / self.problem.y**2
        if self.problem.m is not None:
            return self.problem.m / (self._inside * (1 - self._inside))
        return np.ones_like(self.problem.y)

    def candidates(self, weights: FloatArray, count: int) -> list[FloatArray]:
        """Give the free coordinates of at most `count` good and different places."""
        w = weights * self._relative
        rows = weights > 0
        part = {name: values[rows] for name, values in self.problem.X.items()}
        y = self._inside[rows]
        given = self.problem.law.candidates(part, y, w[rows] * y**2)
        if given is not None:
            places = [self.problem.encode(one) for one in given]
            if not places:
                return []
            order = np.argsort(sums(self.problem, np.stack(places), weights))
            return [places[i] for i in order[:count]]
        values, linear = self._project(w)
        chosen: list[int] = []
        unit = np.ptp(np.log(np.maximum(np.abs(self.grid), 1e-12)), axis=0)
        logs = np.log(np.maximum(np.abs(self.grid), 1e-12)) / np.where(unit > 0, unit, 1)
        for g in np.argsort(values):
            if not np.isfinite(values[g]) or len(chosen) == count:
                break
            near = [np.abs(logs[g] - logs[c]).max(initial=0.0) < 0.08 for c in chosen]
            if not any(near):
                chosen.append(int(g))
        return [self.problem.encode(np.concatenate([linear[g], self.grid[g]])) for g in chosen]

    @cached_property
    def _kept_designs(self) -> list[FloatArray]:
        return list(self._make_designs())

    def _make_designs(self) -> Iterator[FloatArray]:
        for at in range(0, len(self.grid), _CHUNK):
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                yield self.problem.law.columns(
                    self.grid[at : at + _CHUNK], self.problem.X, self.problem.centre
                )

    def _designs(self) -> Iterable[FloatArray]:
        """Give the designs of the grid by chunks; kept where they are small enough to keep."""
        size = len(self.grid) * len(self.problem.y) * self.problem.law.linear
        return self._kept_designs if size <= _KEEP else self._make_designs()

    def _project(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give the projected sum of squares [G] and linear parameters [G, L] for weights [P]."""
        target = self.problem.y - self.problem.law.offset
        parameters = self.problem.law.parameters[: self.problem.law.linear]
        lower = np.array([p.lower for p in parameters])
        upper = np.array([p.upper for p in parameters])
        values, found = [], []
        for columns in self._designs():
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                turned = np.swapaxes(columns, -1, -2)
                gram = (turned * w) @ columns
                right = turned @ (w * target)
            good = np.isfinite(gram).all(axis=(-1, -2)) & np.isfinite(right).all(axis=-1)
            gram[~good], right[~good] = np.eye(len(lower)), 0.0
            size = len(lower)
            ridge = _RIDGE * np.trace(gram, axis1=-2, axis2=-1)[:, None, None] + 1e-300
            gram = gram + ridge * np.eye(size)
            best = np.full(len(right), np.inf)
            kept = np.zeros_like(right)
            for free, fixed in _active_sets(lower, upper):
                linear = np.broadcast_to(fixed, right.shape).copy()
                if free.any():
                    rest = right - gram @ fixed
                    solved = np.linalg.solve(gram[:, free][:, :, free], rest[:, free, None])
                    linear[:, free] = solved[..., 0]
                inside = ((linear >= lower) & (linear <= upper)).all(axis=-1)
                bent = np.einsum("gl,glm,gm->g", linear, gram, linear)
                value = float(w @ target**2) - 2 * (linear * right).sum(axis=-1) + bent
                better = inside & (value < best)
                best = np.where(better, value, best)
                kept = np.where(better[:, None], linear, kept)
            values.append(np.where(good, best, np.inf))
            found.append(kept)
        return np.concatenate(values), np.concatenate(found)


def _active_sets(lower: FloatArray, upper: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Give every choice of which linear parameters are free and which stand at which bound."""
    choices = [
        [low] if low == high else [np.nan, *(bound for bound in (low, high) if np.isfinite(bound))]
        for low, high in zip(lower, upper, strict=True)
    ]
    for choice in itertools.product(*choices):
        values = np.array(choice, dtype=float)
        yield np.isnan(values), np.nan_to_num(values)


def _spread(count: int, dims: int) -> FloatArray:
    """Give points that fill the unit cube evenly, [count, dims] (Roberts' R sequence)."""
    if dims == 0:
        return np.zeros((1, 0))
    phi = 2.0
    for _ in range(60):
        phi = (1 + phi) ** (1 / (dims + 1))
    steps = (1 / phi) ** np.arange(1, dims + 1)
    return np.asarray((0.5 + np.arange(count)[:, None] * steps) % 1)
