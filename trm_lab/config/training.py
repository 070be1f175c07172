"""Optimisation and evaluation as data."""

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import BY_NAME, Fraction, Setting
from trm_lab.config.halting import AllSteps, Policy

Betas = Annotated[tuple[Fraction, Fraction], Field(strict=False)]
"""Strict elsewhere, but YAML has lists and no tuples."""


class AdamATan2(Setting):
    """Adam with atan2 in place of the division: no epsilon, scale-free (arXiv 2407.05872).

    As the published CUDA kernel computes it: decay first, first-moment correction outside.
    """

    kind: Literal["adam_atan2"] = "adam_atan2"
    lr: float = Field(default=1e-4, gt=0)
    betas: Betas = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)


class AdamW(Setting):
    """Adam with decoupled weight decay (arXiv 1711.05101), torch's own."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-4, gt=0)
    betas: Betas = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    eps: float = Field(default=1e-8, gt=0)


class AdamATan2Scaled(Setting):
    """Adam with a scaled atan2, both corrections inside: `lr * a * atan2(m, b * sqrt(v))`.

    The form of the package `adam-atan2-pytorch`, the usual substitute for the published kernel and
    not the same function: its steps are a = 1.27, about 4/pi, times as long once warm.
    """

    kind: Literal["adam_atan2_scaled"] = "adam_atan2_scaled"
    lr: float = Field(default=1e-4, gt=0)
    betas: Betas = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    a: float = Field(default=1.27, gt=0)
    """Scale of the step; 4/pi makes it lr where the moments are of one size."""
    b: float = Field(default=1.0, gt=0)
    """Scale of the second moment's root."""


Adam = Annotated[AdamATan2 | AdamATan2Scaled | AdamW, Field(discriminator="kind"), BY_NAME]


class Muon(Setting):
    """Momentum made orthogonal for the nets' matrices (Jordan et al. 2024), torch's own (>= 2.9).

    Embeddings, heads and vectors have an optimiser of their own.  A fused projection (qkv, gate and
    up) is one matrix, and so are those of all experts of `moe`: it is made orthogonal across them.
    The orthogonalisation runs in bfloat16 whatever the type of the weights.
    """

    kind: Literal["muon"] = "muon"
    lr: float = Field(default=0.02, gt=0)
    """Learning rate of the matrices."""
    weight_decay: float = Field(default=0.1, ge=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    adjust: Literal["original", "match_rms_adamw"] = "original"
    """Factor on lr for a matrix of A x B: sqrt(max(1, A / B)), or 0.2 sqrt(max(A, B)), with which
    Adam's learning rates carry over (arXiv 2502.16982)."""
    rest: Adam = AdamATan2()
    """Optimiser of everything else, with its own learning rate."""


Optimizer = Annotated[
    AdamATan2 | AdamATan2Scaled | AdamW | Muon, Field(discriminator="kind"), BY_NAME
]


class SignSGD(Setting):
    """Sparse sign descent on the rows of the puzzle table that are in the batch."""

    lr: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)


class ConstantSchedule(Setting):
    """Linear warm-up, then constant."""

    kind: Literal["constant"] = "constant"
    warmup: int = Field(default=2000, ge=0)
    """Updates of warm-up."""


class CosineSchedule(Setting):
    """Linear warm-up, then half a cosine down to `min_ratio` of the learning rate."""

    kind: Literal["cosine"] = "cosine"
    warmup: int = Field(default=2000, ge=0)
    """Updates of warm-up."""
    min_ratio: Fraction = 0.0


Schedule = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="kind"), BY_NAME]


class Train(Setting):
    """One optimisation."""

    updates: int = Field(ge=1)
    """Optimiser updates; each is one supervision step of every slot, or supervision.loop.steps."""
    batch: int = Field(default=768, ge=1)
    """Puzzle slots."""
    optimizer: Optimizer = AdamATan2()
    table_optimizer: SignSGD = SignSGD()
    """Optimiser of the puzzle table; without effect where model.puzzle is null."""
    schedule: Schedule = ConstantSchedule()
    """Shape of all learning rates."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.999
    """Decay per update of the averaged weights; null for none."""
    ema_table: bool = False
    """Average the puzzle table too; as published only the trunk is averaged."""
    dtype: Literal["float32", "bfloat16", "float64"] = "bfloat16"
    """Type of the activations.  Parameters are float32 (float64 with float64)."""

    @model_validator(mode="after")
    def _something_is_averaged(self) -> Self:
        if self.ema_table and self.ema is None:
            raise ValueError("ema_table: true needs a decay; give ema, as 0.999, or leave it out")
        return self

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.schedule.warmup >= self.updates:
            raise ValueError(
                f"schedule.warmup {self.schedule.warmup} leaves nothing of {self.updates} updates"
            )
        return self


Steps = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, strict=False)
]


class Eval(Setting):
    """What is evaluated, when, and how long each puzzle is worked on."""

    every: int = Field(default=1000, ge=1)
    """Updates between evaluations on the validation puzzles."""
    steps: Steps = (16,)
    """Supervision steps after which validation accuracy is recorded; the last one picks `best`."""
    final_steps: Steps = (16,)
    """Supervision steps after which test accuracy is recorded at the end."""
    best: bool = False
    """Evaluate the best weights on the test puzzles too, beside the last."""
    policy: Policy = AllSteps()
    """Whether every puzzle gets all steps, or stops when a halting rule says so."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name in ("steps", "final_steps"):
            steps = getattr(self, name)
            if any(a >= b for a, b in itertools.pairwise(steps)):
                raise ValueError(f"{name} must rise, not {list(steps)}")
        return self
