"""The latents of a puzzle before its first supervision step."""

from typing import Annotated, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Setting


class FixedStart(Setting):
    """One untrained vector per latent, std 1, the same at every position (TRM, HRM)."""

    kind: Literal["fixed"] = "fixed"


class LearnedStart(Setting):
    """The vectors of `fixed`, trained.  Their gradient needs the first update to keep its graph."""

    kind: Literal["learned"] = "learned"


class ZeroStart(Setting):
    """Zeros."""

    kind: Literal["zero"] = "zero"


class RandomStart(Setting):
    """Every entry drawn afresh for each puzzle that starts (EqR, arXiv 2605.21488)."""

    kind: Literal["random"] = "random"
    std: float = Field(default=1.0, gt=0, le=1000)
    """Standard deviation of the normal.  EqR cuts it at two of its own."""


Initial = Annotated[
    FixedStart | LearnedStart | ZeroStart | RandomStart, Field(discriminator="kind"), BY_NAME
]
