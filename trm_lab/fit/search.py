"""Finding the optimum, and saying how sure one may be of it.

Starts differ in data too: optima of resamples, because starts from one scan of the same rows can
all fall into one basin (`docs/laws.md`, 24 rows of Gemstones).  Huber's loss is approached through
wider ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from trm_lab.fit import many
from trm_lab.fit.clusters import resample
from trm_lab.fit.likelihood import EXTRAS, Likely, climb, maximise
from trm_lab.fit.problem import FINE, QUICK, ROUGH, Problem
from trm_lab.fit.scan import Scan
from trm_lab.laws import GROUP, Grouped
from trm_lab.laws.base import FloatArray

SCANNED, FIRST, MOST = 6, 8, 24
"""Starts from the scan of all rows; from resamples; and from resamples where those disagree."""
_BRIEF, _LONG = 60, 3000
"""Evaluations that a start may take, and the descent from the best of them."""
_NEAR = 1e-2
_SHORT, _STEPS, _LAST = 4, 60, 1
"""Starts of each kind in the short search of a back-test, steps of each, and how many go on."""
SAME = 1e-6
"""Objectives that differ by less than this share are the same optimum."""


End = tuple[FloatArray, float, FloatArray]
"""Coordinates, the objective there, and the likelihood's own parameters."""


@dataclass(frozen=True)
class Found:
    """The best optimum and the ways to it."""

    u: FloatArray
    value: float
    """The objective; minus the log likelihood where it is one with parameters of its own."""
    extras: FloatArray
    starts: FloatArray
    """Objective that every start reached."""
    places: FloatArray
    """Coordinates that every start reached, [start, free]."""

    @property
    def agreement(self) -> float:
        """Share of starts that reach the best optimum."""
        return float(same(self.starts, self.value).mean())


def same(values: FloatArray, best: float) -> npt.NDArray[np.bool_]:
    """Which objectives are the best one."""
    return np.asarray(values <= best + SAME * abs(best) + 1e-24)


def search(
    problem: Problem, member: npt.NDArray[np.intp], n: int, seed: int, most: int = MOST
) -> Found:
    """Search from the scan of all rows and from at most `most` resamples of the n clusters."""
    rng = np.random.default_rng([seed, 1])
    starts: Callable[[FloatArray], list[FloatArray]]
    if isinstance(problem.law, Grouped):
        groups = _Groups(problem, problem.law)
        first, starts = groups.first(member, seed, most), groups.candidates
    else:
        scan = Scan(problem)
        first, starts = scan.candidates(problem.weights, SCANNED), partial(_one, scan)
    squares = [problem.descend(u, tolerance=ROUGH, most=_BRIEF) for u in first]
    ends = [_finish(problem, u) for u in _distinct([(s.u, s.value) for s in squares])]
    for batch in (min(FIRST, most), max(most - FIRST, 0)):
        for _ in range(batch):
            chosen = resample(rng, member, n, problem.X.get(GROUP), 1)[0]
            weights = chosen[member] * problem.weights
            for u in starts(weights):
                end = problem.descend(u, weights, tolerance=ROUGH, most=_BRIEF)
                ends.append(_finish(problem, end.u))
        values = np.array([value for _, value, _ in ends])
        if len(ends) and same(values, values.min()).all():
            break
    if not ends:
        empty = np.zeros(0)
        return Found(
            np.full(int(problem.free.sum()), np.nan), np.nan, empty, empty, np.zeros((0, 0))
        )
    ends = _settle(problem, ends)
    best = min(ends, key=lambda end: end[1])
    for shift in (-0.05, 0.05):
        again = _finish(problem, np.clip(best[0] * (1 + shift), *problem.bounds), fine=True)
        ends.append(again)
        best = min(best, again, key=lambda end: end[1])
    values, places = np.array([end[1] for end in ends]), np.array([end[0] for end in ends])
    return Found(best[0], best[1], best[2], values, places)


