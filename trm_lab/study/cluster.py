"""Runs as jobs of a SLURM cluster: arrays, several runs to a job, and what became of them.

`executors` hands over to this module and it uses submitit through it only.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from trm_lab.config.execution import Execution, Slurm
from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study import slurm
from trm_lab.study.attempts import (
    FOLDER,
    Batch,
    batches,
    damaged,
    forgiven_since,
    new_batch,
)
from trm_lab.study.executors import Job, Orphan, is_busy, log_of, sbatch, task_of
from trm_lab.study.jobs import hinted, parameters, python
from trm_lab.study.plan import Run
from trm_lab.study.slurm import Queued, SilentError
from trm_lab.study.worker import Work

BUSY = (
    "MaxSubmit", "Unable to contact slurm controller", "Socket timed out", "Connection refused",
    "Resource temporarily unavailable", "Unexpected message received",
)  # fmt: skip
"""Words with which sbatch says that it cannot now, not that a job is wrong."""
RETURNING = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
"""Ends of a job that SLURM may be about to put back."""
GONE_LOOKS = 2
"""Looks at the queue without the job before it is gone: a requeue passes through other states."""
UNKNOWN_LOOKS = 4
"""As many for a job that the queue never showed."""


class Cluster:
    """Sends runs to SLURM and follows them."""

    def __init__(self, setting: Slurm, execution: Execution, root: Path, study: str) -> None:
        if not slurm.available():
            raise ConfigError("executor slurm: no sbatch and squeue on this machine; run where "
                              "jobs are submitted, or use `executor: local`")  # fmt: skip
        self.setting, self.execution, self.root, self.study = setting, execution, root, study
        self.logs = root / "logs"
        self.max_attempts, self.poll_seconds = setting.max_attempts, setting.poll_seconds
        self.seen: dict[str, Queued] = {}
        self.answered = False
        self.silence = ""
        self.looks = 0
        self.array = setting.max_array or slurm.array_limit() or 1000
        self.unsure: list[tuple[Batch, dict[str, Run]]] = []
        """Batches of which sbatch did not say whether it took them."""

    def room(self, jobs: Collection[Job]) -> int:
        """Count the runs of the jobs that the queue may take beside these."""
        return (self.setting.max_jobs - len({job.id for job in jobs})) * self.setting.pack

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        """Send runs in as few arrays as the cluster allows."""
        sent = self._taken()
        if self.unsure:
            return sent
        pack = self.setting.pack
        left = [run for run in runs if run.key not in sent]
        tasks = [left[i : i + pack] for i in range(0, len(left), pack)]
        for start in range(0, len(tasks), self.array):
            chunk = tasks[start : start + self.array]
            try:
                sent |= self._submit(chunk)
            except ConfigError as error:
                # That it cannot now is no error as long as something of ours is there to wait for.
                if not any(word in str(error) for word in BUSY) or not (sent or self._ours()):
                    raise
                self.silence = str(error)
                break
        return sent

    def _taken(self) -> dict[str, Job]:
        """Find out what became of batches of which sbatch said nothing."""
        if not self.unsure:
            return {}
        self.refresh()
        if not self.answered:
            return {}
        named, sent = self._named(), dict[str, Job]()
        for batch, keyed in self.unsure:
            if batch.name in named:
                batch = batch.submitted(named[batch.name])
                batch.write(self.root)
                sent |= self._jobs(batch, keyed)
            else:
                (self.root / FOLDER / f"{batch.name}.json").unlink(missing_ok=True)
        self.unsure = []
        return sent

    def _named(self) -> dict[str, str]:
        """Give the id of every batch in the queue, by its name."""
        return {job.name: id.split("_")[0] for id, job in self.seen.items()}

    def _submit(self, tasks: list[list[Run]]) -> dict[str, Job]:
        batch = new_batch(self.root, self.study, [[run.key for run in task] for task in tasks])
        batch.write(self.root)  # before the jobs are: they are found by the batch's name
        keyed = {run.key: run for task in tasks for run in task}
        calls = [
            Work(tuple(task_of(run, self.execution) for run in task), "slurm") for task in tasks
        ]
        try:
            described = parameters(self.setting, self.execution, batch.name)
            id = sbatch(self.logs, described, python(self.setting), calls)
        except ConfigError as error:
            if any(word in str(error) for word in BUSY):
                self.unsure.append((batch, keyed))  # it may have been taken all the same
            else:
                (self.root / FOLDER / f"{batch.name}.json").unlink()
            raise ConfigError(hinted(str(error))) from None
        batch = batch.submitted(id)
        batch.write(self.root)
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

    def adopt(self, runs: Sequence[Run], again: bool) -> dict[str, Job]:
        """Find our jobs of an earlier driver; wait for the controller, as guessing would double."""
        self.refresh()
        for wait in (1, 2, 5, 10, 20, 30):
            if self.answered:
                break
            time.sleep(wait)
            self.refresh()
        if not self.answered:
            raise ConfigError(f"SLURM does not answer ({self.silence}); nothing was submitted")
        named = self._named()
        for path in damaged(self.root):
            if path.stem in named:
                raise ConfigError(
                    f"{path}: cannot be read, so it is not known which runs job "
                    f"{named[path.stem]} holds; `scancel {named[path.stem]}`, then remove the file"
                )
        keyed, newest = {run.key: run for run in runs}, dict[str, tuple[Job, Batch]]()
        for batch in batches(self.root):
            if batch.id is None and batch.name in named:
                # The driver that submitted it was killed before it could write the id down.
                batch = batch.submitted(named[batch.name])
                batch.write(self.root)
            if batch.id is not None:
                newest |= {k: (job, batch) for k, job in self._jobs(batch, keyed).items()}
        found = {
            key: job
            for key, (job, batch) in newest.items()
            if self._heard_of(job, batch, keyed[key], again)
        }
        orphans = {run.key: Orphan(run) for run in runs if run.key not in found and is_busy(run)}
        return found | orphans

    def _heard_of(self, job: Job, batch: Batch, run: Run, again: bool) -> bool:
        """Say whether the newest job of a run is still to be heard of.

        One in the queue is, unless its run ended in it while others of the pack go on.  Of one that
        ended the run's fate is decided as if we had seen it, but not if a user asks again.
        """
        there = self.seen.get(job.id)
        if there is not None and there.name != batch.name:
            there = None  # an id of another time or cluster
        ended = run.folder.state() in (State.FAILED, State.CANCELLED)
        if there is not None and there.live:
            return not ended or is_busy(run)
        if there is not None and there.state in RETURNING:
            return True
        return not (again or forgiven_since(run.folder, job.id))

    def _ours(self) -> bool:
        return any(job.live and job.name.startswith(f"trm-{self.study}-")
                   for job in self.seen.values())  # fmt: skip

    def _jobs(self, batch: Batch, runs: dict[str, Run]) -> dict[str, Job]:
        return {
            key: _SlurmJob(self, job, batch.name, runs[key], log_of(self.logs / "%j", job))
            for job, keys in batch.jobs()
            for key in keys
            if key in runs
        }


@dataclass
class _SlurmJob:
    cluster: Cluster
    id: str
    name: str
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

    def _seen(self) -> Queued | None:
        """Give what the queue shows; the same id under another name is not ours."""
        there = self.cluster.seen.get(self.id)
        return there if there is not None and there.name == self.name else None

    def _look(self) -> None:
        cluster = self.cluster
        if not cluster.answered or cluster.looks == self.looked:
            return
        self.looked = cluster.looks
        there = self._seen()
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
        if not self.state or self._seen() is None:
            self.state = slurm.accounted([self.id]).get(self.id, self.state)
        return self.state

    def cancel(self) -> None:
        there = self._seen()
        if there is not None and there.live:
            slurm.cancel([self.id])
