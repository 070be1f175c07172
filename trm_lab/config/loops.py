"""The loop over supervision steps as data: who carries what, what a step weighs, how deep it is."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from trm_lab.config.base import BY_NAME, Count, Setting


class SlotCarry(Setting):
    """Slots carry their latents from step to step; a slot that halts gets the next puzzle.

    As the released code of TRM and HRM, which has one step per update.  Over several steps the
    weights stay the same, halted slots are refilled between them, and the losses are summed.
    """

    kind: Literal["slot_carry"] = "slot_carry"
    steps: int = Field(default=1, ge=1, le=64)
    """Supervision steps per optimiser update (TinyRecursiveModels, pull request 41: 2)."""
    linked: bool = False
    """Whether the gradient flows through the carried latents between the steps of an update."""

    @model_validator(mode="after")
    def _something_to_link(self) -> Self:
        if self.linked and self.steps == 1:
            raise ValueError("linked: true links the steps of an update, and steps: 1 has one")
        return self


class FullLoop(Setting):
    """All slots work on one mini-batch for the same number of steps, with an update after each.

    The pseudo-code of TRM's paper (arXiv 2510.04871, fig. 3): `for step in range(N_sup)`, left when
    `q > 0`, which is said of one q.
    """

    kind: Literal["full_loop"] = "full_loop"
    leave: Literal["all", "any"] = "all"
    """The batch is left when all slots want to halt at one step, or when any does."""


class NoCarry(Setting):
    """A slot keeps its puzzle and its budget, and starts every step from the initial latents.

    Evaluation starts every step anew too, so that all its steps give the same.
    """

    kind: Literal["no_carry"] = "no_carry"


Loop = Annotated[SlotCarry | FullLoop | NoCarry, Field(discriminator="kind"), BY_NAME]


class Uniform(Setting):
    """All supervision steps weigh the same."""

    kind: Literal["uniform"] = "uniform"


class Geometric(Setting):
    """Step t weighs ratio ** (t - 1), all its losses alike, by the step of each slot.

    CGAR (arXiv 2511.08653) has 0.7; its code takes t as the mean over the batch.
    """

    kind: Literal["geometric"] = "geometric"
    ratio: float = Field(default=0.7, gt=0, lt=1)


class LastOnly(Setting):
    """Only the step at which a slot halts has losses: the terminal loss of RSM (arXiv 2603.15641).

    A halting head then learns from the steps at which it halted, and at the budget.
    """

    kind: Literal["last_only"] = "last_only"


StepWeights = Annotated[Uniform | Geometric | LastOnly, Field(discriminator="kind"), BY_NAME]


class Stage(Setting):
    """Recursion counts before a fraction of the training; null is the recipe's own."""

    until: float = Field(gt=0, lt=1)
    """Fraction of the updates at which the stage ends, rounded up to a whole update."""
    n: Count | None = None
    T: Count | None = None
    N_sup: Annotated[int, Field(ge=1, le=4096)] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.n is self.T is self.N_sup is None:
            raise ValueError("a stage changes nothing; give it n, T or N_sup")
        return self


class FixedDepth(Setting):
    """T is what the recipe says."""

    kind: Literal["fixed"] = "fixed"


class SampledDepth(Setting):
    """T is drawn for every supervision step in training, uniform in low..high.

    Per puzzle, a slot with fewer cycles than the deepest starts later, so that a truncation from
    the end holds for all; the cost is that of the deepest.  Evaluation has the recipe's own T.
    """

    kind: Literal["sampled"] = "sampled"
    low: Count = 1
    high: Count
    per: Literal["batch", "puzzle"] = "batch"

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}; or use depth: fixed")
        return self

    def law(self, slots: int) -> dict[int, float]:
        """Give the probability of each T that a step of all slots costs."""
        count = self.high - self.low + 1
        slots = slots if self.per == "puzzle" else 1
        below = [(i / count) ** slots for i in range(count + 1)]
        return {self.low + i: below[i + 1] - below[i] for i in range(count)}


Depth = Annotated[FixedDepth | SampledDepth, Field(discriminator="kind"), BY_NAME]


class Counts(NamedTuple):
    """Recursion counts in force at one update."""

    n: int
    """Latent updates per cycle."""
    T: int
    """Cycles per supervision step; the most where it is drawn."""
    N_sup: int
    """Supervision steps per puzzle, at most."""
