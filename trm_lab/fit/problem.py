"""One law, one set of rows, one objective: coordinates and descent.

The descent minimises the objective itself over all parameters with analytic slopes (scipy's trust
region), in coordinates where amplitudes are read at the centre of the data.  The optimiser's own
flag decides nothing.

P rows, K parameters of which `free` are not held, L linear and N nonlinear.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from trm_lab.fit.objectives import Objective, huber, huber_slope, residuals
from trm_lab.laws.base import Columns, FloatArray, Law

_UNIT = 1e8
"""Size of the data while descending by least squares: the optimiser's tolerances are absolute."""
_EXACT = 1e-29
"""Share of the sum of squares below which a fit is exact to rounding."""
FINE, QUICK, ROUGH = 1e-15, 1e-10, 1e-5
"""Tolerances of the fit, of resamples, and on the way."""


@dataclass(frozen=True)
class Solution:
    """Where a descent ended."""

    u: FloatArray
    """Coordinates, [free]."""
    value: float
    """The objective: a sum over rows."""


@dataclass(frozen=True)
class Problem:
    """A law, rows and an objective."""

    law: Law
    X: Columns
    y: FloatArray
    """[P]; for counts k / m."""
    weights: FloatArray
    """[P], on the rows' losses; of a fit relative ones, of mean 1."""
    objective: Objective
    m: FloatArray | None = None
    inside: bool = False
    """Descend within the scanned box only: a forecast puts no break where no data are."""

    @cached_property
    def centre(self) -> dict[str, float]:
        """Where amplitudes are read."""
        return self.law.usable_centre(self.X)

    @cached_property
    def scale(self) -> float:
        """Unit of linear parameters."""
        return float(np.exp(np.log(self.y).mean())) if self.objective.space == "log" else 1.0

    @cached_property
    def _units(self) -> FloatArray:
        return np.array([self.scale if p.linear else 1.0 for p in self.law.parameters])

    @cached_property
    def _logs(self) -> npt.NDArray[np.bool_]:
        return np.array([p.log for p in self.law.parameters])

    @cached_property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which parameters are not held at a value, [K]."""
        return np.array([not p.fixed for p in self.law.parameters])

    @cached_property
    def box(self) -> FloatArray:
        """Range of the nonlinear parameters, [N, 2], those held at a value included."""
        inner = self.law.box(self.X)
        parameters = self.law.parameters[self.law.linear :]
        return np.array(
            [
                (p.lower, p.lower) if p.fixed else (max(low, p.lower), min(high, p.upper))
                for p, (low, high) in zip(parameters, inner, strict=True)
            ]
        ).reshape(-1, 2)

    @cached_property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of the free coordinates, [free] each: wider than the scanned box."""
        lower, upper = [], []
        for at, p in enumerate(self.law.parameters):
            low, high = p.lower, p.upper
            if not p.linear and p.log:
                inner = self.box[at - self.law.linear]
                reach = 1.0 if self.inside else self.law.reach
                low, high = max(low, inner[0] / reach, 1e-300), min(high, inner[1] * reach)
            lower.append(low)
            upper.append(high)
        ends = self._coordinates(np.array(lower)), self._coordinates(np.array(upper))
        return ends[0][self.free], ends[1][self.free]

    def _coordinates(self, params: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            logs = np.log(np.where(self._logs, params, 1.0))
        return np.where(self._logs, logs, params / self._units)

    def encode(self, centred: FloatArray) -> FloatArray:
        """Give the free coordinates of parameters read at the centre, inside their bounds."""
        return np.clip(self._coordinates(centred)[self.free], *self.bounds)

    def encode_box(self) -> FloatArray:
        """Give the scanned range of the free coordinates, [free, 2]; bounds for linear ones."""
        L = self.law.linear
        ends = []
        for side in (0, 1):
            inner = [p.lower if side == 0 else p.upper for p in self.law.parameters[:L]]
            ends.append(self._coordinates(np.array([*inner, *self.box[:, side]]))[self.free])
        return np.stack(ends, axis=-1)

    def decode(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give the parameters read at the centre, [..., K], and their derivatives, [..., K]."""
        whole = np.broadcast_to(self._held, (*u.shape[:-1], len(self._held))).copy()
        whole[..., self.free] = u
        params = np.where(self._logs, np.exp(np.where(self._logs, whole, 0.0)), whole * self._units)
        params = np.where(self.free, params, whole)
        return params, np.where(self._logs, params, self._units)

    @cached_property
    def _held(self) -> FloatArray:
        return np.array([p.lower if p.fixed else 0.0 for p in self.law.parameters])

    def own(self, u: FloatArray) -> FloatArray:
        """Give the law's own parameters, [K]."""
        return self.law.own(self.decode(u)[0], self.centre)

    def own_slopes(self, u: FloatArray) -> FloatArray:
        """Give d(the law's own parameters)/du, [K, free]."""
        centred, slopes = self.decode(u)
        return (self.law.own_jacobian(centred, self.centre) * slopes)[:, self.free]

    def from_own(self, params: FloatArray) -> FloatArray:
        """Give the free coordinates of the law's own parameters."""
        return self.encode(self.law.from_own(params, self.centre))

    def residual(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give residuals [..., P] and their derivatives [..., P, free] at u [..., free]."""
        params, slopes = self.decode(u)
        f, J = self.law.centred(params, self.X, self.centre)
        r, dr = residuals(self.objective.space, f, self.y, self.m)
        return r, (dr[..., None] * J * slopes[..., None, :])[..., self.free]

    def value(self, u: FloatArray, weights: FloatArray | None = None) -> float:
        """Give the objective: the sum of weighted squares, or of Huber's loss."""
        r, _ = self.residual(u)
        return self.sum(
            r,
            self.weights if weights is None else weights,
            self.objective.delta if self.objective.robust else None,
        )

    def gradient(self, u: FloatArray) -> tuple[float, FloatArray]:
        """Give the objective and its derivatives by u, [free]."""
        r, J = self._finite(u)
        delta = self.objective.delta if self.objective.robust else None
        pull = 2 * r if delta is None else huber_slope(r, delta)
        return self.sum(r, self.weights, delta), J.T @ (self.weights * pull)

    def _finite(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give residuals and derivatives, finite also where a step went too far: it turns back."""
        with np.errstate(over="ignore", invalid="ignore"):
            r, J = self.residual(u)
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            J = np.nan_to_num(J, nan=0.0, posinf=1e150, neginf=-1e150)
            r = np.clip(np.nan_to_num(r, nan=1e3), -1e6, 1e6)
        return r, J

    def descend(
        self,
        u: FloatArray,
        weights: FloatArray | None = None,
        *,
        delta: float | None = None,
        tolerance: float = FINE,
        most: int = 200,
    ) -> Solution:
        """Descend from coordinates u to a local optimum; `delta` None is least squares."""
        w = self.weights if weights is None else weights
        rows = np.flatnonzero(w > 0)
        part = self if len(rows) == len(w) else self._rows(rows)
        w = w[rows]
        root = np.sqrt(w)
        if len(self.bounds[0]) == 0:
            return Solution(u, self.sum(part.residual(u)[0], w, delta))
        with np.errstate(over="ignore", invalid="ignore"):
            start = self.sum(part.residual(u)[0], w, delta)
        reference = float(np.linalg.norm(root * self.size(rows))) or 1.0
        if delta is None and start <= _EXACT * reference**2:
            return Solution(u, start)
        unit = _UNIT / reference if delta is None else 1 / delta
        latest: list[tuple[bytes, FloatArray, FloatArray]] = []

        def at(v: FloatArray) -> tuple[FloatArray, FloatArray]:
            if not latest or latest[0][0] != v.tobytes():
                latest[:] = [(v.tobytes(), *part._finite(v))]
            return latest[0][1], latest[0][2]

        side = root if delta is None else np.ones_like(root)

        def scaled(v: FloatArray) -> FloatArray:
            return np.asarray(unit * side * at(v)[0])

        def slopes(v: FloatArray) -> FloatArray:
            return np.asarray(unit * side[:, None] * at(v)[1])

        def loss(z: FloatArray) -> FloatArray:
            out = z > 1
            safe = np.where(out, z, 1.0)
            rho = np.where(out, 2 * np.sqrt(safe) - 1, z)
            first = np.where(out, safe**-0.5, 1.0)
            second = np.where(out, -0.5 * safe**-1.5, 0.0)
            return np.asarray(np.stack([rho, first, second]) * w)

        rule: Any = "linear" if delta is None else loss
        found = optimize.least_squares(
            scaled, u, slopes, bounds=self.bounds, x_scale="jac", loss=rule, ftol=tolerance,
            xtol=tolerance, gtol=1e-15 if delta is None else tolerance, max_nfev=most,
        )  # fmt: skip
        end = self.sum(part.residual(found.x)[0], w, delta)
        return Solution(u, start) if end > start else Solution(found.x, end)

    def sum(self, r: FloatArray, w: FloatArray, delta: float | None) -> float:
        """Give the weighted sum of squares, or of Huber's loss."""
        return float(w @ (r**2 if delta is None else huber(r, delta)))

    def size(self, rows: npt.NDArray[np.intp]) -> FloatArray:
        """What least squares is relative to: 1 for logarithms, the data otherwise."""
        if self.objective.space == "log":
            return np.ones(len(rows))
        return self.y[rows] if self.m is None else np.sqrt(self.m[rows])

    def _rows(self, rows: npt.NDArray[np.intp]) -> "Problem":
        part = Problem(
            self.law,
            {name: values[rows] for name, values in self.X.items()},
            self.y[rows],
            self.weights[rows],
            self.objective,
            None if self.m is None else self.m[rows],
        )
        for name in ("centre", "scale", "box", "bounds", "_units"):
            part.__dict__[name] = getattr(self, name)  # coordinates stay the whole problem's
        return part
