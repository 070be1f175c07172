"""One law for several groups of rows, with some parameters in common."""

from dataclasses import dataclass

import numpy as np

from trm_lab.laws.base import Centre, Columns, FloatArray, Law, Parameter

GROUP = "__group__"
"""Column of X that holds the number of every row's group."""


@dataclass(frozen=True)
class Grouped(Law):
    """`law` in every group, where the parameters named in `share` have one value in all of them.

    The others are called name[group].
    """

    name = "grouped"
    formula = ""
    source = ""
    use = "an ablation: the same law for every arm, what arms have in common estimated together"

    law: Law
    groups: tuple[str, ...]
    share: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.law)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The law's columns."""
        return self.law.columns_read

    @property
    def layout(self) -> tuple[tuple[Parameter, tuple[int, ...]], ...]:
        """Parameters, linear first, and the groups (numbers) that each belongs to."""
        everyone = tuple(range(len(self.groups)))
        result = []
        for parameter in self.law.parameters:
            if parameter.name in self.share:
                result.append((parameter, everyone))
                continue
            for g, group in enumerate(self.groups):
                named = Parameter(**{**vars(parameter), "name": f"{parameter.name}[{group}]"})
                result.append((named, (g,)))
        return tuple(result)

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        """The law's, shared or once per group."""
        return tuple(parameter for parameter, _ in self.layout)

    @property
    def alone(self) -> tuple[int, ...]:
        """How many free parameters every group has to itself."""
        return tuple(
            sum(members == (g,) and not parameter.fixed for parameter, members in self.layout)
            for g in range(len(self.groups))
        )

    @property
    def places(self) -> FloatArray:
        """Where every group finds the law's parameters: [group, K of the law], as floats."""
        rows: list[list[int]] = [[] for _ in self.groups]
        for at, (_, members) in enumerate(self.layout):
            for g in members:
                rows[g].append(at)
        return np.array(rows, dtype=float)

    def centred(
        self, params: FloatArray, X: Columns, centre: Centre
    ) -> tuple[FloatArray, FloatArray]:
        """The law of every row's group."""
        rows = len(X[GROUP])
        y = np.zeros((*params.shape[:-1], rows))
        slopes = np.zeros((*params.shape[:-1], rows, params.shape[-1]))
        for g, places in enumerate(self.places.astype(int)):
            here = np.flatnonzero(X[GROUP] == g)
            part = {name: X[name][here] for name in self.columns_read}
            y[..., here], bent = self.law.centred(params[..., places], part, centre)
            slopes[..., here[:, None], places[None, :]] = bent
        return y, slopes

    def columns(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """Not used: groups are searched one by one, then together."""
        raise NotImplementedError

    def slopes(self, nonlinear: FloatArray, X: Columns, centre: Centre) -> FloatArray:
        """Not used."""
        raise NotImplementedError

    def box(self, X: Columns) -> FloatArray:
        """The law's, once per group."""
        inner = self.law.box(X)
        L = self.law.linear
        rows = []
        for at, parameter in enumerate(self.law.own_parameters[L:]):
            count = 1 if parameter.name in self.share else len(self.groups)
            rows += [inner[at]] * count
        return np.array(rows).reshape(-1, 2)

    def scales(self, X: Columns) -> list[dict[str, FloatArray]]:
        """The law's, over all groups."""
        return self.law.scales(X)

    def choices(self, X: Columns) -> list[tuple[str, ...]]:
        """The law's."""
        return self.law.choices(X)

    def centre(self, X: Columns) -> dict[str, float]:
        """The law's; none where a shared amplitude would be shared at the centre only."""
        centre = self.law.usable_centre(X)
        shared = set(self.share)
        nonlinear = {p.name for p in self.law.own_parameters if not p.linear}
        alone = nonlinear - shared
        return {} if alone and shared & self.law.moved_by(X, centre) else centre

    def _spread(self, params: FloatArray, of: str, centre: Centre) -> FloatArray:
        result = params.copy()
        for places in self.places.astype(int):
            result[..., places] = getattr(self.law, of)(params[..., places], centre)
        return result

    def own(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Group by group."""
        return self._spread(params, "own", centre)

    def from_own(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Group by group."""
        return self._spread(params, "from_own", centre)

    def own_jacobian(self, params: FloatArray, centre: Centre) -> FloatArray:
        """Group by group."""
        result = np.eye(len(params))
        for places in self.places.astype(int):
            inner = self.law.own_jacobian(params[places], centre)
            result[np.ix_(places, places)] = inner
        return result
