"""Likelihoods with parameters of their own: a scale, degrees of freedom, an overdispersion.

Curvature is always differentiated from analytic gradients; an optimiser's running estimate of it
covers 64-76 % where 95 % is asked (`docs/laws.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from trm_lab.fit.objectives import huber, huber_slope
from trm_lab.fit.problem import QUICK, Problem
from trm_lab.laws.base import FloatArray

Gradient = Callable[[FloatArray], tuple[float, FloatArray]]

EXTRAS = {
    "scaled_huber": ("scale",),
    "student_t": ("scale", "nu"),
    "beta_binomial": ("rho",),
}
"""Parameters of the likelihood beside the law's, searched by logarithm (rho by logit)."""
_SCALES = (-40.0, 40.0)
_NU = (np.log(0.2), np.log(200.0))
_RHO = (-18.0, 5.0)


@dataclass(frozen=True)
class Likely:
    """A maximum of a likelihood."""

    u: FloatArray
    extras: FloatArray
    """In their own units."""
    nll: float
    """Minus the log likelihood."""


def negative(problem: Problem, weights: FloatArray | None = None) -> Gradient:
    """Give minus the log likelihood and its gradient over (coordinates, transformed extras)."""
    w = problem.weights if weights is None else weights
    free = int(problem.free.sum())
    name = problem.objective.name

    def student_t(at: FloatArray) -> tuple[float, FloatArray]:
        r, J = problem.residual(at[:free])
        s, nu = np.exp(at[free]), np.exp(at[free + 1])
        z2 = (r / s) ** 2
        log = np.log1p(z2 / nu)
        norm = special.gammaln(nu / 2) - special.gammaln((nu + 1) / 2) + 0.5 * np.log(nu * np.pi)
        value = w @ (norm + np.log(s) + 0.5 * (nu + 1) * log)
        pull = (nu + 1) * (r / s**2) / (nu + z2)
        by_s = w @ (1 - pull * r)
        half = special.digamma(nu / 2) - special.digamma((nu + 1) / 2)
        by_nu = w @ (0.5 * half + 0.5 / nu + 0.5 * log - 0.5 * (nu + 1) * z2 / (nu * (nu + z2)))
        return float(value), np.array([*(J.T @ (w * pull)), by_s, nu * by_nu])

    def scaled_huber(at: FloatArray) -> tuple[float, FloatArray]:
        r, J = problem.residual(at[:free])
        s, delta = np.exp(at[free]), problem.objective.delta
        value = w @ (huber(r / s, delta) + np.log(huber_norm(delta)) + np.log(s))
        pull = huber_slope(r / s, delta)
        by_s = w @ (1 - pull * r / s)
        return float(value), np.array([*(J.T @ (w * pull / s)), by_s])

    def beta_binomial(at: FloatArray) -> tuple[float, FloatArray]:
        if problem.m is None:
            raise TypeError("beta_binomial needs counts")
        params, slopes = problem.decode(at[:free])
        f, J = problem.law.centred(params, problem.X, problem.centre)
        p = np.clip(f, 1e-12, 1 - 1e-12)
        rho = special.expit(at[free])
        m, k = problem.m, problem.y * problem.m
        total = (1 - rho) / rho
        a, b = p * total, (1 - p) * total
        value = -(
            special.gammaln(k + a) - special.gammaln(a)
            + special.gammaln(m - k + b) - special.gammaln(b)
            + special.gammaln(total) - special.gammaln(m + total)
            + special.gammaln(m + 1) - special.gammaln(k + 1) - special.gammaln(m - k + 1)
        )  # fmt: skip
        by_a = special.digamma(k + a) - special.digamma(a)
        by_b = special.digamma(m - k + b) - special.digamma(b)
        by_total = special.digamma(total) - special.digamma(m + total)
        by_p = np.where((f < 0) | (f > 1), 0.0, -total * (by_a - by_b))  # where p is cut off
        by_rho = -(p * by_a + (1 - p) * by_b + by_total) * (-1 / rho**2) * rho * (1 - rho)
        bent = (J * slopes)[:, problem.free]
        return float(w @ value), np.array([*(bent.T @ (w * by_p)), float(w @ by_rho)])

    return {"student_t": student_t, "scaled_huber": scaled_huber, "beta_binomial": beta_binomial}[
        name
    ]


def huber_norm(delta: float) -> float:
    """Give the integral of exp(-Huber's loss): the density's normalising constant."""
    inner = np.sqrt(2 * np.pi) * special.erf(delta / np.sqrt(2))
    return float(inner + 2 / delta * np.exp(-(delta**2) / 2))


