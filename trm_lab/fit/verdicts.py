"""What the data can tell: separability, floors, bounds, and whether the optimum is one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trm_lab.fit.likelihood import EXTRAS
from trm_lab.fit.problem import Problem
from trm_lab.fit.search import Found, refit
from trm_lab.fit.separation import collinear, separation
from trm_lab.laws import GROUP, Grouped
from trm_lab.laws.base import FloatArray

STATUS = {
    "converged": "independent starts agree, and the gradient vanishes there",
    "not_converged": "starts do not agree, or the best one is no optimum",
    "at_bound": "a parameter stands at the edge of what it can be, or the curve is flat",
    "floor_not_identified": "the data do not tell the floor from 0",
    "not_separable": "the design cannot tell some parameters apart",
    "not_identified": "no more distinct rows than parameters, in all or in one group",
    "too_few_points": "fewer than two distinct rows",
    "all_zero": "every y is 0: nothing was learned, so nothing is fitted",
}
"""What a fit says of itself, and why."""
_CHI2 = 3.84
_NOTHING = 1e-3
"""Share of a floor that its interval's lower end must exceed: a descent ends near 0, not on it."""
ZERO = 1e-12
"""Share of the data's size below which a floor, or its interval's end, is nothing but rounding."""
_LEVEL = 1e-9
"""Share of the curve's size below which it does not change, and size of an exponent of 0."""
_STEEP = 1e-3
"""Largest cosine of the gradient at what is called an optimum."""
AGREE = 0.5
"""Share of starts below which a fit is not called converged."""


@dataclass(frozen=True)
class Verdict:
    """What holds of a fit."""

    condition: float
    at_bound: tuple[str, ...]
    entangled: tuple[str, ...]
    """Parameters that the design cannot tell apart."""
    collinear: tuple[str, ...]
    """Scales that do not vary, or that the others determine."""
    floors: tuple[str, ...]
    """Floors that are not told from 0."""
    gradient: float
    """Largest cosine between the residuals and a direction, 0 at an optimum."""
    agreement: float = np.nan
    """Share of starts that reached the best optimum."""
    hopeless: str = ""
    """The status of rows that tell too little to speak of anything else."""
    flat: bool = False
    """Whether the fitted curve does not change with x, in one group at least."""

    @property
    def status(self) -> str:
        """The gravest of the verdicts."""
        if self.hopeless:
            return self.hopeless
        if self.entangled or self.collinear:
            return "not_separable"
        if self.floors:
            return "floor_not_identified"
        if self.at_bound or self.flat:
            return "at_bound"
        if self.agreement < AGREE or self.gradient > _STEEP:
            return "not_converged"
        return "converged"


def nothing(status: str) -> Verdict:
    """Give the verdict on rows that were not fitted."""
    return Verdict(np.nan, (), (), (), (), np.nan, hopeless=status)


def judge(problem: Problem, found: Found) -> Verdict:
    """Judge a fit."""
    u = found.u
    r, J = problem.residual(u)
    apart = separation(problem, u)
    at_bound = _at_bound(problem, u)
    entangled = apart.entangled
    if at_bound and apart.silent:
        entangled = ()  # an amplitude of 0 silences what it scales
    columns = collinear(problem)
    flat = _flat(problem, u)
    if flat and not at_bound and not entangled:  # exponents of 0, where they may have either sign
        at_bound = tuple(n for n, value in zip(apart.names, u, strict=True) if abs(value) <= _LEVEL)
    floors = _floors(problem, found)
    gradient = _gradient(problem, found, r, J)
    hopeless = "not_identified" if tightest(problem).spare <= 0 else ""
    return Verdict(
        apart.condition, at_bound, entangled, columns, floors, gradient, found.agreement,
        hopeless, flat,
    )  # fmt: skip


def with_interval(
    verdict: Verdict,
    names: tuple[str, ...],
    lower: FloatArray,
    estimate: FloatArray,
    *,
    floors: Sequence[str] = (),
    size: float = 0.0,
    resampled: bool = True,
) -> Verdict:
    """Give the verdict with floors judged by the interval that is reported.

    One of `floors`, those that were fitted, whose interval reaches 0 is not told from it; `size`
    is that of the data.  One that the test of a floor did not tell from 0 is told after all where
    resampled clusters say so: the test takes rows as independent, and what clusters share is no
    noise of theirs.
    """
    least = np.maximum(_NOTHING * estimate, ZERO * size)
    low = {n for n, end, at in zip(names, lower, least, strict=True) if n in floors and end <= at}
    clear = {n for n, end, at in zip(names, lower, least, strict=True) if resampled and end > at}
    unclear = low | (set(verdict.floors) - clear)
    return replace(verdict, floors=tuple(n for n in names if n in unclear))


@dataclass(frozen=True)
class Count:
    """Distinct rows, and the parameters that they have to tell."""

    distinct: int
    free: int
    group: str = ""
    """The group whose rows and own parameters these are; empty for all rows."""

    @property
    def spare(self) -> int:
        """How many more rows than parameters there are."""
        return self.distinct - self.free


