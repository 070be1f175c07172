"""Laws of a bounded quantity: accuracy, or the share of puzzles solved.

A floor, a ceiling and a chance level are bounded by 0 and 1 and cannot leave them.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trm_lab.laws.axes import Axis, axis
from trm_lab.laws.base import Centre, Columns, FloatArray, Law, Parameter, spacing
from trm_lab.laws.curves import Curve

_FLAT, _STEEP = 20.0, 20.0
_LARGEST_LOG = 700.0
"""A midpoint lies at an x that float64 holds."""
_LARGEST_EXPONENT = 300.0
"""Amplitudes at the law's own origin stay below exp(300), or exp(600) at twice the rate."""


@dataclass(frozen=True)
class Share(Curve):
    """A curve with values in [0, 1]."""

    space = "raw"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)


@dataclass(frozen=True)
class Saturating(Share):
    """Accuracy that approaches a ceiling exponentially in x."""

    name = "saturating"
    formula = "y = c - a exp(-x / tau)"
    source = (
        "the exponential approach of arXiv 2604.12946 (loss against recurrence), for an accuracy"
    )
    use = "accuracy against depth, recursion or supervision steps where it levels out"
    reach = 2.0  # farther out amplitudes at the law's own origin overflow
    from_zero = True

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """c, a, tau."""
        return (
            Parameter("c", "ceiling, the accuracy at infinite x", 0.0, 1.0, linear=True),
            Parameter("a", "rise from x = 0 to the ceiling", linear=True),
            Parameter("tau", "x over which the gap to the ceiling falls to 1/e", log=True),
        )

    def centre(self, X: Columns) -> dict[str, float]:
        """The smallest x: there the gap is largest."""
        return {"x": float(X[self.x].min())}

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """1 and -exp(-(x - centre) / tau)."""
        gap = np.exp(-(X[self.x] - centre.get("x", 0.0)) / nonlinear)
        return np.stack([np.ones_like(gap), -gap], axis=-1)

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """0 and the derivative by tau."""
        shift = X[self.x] - centre.get("x", 0.0)
        slope = -np.exp(-shift / nonlinear) * shift / nonlinear**2
        return np.stack([np.zeros_like(slope), slope], axis=-1)[..., None]

    def box(self, X: Columns) -> FloatArray:
        """Tau from a fraction of the smallest gap to many times the whole range."""
        gap, span = spacing(X[self.x])
        least = max(gap / _STEEP, float(X[self.x].min()) / _LARGEST_EXPONENT)
        return np.array([[least, max(span * _FLAT, 2 * least)]])

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """1 and exp(centre / tau)."""
        rise = np.exp(centre.get("x", 0.0) / nonlinear)
        return np.concatenate([np.ones_like(rise), rise], axis=-1)

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """-centre / tau^2."""
        result = np.zeros((*nonlinear.shape[:-1], 2, 1))
        result[..., 1, :] = -centre.get("x", 0.0) / nonlinear**2
        return result


