"""What a law is: named parameters, the columns it reads, value and Jacobian.

Almost every law is linear in its amplitudes once its nonlinear parameters are fixed,

    y = offset + columns(nonlinear, X) @ linear,

which is what `trm_lab.fit` lives on (variable projection, Golub & Pereyra 1973).  A new law states
its parameters, columns, their slopes and what range of its nonlinear parameters data can tell;
value and Jacobian follow.  Parameters are ordered linear first, then nonlinear.

P points, K parameters of which L linear and N nonlinear; leading axes (...) broadcast.  X maps the
name of a column to its values [P].  `centre` maps it to the value at which amplitudes are read
while fitting: there amplitude and exponent are far less entangled than at the law's own origin
(condition number 11 instead of 3.5e11 for Chinchilla's law, arXiv 2603.22339).
"""

import keyword
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from trm_lab.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
Columns = Mapping[str, FloatArray]
Centre = Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law and the values it can have."""

    name: str
    meaning: str
    lower: float = 0.0
    upper: float = np.inf
    linear: bool = False
    log: bool = False
    """Searched by its logarithm; only for parameters above 0."""

    @property
    def fixed(self) -> bool:
        """Whether it has one value only."""
        return self.lower == self.upper


@dataclass(frozen=True)
class Law(ABC):
    """A curve or surface y(X)."""

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    use: ClassVar[str]
    """When to use it."""
    range: ClassVar[tuple[float, float]] = (0.0, np.inf)
    """Values that y may have: data outside are another quantity."""
    space: ClassVar[Literal["log", "raw"]] = "log"
    """Where residuals are taken unless told: of ln y for losses, of y for accuracies."""
    offset: ClassVar[float] = 0.0

    positive: ClassVar[bool] = False
    """Whether y must be above 0 wherever residuals are taken, and below a finite upper end."""
    floor_name: ClassVar[str] = ""
    """The parameter that is a floor of losses, if the law has one."""

    from_zero: ClassVar[bool] = False
    """Whether x may be 0."""

    reach: ClassVar[float] = 1e3
    """How many times beyond the scanned range a descent may go, by logarithm."""

    fixed: tuple[tuple[str, float], ...] = field(default=(), kw_only=True)
    """Parameters held at a value."""

    @property
    def values(self) -> tuple[float, float]:
        """Values that y may have, where a setting of the law narrows them."""
        return self.range

    @property
    @abstractmethod
    def columns_read(self) -> tuple[str, ...]:
        """Names of the columns of data that the law reads."""

    @property
    @abstractmethod
    def own_parameters(self) -> tuple[Parameter, ...]:
        """Parameters, linear first, before any is held at a value."""

    @abstractmethod
    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """Give the design, [..., P, L], for nonlinear parameters [..., N]."""

    @abstractmethod
    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """Give the derivatives of the columns, [..., P, L, N]."""

    @abstractmethod
    def box(self, X: Columns) -> FloatArray:
        """Give the range in which these X can tell the nonlinear parameters, [N, 2]."""

    def centre(self, X: Columns) -> dict[str, float]:
        """Give the place where amplitudes are read while fitting, such as the geometric means."""
        return {}

    def candidates(self, X: Columns, y: FloatArray, weights: FloatArray) -> FloatArray | None:
        """Give starts [G, K] read at the centre, or None to have them scanned."""
        return None

    def scales(self, X: Columns) -> list[dict[str, FloatArray]]:
        """Give sets of logarithms [P] that the design must move apart to tell exponents apart."""
        return []

    def choices(self, X: Columns) -> list[tuple[str, ...]]:
        """Give what a run chooses by itself: a column, or those that come together."""
        return [(name,) for name in self.columns_read]

    def usable_centre(self, X: Columns) -> dict[str, float]:
        """Give the centre, or none where an amplitude is held at a value of its own origin."""
        centre = self.centre(X)
        held = {name for name, value in self.fixed if value != 0}
        return {} if held & self.moved_by(X, centre) else centre

    def moved_by(self, X: Columns, centre: Centre) -> set[str]:
        """Name the parameters whose value depends on the centre.

        Told by their slopes: a value can be the same at one place by chance, as x^-alpha is at an
        alpha of 0.
        """
        box = self.box(X)
        with np.errstate(over="ignore", invalid="ignore"):
            middle = np.where(np.isfinite(box).all(axis=1), box.mean(axis=1), 1.0)
            slopes = self.own_jacobian(np.concatenate([np.ones(self.linear), middle]), centre)
        moved = (slopes != np.eye(len(slopes))).any(axis=1)
        return {name for name, one in zip(self.names, moved, strict=True) if one}

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Give the factors [..., L] from amplitudes read at `centre` to the law's own."""
        return np.ones((*nonlinear.shape[:-1], self.linear))

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Give the derivatives of the logarithms of the factors, [..., L, N]."""
        return np.zeros((*nonlinear.shape[:-1], self.linear, nonlinear.shape[-1]))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters, linear first; those held at a value have it as both bounds."""
        held = dict(self.fixed)
        return tuple(
            replace(p, lower=held[p.name], upper=held[p.name]) if p.name in held else p
            for p in self.own_parameters
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(p.name for p in self.own_parameters)

    @cached_property
    def linear(self) -> int:
        """Number of linear parameters, L."""
        return sum(p.linear for p in self.own_parameters)

    def hold(self, **values: float) -> Self:
        """Give the law with parameters held at values.

        Raises:
            ConfigError: the law has no such parameter, or the value lies outside its range.
        """
        known = {p.name: p for p in self.own_parameters}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(
                    f"law {self.name}: no parameter {name!r}; it has {', '.join(known)}"
                )
            if not known[name].lower <= value <= known[name].upper:
                low, high = known[name].lower, known[name].upper
                raise ConfigError(
                    f"law {self.name}: {name} must lie in [{low:g}, {high:g}], not {value:g}"
                )
        held = object.__new__(type(self))  # constructors of some laws take their axes one by one
        for one in fields(self):
            object.__setattr__(held, one.name, getattr(self, one.name))
        object.__setattr__(held, "fixed", tuple(sorted({**dict(self.fixed), **values}.items())))
        return held

    def value(self, params: FloatArray, X: Columns) -> FloatArray:
        """Give y, [..., P], for params [..., K]."""
        return self.centred(params, X, {})[0]

    def jacobian(self, params: FloatArray, X: Columns) -> FloatArray:
        """Give dy/dparams, [..., P, K]."""
        return self.centred(params, X, {})[1]

    def centred(
        self, params: FloatArray, X: Columns, centre: Centre
    ) -> tuple[FloatArray, FloatArray]:
        """Give y [..., P] and dy/dparams [..., P, K] for amplitudes read at `centre`."""
        linear, nonlinear = params[..., : self.linear], params[..., self.linear :]
        columns = self.columns(nonlinear, X, centre)
        y = self.offset + (columns @ linear[..., None])[..., 0]
        bent = np.einsum("...pln,...l->...pn", self.slopes(nonlinear, X, centre), linear)
        return y, np.concatenate(
            [np.broadcast_to(columns, (*bent.shape[:-1], self.linear)), bent], -1
        )

    def own(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Turn parameters [..., K] read at `centre` into the law's own."""
        linear, nonlinear = params[..., : self.linear], params[..., self.linear :]
        return np.concatenate([linear * self.factors(nonlinear, centre), nonlinear], axis=-1)

    def from_own(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Turn the law's own parameters [..., K] into those read at `centre`."""
        linear, nonlinear = params[..., : self.linear], params[..., self.linear :]
        return np.concatenate([linear / self.factors(nonlinear, centre), nonlinear], axis=-1)

    def own_jacobian(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Give d(own parameters)/d(params read at `centre`), [K, K]."""
        linear, nonlinear = params[: self.linear], params[self.linear :]
        factors = self.factors(nonlinear, centre)
        result = np.eye(len(params))
        result[: self.linear, : self.linear] = np.diag(factors)
        bent = (linear * factors)[:, None] * self.factor_slopes(nonlinear, centre)
        result[: self.linear, self.linear :] = bent
        return result

    def check(self, X: Columns) -> None:
        """Refuse columns on which the law is not defined.

        Raises:
            ConfigError: a value is not finite or not above 0; the message says in which row.
        """
        for name in self.columns_read:
            x = X[name]
            bad = np.flatnonzero(~(np.isfinite(x) & ((x >= 0) if self.from_zero else (x > 0))))
            if bad.size:
                rule = "0 or more" if self.from_zero else "finite and above 0"
                raise ConfigError(
                    f"law {self.name} ({self.formula}): {name} must be {rule}, not "
                    f"{x[bad[0]]:g} (row {bad[0]}, {bad.size} such rows); drop these rows first, "
                    "and say why"
                )


def written(column: str) -> str:
    """Give a column's name as the text of a law has it: quoted, where it is no plain word.

    A dotted name such as `model.T` is plain.
    """
    words = column.split(".")
    plain = all(one.isidentifier() and not keyword.iskeyword(one) for one in words)
    return column if plain and column.isascii() else repr(column)


def spacing(x: FloatArray) -> tuple[float, float]:
    """Give the smallest gap between distinct x and their whole range; 1 and 1 for a single x."""
    distinct = np.unique(x)
    if len(distinct) < 2:
        return 1.0, 1.0
    return float(np.diff(distinct).min()), float(distinct[-1] - distinct[0])


def geometric_mean(x: FloatArray) -> float:
    """Give the geometric mean of values above 0."""
    return float(np.exp(np.log(x).mean()))
