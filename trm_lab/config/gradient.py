"""How a program is differentiated.

A truncation is one integer function: how many leading updates of the T(n + 1) run without a graph.
Values never depend on it.  `Phantom` and `Implicit` are forwards too: they change the values.
"""

import math
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import BY_NAME, Count, Setting


class LastUpdates(Setting):
    """Only the last k updates: HRM's one-step gradient is k = 2 (arXiv 2506.21734, eq. 4)."""

    kind: Literal["last_updates"] = "last_updates"
    k: int = Field(default=2, ge=1)
    """Updates with a graph; all of them if the program is shorter."""

    def cut(self, cycle: int, T: int) -> int:
        """Give the number of leading updates without a graph, for cycles of `cycle` updates."""
        return max(0, cycle * T - self.k)


class LastCycles(Setting):
    """The last c whole cycles: TRM is c = 1 (arXiv 2510.04871, section 4.1)."""

    kind: Literal["last_cycles"] = "last_cycles"
    c: int = Field(default=1, ge=1)
    """Cycles with a graph; all of them if there are fewer."""

    def cut(self, cycle: int, T: int) -> int:
        """Give the number of leading updates without a graph, for cycles of `cycle` updates."""
        return cycle * max(0, T - self.c)


class WholeProgram(Setting):
    """Every update of the supervision step."""

    kind: Literal["whole_program"] = "whole_program"

    def cut(self, cycle: int, T: int) -> int:  # noqa: ARG002
        """Give the number of leading updates without a graph: none."""
        return 0


class RandomTruncation(Setting):
    """A truncation drawn anew at every optimiser update; values do not depend on the draw.

    The length k from low..high has probability proportional to ratio ** (k - low): uniform at 1,
    a geometric law cut at `high` below.  Where nothing is drawn (evaluation, diagnostics) the
    longest counts.  Tallec & Ollivier 2017 (arXiv 1705.08209), without their reweighting: the
    gradient keeps the bias of its truncations.
    """

    kind: Literal["random_truncation"] = "random_truncation"
    low: Count = 1
    """Shortest length."""
    high: Count
    """Longest length; all of the program if that is shorter."""
    ratio: float = Field(default=1.0, gt=0, le=1)
    """Probability of a length over that of the length before."""
    unit: Literal["update", "cycle"] = "update"
    """What a length counts: updates or whole cycles."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not be above high {self.high}")
        return self

    def of(self, length: int) -> LastUpdates | LastCycles:
        """Give the truncation of one length."""
        return LastUpdates(k=length) if self.unit == "update" else LastCycles(c=length)

    @lru_cache(maxsize=8)  # noqa: B019  # frozen and small
    def law(self) -> list[tuple[float, LastUpdates | LastCycles]]:
        """List the probability of each truncation."""
        weights = [self.ratio ** (k - self.low) for k in range(self.low, self.high + 1)]
        total = math.fsum(weights)
        return [(w / total, self.of(self.low + i)) for i, w in enumerate(weights)]

    def cut(self, cycle: int, T: int) -> int:
        """Give the number of leading updates without a graph at the longest length."""
        return self.of(self.high).cut(cycle, T)


class Phantom(Setting):
    """Phantom gradient by damped unrolling (Geng et al. 2021, arXiv 2111.05177).

    The last k of the T cycles keep their graph and are damped: each latent moves only the part
    `damping` of the way to what the cycle makes of it.  So depth and cost are those of
    `last_cycles`, and at damping 1 the two are the same; below 1 the values differ, in training
    and in evaluation alike.
    """

    kind: Literal["phantom"] = "phantom"
    k: int = Field(default=1, ge=1)
    """Damped cycles with a graph; all of them if there are fewer."""
    damping: float = Field(default=0.5, gt=0, le=1)
    """Part of the way that a damped cycle goes."""

    def cut(self, cycle: int, T: int) -> int:
        """Give the number of leading updates without a graph, for cycles of `cycle` updates."""
        return cycle * max(0, T - self.k)


class Implicit(Setting):
    """Implicit differentiation at a fixed point of the cycle (Bai et al. 2019, arXiv 1909.01377).

    The T cycles become the evaluations of a solver: it looks for latents that one cycle leaves
    alone, all latents jointly and every puzzle by itself, and spends at most T cycles, of which the
    last one is an ordinary cycle from the solution and alone keeps a graph.  A puzzle that has
    reached `tolerance` is left as it is.  Backward, the gradient g of the fixed point solves
    g = v + g J with J the Jacobian of the cycle (implicit function theorem), by the same solver.

    The solver is Anderson acceleration (Walker & Ni 2011, doi 10.1137/10078356X).
    """

    kind: Literal["implicit"] = "implicit"
    memory: int = Field(default=5, ge=0, le=50)
    """Earlier iterates that Anderson's mixing uses; 0 is the plain fixed-point iteration."""
    damping: float = Field(default=1.0, gt=0, le=1)
    """Part of the way that an iteration goes."""
    tolerance: float = Field(default=1e-3, ge=0)
    """Relative residual |F(z) - z| / |F(z)| at which a puzzle counts as solved.  At 0 every solve
    takes exactly T cycles, so that its cost is known."""
    backward_iterations: int = Field(default=20, ge=0, le=10_000)
    """Products with the Jacobian, at most.  0 takes v for g: the Jacobian-free gradient (Fung et
    al. 2021, arXiv 2103.12803), HRM's argument for its one-step gradient over a whole cycle."""
    backward_tolerance: float = Field(default=1e-3, ge=0)
    """Relative residual of the backward solve; 0 takes exactly `backward_iterations`."""

    def cut(self, cycle: int, T: int) -> int:
        """Give the number of leading updates without a graph: all but the last cycle."""
        return cycle * max(0, T - 1)


Gradient = Annotated[
    LastUpdates | LastCycles | WholeProgram | RandomTruncation | Phantom | Implicit,
    Field(discriminator="kind"),
    BY_NAME,
]
Truncation = LastUpdates | LastCycles | WholeProgram | RandomTruncation
"""The schemes on which values never depend."""