@dataclass(frozen=True)
class PowerError(Share):
    """An error rate that falls as a power of x to a floor."""

    name = "power_error"
    formula = "1 - y = e + a x^-alpha"
    source = (
        "power law with an irreducible error, arXiv 1712.00409; for error rates arXiv 2209.06640"
    )
    use = "the rival of a saturating law: accuracy that keeps growing slowly"
    reach = 2.0  # farther out amplitudes at the law's own origin overflow
    offset = 1.0

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """e, a, alpha."""
        return (
            Parameter("e", "floor, the error rate at infinite x", 0.0, 1.0, linear=True),
            Parameter("a", "error above the floor at x = 1", linear=True),
            Parameter("alpha", "exponent", log=True),
        )

    def centre(self, X: Columns) -> dict[str, float]:
        """The smallest x: there the error is largest."""
        return {"x": float(X[self.x].min())}

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """-1 and -(x / centre)^-alpha."""
        power = np.exp(-nonlinear * np.log(X[self.x] / centre.get("x", 1.0)))
        return np.stack([-np.ones_like(power), -power], axis=-1)

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """0 and the derivative by alpha."""
        logs = np.log(X[self.x] / centre.get("x", 1.0))
        slope = np.exp(-nonlinear * logs) * logs
        return np.stack([np.zeros_like(slope), slope], axis=-1)[..., None]

    def box(self, X: Columns) -> FloatArray:
        """Alpha by the same rule as tau, in log x."""
        gap, span = spacing(np.log(X[self.x]))
        start = abs(float(np.log(X[self.x].min())))
        most = min(_STEEP / gap, _LARGEST_EXPONENT / max(start, 1.0))
        return np.array([[min(1 / (_FLAT * span), most / 2), most]])

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """1 and centre^alpha."""
        rise = np.exp(nonlinear * np.log(centre.get("x", 1.0)))
        return np.concatenate([np.ones_like(rise), rise], axis=-1)

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Ln centre."""
        result = np.zeros((*nonlinear.shape[:-1], 2, 1))
        result[..., 1, 0] = np.log(centre.get("x", 1.0))
        return result


@dataclass(frozen=True, init=False)
class Sigmoid(Law):
    """A rise in ln x from chance `g` to a ceiling `c`; `chance` None leaves g to be fitted.

    x is a column or an axis such as `EffectiveN`, whose exponents are then fitted too.
    """

    space = "raw"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    x: Axis
    chance: float | None

    def __init__(
        self,
        x: str | Axis,
        chance: float | None = 0.0,
        *,
        fixed: tuple[tuple[str, float], ...] = (),
    ) -> None:
        held = dict(fixed) | ({} if chance is None else {"g": chance})
        object.__setattr__(self, "x", axis(x))
        object.__setattr__(self, "chance", chance)
        object.__setattr__(self, "fixed", tuple(sorted(held.items())))

    def __str__(self) -> str:
        rest = "" if self.chance == 0.0 else f", chance={self.chance}"
        return f"{type(self).__name__}({self.x}{rest})"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the axis."""
        return self.x.columns_read

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """c, g, mu, s, and the axis' own."""
        return (
            Parameter("c", "ceiling", 0.0, 1.0, linear=True),
            Parameter("g", "chance level", 0.0, 1.0, linear=True),
            Parameter("mu", "ln x of the midpoint", -_LARGEST_LOG, _LARGEST_LOG),
            Parameter("s", "slope in ln x", log=True),
            *self.x.parameters,
        )

    def scales(self, X: Columns) -> list[dict[str, FloatArray]]:
        """What is inside the axis."""
        return self.x.scales(X)

    @abstractmethod
    def _rise(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give the share of the rise at u = s (ln x - mu), and its derivative."""

    def _u(self, nonlinear: FloatArray, X: Columns) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give u, ln x - mu and s."""
        mu, s = nonlinear[..., :1], nonlinear[..., 1:2]
        away = self.x.log(nonlinear[..., 2:], X) - mu
        return s * away, away, s

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """The rise, and what is left of it."""
        share, _ = self._rise(self._u(nonlinear, X)[0])
        return np.stack([share, 1 - share], axis=-1)

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """By mu, s and the axis' own."""
        u, away, s = self._u(nonlinear, X)
        _, slope = self._rise(u)
        inner = self.x.slopes(nonlinear[..., 2:], X)
        parts = [-s * slope, away * slope]
        bent = np.stack([*parts, *np.moveaxis((s * slope)[..., None] * inner, -1, 0)], axis=-1)
        return np.stack([bent, -bent], axis=-2)

    def box(self, X: Columns) -> FloatArray:
        """The midpoint within the data or a little beyond; the slope by their spacing."""
        own = self.x.box(X)
        logs = self.x.log(own.mean(axis=1), X)
        gap, span = spacing(logs)
        middle = (float(logs.min()) - span, float(logs.max()) + span)
        return np.array([middle, (0.2 / span, max(_STEEP / gap, 0.4 / span)), *own])


class Logistic(Sigmoid):
    """A logistic rise in ln x."""

    name = "logistic"
    formula = "p = g + (c - g) / (1 + exp(-s (ln x - mu)))"
    source = "the sigmoid of arXiv 2412.04403 (loss to accuracy), in ln x; chance fixed by default"
    use = "accuracy as counts k of m, from chance to a ceiling"

    def _rise(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        share = np.exp(-np.logaddexp(0.0, -u))
        return share, share * np.exp(-np.logaddexp(0.0, u))


class Gompertz(Sigmoid):
    """A rise that begins fast and ends slowly."""

    name = "gompertz"
    formula = "p = g + (c - g) exp(-exp(-s (ln x - mu)))"
    source = "Gompertz 1825; the skewed rival of the logistic"
    use = "accuracy as counts, where the approach to the ceiling is slower than the take-off"

    def _rise(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        inner = np.exp(np.minimum(-u, 700.0))
        share = np.exp(-inner)
        return share, np.exp(np.clip(-u - inner, -745.0, 700.0))


@dataclass(frozen=True)
class NeverSolved(Share):
    """Share of puzzles solved by step x, where some never are: survival with a cured fraction."""

    name = "never_solved"
    formula = "p = w (1 - exp(-(x / tau)^k))"
    source = "mixture cure model (Boag 1949) with Weibull times to the first solved step"
    use = "share solved by supervision step or cycle: 1 - w is what no further step will solve"

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """w, tau, k."""
        return (
            Parameter("w", "share ever solved; 1 - w is never solved", 0.0, 1.0, linear=True),
            Parameter("tau", "steps by which 1 - 1/e of the solvable are solved", log=True),
            Parameter("k", "shape: below 1 the solvable left are ever harder", log=True),
        )

    def centre(self, X: Columns) -> dict[str, float]:
        """None: w is read at infinity."""
        return {}

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """The share of the solvable that is solved."""
        return -np.expm1(-self._power(nonlinear, X)[0])[..., None]

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """By tau and k."""
        power, log = self._power(nonlinear, X)
        slope = np.exp(-power) * power
        k, tau = nonlinear[..., 1:], nonlinear[..., :1]
        return np.stack([-slope * k / tau, slope * log], axis=-1)[..., None, :]

    def _power(self, nonlinear: FloatArray, X: Columns) -> tuple[FloatArray, FloatArray]:
        """Give (x / tau)^k and ln(x / tau)."""
        log = np.log(X[self.x] / nonlinear[..., :1])
        return np.exp(np.minimum(nonlinear[..., 1:] * log, 700.0)), log

    def box(self, X: Columns) -> FloatArray:
        """Tau about the data, shapes from very slow to a step."""
        x = X[self.x]
        return np.array([[float(x.min()) / 10, float(x.max()) * 10], [0.1, 10.0]])
