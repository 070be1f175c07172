"""Deep supervision as data: the loop over supervision steps, and what each step is paid for."""

import itertools
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm_lab.config.base import BY_NAME, Fraction, Setting
from trm_lab.config.halting import Confidence, Fixed, Halting
from trm_lab.config.loops import (
    Depth,
    FixedDepth,
    FullLoop,
    Loop,
    NoCarry,
    SampledDepth,
    SlotCarry,
    Stage,
    StepWeights,
    Uniform,
)


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


ExplorationLaw = Literal["uniform", "full", "geometric"]


class Supervision(Setting):
    """Deep supervision: what a puzzle goes through, and what it is paid for."""

    N_sup: int = Field(default=16, ge=1, le=4096)
    """Supervision steps per puzzle, at most."""
    halting: Halting = Confidence()
    exploration: Fraction = 0.1
    """Chance, per slot and step, of a minimum number of steps; `full_loop` draws once for all."""
    exploration_law: ExplorationLaw = "uniform"
    """Law of that minimum: uniform over 2..N_sup as published, always N_sup, or geometric from 2
    on with p = 1/2, at most N_sup."""
    halt_weight: float = Field(default=0.5, ge=0)
    """Weight of the halting losses."""
    loss: Loss = Stablemax()
    residual_penalty: float = Field(default=0.0, ge=0)
    """Weight of |F(z) - z|^2 / |F(z)|^2, the relative change of all latents z in the last cycle F,
    per puzzle.  It reaches what the gradient scheme keeps a graph of: with TRM's last cycle the
    latents before it are constants.  Pulls the recursion towards a fixed point."""
    hypotheses: int = Field(default=1, ge=1, le=64)
    """Latent states per slot, K; the loss is that of the best (winner-take-all, arXiv
    2601.19085).  Evaluation while training uses the first alone."""

    loop: Loop = SlotCarry()
    """What slots carry, and how many supervision steps an optimiser update has."""
    step_weights: StepWeights = Uniform()
    """What the losses of a supervision step weigh."""
    curriculum: Annotated[tuple[Stage, ...], Field(strict=False)] = ()
    """Stages with other recursion counts; after the last one the recipe's own hold."""
    depth: Depth = FixedDepth()
    """Whether T is drawn in training."""

    @property
    def steps_per_update(self) -> int:
        """Supervision steps of an optimiser update."""
        return self.loop.steps if isinstance(self.loop, SlotCarry) else 1

    @property
    def carried(self) -> bool:
        """Whether latents go on from step to step, in training and in evaluation."""
        return not isinstance(self.loop, NoCarry)

    @property
    def linked(self) -> bool:
        """Whether the gradient flows between the steps of an update."""
        return isinstance(self.loop, SlotCarry) and self.loop.linked

    @model_validator(mode="after")
    def _stages(self) -> Self:
        ends = [stage.until for stage in self.curriculum]
        if any(a >= b for a, b in itertools.pairwise(ends)):
            raise ValueError(f"curriculum: until must rise from stage to stage, not {ends}")
        if isinstance(self.depth, SampledDepth) and any(stage.T for stage in self.curriculum):
            raise ValueError(
                "curriculum: depth: sampled draws T, so a stage cannot set it; leave T out of the "
                "stages, or use depth: fixed"
            )
        return self

    @model_validator(mode="after")
    def _settings_act(self) -> Self:
        once = max(self.N_sup, *(stage.N_sup or 1 for stage in self.curriculum), 1) == 1
        if once and not isinstance(self.step_weights, Uniform):
            raise ValueError(
                f"step_weights: {self.step_weights.kind} tells the steps of a puzzle apart, and "
                "N_sup: 1 has one; use uniform"
            )
        if once and not isinstance(self.loop, SlotCarry):
            raise ValueError(
                f"loop: {self.loop.kind} is about the steps of a puzzle, and N_sup: 1 has one; use "
                "slot_carry, which then does the same"
            )
        leaves_early = isinstance(self.loop, FullLoop) and self.loop.leave == "any"
        if leaves_early and isinstance(self.halting, Fixed):
            raise ValueError(
                "loop: leave: any acts where slots want to halt at different steps, and "
                "halting: fixed halts all of them at the last; use leave: all"
            )
        return self

    @field_validator("halting", mode="before")
    @classmethod
    def _no_oracle(cls, value: Any) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", value)
        if kind == "oracle":
            raise ValueError(
                "oracle knows the solution and is for evaluation only; train with another rule, "
                "then `trm-lab eval RUN --rule oracle`"
            )
        return value
