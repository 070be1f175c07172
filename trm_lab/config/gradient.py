"""Which updates of a program keep their graph.

A truncation is one integer function: how many leading updates of the T(n + 1) run without a graph.
Values never depend on it.
"""

from typing import Annotated, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Setting


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


Gradient = Annotated[LastUpdates | LastCycles | WholeProgram, Field(discriminator="kind"), BY_NAME]
