"""Halting rules as data: when a puzzle is done, and what the halting head learns."""

from typing import Annotated, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Setting


class Fixed(Setting):
    """Every puzzle gets all N_sup supervision steps; the halting head learns nothing."""

    kind: Literal["fixed"] = "fixed"


class Confidence(Setting):
    """Stop when the head says "solved": BCE on exact correctness, halt at logit > 0 (TRM)."""

    kind: Literal["confidence"] = "confidence"


class QLearning(Setting):
    """Stop when halting is worth more than going on (HRM, section 2.4).

    The value of going on is learned from an extra forward pass, which doubles the forward cost.
    """

    kind: Literal["q_learning"] = "q_learning"


Halting = Annotated[Fixed | Confidence | QLearning, Field(discriminator="kind"), BY_NAME]
