"""M4: a learning curve between a floor and the level of a guess, defined implicitly."""

from dataclasses import dataclass

import numpy as np

from trm_lab.laws.base import Centre, Columns, FloatArray, Parameter, geometric_mean, written
from trm_lab.laws.curves import Curve

_NEWTON = 80
_TINY = 1e-300


@dataclass(frozen=True)
class M4(Curve):
    """A power law between the level of a guess, e_0, and a floor, e_inf.

    With `error_rate` both levels stay in [0, 1].
    """

    name = "m4"
    floor_name = "e_inf"
    positive = True
    formula = "(y - e_inf) / (e_0 - y)^a = b x^-c"
    source = "M4 of arXiv 2209.06640"
    use = "a learning curve or an error rate that starts at the level of a guess"

    error_rate: bool = False

    @property
    def values(self) -> tuple[float, float]:
        """An error rate lies below 1; counts of errors may be given for it."""
        return (0.0, 1.0) if self.error_rate else self.range

    def __str__(self) -> str:
        return f"M4({written(self.x)}{', error_rate=True' if self.error_rate else ''})"

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """e_inf, e_0, a, b, c."""
        top = self.values[1]
        return (
            Parameter("e_inf", "floor", 0.0, top),
            Parameter("e_0", "level of a guess, y before training", 0.0, top),
            Parameter("a", "how long the curve stays near the level of a guess", 0.0, 20.0),
            Parameter("b", "amplitude", log=True),
            Parameter("c", "exponent", 0.0, 20.0),
        )

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """None: the law is linear in nothing."""
        return np.zeros((*nonlinear.shape[:-1], len(X[self.x]), 0))

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """None."""
        return np.zeros((*nonlinear.shape[:-1], len(X[self.x]), 0, nonlinear.shape[-1]))

    def box(self, X: Columns) -> FloatArray:
        """The parameters' own bounds; b so that float64 holds it at x = 1; `candidates` begins."""
        rows = {p.name: (p.lower, p.upper) for p in self.own_parameters}
        return np.array([*{**rows, "b": (1e-100, 1e100)}.values()])

    def centre(self, X: Columns) -> dict[str, float]:
        """The geometric mean of x."""
        return {"x": geometric_mean(X[self.x])}

    def centred(
        self, params: FloatArray, X: Columns, centre: Centre
    ) -> tuple[FloatArray, FloatArray]:
        """Solve for y by Newton's method in the logit of y between its levels.

        The equation is increasing there and convex or concave throughout, so that it converges from
        anywhere.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._solved(params, X, centre)  # where nothing is finite, descent turns back

    def _solved(
        self, params: FloatArray, X: Columns, centre: Centre
    ) -> tuple[FloatArray, FloatArray]:
        low, high, a, b, c = (params[..., i, None] for i in range(5))
        span = np.maximum(high - low, _TINY)
        x = np.log(X[self.x]) - np.log(centre.get("x", 1.0))
        right = np.log(b) - c * x - (1 - a) * np.log(span)
        s = np.where(right > 0, right / np.maximum(a, 0.05), right)
        for _ in range(_NEWTON):
            soft = -np.logaddexp(0.0, -s)
            back = soft - s  # -ln(1 + exp(s)), at half the cost
            step = (soft - a * back - right) / (np.exp(back) + a * np.exp(soft))
            step = np.clip(step, -20, 20)
            s = s - step
            if not (np.abs(step) > 1e-8).any():
                break  # convergence is quadratic: what is left is rounding
        above = np.maximum(span * np.exp(-np.logaddexp(0.0, -s)), _TINY)
        below = np.maximum(span * np.exp(-np.logaddexp(0.0, s)), _TINY)
        y = low + above
        weight = 1 / (1 / above + a / below)
        ones = np.ones_like(y)
        slopes = [weight / above, weight * a / below, weight * np.log(below), weight / b * ones]
        return y, np.stack([*slopes, -weight * x], axis=-1)

    def own(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Only b depends on the centre; at x = 1 it may be more than float64 holds, infinite."""
        result = params.copy()
        with np.errstate(over="ignore"):
            result[..., 3] = params[..., 3] * centre.get("x", 1.0) ** params[..., 4]
        return result

    def from_own(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Only b depends on the centre."""
        result = params.copy()
        with np.errstate(over="ignore"):
            result[..., 3] = params[..., 3] / centre.get("x", 1.0) ** params[..., 4]
        return result

    def own_jacobian(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Only b depends on the centre."""
        x = centre.get("x", 1.0)
        result = np.eye(5)
        with np.errstate(over="ignore"):
            result[3, 3] = x ** params[4]
            result[3, 4] = params[3] * x ** params[4] * np.log(x)
        return result

    def candidates(self, X: Columns, y: FloatArray, weights: FloatArray) -> FloatArray:
        """Give starts [G, 5]: with both levels given, the logarithm of the law is linear."""
        centre = self.centre(X)
        x = np.log(X[self.x]) - np.log(centre["x"])
        held = dict(self.fixed)
        low = float(y.min())
        lows = [held["e_inf"]] if "e_inf" in held else low * np.array([0, 0.3, 0.6, 0.8, 0.9, 0.97])
        high = float(y.max())
        top = self.values[1]
        gaps = high * np.array([1e-4, 1e-3, 1e-2, 0.05, 0.2, 1.0, 5.0, 50.0])
        highs = [held["e_0"]] if "e_0" in held else sorted({*np.minimum(high + gaps, top)})
        root = np.sqrt(weights)
        result = []
        for floor in lows:
            for guess in highs:
                if guess <= high or floor >= low:
                    continue
                above, below = np.log(y - floor), np.log(guess - y)
                scale = (y - floor) / y  # residuals of ln y, not of ln(y - floor)
                design = np.stack([np.ones_like(x), -x, below], axis=-1)
                w = root * scale
                found = np.linalg.lstsq(w[:, None] * design, w * above, rcond=None)[0]
                if found[2] < 0 or found[1] < 0:
                    found = np.linalg.lstsq(w[:, None] * design[:, :2], w * above, rcond=None)[0]
                    found = np.array([*found, 0.0])
                log_b, c, a = found
                result.append((floor, guess, max(a, 0.0), np.exp(log_b), max(c, 1e-6)))
        return np.array(result).reshape(-1, 5)
