"""Deep supervision as data: the loop over supervision steps, and what each step is paid for."""

from typing import Annotated, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Fraction, Setting
from trm_lab.config.halting import Confidence, Halting


class Stablemax(Setting):
    """Cross-entropy over s(v) = v + 1 for v >= 0, else 1 / (1 - v) (arXiv 2501.04697)."""

    kind: Literal["stablemax"] = "stablemax"
    dtype: Literal["float64", "float32"] = "float64"
    """float64 as published; float32 is the same function in a form whose gradient is finite."""


class Softmax(Setting):
    """Ordinary cross-entropy."""

    kind: Literal["softmax"] = "softmax"
    dtype: Literal["float64", "float32"] = "float32"


Loss = Annotated[Stablemax | Softmax, Field(discriminator="kind"), BY_NAME]


class Supervision(Setting):
    """Deep supervision: one supervision step per optimiser update, halted slots are refilled."""

    N_sup: int = Field(default=16, ge=1, le=4096)
    """Supervision steps per puzzle, at most."""
    halting: Halting = Confidence()
    exploration: Fraction = 0.1
    """Chance, per slot and step, of a minimum number of steps drawn from 2..N_sup."""
    halt_weight: float = Field(default=0.5, ge=0)
    """Weight of the halting losses."""
    loss: Loss = Stablemax()
