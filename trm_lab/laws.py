"""Laws: how accuracy grows with depth, or with whatever else x is.

Every law is linear in its amplitudes once its nonlinear parameters are fixed,

    y = offset + columns(nonlinear, x) @ linear,

which is what `trm_lab.fit` lives on (variable projection, Golub & Pereyra 1973).  A new law states
its parameters, columns, their slopes and the range its nonlinear parameters can have; value and
Jacobian follow.  Parameters are ordered linear first, then nonlinear.

P points x, K parameters of which L linear and N nonlinear; leading axes (...) broadcast.
`origin` is the x at which the amplitudes of the columns are read: the law's own, or the smallest x
of the data while fitting, where amplitude and exponent are far less entangled.
"""

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trm_lab.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

_FLAT, _STEEP = 20.0, 20.0
"""How far a nonlinear parameter is searched: from a curve that bends by 1/20 over the whole range
of x to one that is over, up to exp(-20), between the two closest x."""
_LARGEST_EXPONENT = 600.0
"""Amplitudes at the law's own origin stay below exp(600), which float64 holds."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law."""

    name: str
    meaning: str
    lower: float
    upper: float
    linear: bool


@dataclass(frozen=True)
class Law(ABC):
    """A curve y(x) with values in `range`, where the study files call it `name`."""

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    range: ClassVar[tuple[float, float]]
    """Values that y may have: data outside are another quantity."""
    offset: ClassVar[float]
    origin: ClassVar[float]
    """The x at which the amplitudes in the formula are read; 0 or, for logarithms, above."""

    @abstractmethod
    def columns(self, nonlinear: FloatArray, x: FloatArray, origin: float) -> FloatArray:
        """Give the design, [..., P, L], for nonlinear parameters [..., N]."""

    @abstractmethod
    def slopes(self, nonlinear: FloatArray, x: FloatArray, origin: float) -> FloatArray:
        """Give the derivatives of the columns, [..., P, L, N]."""

    @abstractmethod
    def box(self, x: FloatArray) -> FloatArray:
        """Give the range in which these x can tell the nonlinear parameters, [N, 2]."""

    @abstractmethod
    def amplitudes(self, nonlinear: FloatArray, origin: float) -> FloatArray:
        """Give the factors [..., L] from amplitudes read at `origin` to the law's own."""

    @property
    def linear(self) -> int:
        """Number of linear parameters, L."""
        return sum(p.linear for p in self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(p.name for p in self.parameters)

    def value(self, params: FloatArray, x: FloatArray) -> FloatArray:
        """Give y, [..., P], for params [..., K]."""
        linear, nonlinear = params[..., : self.linear], params[..., self.linear :]
        columns = self.columns(nonlinear, x, self.origin)
        return np.asarray(self.offset + (columns @ linear[..., None])[..., 0])

    def jacobian(self, params: FloatArray, x: FloatArray) -> FloatArray:
        """Give dy/dparams, [..., P, K]."""
        linear, nonlinear = params[..., : self.linear], params[..., self.linear :]
        columns = self.columns(nonlinear, x, self.origin)
        bent = np.einsum("...pln,...l->...pn", self.slopes(nonlinear, x, self.origin), linear)
        return np.concatenate([columns, bent], axis=-1)

    def check_x(self, x: FloatArray) -> None:
        """Refuse x on which the law is not defined.

        Raises:
            ConfigError: x is not finite, negative, or 0 where the law takes its logarithm.
        """
        bad = x[~np.isfinite(x) | (x < 0) | ((x == 0) & (self.origin > 0))]
        if bad.size:
            need = "above 0" if self.origin > 0 else "0 or more"
            raise ConfigError(f"law {self.name} ({self.formula}): x must be {need}, not {bad[0]:g}")


@dataclass(frozen=True)
class Saturating(Law):
    """Accuracy that approaches a ceiling exponentially in x."""

    name = "saturating"
    formula = "y = c - a exp(-x / tau)"
    source = (
        "the exponential approach of arXiv 2604.12946 (loss against recurrence), for an accuracy"
    )
    parameters = (
        Parameter("c", "ceiling, the accuracy at infinite x", 0.0, 1.0, linear=True),
        Parameter("a", "rise from x = 0 to the ceiling", 0.0, np.inf, linear=True),
        Parameter("tau", "x over which the gap to the ceiling falls to 1/e", 0.0, np.inf, False),
    )
    range = (0.0, 1.0)
    offset = 0.0
    origin = 0.0

    def columns(self, nonlinear: FloatArray, x: FloatArray, origin: float) -> FloatArray:
        """1 and -exp(-(x - origin) / tau)."""
        gap = np.exp(-(x - origin) / nonlinear)
        return np.stack([np.ones_like(gap), -gap], axis=-1)

    def slopes(self, nonlinear: FloatArray, x: FloatArray, origin: float) -> FloatArray:
        """0 and the derivative by tau."""
        shift = x - origin
        slope = -np.exp(-shift / nonlinear) * shift / nonlinear**2
        return np.stack([np.zeros_like(slope), slope], axis=-1)[..., None]

    def box(self, x: FloatArray) -> FloatArray:
        """Tau from a fraction of the smallest gap to many times the whole range."""
        gap, span = _spacing(x)
        least = max(gap / _STEEP, float(x.min()) / _LARGEST_EXPONENT)
        return np.array([[least, max(span * _FLAT, 2 * least)]])

    def amplitudes(self, nonlinear: FloatArray, origin: float) -> FloatArray:
        """1 and exp(origin / tau)."""
        rise = np.exp((origin - self.origin) / nonlinear)
        return np.concatenate([np.ones_like(rise), rise], axis=-1)


@dataclass(frozen=True)
class PowerError(Law):
    """An error rate that falls as a power of x to a floor."""

    name = "power"
    formula = "1 - y = e + a x^-alpha"
    source = (
        "power law with an irreducible error, arXiv 1712.00409; for error rates arXiv 2209.06640"
    )
    parameters = (
        Parameter("e", "floor, the error rate at infinite x", 0.0, 1.0, linear=True),
        Parameter("a", "error above the floor at x = 1", 0.0, np.inf, linear=True),
        Parameter("alpha", "exponent", 0.0, np.inf, linear=False),
    )
    range = (0.0, 1.0)
    offset = 1.0
    origin = 1.0

    def columns(self, nonlinear: FloatArray, x: FloatArray, origin: float) -> FloatArray:
        """-1 and -(x / origin)^-alpha."""
        power = np.exp(-nonlinear * np.log(x / origin))
        return np.stack([-np.ones_like(power), -power], axis=-1)

    def slopes(self, nonlinear: FloatArray, x: FloatArray, origin: float) -> FloatArray:
        """0 and the derivative by alpha."""
        logs = np.log(x / origin)
        slope = np.exp(-nonlinear * logs) * logs
        return np.stack([np.zeros_like(slope), slope], axis=-1)[..., None]

    def box(self, x: FloatArray) -> FloatArray:
        """Alpha by the same rule as tau, in log x."""
        gap, span = _spacing(np.log(x))
        most = min(_STEEP / gap, _LARGEST_EXPONENT / max(abs(float(np.log(x.min()))), 1.0))
        return np.array([[min(1 / (_FLAT * span), most / 2), most]])

    def amplitudes(self, nonlinear: FloatArray, origin: float) -> FloatArray:
        """1 and origin^alpha."""
        rise = np.exp(nonlinear * np.log(origin / self.origin))
        return np.concatenate([np.ones_like(rise), rise], axis=-1)


LAWS: tuple[Law, ...] = (Saturating(), PowerError())
"""The laws that a study file can name."""


def law(name: str) -> Law:
    """Give the law of that name.

    Raises:
        ConfigError: there is none.
    """
    known = {one.name: one for one in LAWS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"law: {name!r} is not one of {', '.join(known)}{hint}")
    return known[name]


def _spacing(x: FloatArray) -> tuple[float, float]:
    """Give the smallest gap between distinct x, and their whole range."""
    distinct = np.unique(x)
    return float(np.diff(distinct).min()), float(distinct[-1] - distinct[0])