def maximise(problem: Problem, u: FloatArray, weights: FloatArray | None = None) -> Likely:
    """Climb from coordinates u to a maximum of the problem's likelihood."""
    w = problem.weights if weights is None else weights
    r, _ = problem.residual(u)
    if problem.objective.name == "scaled_huber":
        return _scaled_huber(problem, u, w)
    lower, upper = problem.bounds
    if problem.objective.name == "student_t":
        spread = float(np.sqrt(w @ r**2 / w.sum())) or 1e-12
        middle = float(np.median(np.abs(r))) or spread
        extras = [np.log(min(middle, spread)), np.log(4.0)]
        limits = [_SCALES, _NU]
    else:
        extra = np.sqrt(max((w @ r**2) / max(w.sum() - len(u), 1) - 1, 1e-3))
        size = float(np.mean(problem.m)) if problem.m is not None else 1.0
        extras = [special.logit(min(max(extra**2 / size, 1e-7), 0.5))]
        limits = [_RHO]
    low = np.array([*lower, *(a for a, _ in limits)])
    high = np.array([*upper, *(b for _, b in limits)])
    at, nll = climb(negative(problem, w), np.array([*u, *extras]), low, high)
    free = len(u)
    own = (
        special.expit(at[free:]) if problem.objective.name == "beta_binomial" else np.exp(at[free:])
    )
    return Likely(at[:free], np.asarray(own), nll)


def _scaled_huber(problem: Problem, u: FloatArray, w: FloatArray) -> Likely:
    """Alternate the law at a given scale, and the scale: each lowers the same objective."""
    wide, delta = 1e-3, problem.objective.delta
    at, scale, last = u, 0.0, np.inf
    for _ in range(40):
        r, _ = problem.residual(at)
        scale = _scale(r, w, delta)
        goal = max(delta * scale, 1e-12)
        while wide > goal * 1.0001:
            wide = max(wide / 10, goal)
            at = problem.descend(at, w, delta=wide, tolerance=QUICK).u
        found = problem.descend(at, w, delta=goal, tolerance=1e-14)
        wide, at = goal, found.u
        nll = negative(problem, w)(np.array([*at, np.log(scale)]))[0]
        if abs(last - nll) <= 1e-10 * max(1.0, abs(nll)):
            break
        last = nll
    return Likely(at, np.array([scale]), float(nll))


def _scale(r: FloatArray, w: FloatArray, delta: float) -> float:
    """Give the scale at which the derivative of the likelihood by it vanishes."""
    size = np.abs(r)

    def slope(log: float) -> float:
        z = r / np.exp(log)
        return float(w @ (1 - huber_slope(z, delta) * z))

    guess = np.log(max(float(w @ size / w.sum()) * delta, 1e-280))
    low, high = guess - 1, guess + 1
    while slope(low) > 0 and low > -600:
        low -= 5
    while slope(high) < 0 and high < 600:
        high += 5
    return float(np.exp(optimize.brentq(slope, low, high, xtol=1e-14, rtol=1e-14)))


def climb(
    fun: Gradient, start: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, float]:
    """Minimise within bounds: L-BFGS-B, then Newton steps with a differentiated Hessian."""
    x = np.clip(start, low, high)
    found = optimize.minimize(
        fun, x, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20},
    )  # fmt: skip
    x = found.x
    value, gradient = fun(x)
    for _ in range(30):
        inside = ~(((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0)))
        if not inside.any():
            break
        H = hessian(fun, x, low, high)[np.ix_(inside, inside)]
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        floor = 1e-10 * max(float(np.abs(values).max()), 1e-300)
        step = np.zeros_like(x)
        turned = (vectors.T @ gradient[inside]) / np.maximum(np.abs(values), floor)
        step[inside] = -(vectors @ turned)
        size, improved = 1.0, False
        for _ in range(25):
            there = np.clip(x + size * step, low, high)
            new, slope = fun(there)
            if np.isfinite(new) and new < value:
                improved = new < value - 1e-13 * abs(value)
                x, value, gradient = there, new, slope
                break
            size /= 2
        if not improved:
            break
    return x, float(value)


def hessian(fun: Gradient, x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Give the Hessian by central differences of the gradient, one-sided at a bound."""
    size = len(x)
    H = np.zeros((size, size))
    for i in range(size):
        h = 1e-5 * max(1.0, abs(x[i]))
        ahead, back = x.copy(), x.copy()
        ahead[i], back[i] = min(x[i] + h, high[i]), max(x[i] - h, low[i])
        H[i] = (fun(ahead)[1] - fun(back)[1]) / (ahead[i] - back[i])
    return (H + H.T) / 2
