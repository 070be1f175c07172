"""Runs as jobs of a SLURM cluster: arrays, several runs to a job, and what became of them.

`executors` hands over to this module and it uses submitit through it only.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from trm_lab.config.execution import Execution, Slurm
from trm_lab.errors import ConfigError
from trm_lab.study import slurm
from trm_lab.study.attempts import Batch, batches, forgiven_since, new_batch
from trm_lab.study.executors import Job, Orphan, is_busy, log_of, sbatch, script, task_of
from trm_lab.study.plan import Run
from trm_lab.study.slurm import Queued, SilentError
from trm_lab.study.worker import Drive, Work

FULL = ("MaxSubmit", "QOSMaxSubmit", "exceeds", "job submit limit", "Job violates accounting/QOS")
"""Words with which sbatch says that there are too many jobs, not that one is wrong."""
GONE_LOOKS = 2
"""Looks at the queue without the job before it is gone: a requeue passes through other states."""
UNKNOWN_LOOKS = 4
"""As many for a job that the queue never showed."""
HINTS = (
    ("partition", "`sinfo -s` lists the partitions"),
    ("account", "`sacctmgr show associations user=$USER` lists the accounts"),
    ("qos", "`sacctmgr show qos` lists them"),
    ("generic resource", "set gpu_flag to gres, gpus, gpus_per_node or none, as the site wants it"),
    ("gres", "set gpu_flag to gres, gpus, gpus_per_node or none, as the site wants it"),
    ("node configuration", "ask for fewer cpus, gpus or memory_gb than a node has"),
    ("memory", "ask for less memory_gb"),
    ("time limit", "lower timeout_min; runs go on from their checkpoint in a further job"),
    ("constraint", "`sinfo -o '%N %f'` lists the features"),
)


class Cluster:
    """Sends runs to SLURM and follows them."""

    def __init__(self, setting: Slurm, execution: Execution, root: Path, study: str) -> None:
        if not slurm.available():
            raise ConfigError("executor slurm: no sbatch and squeue on this machine; run where "
                              "jobs are submitted, or use `executor: local`")  # fmt: skip
        self.setting, self.execution, self.root, self.study = setting, execution, root, study
        self.logs = root / "logs"
        self.capacity = setting.max_jobs * setting.pack
        self.max_attempts, self.poll_seconds = setting.max_attempts, setting.poll_seconds
        self.seen: dict[str, Queued] = {}
        self.answered = False
        self.silence = ""
        """Why the controller did not answer last time."""
        self.looks = 0
        self.array = setting.max_array or slurm.array_limit() or 1000

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        """Send runs in as few arrays as the cluster allows."""
        pack = self.setting.pack
        tasks = [list(runs[i : i + pack]) for i in range(0, len(runs), pack)]
        sent: dict[str, Job] = {}
        for start in range(0, len(tasks), self.array):
            chunk = tasks[start : start + self.array]
            try:
                sent |= self._submit(chunk)
            except ConfigError as error:
                # A queue that is full is not an error as long as something of ours is in it.
                if not any(word in str(error) for word in FULL) or not (sent or self._ours()):
                    raise
                self.silence = str(error)
                break
        return sent

    def _submit(self, tasks: list[list[Run]]) -> dict[str, Job]:
        batch = new_batch(self.study, [[run.key for run in task] for task in tasks])
        batch.write(self.root)  # before the jobs are: they are found by the batch's name
        calls = [
            Work(tuple(task_of(run, self.execution) for run in task), "slurm") for task in tasks
        ]
        try:
            described = parameters(self.setting, self.execution, batch.name)
            id = sbatch(self.logs, described, python(self.setting), calls)
        except ConfigError as error:
            (self.root / "jobs" / f"{batch.name}.json").unlink()
            raise ConfigError(_hinted(str(error))) from None
        batch = batch.submitted(id)
        batch.write(self.root)
        keyed = {run.key: run for task in tasks for run in task}
        return self._jobs(batch, keyed)

    def refresh(self) -> None:
        """Ask for the whole queue in one command; silence leaves what was known."""
        try:
            self.seen = slurm.queue()
        except SilentError as error:
            self.answered, self.silence = False, str(error)
            return
        self.answered, self.silence = True, ""
        self.looks += 1

    def adopt(self, runs: Sequence[Run]) -> dict[str, Job]:
        """Find our jobs of an earlier driver; wait for the controller, as guessing would double."""
        self.refresh()
        for wait in (1, 2, 5, 10, 20, 30):
            if self.answered:
                break
            time.sleep(wait)
            self.refresh()
        if not self.answered:
            raise ConfigError(f"SLURM does not answer ({self.silence}); nothing was submitted")
        keyed, found = {run.key: run for run in runs}, dict[str, Job]()
        named = {job.name: id.split("_")[0] for id, job in self.seen.items()}
        for batch in batches(self.root):
            if batch.id is None and batch.name in named:
                # The driver that submitted it was killed before it could write the id down.
                batch = batch.submitted(named[batch.name])
                batch.write(self.root)
            if batch.id is not None:
                jobs = self._jobs(batch, keyed)
                found |= {k: job for k, job in jobs.items() if self._open(job, keyed[k])}
        orphans = {run.key: Orphan(run) for run in runs if run.key not in found and is_busy(run)}
        return found | orphans

    def _open(self, job: Job, run: Run) -> bool:
        """Say whether a job of an earlier driver is still to be heard of.

        One that was cancelled is, so that its run is told as cancelled, unless the run was asked
        for again since.  Of other ends but the plain one SLURM may yet make a requeue.
        """
        there = self.seen.get(job.id)
        if there is None or there.state == "COMPLETED":
            return False
        return there.live or not forgiven_since(run.folder, job.id)

    def _ours(self) -> bool:
        return any(job.live and job.name.startswith(f"trm-{self.study}-")
                   for job in self.seen.values())  # fmt: skip

    def _jobs(self, batch: Batch, runs: dict[str, Run]) -> dict[str, Job]:
        return {
            key: _SlurmJob(self, job, runs[key], log_of(self.logs / "%j", job))
            for job, keys in batch.jobs()
            for key in keys
            if key in runs
        }


@dataclass
class _SlurmJob:
    cluster: Cluster
    id: str
    run: Run
    log: str
    missed: int = 0
    """Looks in a row at which the queue did not have the job, nor the run a sign of life."""
    looked: int = -1
    pulse: int | None = None
    state: str = ""
    """The last state that the queue showed."""

    def done(self) -> bool:
        """Say whether the job has left the queue for good, or the run is at its end.

        One look is not enough: a job that SLURM puts back passes through an end.
        """
        self._look()
        if self.run.folder.state().final and not is_busy(self.run):
            return True
        return self.missed >= (GONE_LOOKS if self.state else UNKNOWN_LOOKS)

    def _look(self) -> None:
        cluster = self.cluster
        if not cluster.answered or cluster.looks == self.looked:
            return
        self.looked = cluster.looks
        there = cluster.seen.get(self.id)
        if there is not None:
            self.state = there.state
        # Nodes may share a file system whose locks do not reach the others: a run whose heartbeat
        # goes on lives, whatever the queue says.
        before, self.pulse = self.pulse, self.run.folder.pulse()
        alive = (there is not None and there.live) or self.pulse != before
        self.missed = 0 if alive else self.missed + 1

    def failure(self) -> str:
        state = self._last()
        return f"SLURM says {state}" if state and state != "COMPLETED" else ""

    def cancelled(self) -> bool:
        return self._last().startswith("CANCELLED")

    def _last(self) -> str:
        if not self.state or self.id not in self.cluster.seen:
            self.state = slurm.accounted([self.id]).get(self.id, self.state)
        return self.state

    def cancel(self) -> None:
        slurm.cancel([self.id])


def send_driver(setting: Slurm, root: Path, study: str, arguments: tuple[str, ...]) -> str:
    """Submit a small job that drives the study with `trm-lab` arguments; give its id.

    Raises:
        ConfigError: sbatch's own words.
    """
    small = setting.model_copy(
        update={"gpus": 0, "cpus": 1, "pack": 1, "nodes": 1, "tasks_per_node": 1}
    )
    described = parameters(small, Execution(threads=1), f"trm-driver-{study}")
    return sbatch(root.resolve() / "logs", described, python(small), [Drive(arguments)])


def parameters(setting: Slurm, execution: Execution, name: str) -> dict[str, Any]:
    """Give a job's description as submitit takes it."""
    use_srun = _by_srun(setting)
    # Without srun the batch shell would get the signal, and by itself not pass it on; it is
    # replaced by the worker (see `python`), and B: sends the signal there.
    to = "" if use_srun else "B:"
    given: dict[str, Any] = {"signal": f"{to}USR2@{setting.signal_seconds}", "requeue": True}
    chosen: dict[str, Any] = {
        "job_name": name,
        "time": setting.timeout_min,
        "nodes": setting.nodes,
        "ntasks_per_node": setting.tasks_per_node,
        "cpus_per_task": setting.cpus or (execution.threads or 1) * setting.pack,
        "partition": setting.partition,
        "account": setting.account,
        "qos": setting.qos,
        "constraint": setting.constraint,
        "mem": None if setting.memory_gb is None else f"{round(1024 * setting.memory_gb)}M",
        "setup": [*_limits(execution.threads), *setting.setup],
        # submitit's own would be refused by clusters that check it; None leaves it away.
        "wckey": None,
        "array_parallelism": setting.max_jobs,
        "use_srun": use_srun,
    }
    match setting.gpu_flag if setting.gpus else "none":
        case "gpus_per_node":
            chosen["gpus_per_node"] = setting.gpus
        case "gres":
            chosen["gres"] = f"gpu:{setting.gpus}"
        case "gpus":
            given["gpus"] = setting.gpus * setting.nodes
        case "none":
            pass
    options = given | setting.extra
    chosen["additional_parameters"] = {k: v for k, v in options.items() if v is not False}
    optional = {"partition", "account", "qos", "constraint", "mem"}
    return {k: v for k, v in chosen.items() if v is not None or k not in optional}


def python(setting: Slurm) -> str:
    """Give the command that starts the worker; without srun it takes the batch shell's place."""
    return quote(sys.executable) if _by_srun(setting) else f"exec {quote(sys.executable)}"


def text(setting: Slurm, execution: Execution, root: Path, study: str, count: int) -> str:
    """Give what sbatch would be given for an array of `count` jobs."""
    described = parameters(setting, execution, f"trm-{study}-xxxxxxxx")
    return script(root.resolve() / "logs", described, python(setting), count)


def _by_srun(setting: Slurm) -> bool:
    return setting.use_srun or setting.nodes * setting.tasks_per_node > 1


def _limits(threads: int | None) -> list[str]:
    """Limit the thread pools of a job from its very start."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return [f"export {name}={threads}" for name in names] if threads else []


def _hinted(text: str) -> str:
    """Add to sbatch's words what helps."""
    low = text.lower()
    for word, hint in HINTS:
        if word in low:
            return f"{text}; {hint}"
    return text
