"""Which parameters the design of the runs can tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trm_lab.fit.problem import Problem
from trm_lab.laws.base import Columns, FloatArray

CONDITION = 1e6
"""Condition number of the slopes, each scaled to length 1, above which rounding decides."""
COLLINEAR = 1e-3
"""Share of the variance of ln x left by the other axes below which an axis is one of them."""
_INFLATED = 100.0
"""Variance against that with all other parameters known, above which it is theirs, not noise."""
_ALONG = 0.99
"""Correlation of the errors of parameters that trade places."""
_AWAY = 1e-3
"""Share of a quantity's slopes along what the rows do not tell that is more than rounding."""
_SILENT = 1e-9
"""Share of the data's size below which moving a parameter by its unit moves nothing."""
ROUNDING = 3e-8
"""Share of the largest singular value of the slopes below which one is nothing but rounding."""
_STILL = 1e-12
"""Range of ln x that is nothing but rounding."""

_OFF = 1e-6
"""Distance in ln x from a diagonal that is nothing but rounding."""


@dataclass(frozen=True)
class Separation:
    """How well parameters are told apart, near an optimum."""

    names: tuple[str, ...]
    """The free parameters."""
    lengths: FloatArray
    """Lengths of their slopes, at least what is silent, [free]."""
    values: FloatArray
    """Singular values of the slopes scaled to length 1, [direction]."""
    directions: FloatArray
    """[direction, free], the last one the worst told."""
    inflation: FloatArray
    """Variance of a parameter against that with all others known, [free]."""
    condition: float
    silent: tuple[str, ...]
    """Parameters that move nothing."""
    entangled: tuple[str, ...]
    """Parameters that the rows cannot tell apart, the silent ones among them."""

    def untold(self, slopes: FloatArray) -> npt.NDArray[np.bool_]:
        """Which quantities of slopes [..., free] move where the rows tell nothing but rounding."""
        scaled = slopes / self.lengths
        away = scaled @ self.directions[self.values * CONDITION <= self.values[:1]].T
        return np.asarray(np.linalg.norm(away, axis=-1) > _AWAY * np.linalg.norm(scaled, axis=-1))


def separation(problem: Problem, u: FloatArray) -> Separation:
    """Judge the rows near u: by their design alone, and by their noise.

    Parameters trade places where the slopes are singular to rounding (`CONDITION`), and where, at
    the noise of the rows, the standard error of an exponent or a shape exceeds the parameter itself
    though it would be a tenth of that or less if the others were known.  A condition number alone
    does not tell: a sound surface of nine parameters has 1,500, and one net at many n and T, where
    alpha phi is nearly all that is told, 800 with errors of twice phi or 30,000 with 50 times phi.
    """
    r, J = problem.residual(u)
    root = np.sqrt(problem.weights)
    slopes = root[:, None] * J
    lengths = np.linalg.norm(slopes, axis=0)
    free = [p for p, moves in zip(problem.law.parameters, problem.free, strict=True) if moves]
    names = np.array([p.name for p in free], dtype=object)
    size = float(np.linalg.norm(root * problem.size(np.arange(len(problem.y)))))
    silent = lengths <= _SILENT * size
    lengths = np.maximum(lengths, _SILENT * size)
    scaled = np.where(silent, 0.0, slopes / lengths)
    _, values, directions = np.linalg.svd(scaled, full_matrices=False)
    spread = directions.T / np.maximum(values, ROUNDING * max(float(values[0]), 1e-300))
    inverse = spread @ spread.T
    inflation = np.diag(inverse)
    condition = np.inf if silent.any() else float(values[0] / max(values[-1], 1e-300))
    entangled = silent.copy()
    if not silent.any():
        # the median takes no notice of the outliers that a robust objective is there for
        noise = 1.4826 * np.median(np.abs(root * r)) * np.sqrt(len(r) / max(len(r) - len(u), 1))
        # logarithms, and what may have either sign, have 1 as their size
        signed = np.array([p.log or p.lower < 0 for p in free])
        own = np.where(signed, 1.0, np.maximum(np.abs(u), 1e-300))
        excess = noise * np.sqrt(inflation) / lengths / own
        lost = (excess > 1) & (inflation > _INFLATED) & np.array([not p.linear for p in free])
        if lost.any():
            worst = int(np.argmax(np.where(lost, excess, 0.0)))
            entangled = inverse[worst] ** 2 > _ALONG**2 * inverse[worst, worst] * inflation
        elif condition > CONDITION:
            entangled = np.abs(directions[-1]) > 0.2
    return Separation(
        tuple(names), lengths, values, directions, inflation, condition,
        tuple(names[silent]), tuple(names[entangled]),
    )  # fmt: skip


def collinear(problem: Problem) -> tuple[str, ...]:
    """Name the scales that the design does not move, or moves as powers of one another."""
    return tuple(dict.fromkeys(name for one in _relations(problem) for name in one.gone))


def off_diagonal(problem: Problem, cells: Columns) -> FloatArray:
    """Give how far in ln x cells [C] are off the diagonal of collinear scales; 0 if by rounding."""
    far = np.zeros(len(next(iter(cells.values()))))
    for one, scales in zip(_relations(problem), problem.law.scales(cells), strict=True):
        rest = one.rest(scales)
        for at, name in enumerate(scales):
            if name in one.gone:
                far = np.maximum(far, np.abs(rest[:, at]))
    return np.where(far > _OFF, far, 0.0)


def told(problem: Problem, names: Sequence[str]) -> str:
    """Say what is wrong with parameters, or with scales of the design."""
    still = [name for one in _relations(problem) for name in one.still if name in names]
    moved = [name for name in names if name not in still]
    texts = []
    if moved:
        texts.append(f"{' and '.join(moved)} cannot be separated by these rows")
    if still:
        do = "do" if len(still) > 1 else "does"
        texts.append(f"{' and '.join(still)} {do} not vary in these rows")
    return ", and ".join(texts)


@dataclass(frozen=True)
class _Relation:
    """How the scales that should move apart do move."""

    middle: FloatArray
    slopes: FloatArray
    """[scale, scale]: every scale as powers of the others, by least squares of ln x."""
    gone: tuple[str, ...]
    still: tuple[str, ...]
    """Those of `gone` that do not vary at all."""

    def rest(self, scales: dict[str, FloatArray]) -> FloatArray:
        """Give what the others leave of every scale, [P, scale]."""
        away = np.stack([*scales.values()], axis=-1) - self.middle
        return np.asarray(away - away @ self.slopes)


def _relations(problem: Problem) -> list[_Relation]:
    result = []
    for scales in problem.law.scales(problem.X):
        logs = np.stack([*scales.values()], axis=-1)
        still = np.ptp(logs, axis=0) <= _STILL
        away = np.where(still, 0.0, logs - logs.mean(axis=0))
        count = len(scales)
        slopes = np.zeros((count, count))
        for i in range(count):
            others = [j for j in range(count) if j != i]
            slopes[others, i] = np.linalg.lstsq(away[:, others], away[:, i])[0]
        rest = away - away @ slopes
        gone = (rest**2).sum(axis=0) <= COLLINEAR * (away**2).sum(axis=0)
        names = np.array([*scales], dtype=object)
        result.append(_Relation(logs.mean(axis=0), slopes, tuple(names[gone]), tuple(names[still])))
    return result
