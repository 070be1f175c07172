"""Covariances of a fit's coordinates: from the curvature of its objective, or from its clusters."""

import numpy as np
import numpy.typing as npt
from scipy import special

from trm_lab.fit.likelihood import EXTRAS, hessian, negative
from trm_lab.fit.objectives import huber_slope
from trm_lab.fit.problem import Problem
from trm_lab.fit.separation import CONDITION
from trm_lab.laws.base import FloatArray


def curvature(problem: Problem, u: FloatArray, extras: FloatArray) -> tuple[FloatArray, int]:
    """Give the model's covariance of the coordinates, [free, free], and degrees of freedom.

    Inverse observed information for likelihoods; for least squares and Huber, scaled or not, the
    `noise` times the inverse of J'J; for quasi-binomial times Pearson's dispersion, at least 1.
    """
    r, J = problem.residual(u)
    w = problem.weights
    df = len(r) - len(u)
    name = problem.objective.name
    if name in EXTRAS and name != "scaled_huber":
        lower, upper = problem.bounds
        inner = special.logit(extras) if name == "beta_binomial" else np.log(extras)
        low = np.array([*lower, *np.full(len(extras), -60.0)])
        high = np.array([*upper, *np.full(len(extras), 60.0)])
        H = hessian(negative(problem), np.array([*u, *inner]), low, high)
        bent = np.diag(H)[len(u) :] > 1e-3  # a flat extra, such as rho at 0, is known by its bound
        keep = np.flatnonzero(np.concatenate([np.ones(len(u), dtype=bool), bent]))
        told, lost = _inverse(H[np.ix_(keep, keep)])
        return np.asarray((told + lost)[: len(u), : len(u)]), df
    told, lost = _inverse((J * w[:, None]).T @ J)
    scale = float(extras[0]) if name == "scaled_huber" else 1.0
    return np.asarray(noise(problem, u, scale) * (told + lost)), df


def noise(problem: Problem, u: FloatArray, scale: float = 1.0) -> float:
    """Give the variance of residuals; of counts Pearson's dispersion, which is at least 1.

    For Huber's loss, with delta in units of `scale`, it is what stands in its place: the variance
    of the pull over the square of the mean bend (Huber 1981, Robust Statistics, equation 7.6.2).
    """
    if problem.m is not None:
        return max(dispersion(problem, u), 1.0)
    r, _ = problem.residual(u)
    pull, bend = _slopes(problem, r, scale)
    spread = float(problem.weights @ pull**2) / max(len(r) - len(u), 1)
    return spread / float(np.average(bend, weights=problem.weights)) ** 2


def dispersion(problem: Problem, u: FloatArray) -> float:
    """Give Pearson's chi-square over its degrees of freedom; NaN where there are no counts."""
    if problem.m is None:
        return float("nan")
    params, _ = problem.decode(u)
    p = np.clip(problem.law.centred(params, problem.X, problem.centre)[0], 1e-12, 1 - 1e-12)
    score = problem.weights @ (problem.m * (problem.y - p) ** 2 / (p * (1 - p)))
    return float(score / max(len(p) - len(u), 1))


def sandwich(problem: Problem, u: FloatArray, member: npt.NDArray[np.intp], n: int) -> FloatArray:
    """Give the cluster-robust covariance of the coordinates, [free, free] (CR1).

    Clusters do not differ in what no row tells, which is no certainty: there `curvature` stands.
    """
    r, J = problem.residual(u)
    w, (pull, bend) = problem.weights, _slopes(problem, r)
    bread, lost = _inverse((J * (w * bend)[:, None]).T @ J)
    scores = np.zeros((n, len(u)))
    np.add.at(scores, member, J * (w * pull)[:, None])
    rows = len(r)
    correction = n / max(n - 1, 1) * (rows - 1) / max(rows - len(u), 1)
    return np.asarray(correction * bread @ (scores.T @ scores) @ bread + noise(problem, u) * lost)


def _slopes(problem: Problem, r: FloatArray, scale: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Give the first and second derivative of the loss at residuals [row].

    Of Huber's loss the second is what rows about 0 have on average.  Few lie within a small delta,
    where the loss is nearly the absolute value: how many would is told by a window of the width
    that suits a median (Hall and Sheather 1988, for 95 %; Koenker 2005, Quantile Regression, 3.4).
    Of a dozen rows it holds nearly all, which makes intervals too wide.
    """
    if not problem.objective.robust:
        return r, np.ones_like(r)
    delta = scale * problem.objective.delta
    z, peak = special.ndtri(0.975), 1 / np.sqrt(2 * np.pi)
    share = 2 * (1.5 * (z * peak) ** 2 / len(r)) ** (1 / 3)
    window = max(delta, float(np.quantile(np.abs(r), min(1.0, share))))
    return huber_slope(r, delta), np.asarray((np.abs(r) <= window) * (delta / window))


def _inverse(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Invert a symmetric matrix: what the data tell, and what they do not tell but for rounding.

    The second, to be added, is a huge variance, not a tiny one.
    """
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-200))  # 1e-300 would overflow
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    most = max(float(values.max()), 1e-300)
    told = values > most / CONDITION**2
    root = vectors / np.sqrt(np.where(told, values, 1e-14 * most)) / scale[:, None]
    return root[:, told] @ root[:, told].T, root[:, ~told] @ root[:, ~told].T
