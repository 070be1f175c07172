"""What a fit minimises: residuals, how they are weighed, and what counts as a likelihood.

Sums, never means: the value of an objective does not depend on how the optimiser scales it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trm_lab.errors import ConfigError
from trm_lab.laws.base import FloatArray

Space = Literal["log", "raw", "count"]

NAMES = {
    "least_squares": "the sum of squared residuals",
    "huber": "Huber's loss of the residuals, quadratic below delta (arXiv 2203.15556)",
    "scaled_huber": "the negative log likelihood of Huber's density with a fitted scale, delta in "
    "its units (arXiv 2404.10102)",
    "student_t": "the negative log likelihood of Student's t with fitted scale and degrees "
    "of freedom",
    "quasi_binomial": "the binomial deviance of k of m; Pearson's dispersion widens the intervals",
    "beta_binomial": "the negative log likelihood of k of m, beta-binomial with a fitted "
    "overdispersion rho",
}
"""Objectives by name, and what each minimises."""
COUNTS = ("quasi_binomial", "beta_binomial")
LIKELIHOODS = ("least_squares", "scaled_huber", "student_t", "beta_binomial")
"""Objectives that are likelihoods, so that AIC, BIC and profiles mean something."""
_EDGE = 1e-12
"""Fractions are kept this far from 0 and 1 inside logarithms."""


@dataclass(frozen=True)
class Objective:
    """An objective: its name, where residuals are taken, and Huber's delta."""

    name: str
    space: Space
    delta: float = 1e-3

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(f"objective: {self.name!r} is not one of {', '.join(NAMES)}")
        if not self.delta > 0:
            raise ConfigError(f"objective {self.name}: delta must be above 0, not {self.delta:g}")

    @property
    def robust(self) -> bool:
        """Whether descent minimises Huber's loss."""
        return self.name in ("huber", "scaled_huber")


def residuals(
    space: Space, f: FloatArray, y: FloatArray, m: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Give the residuals [..., P] of fitted f from data y, and their derivatives by f.

    For counts y is k / m and the residual the signed root of the deviance, whose squares sum to
    twice the log likelihood ratio.  Laws such as `PowerError` can leave [0, 1]: where none were
    solved less than 0 fits as well as 0, so that such rows pull no more; the residuals of others
    go on as straight lines, which lead back.
    """
    if space == "log":
        f = np.maximum(f, 1e-300)
        return np.log(f) - np.log(y), 1 / f
    if space == "raw" or m is None:
        return f - y, np.ones_like(f)
    p = np.clip(f, _EDGE, 1 - _EDGE)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / p), 0.0)
        miss = np.where(y < 1, (1 - y) * np.log(np.where(y < 1, 1 - y, 1) / (1 - p)), 0.0)
    deviance = 2 * m * np.maximum(hit + miss, 0.0)
    r = np.sign(p - y) * np.sqrt(deviance)
    # There the root is all rounding, or nothing: take its limit.
    near = (np.abs(p - y) < 1e-6 * p * (1 - p)) | (r == 0)
    limit = np.sqrt(m / (p * (1 - p)))
    slope = np.where(near, limit, m * (p - y) / (p * (1 - p) * np.where(near, 1.0, r)))
    over = f - np.clip(f, 0.0, 1.0)
    slope = np.where((over < 0) & (y <= 0) | (over > 0) & (y >= 1), 0.0, slope)
    return np.where(near, limit * (p - y), r) + slope * over, slope


def huber(r: FloatArray, delta: float) -> FloatArray:
    """Give Huber's loss: r^2 / 2 up to delta, then linear."""
    size = np.abs(r)
    return np.where(size <= delta, 0.5 * r**2, delta * (size - 0.5 * delta))


def huber_slope(r: FloatArray, delta: float) -> FloatArray:
    """Give the derivative of Huber's loss."""
    return np.clip(r, -delta, delta)