def _one(scan: Scan, weights: FloatArray) -> list[FloatArray]:
    return scan.candidates(weights, 1)


def _settle(problem: Problem, ends: list[End]) -> list[End]:
    """Descend on from the best place, and from those so near that they may be the same optimum."""
    order = np.argsort([value for _, value, _ in ends])
    best = _finish(problem, ends[order[0]][0], fine=True)
    settled = [best]
    for at in order[1:]:
        end = ends[at]
        near = end[1] <= best[1] + _NEAR * abs(best[1])
        if near and not same(np.array([end[1]]), best[1])[0]:
            end = _along(problem, end)
            if end[1] < best[1]:
                end = best = _finish(problem, end[0], fine=True)
        settled.append(end)
    return settled


def _along(problem: Problem, end: End) -> End:
    """Follow a flat valley from an end of the search to where it stops gaining.

    Curvature is what a valley needs: steps that linearise residuals creep there, and take ten times
    as long.
    """
    if problem.objective.name in EXTRAS:
        return _finish(problem, end[0], fine=True)
    size = max(abs(end[1]), np.finfo(float).tiny)

    def relative(u: FloatArray) -> tuple[float, FloatArray]:
        value, slope = problem.gradient(u)
        return value / size, slope / size

    u, value = climb(relative, end[0], *problem.bounds)
    return u, value * size, np.zeros(0)


def estimate(problem: Problem) -> FloatArray | None:
    """Give the law's own parameters at the best optimum of a short search, for many fits.

    None where the rows cannot tell the parameters.
    """
    rng = np.random.default_rng(1)
    n = len(problem.y)
    names = problem.law.columns_read
    distinct = np.unique(np.stack([problem.X[name] for name in names]), axis=1).shape[1]
    if distinct < int(problem.free.sum()):
        return None
    scan = Scan(problem)
    starts = scan.candidates(problem.weights, _SHORT)
    drawn = [
        (u, weights)
        for weights in rng.multinomial(n, np.full(n, 1 / n), size=_SHORT) * problem.weights
        for u in scan.candidates(weights, 1)
    ]
    together = problem.objective.name == "least_squares" and problem.law.linear > 0
    if not together:  # M4's valleys are too flat for the plain steps that many starts take
        starts += [problem.descend(u, weights, tolerance=ROUGH, most=30).u for u, weights in drawn]
    elif drawn:
        places, under = (np.stack(one) for one in zip(*drawn, strict=True))
        starts += list(many.descend(problem, places, under, _STEPS))
    if not starts:
        return None
    if together:
        every = np.broadcast_to(problem.weights, (len(starts), n))
        places = many.descend(problem, np.stack(starts), every, _STEPS)
        order = np.argsort(many.sums(problem, places, every))
        ends = [_finish(problem, places[i], most=100) for i in order[:_LAST]]
        return problem.own(min(ends, key=lambda end: end[1])[0])
    ends = [_finish(problem, u, most=30, tolerance=1e-7) for u in starts]
    best = min(ends, key=lambda end: end[1])
    return problem.own(_finish(problem, best[0], most=100)[0])


def refit(problem: Problem, u: FloatArray, weights: FloatArray) -> FloatArray:
    """Give the coordinates of the optimum for other weights, from a warm start."""
    objective = problem.objective
    if objective.name in EXTRAS:
        return maximise(problem, u, weights).u
    delta = objective.delta if objective.robust else None
    return problem.descend(u, weights, delta=delta, tolerance=QUICK, most=100).u


