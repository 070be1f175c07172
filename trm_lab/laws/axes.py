"""What a power law is a power of: a column, or an effective size made of several.

An axis gives the logarithm of its quantity and how that moves with the axis' own parameters.  The
pattern of effective data, parameters and precision (arXiv 2305.16264, 2411.04330) is to replace N
or D by such a quantity with one or two more constants.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trm_lab.laws.base import Columns, FloatArray, Parameter, geometric_mean, written

_PHI = (-1.0, 2.0)
"""Range of the exponents of recurrence: 0 means steps are free of capacity, 1 that a step is as
good as layers of its own."""


@dataclass(frozen=True)
class Axis(ABC):
    """A quantity above 0 made of columns and of N_a parameters of its own."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the quantity."""

    @property
    @abstractmethod
    def columns_read(self) -> tuple[str, ...]:
        """Columns it reads."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its own parameters."""
        return ()

    @abstractmethod
    def log(self, own: FloatArray, X: Columns) -> FloatArray:
        """Give the logarithm, [P] or [..., P], for own parameters [..., N_a]."""

    def slopes(self, own: FloatArray, X: Columns) -> FloatArray:
        """Give the derivatives of the logarithm, [..., P, N_a]."""
        return np.zeros((*self.log(own, X).shape, 0))

    @abstractmethod
    def typical(self, X: Columns) -> float:
        """Give a typical value, whatever the own parameters."""

    def scales(self, X: Columns) -> list[dict[str, FloatArray]]:
        """Give sets of logarithms that the design must move apart for the own parameters."""
        return []

    def box(self, X: Columns) -> FloatArray:
        """Give the range of the own parameters, [N_a, 2]."""
        return np.array([(p.lower, p.upper) for p in self.parameters]).reshape(-1, 2)


@dataclass(frozen=True)
class Column(Axis):
    """A column of the data."""

    column: str

    def __str__(self) -> str:
        return written(self.column)

    @property
    def label(self) -> str:
        """The column's name."""
        return self.column

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def log(self, own: FloatArray, X: Columns) -> FloatArray:
        """Ln x."""
        return np.log(X[self.column])

    def typical(self, X: Columns) -> float:
        """The geometric mean."""
        return geometric_mean(X[self.column])


@dataclass(frozen=True)
class EffectiveN(Axis):
    """Parameters of a recurrent net: N_once + r^phi N_rec, the iso-depth law of arXiv 2604.21106.

    `once` and `rec` are columns of parameters used once and in every application, `r` the column of
    block applications per supervision step.  Given `n` and `T` instead of `r`, the two kinds of
    recursion have an exponent each: (n + 1)^phi_n T^phi_T.
    """

    formula: ClassVar[str] = "N_eff = N_once + r^phi N_rec, or r^phi as (n + 1)^phi_n T^phi_T"
    source: ClassVar[str] = "arXiv 2604.21106"
    use: ClassVar[str] = (
        "an axis of another law: parameters of a net whose blocks are applied again; two exponents "
        "where n and T move apart"
    )

    once: str
    rec: str
    r: str | None = None
    n: str | None = None
    T: str | None = None

    def __post_init__(self) -> None:
        if (self.r is None) == (self.n is None) or (self.n is None) != (self.T is None):
            raise ValueError("EffectiveN: give either r, or both n and T")

    def __str__(self) -> str:
        names = ("r",) if self.r else ("n", "T")
        rest = (f"{name}={written(str(getattr(self, name)))}" for name in names)
        return f"EffectiveN({', '.join([written(self.once), written(self.rec), *rest])})"

    @property
    def label(self) -> str:
        """N_eff."""
        return "N_eff"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The two counts and the recursion numbers."""
        rest = (self.r,) if self.r else (self.n, self.T)
        return (self.once, self.rec, *(str(name) for name in rest))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Phi, or phi_n and phi_T."""
        if self.r:
            return (
                Parameter("phi", "what a further application is worth, in unique layers", *_PHI),
            )
        return (
            Parameter("phi_n", "what a further latent update is worth", *_PHI),
            Parameter("phi_T", "what a further cycle is worth", *_PHI),
        )

    def _logs(self, X: Columns) -> FloatArray:
        """Logarithms of the recursion numbers, [P, N_a]."""
        if self.r:
            return np.log(X[self.r])[:, None]
        return np.stack([np.log(X[str(self.n)] + 1), np.log(X[str(self.T)])], axis=-1)

    def _recurring(self, own: FloatArray, X: Columns) -> FloatArray:
        return np.asarray(np.log(X[self.rec]) + np.einsum("...a,pa->...p", own, self._logs(X)))

    def log(self, own: FloatArray, X: Columns) -> FloatArray:
        """Ln(N_once + r^phi N_rec)."""
        return np.logaddexp(np.log(X[self.once]), self._recurring(own, X))

    def slopes(self, own: FloatArray, X: Columns) -> FloatArray:
        """Share of the recurring part, times ln r."""
        share = np.exp(self._recurring(own, X) - self.log(own, X))
        return np.asarray(share[..., None] * self._logs(X))

    def scales(self, X: Columns) -> list[dict[str, FloatArray]]:
        """The two kinds of recursion, where each has an exponent."""
        if self.r:
            return []
        logs = self._logs(X)
        return [{str(self.n): logs[:, 0], str(self.T): logs[:, 1]}]

    def typical(self, X: Columns) -> float:
        """The geometric mean of all parameters, unrolled by no more than one application."""
        return geometric_mean(X[self.once] + X[self.rec])


def axis(given: "str | Axis") -> Axis:
    """Give an axis from a column's name, or the axis itself."""
    return Column(given) if isinstance(given, str) else given
