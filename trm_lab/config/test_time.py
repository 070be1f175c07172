"""What is spent on a trained model at test time: depth, breadth, and how one answer is chosen.

No part of a recipe: the same weights are evaluated under many of these.
"""

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import Count, Setting
from trm_lab.config.halting import AsTrained, Rule
from trm_lab.config.training import Steps

Selector = Literal["head", "residual", "vote", "oracle"]
SELECTORS: tuple[Selector, ...] = ("head", "residual", "vote", "oracle")


class Rollouts(Setting):
    """A grid of supervision steps (depth) and rollouts of every puzzle (breadth).

    Rollout 0 is the model's plain evaluation, without noise and from its own start; the others are
    perturbed.  K rollouts are the first K of one list, so what K finds 2K finds too.
    """

    steps: Steps = (16,)
    """Supervision steps after which answers are recorded; may exceed those of training."""
    rollouts: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (1,)
    """Numbers of rollouts, K, out of which one answer is chosen."""
    noise: float = Field(default=0.0, ge=0, le=1000)
    """Standard deviation of Gaussian noise added to all latents at the start of every supervision
    step of rollouts 1, 2, ... (PTRM, arXiv 2605.19943)."""
    relative: bool = False
    """Whether `noise` counts in units of each latent's root mean square."""
    restarts: bool = False
    """Whether rollouts 1, 2, ... start from fresh standard normal latents (EqR, arXiv
    2605.21488)."""
    select: Annotated[tuple[Selector, ...], Field(min_length=1, strict=False)] | None = None
    """How one rollout is chosen: the highest halting logit, the smallest relative change of y, the
    most common whole answer (ties by halting logit), or any that is right (an upper bound); every
    one that the run has something to tell for if null."""
    n: Count | None = None
    """Latent updates per cycle; the model's own if null."""
    T: Count | None = None
    """Cycles per supervision step; the model's own if null."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of noise and restarts; the run's own seed has no part in them."""

    @property
    def perturbed(self) -> bool:
        """Whether later rollouts differ from the first."""
        return self.noise > 0 or self.restarts

    @model_validator(mode="after")
    def _grid(self) -> Self:
        for name in ("steps", "rollouts"):
            _refuse_fall(name, getattr(self, name))
        if self.select and len(set(self.select)) < len(self.select):
            raise ValueError(f"select names a selector twice: {list(self.select)}")
        if self.perturbed and self.rollouts[-1] == 1:
            raise ValueError(
                "rollouts: noise and restarts act on the second rollout and those after it; "
                "give more than 1, as rollouts 1,8"
            )
        if self.relative and not self.noise:
            raise ValueError("relative noise needs noise above 0")
        return self


class Halted(Setting):
    """Every puzzle up to its own halting step, under one rule after the other.

    What `eval.policy: when_halted` of a recipe asks for, of weights that are there already.
    """

    steps: Steps = (16,)
    """Supervision steps that a puzzle gets at most; may exceed those of training."""
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, strict=False)] = (AsTrained(),)
    """Halting rules, each with its threshold."""

    @model_validator(mode="after")
    def _grid(self) -> Self:
        _refuse_fall("steps", self.steps)
        if len(set(self.rules)) < len(self.rules):
            raise ValueError("rules: the same rule with the same threshold stands twice")
        return self


class Subject(Setting):
    """Which weights of a run are evaluated, on which puzzles."""

    weights: Literal["last", "best", "raw"] = "last"
    """Those that evaluation uses at the end (averaged where there are any), those best on
    validation, or the last without averaging."""
    split: Literal["test", "validation"] = "test"
    limit: int | None = Field(default=None, ge=1)
    """Only the first puzzles; all if null."""


def _refuse_fall(name: str, values: tuple[int, ...]) -> None:
    if any(a >= b for a, b in itertools.pairwise(values)):
        raise ValueError(f"{name} must rise, not {list(values)}")
