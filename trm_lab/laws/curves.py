"""Learning curves and test-time curves of one positive quantity."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trm_lab.laws.base import (
    Centre,
    Columns,
    FloatArray,
    Law,
    Parameter,
    geometric_mean,
    spacing,
    written,
)

_FLAT, _STEEP = 20.0, 20.0
_MOST = 10.0
_LARGEST_EXPONENT = 300.0
"""Amplitudes at the law's own origin stay below exp(300), or exp(600) at twice the rate."""
_SHARP = 0.05
"""Least sharpness of a break: less is a kink between two points, which noise makes too.  The
sharpest published break has 0.059."""


@dataclass(frozen=True)
class Curve(Law):
    """A law of one column."""

    x: str = "x"

    def __str__(self) -> str:
        return f"{type(self).__name__}({written(self.x)})"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The column."""
        return (self.x,)

    def centre(self, X: Columns) -> dict[str, float]:
        """The geometric mean of x."""
        return {"x": geometric_mean(X[self.x])}


@dataclass(frozen=True)
class TestTime(Curve):
    """Loss at test-time recurrence T for a model trained at T_train."""

    __test__ = False
    name = "test_time"
    floor_name = "E"
    formula = "y = E + Z exp(-z T / T_train)"
    source = "arXiv 2604.12946"
    use = "loss against recurrence or supervision steps at evaluation: it levels out"
    reach = 2.0  # farther out amplitudes at the law's own origin overflow

    x: str = "T"
    train: str | None = None
    """Column of the trained recurrence; 1 without it."""

    def __str__(self) -> str:
        train = f", train={written(self.train)}" if self.train else ""
        return f"TestTime({written(self.x)}{train})"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Recurrence, and the trained one."""
        return (self.x, self.train) if self.train else (self.x,)

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """E, Z, z."""
        return (
            Parameter("E", "floor, y after endless recursion", linear=True),
            Parameter("Z", "y above the floor at T = 0", linear=True),
            Parameter("z", "rate per trained recurrence", log=True),
        )

    def _ratio(self, X: Columns) -> FloatArray:
        return X[self.x] / X[self.train] if self.train else X[self.x]

    def centre(self, X: Columns) -> dict[str, float]:
        """The smallest ratio: there the rise above the floor is largest."""
        return {"x": float(self._ratio(X).min())}

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """1 and exp(-z (t - centre))."""
        gap = np.exp(-nonlinear * (self._ratio(X) - centre.get("x", 0.0)))
        return np.stack([np.ones_like(gap), gap], axis=-1)

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """0 and the derivative by z."""
        shift = self._ratio(X) - centre.get("x", 0.0)
        slope = -shift * np.exp(-nonlinear * shift)
        return np.stack([np.zeros_like(slope), slope], axis=-1)[..., None]

    def box(self, X: Columns) -> FloatArray:
        """From a curve hardly bent to one that is over between the closest x."""
        ratio = self._ratio(X)
        gap, span = spacing(ratio)
        most = min(_STEEP / gap, _LARGEST_EXPONENT / float(ratio.min()))
        low = min(1 / (_FLAT * span), most / 2)
        return np.array([[low, max(most, 2 * low)]])

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """1 and exp(z centre)."""
        rise = np.exp(nonlinear * centre.get("x", 0.0))
        return np.concatenate([np.ones_like(rise), rise], axis=-1)

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """The centre, by z."""
        result = np.zeros((*nonlinear.shape[:-1], 2, 1))
        result[..., 1, 0] = centre.get("x", 0.0)
        return result