def tightest(problem: Problem, rows: npt.NDArray[np.bool_] | None = None) -> Count:
    """Count distinct rows and free parameters, of all or of the group that has fewest to spare."""
    counts = [Count(distinct_rows(problem, rows), int(problem.free.sum()))]
    if isinstance(problem.law, Grouped):
        everyone = np.ones(len(problem.y), dtype=np.bool_) if rows is None else rows
        for g, own in enumerate(problem.law.alone):
            here = everyone & (problem.X[GROUP] == g)
            if own:
                counts.append(Count(distinct_rows(problem, here), own, problem.law.groups[g]))
    return min(counts, key=lambda one: one.spare)


def distinct_rows(problem: Problem, rows: npt.NDArray[np.bool_] | None = None) -> int:
    """Count different places in the design: what parameters can be told from.

    The same x in two groups are two where groups have parameters of their own.
    """
    apart = isinstance(problem.law, Grouped) and any(problem.law.alone)
    names = [*problem.law.columns_read, *([GROUP] * apart)]
    places = np.stack([problem.X[name] for name in names])
    return int(np.unique(places if rows is None else places[:, rows], axis=1).shape[1])


def _at_bound(problem: Problem, u: FloatArray) -> tuple[str, ...]:
    lower, upper = problem.bounds
    names = [n for n, free in zip(problem.law.names, problem.free, strict=True) if free]
    size = 1e-7 * np.maximum(1.0, np.abs(u))
    edge = (u <= lower + size) | (u >= upper - size)
    flat = []
    scanned = problem.encode_box()
    moving = [p for p, free in zip(problem.law.parameters, problem.free, strict=True) if free]
    for at, parameter in enumerate(moving):
        low, high = scanned[at]
        under = (parameter.log or parameter.lower == 0) and u[at] <= low + 1e-9
        flat.append(bool(edge[at] or under or (parameter.log and u[at] >= high - 1e-9)))
    return tuple(n for n, flag in zip(names, flat, strict=True) if flag)


def _flat(problem: Problem, u: FloatArray) -> bool:
    """Whether the curve is a constant, to rounding, over all rows or over those of one group."""
    params, _ = problem.decode(u)
    f, _ = problem.law.centred(params, problem.X, problem.centre)
    group = problem.X.get(GROUP, np.zeros(len(f)))
    parts = [f[group == g] for g in np.unique(group)]
    return any(float(np.ptp(one)) <= _LEVEL * float(np.abs(one).max()) for one in parts)


def free_floors(problem: Problem) -> list[str]:
    """Name the floors of losses that are fitted: one, or one per group."""
    law = problem.law
    name = (law.law if isinstance(law, Grouped) else law).floor_name
    free = [n for n, moves in zip(law.names, problem.free, strict=True) if moves]
    return [n for n in free if name and (n == name or n.startswith(f"{name}["))]


def _floors(problem: Problem, found: Found) -> tuple[str, ...]:
    """Name the floors that cost no more than chance would when each is held at 0."""
    law = problem.law
    low = []
    for one in free_floors(problem):
        without = Problem(
            law.hold(**{one: 0.0}),
            problem.X,
            problem.y,
            problem.weights,
            problem.objective,
            problem.m,
        )
        keep = np.array(
            [n != one for n, moves in zip(law.names, problem.free, strict=True) if moves]
        )
        start = np.clip(found.u[keep], *without.bounds)
        if without.centre != problem.centre:
            start = without.from_own(problem.own(found.u))
        value = objective_at(without, refit(without, start, without.weights))
        rows = len(problem.y) - len(found.u)
        if problem.objective.name in EXTRAS:
            lost = 2 * (value - found.value)
        elif problem.objective.space == "count":
            lost = value - found.value
        else:
            lost = (value / found.value - 1) * max(rows, 1) if found.value > 0 else np.inf
        squares = problem.objective.name not in EXTRAS
        exact = squares and value <= 1e-24 * max(len(problem.y), 1)
        if lost < _CHI2 or exact:
            low.append(one)
    return tuple(low)


def objective_at(problem: Problem, u: FloatArray) -> float:
    """Give the objective at coordinates, with its own parameters at their best."""
    if problem.objective.name in EXTRAS:
        from trm_lab.fit.likelihood import maximise

        return maximise(problem, u).nll
    return problem.value(u)


def _gradient(problem: Problem, found: Found, r: FloatArray, J: FloatArray) -> float:
    """Give how far the residuals are from standing at right angles to every free direction."""
    objective = problem.objective
    if objective.name in EXTRAS or (r @ r) <= 1e-24 * len(r):
        return 0.0
    pull = np.clip(r, -objective.delta, objective.delta) if objective.robust else r
    w = problem.weights
    lower, upper = problem.bounds
    size = 1e-7 * np.maximum(1.0, np.abs(found.u))
    inside = (found.u > lower + size) & (found.u < upper - size)
    along = np.abs(J[:, inside].T @ (w * pull))
    norms = np.linalg.norm(np.sqrt(w)[:, None] * J[:, inside], axis=0)
    length = float(np.sqrt(w @ pull**2))
    return float((along / np.maximum(norms * length, 1e-300)).max(initial=0.0))
