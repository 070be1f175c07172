"""Halting rules as data: when a puzzle is done, and what the halting head learns."""

from typing import Annotated, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Setting
from trm_lab.config.contracts import OwnHalting
from trm_lab.config.extension import Extensible


class Fixed(Setting):
    """Every puzzle gets all N_sup supervision steps; the halting head learns nothing."""

    kind: Literal["fixed"] = "fixed"


class Confidence(Setting):
    """Stop when the head says "solved": BCE on exact correctness, halt at logit > 0 (TRM)."""

    kind: Literal["confidence"] = "confidence"
    threshold: float = 0.0
    """Logit above which a puzzle halts; 0 as published, a probability of one half."""


class QLearning(Setting):
    """Stop when halting is worth more than going on (HRM, section 2.4).

    The value of going on is learned from an extra forward pass, which doubles the forward cost.
    """

    kind: Literal["q_learning"] = "q_learning"


class Residual(Setting):
    """Stop when a supervision step hardly changes the answer; the halting head learns nothing.

    The change is |y' - y| / |y| over all positions and channels of one puzzle, y before and y'
    after the step.
    """

    kind: Literal["residual"] = "residual"
    threshold: float = Field(gt=0)
    """Relative change below which a puzzle halts."""


class Oracle(Setting):
    """Stop when the puzzle is solved: needs the solution, so it is a rule of evaluation alone.

    Its accuracy is the share of puzzles that were right after any of the steps.
    """

    kind: Literal["oracle"] = "oracle"


class AsTrained(Setting):
    """The rule that the model was trained with."""

    kind: Literal["own"] = "own"


Halting = Annotated[
    Fixed | Confidence | QLearning | Residual,
    Field(discriminator="kind"),
    BY_NAME,
    Extensible("halting", OwnHalting),
]
"""Rules of training."""
Rule = Annotated[
    AsTrained | Confidence | QLearning | Residual | Oracle, Field(discriminator="kind"), BY_NAME
]
"""Rules of evaluation."""


class AllSteps(Setting):
    """Every puzzle gets all steps, whatever the halting head says: as published."""

    kind: Literal["all_steps"] = "all_steps"


class WhenHalted(Setting):
    """A puzzle stops at its own halting step: its answer and its halting logit stay as they are.

    Halted puzzles leave the batch, so that the cost falls with the mean halting step; no minimum
    number of steps is drawn.
    """

    kind: Literal["when_halted"] = "when_halted"
    rule: Rule = AsTrained()


Policy = Annotated[AllSteps | WhenHalted, Field(discriminator="kind"), BY_NAME]