@dataclass(frozen=True)
class M3(Curve):
    """A power of a saturating x: the curve levels out at x = 1 / g."""

    name = "m3"
    formula = "y = B (1/x + g)^c"
    source = "M3 of arXiv 2209.06640 (with c of the other sign)"
    use = "a learning curve that levels out without a floor of its own"

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """B, c, g."""
        return (
            Parameter("B", "y where 1/x + g is 1", linear=True),
            Parameter("c", "exponent", 0.0, _MOST),
            Parameter("g", "1/x at which the curve levels out", log=True),
        )

    def _log(self, g: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        return np.asarray(np.log(1 / X[self.x] + g) + np.log(centre.get("x", 1.0)))

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """((1/x + g) centre)^c."""
        c, g = nonlinear[..., :1], nonlinear[..., 1:]
        return np.exp(c * self._log(g, X, centre))[..., None]

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """Derivatives by c and g."""
        c, g = nonlinear[..., :1], nonlinear[..., 1:]
        log = self._log(g, X, centre)
        power = np.exp(c * log)
        return np.stack([log * power, c * power / (1 / X[self.x] + g)], axis=-1)[..., None, :]

    def box(self, X: Columns) -> FloatArray:
        """C as an exponent; g from no bend to a bend before the first x."""
        x = X[self.x]
        _, span = spacing(np.log(x))
        return np.array([[1 / (_FLAT * span), _MOST], [1e-4 / x.max(), 10 / x.min()]])

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Centre^c."""
        return np.asarray(np.exp(nonlinear[..., :1] * np.log(centre.get("x", 1.0))))

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Ln centre by c."""
        result = np.zeros((*nonlinear.shape[:-1], 1, 2))
        result[..., 0, 0] = np.log(centre.get("x", 1.0))
        return result


@dataclass(frozen=True)
class BNSL(Curve):
    """A smoothly broken power law with `breaks` breaks."""

    name = "bnsl"
    floor_name = "a"
    reach = 2.0
    formula = "y = a + b x^-c0 prod_i (1 + (x / d_i)^(1/f_i))^(-c_i f_i)"
    source = "arXiv 2210.14891, equation 1"
    use = "curves that bend, rise again (overthinking) or fall in steps; needs many points"

    breaks: int = 1

    def __str__(self) -> str:
        return f"BNSL({written(self.x)}, breaks={self.breaks})"

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """a, b, c0, then c, d, f of every break."""
        rest = [
            parameter
            for i in range(1, self.breaks + 1)
            for parameter in (
                Parameter(f"c{i}", f"change of the exponent at break {i}", -_MOST, _MOST),
                Parameter(f"d{i}", f"x of break {i}", log=True),
                Parameter(f"f{i}", f"sharpness of break {i}: small is sharp", _SHARP, log=True),
            )
        ]
        return (
            Parameter("a", "floor", linear=True),
            Parameter("b", "y above the floor at x = 1, before the breaks", linear=True),
            Parameter("c0", "exponent before the first break", -_MOST, _MOST),
            *rest,
        )

    def _parts(
        self, nonlinear: FloatArray, X: Columns, centre: Centre
    ) -> tuple[FloatArray, FloatArray]:
        """Give the power [..., P] and the derivatives of its logarithm, [..., P, N]."""
        x = np.log(X[self.x])
        away = x - np.log(centre.get("x", 1.0))
        log = -nonlinear[..., :1] * away
        slopes = [np.broadcast_to(-away, log.shape)]
        for i in range(self.breaks):
            c, d, f = (nonlinear[..., 1 + 3 * i + j, None] for j in range(3))
            u = (x - np.log(d)) / f
            soft = np.logaddexp(0.0, u)
            share = np.exp(u - soft)
            log = log - c * f * soft
            slopes += [-f * soft, c * share / d, -c * (soft - share * u)]
        return np.exp(log), np.stack(slopes, axis=-1)

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """1 and the broken power."""
        power, _ = self._parts(nonlinear, X, centre)
        return np.stack([np.ones_like(power), power], axis=-1)

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """0 and the derivatives of the broken power."""
        power, slopes = self._parts(nonlinear, X, centre)
        bent = power[..., None] * slopes
        return np.stack([np.zeros_like(bent), bent], axis=-2)

    def box(self, X: Columns) -> FloatArray:
        """Exponents by the range of ln x; breaks inside the data, and no sharper than `_SHARP`."""
        x = X[self.x]
        _, span = spacing(np.log(x))
        most = min(_MOST, 40 / span)
        one = [(-most, most), (float(x.min()), float(x.max())), (_SHARP, max(span, 2 * _SHARP))]
        return np.array([(-most / 4, most), *one * self.breaks])

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """1 and centre^c0."""
        rise = np.exp(nonlinear[..., :1] * np.log(centre.get("x", 1.0)))
        return np.concatenate([np.ones_like(rise), rise], axis=-1)

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Ln centre by c0."""
        result = np.zeros((*nonlinear.shape[:-1], 2, nonlinear.shape[-1]))
        result[..., 1, 0] = np.log(centre.get("x", 1.0))
        return result


@dataclass(frozen=True)
class LogQuadratic(Curve):
    """A parabola in ln x: a curve that turns."""

    name = "log_quadratic"
    formula = "y = p0 + p1 ln x + p2 (ln x)^2"
    source = "the parabola of arXiv 2203.15556 (approach 2), here for overthinking"
    use = "accuracy that falls past the trained depth; interpolation only"
    space = "raw"
    range: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """p0, p1, p2."""
        texts = ("y at x = 1", "slope by ln x at x = 1", "curvature: below 0 the curve has a top")
        return tuple(Parameter(f"p{i}", text, -np.inf, linear=True) for i, text in enumerate(texts))

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """1, ln x and its square."""
        log = np.log(X[self.x])
        return np.broadcast_to(
            np.stack([np.ones_like(log), log, log**2], axis=-1),
            (*nonlinear.shape[:-1], len(log), 3),
        )

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """None."""
        return np.zeros((*nonlinear.shape[:-1], len(X[self.x]), 3, 0))

    def box(self, X: Columns) -> FloatArray:
        """None."""
        return np.zeros((0, 2))
