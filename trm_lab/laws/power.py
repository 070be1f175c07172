"""Power laws of any number of axes, with a floor or without."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trm_lab.laws.axes import Axis, axis
from trm_lab.laws.base import Centre, Columns, FloatArray, Law, Parameter, spacing

_FLAT, _STEEP = 20.0, 8.0
"""An exponent is searched from a curve that falls by 1/20 over the whole range of ln x to one that
falls by exp(8) between the two closest x, and at most to `_MOST`."""
_MOST = 10.0


@dataclass(frozen=True, init=False)
class SumPower(Law):
    """A floor and one falling power per axis; `shared` gives all axes one exponent.

    L(N, D) of arXiv 2203.15556 has two axes; width, depth, N and D of arXiv 2502.06857 four; the
    shared exponent is that of arXiv 2403.08540 (N^-b and D^-b).
    """

    name = "sum_power"
    floor_name = "E"
    formula = "y = E + sum_k A_k x_k^-alpha_k"
    source = (
        "arXiv 2203.15556, equation 2; more axes arXiv 2502.06857; one exponent arXiv 2403.08540"
    )
    use = "loss against two or more scales (parameters, data, depth, width, effective parameters)"

    axes: tuple[Axis, ...]
    shared: bool

    def __init__(
        self, *axes: str | Axis, shared: bool = False, fixed: tuple[tuple[str, float], ...] = ()
    ) -> None:
        if not axes:
            raise ValueError(f"{type(self).__name__}: at least one axis")
        object.__setattr__(self, "axes", tuple(axis(one) for one in axes))
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "fixed", fixed)

    floor: ClassVar[bool] = True
    least: ClassVar[float] = 0.0
    """The least exponent: with a floor a term can only fall."""

    def __str__(self) -> str:
        rest = ", shared=True" if self.shared else ""
        return f"{type(self).__name__}({', '.join(map(str, self.axes))}{rest})"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of all axes."""
        return tuple(dict.fromkeys(name for one in self.axes for name in one.columns_read))

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """E, amplitudes, exponents, and the axes' own."""
        labels = [one.label for one in self.axes]
        several = len(labels) > 1
        amplitudes = [f"A_{label}" if several else "A" for label in labels]
        level = "y above the floor" if self.floor else "y"
        exponents = [f"alpha_{label}" if several else "alpha" for label in labels]
        if self.shared:
            exponents = ["alpha"]
        floor = [Parameter("E", "floor, y where every axis is infinite", linear=True)] * self.floor
        return (
            *floor,
            *(
                Parameter(name, f"{level} where {label} is 1", linear=True)
                for name, label in zip(amplitudes, labels, strict=True)
            ),
            *(Parameter(name, "exponent", self.least, _MOST) for name in exponents),
            *(parameter for one in self.axes for parameter in one.parameters),
        )

    def _split(self, nonlinear: FloatArray) -> tuple[FloatArray, list[FloatArray], list[slice]]:
        """Give the exponents [..., axes], each axis' own parameters, and where these stand."""
        count = 1 if self.shared else len(self.axes)
        exponents = nonlinear[..., :count]
        if self.shared:
            exponents = np.repeat(exponents, len(self.axes), axis=-1)
        own, places, at = [], [], count
        for one in self.axes:
            places.append(slice(at, at + len(one.parameters)))
            own.append(nonlinear[..., places[-1]])
            at = places[-1].stop
        return exponents, own, places

    def _logs(self, own: list[FloatArray], X: Columns, centre: Centre) -> list[FloatArray]:
        """Give ln(x / centre) of every axis, [..., P]."""
        pairs = zip(self.axes, own, strict=True)
        return [one.log(a, X) - np.log(centre.get(one.label, 1.0)) for one, a in pairs]

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """1 and (x / centre)^-alpha."""
        exponents, own, _ = self._split(nonlinear)
        logs = self._logs(own, X, centre)
        powers = [np.exp(-exponents[..., k, None] * log) for k, log in enumerate(logs)]
        return np.stack([np.ones_like(powers[0])] * self.floor + powers, axis=-1)

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """Derivatives by exponents and by the axes' own parameters."""
        exponents, own, places = self._split(nonlinear)
        logs = self._logs(own, X, centre)
        rows = logs[0].shape[-1]
        result = np.zeros((*nonlinear.shape[:-1], rows, self.linear, nonlinear.shape[-1]))
        for k, (one, log, place) in enumerate(zip(self.axes, logs, places, strict=True)):
            exponent = exponents[..., k, None]
            power = np.exp(-exponent * log)
            result[..., k + self.floor, 0 if self.shared else k] = -log * power
            inner = one.slopes(own[k], X)
            result[..., k + self.floor, place] = -(exponent * power)[..., None] * inner
        return result

    def box(self, X: Columns) -> FloatArray:
        """Exponents by the spacing of ln x; the axes' own ranges."""
        ends = []
        for one in self.axes:
            middle = np.mean(one.box(X), axis=1)
            gap, span = spacing(one.log(middle, X))
            most = min(max(_STEEP / gap, 40 / (_FLAT * span)), _MOST)
            ends.append((1 / (_FLAT * span) if self.floor else -most, most))
        if self.shared:
            ends = [(min(low for low, _ in ends), max(high for _, high in ends))]
        own = [tuple(row) for one in self.axes for row in one.box(X)]
        return np.array([*ends, *own])

    def scales(self, X: Columns) -> list[dict[str, FloatArray]]:
        """The axes against each other, and what is inside each."""
        middles = [one.box(X).mean(axis=1) for one in self.axes]
        logs = {one.label: one.log(m, X) for one, m in zip(self.axes, middles, strict=True)}
        held = dict(self.fixed)
        return [logs, *(inner for one in self.axes for inner in one.scales(X, held))]

    def choices(self, X: Columns) -> list[tuple[str, ...]]:
        """Those of all axes; a column that two of them read is chosen once."""
        result: list[tuple[str, ...]] = []
        for kind in (kind for one in self.axes for kind in one.choices(X)):
            seen = {name for before in result for name in before}
            result.append(tuple(name for name in kind if name not in seen))
        return [kind for kind in result if kind]

    def centre(self, X: Columns) -> dict[str, float]:
        """Typical values of the axes."""
        return {one.label: one.typical(X) for one in self.axes}

    def factors(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """1 and centre^alpha."""
        exponents, _, _ = self._split(nonlinear)
        logs = np.array([np.log(centre.get(one.label, 1.0)) for one in self.axes])
        factors = np.exp(exponents * logs)
        return np.concatenate([np.ones((*factors.shape[:-1], int(self.floor))), factors], axis=-1)

    def factor_slopes(self, nonlinear: FloatArray, centre: Centre) -> FloatArray:
        """Ln centre by the exponents."""
        result = np.zeros((*nonlinear.shape[:-1], self.linear, nonlinear.shape[-1]))
        for k, one in enumerate(self.axes):
            log = np.log(centre.get(one.label, 1.0))
            result[..., k + self.floor, 0 if self.shared else k] = log
        return result


class PowerFloor(SumPower):
    """One falling power over a floor (M2 of arXiv 2209.06640)."""

    name = "power_floor"
    formula = "y = E + A x^-alpha"
    source = "arXiv 1712.00409; M2 of arXiv 2209.06640"
    use = "loss against one scale, with an irreducible part"

    def __init__(self, x: str | Axis, *, fixed: tuple[tuple[str, float], ...] = ()) -> None:
        super().__init__(x, fixed=fixed)


class Power(SumPower):
    """One falling power (M1 of arXiv 2209.06640)."""

    name = "power"
    formula = "y = A x^-alpha, alpha of either sign"
    source = "arXiv 2001.08361; M1 of arXiv 2209.06640"
    use = "loss against one scale, far from any floor; the baseline that others must beat"
    floor = False
    floor_name = ""
    least = -_MOST

    def __init__(self, x: str | Axis, *, fixed: tuple[tuple[str, float], ...] = ()) -> None:
        super().__init__(x, fixed=fixed)