def _finish(
    problem: Problem, u: FloatArray, *, fine: bool = False, most: int = 0, tolerance: float = 0.0
) -> End:
    """Minimise the objective itself: give coordinates, its value and extras."""
    objective = problem.objective
    most = most or (_LONG if fine else _BRIEF)
    tolerance = tolerance or (FINE if fine else QUICK)
    if objective.name in ("scaled_huber", "student_t"):
        u = _through(problem, u, 1e-3, QUICK)
    if objective.name in EXTRAS:
        found: Likely = maximise(problem, u)
        return found.u, found.nll, found.extras
    if objective.robust:
        u = u if fine else _through(problem, u, objective.delta * 10, ROUGH)
        end = problem.descend(u, delta=objective.delta, tolerance=tolerance, most=most)
        return end.u, end.value, np.zeros(0)
    end = problem.descend(u, tolerance=tolerance, most=most)
    return end.u, end.value, np.zeros(0)


def _through(problem: Problem, u: FloatArray, delta: float, tolerance: float) -> FloatArray:
    """Descend by Huber's loss from a wide delta down to `delta`, by factors of 10."""
    wide = 1e-2
    while wide > delta * 1.0001:
        u = problem.descend(u, delta=wide, tolerance=ROUGH).u
        wide /= 10
    return problem.descend(u, delta=delta, tolerance=tolerance).u


def _distinct(ends: list[tuple[FloatArray, float]]) -> list[FloatArray]:
    """Give one place per optimum."""
    kept: list[tuple[FloatArray, float]] = []
    for u, value in sorted(ends, key=lambda end: end[1]):
        if not any(
            abs(value - v) <= 1e-9 * abs(v) + 1e-30 and np.allclose(u, w, rtol=1e-4, atol=1e-6)
            for w, v in kept
        ):
            kept.append((u, value))
    return [u for u, _ in kept]


@dataclass(frozen=True)
class _Groups:
    """Starts of a joint fit: every group alone, then the means of what they share."""

    problem: Problem
    law: Grouped

    @cached_property
    def parts(self) -> list[tuple[npt.NDArray[np.bool_], Scan]]:
        """The rows of every group, and the scan of its own problem."""
        whole, found = self.problem, []
        for g in range(len(self.law.groups)):
            rows = whole.X[GROUP] == g
            part = Problem(
                self.law.law,
                {name: values[rows] for name, values in whole.X.items()},
                whole.y[rows],
                whole.weights[rows],
                whole.objective,
                None if whole.m is None else whole.m[rows],
            )
            found.append((rows, Scan(part)))
        return found

    def first(self, member: npt.NDArray[np.intp], seed: int, most: int) -> list[FloatArray]:
        """Search every group alone: the means, and what each group says of what they share."""
        found = []
        for rows, scan in self.parts:
            _, local = np.unique(member[rows], return_inverse=True)
            part = scan.problem
            found.append(part.own(search(part, local, int(local.max()) + 1, seed, most).u))
        means, spread = self._means(found)
        starts = [means, *(np.where(self._shared, one, means) for one in spread)]
        return [self.problem.from_own(start) for start in starts]

    def candidates(self, weights: FloatArray) -> list[FloatArray]:
        """Give one start from resampled rows; none where a group has too few of them."""
        found = []
        for rows, scan in self.parts:
            places = scan.candidates(weights[rows], 1) if weights[rows].any() else []
            if not places:
                return []
            part = scan.problem
            end = part.descend(places[0], weights[rows], tolerance=ROUGH, most=_BRIEF)
            found.append(part.own(end.u))
        return [self.problem.from_own(self._means(found)[0])]

    @cached_property
    def _shared(self) -> npt.NDArray[np.bool_]:
        return np.array([len(members) > 1 for _, members in self.law.layout])

    def _means(self, found: list[FloatArray]) -> tuple[FloatArray, list[FloatArray]]:
        """Give the joint parameters: their means over groups, and as each group has them."""
        places = self.law.places.astype(int)
        total, count = np.zeros(len(self.law.names)), np.zeros(len(self.law.names))
        spread = []
        for row, params in zip(places, found, strict=True):
            total[row] += params
            count[row] += 1
        for params in found:
            one = np.zeros(len(total))
            for row in places:
                one[row] = params
            spread.append(one)
        return total / count, spread
