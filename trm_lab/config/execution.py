"""How runs are executed.  None of it is part of a recipe or of its identity."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, field_validator, model_validator

from trm_lab.config.base import BY_NAME, ONE_LINE, Line, Name, Pick, Setting, one_of

VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
"""A variable of the environment in a URL."""
SCHEMES = ("postgresql", "postgres", "mysql", "grpc")
SECRET = r"(?i)[?&;](?:password|passwd|pass|pwd|sslpassword)=([^&;]*)"
"""A password among a URL's options, by the names that drivers of databases have for it."""
ALWAYS = {
    "array": "max_array", "time": "timeout_min", "signal": "signal_seconds", "nodes": "nodes",
    "ntasks": "tasks_per_node", "ntasks-per-node": "tasks_per_node", "cpus-per-task": "cpus",
    "job-name": "", "output": "", "error": "", "open-mode": "",
}  # fmt: skip
"""Options of sbatch that every job is given, each with the field that says what."""
IF_SET = {"mem": "memory_gb"} | {
    name: name for name in ("partition", "account", "qos", "constraint")
}
"""Options that a job is given if their field is set."""
Option = Annotated[str | int | bool, one_of("text, a whole number, true or false"), ONE_LINE]
MEMORY_GB = 1 / 1024
"""Least memory, 1 MB: SLURM takes 0 for the whole node."""


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


class Sending(Setting):
    """What all ways to send runs away have in common."""

    max_attempts: int = Field(default=3, ge=1)
    """Times that a run is started from the same checkpoint.  A run that was lost, killed, preempted
    or out of time goes on from its newest checkpoint; one that never gets further has failed."""
    poll_seconds: float = Field(gt=0, le=3600)
    """Time between two looks of the driver."""


class Local(Sending):
    """Processes on this machine, through submitit."""

    kind: Literal["local"] = "local"
    workers: int | None = Field(default=None, ge=1)
    """Runs at a time; if null, one per GPU on CUDA, else as many as the cores have threads for."""
    poll_seconds: float = Field(default=0.5, gt=0, le=3600)


class Slurm(Sending):
    """Jobs of a SLURM cluster, through submitit.  Every field but `kind` may stand in a profile."""

    kind: Literal["slurm"] = "slurm"
    profile: str | None = None
    """Name of a file in ~/.config/trm_lab/ or beside the sweep whose settings these overrule."""
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    """Node features, as sbatch's --constraint takes them."""
    gpus: int = Field(default=0, ge=0)
    """GPUs per node of a job."""
    gpu_flag: Literal["gpus_per_node", "gres", "gpus", "none"] = "gpus_per_node"
    """How the site wants GPUs asked for: --gpus-per-node=1, --gres=gpu:1, --gpus=1, or not at
    all."""
    cpus: int | None = Field(default=None, ge=1)
    """CPUs per task; null takes the threads of a run times `pack`."""
    memory_gb: float | None = Field(default=None, ge=MEMORY_GB)
    """Memory per node, sent in whole MB; null takes the site's default."""
    timeout_min: int = Field(default=60, ge=1)
    """Wall time of a job.  Runs that need longer go on from their checkpoint in a further job."""
    signal_seconds: int = Field(default=90, ge=1)
    """Notice before the wall time at which a run writes its checkpoint and leaves."""
    setup: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Shell lines at the start of a job, such as `module load cuda`."""
    nodes: int = Field(default=1, ge=1)
    tasks_per_node: int = Field(default=1, ge=1)
    """Processes of one run on each node; more than one in all trains data-parallel."""
    pack: int = Field(default=1, ge=1)
    """Runs per job, as so many processes at a time that share its GPUs and CPUs."""
    max_array: int | None = Field(default=None, ge=1)
    """Most jobs of one array; null asks the controller (MaxArraySize)."""
    max_jobs: int = Field(default=500, ge=1)
    """Most jobs in the queue at a time."""
    use_srun: bool = False
    """Start with srun; always so with several tasks."""
    extra: dict[str, Option] = Field(default_factory=dict)
    """Further sbatch options by their long names: {reservation: tuesday, exclude: node7}; none
    that other fields stand for."""
    poll_seconds: float = Field(default=15.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pack > 1 and self.nodes * self.tasks_per_node > 1:
            raise ValueError("pack and several tasks: a job holds many runs or many tasks of one")
        if self.signal_seconds >= 60 * self.timeout_min:
            raise ValueError(
                f"signal_seconds {self.signal_seconds} must be less than timeout_min "
                f"{self.timeout_min}, which is {60 * self.timeout_min} s"
            )
        return self

    @model_validator(mode="after")
    def _extra_is_further(self) -> Self:
        set_too = {option: field for option, field in IF_SET.items() if getattr(self, field)}
        flag = {self.gpu_flag.replace("_", "-"): "gpus"} if self.gpus else {}
        for name in self.extra:
            if not re.fullmatch("[a-z0-9-]+", name):
                raise ValueError(f"extra: {name!r} is no long name of an option of sbatch")
            if name in (ours := ALWAYS | set_too | flag):
                field = (
                    f"the field {ours[name]} says that" if ours[name] else "every job has its own"
                )
                raise ValueError(f"extra: {name} would overrule what jobs are given; {field}")
        return self


Executor = Annotated[InProcess | Local | Slurm, Field(discriminator="kind"), BY_NAME]


CellPick = Annotated[Pick, BeforeValidator(lambda v: {"cell": v} if isinstance(v, str) else v)]
"""A pick, or the name of one cell: "deep, model.T=2" is {cell: "deep, model.T=2"}."""


class Sweep(Setting):
    """One way to execute a study: sweeps/<name>.yaml."""

    name: Name
    executor: Executor = Local()
    execution: Execution = Execution(threads=1)
    seeds: int | None = Field(default=None, ge=1)
    """Take only the first so many seeds of the study; all if null."""
    cells: Annotated[tuple[CellPick, ...], Field(strict=False, min_length=1)] | None = None
    """Take only these cells, each by its name or by variant and factors; all if null."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Recipe settings by dotted name, laid over every cell: a smaller budget.  They change what is
    computed, so such a sweep has a results folder of its own."""
    storage: str | None = None
    """Where Optuna keeps trials: a journal file in the study's folder if null, else
    postgresql://user:${PASSWORD}@host/database, mysql://..., or grpc://host:port of a proxy.  What
    is in ${...} comes from the environment of the driver."""

    def remarks(self) -> list[str]:
        """Say what is accepted and yet slow: a job whose runs have more threads than CPUs."""
        one, threads = self.executor, self.execution.threads
        if not isinstance(one, Slurm) or not (one.cpus and threads):
            return []
        if one.cpus >= threads * one.pack:
            return []
        return [f"executor.cpus {one.cpus} is less than execution.threads {threads} x executor.pack"
                f" {one.pack}: the runs of a job take turns; without cpus a job asks for "
                f"{threads * one.pack}"]  # fmt: skip

    @field_validator("storage")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, found, rest = url.partition("://")
        if not found or scheme.partition("+")[0] not in SCHEMES:
            # The scheme alone: what follows may hold a password.
            raise ValueError(
                f"{scheme[:20]!r} is no storage; give postgresql://, mysql:// or grpc://, or "
                "null for a journal file"
            )
        login = rest.rpartition("@")[0]
        words = [login.partition(":")[2], *re.findall(SECRET, unquote(rest))]
        if any(re.sub(VARIABLE, "", word) for word in words):
            raise ValueError(
                "a password in a file that is copied beside the results; write ${NAME} instead and "
                "put it into that variable of the environment"
            )
        return url
