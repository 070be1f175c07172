"""How runs are executed.  None of it is part of a recipe or of its identity."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Setting


class Execution(Setting):
    """Where and how one run computes.  Equal settings on an equal machine give equal bits."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is CUDA where there is one."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; null leaves them as they are."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """torch's float32 matmul precision; below "highest" rounding may differ by machine."""
    checkpointing: Literal["update", "cycle"] | None = None
    """Activation checkpointing: keep only the latents between updates, or between cycles, and
    compute the rest again in the backward pass.  Costs one more forward pass of the updates with a
    graph, which the counted FLOPs leave out; changes no bit.  "update" needs the least memory."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Least time between checkpoints, beside those at evaluations."""
    log_every: int = Field(default=25, ge=1)
    """Updates per training record."""
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Field(strict=False)] = ()
    """Trackers that get every record too; each needs its extra, as in trm-lab[tensorboard]."""


class InProcess(Setting):
    """One run after another in the driver's own process, for debugging."""

    kind: Literal["in_process"] = "in_process"


class Local(Setting):
    """Processes on this machine, through submitit."""

    kind: Literal["local"] = "local"
    workers: int | None = Field(default=None, ge=1)
    """Runs at a time; one per core if null."""


Executor = Annotated[InProcess | Local, Field(discriminator="kind"), BY_NAME]


class Sweep(Setting):
    """One way to execute a study: sweeps/<name>.yaml."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    executor: Executor = Local()
    execution: Execution = Execution(threads=1)
    seeds: int | None = Field(default=None, ge=1)
    """Take only the first so many seeds of the study; all if null."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Recipe settings by dotted name, laid over every cell: a smaller budget.  They change what is
    computed, so such a sweep has a results folder of its own."""
