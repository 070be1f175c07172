"""Runs as jobs of a SLURM cluster: arrays, several runs to a job, and what became of them."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trm_lab.config.execution import Execution, Slurm
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.study import slurm
from trm_lab.study.attempts import (
    Batch,
    batches,
    damaged,
    forgiven_since,
    last_job,
    new_batch,
    sent_since,
)
from trm_lab.study.dispatch import Job, orphans, task_of
from trm_lab.study.jobs import hinted, parameters, python
from trm_lab.study.plan import Run
from trm_lab.study.slurm import Queued, SilentError
from trm_lab.study.submission import log_of, sbatch
from trm_lab.study.worker import Work

BUSY = (
    "MaxSubmit", "GrpSubmit", "Unable to contact slurm controller", "Socket timed out",
    "Connection refused", "Resource temporarily unavailable", "Unexpected message received",
    "Zero Bytes were transmitted or received", "Slurm backup controller in standby mode",
    "Protocol authentication error", "Required partition not available",
)  # fmt: skip
"""Words with which sbatch says that it cannot now, not that a job is wrong."""
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 600.0
"""Seconds until sbatch is tried again, doubled each time: at a full queue it sleeps two minutes."""
RETURNING = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
"""Ends of a job that SLURM may be about to put back."""
ANSWER_SECONDS = 60.0
"""How long a driver waits for a controller that does not answer before it gives up."""
GONE_LOOKS = 2
"""Looks at the queue without the job before it is gone: a requeue passes through other states."""
UNKNOWN_LOOKS = 4
"""As many for a job that the queue never showed."""


class Cluster:
    """Sends runs to SLURM and follows them."""

    def __init__(self, setting: Slurm, execution: Execution, root: Path, study: str) -> None:
        slurm.expect()
        self.setting, self.execution, self.root, self.study = setting, execution, root, study
        self.logs = root / "logs"
        self.max_attempts, self.poll_seconds = setting.max_attempts, setting.poll_seconds
        self.seen: dict[str, Queued] = {}
        self.answered = False
        self.unheard = self.refused = ""
        """Why the queue cannot be seen, and why sbatch takes nothing."""
        self.looks = 0
        self.doubt: _Doubt | None = None
        self.taken = False
        """Whether sbatch has taken jobs of this driver."""
        self.again_at, self.pause = 0.0, FIRST_PAUSE

    @cached_property
    def array(self) -> int:
        """Most jobs of an array, asked of the cluster when the first are sent."""
        return self.setting.max_array or slurm.array_limit() or 1000

    @property
    def silence(self) -> str:
        """Say why nothing can be seen or sent."""
        return self.unheard or self.refused

    @property
    def unsure(self) -> Collection[str]:
        """Name the runs of the batch whose fate is not known."""
        return self.doubt.runs if self.doubt else ()

    def room(self, jobs: Collection[Job]) -> int:
        """Count the runs of the jobs that the queue may take beside these."""
        return (self.setting.max_jobs - len({job.id for job in jobs})) * self.setting.pack

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        """Send runs in as few arrays as the cluster allows; none before it is worth a try."""
        sent = dict[str, Job]()
        if self.doubt or time.monotonic() < self.again_at:
            return sent
        self.refused = ""
        pack = self.setting.pack
        tasks = [list(runs[i : i + pack]) for i in range(0, len(runs), pack)]
        for start in range(0, len(tasks), self.array):
            try:
                sent |= self._submit(tasks[start : start + self.array])
            except ConfigError as error:
                if not sent:
                    raise
                self.refused = str(error)  # raised by the next try: what was sent is noted first
            if self.refused:
                break
        return sent

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
            words = hinted(str(error))
            if not self._passes(words):
                batch.remove(self.root)
                raise ConfigError(words) from None
            self.refused, self.doubt = words, self._doubtful(batch, keyed)
            self.again_at = time.monotonic() + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
            return {}
        batch = batch.submitted(id)
        batch.write(self.root)
        return self._sent(batch, keyed)

    def _doubtful(self, batch: Batch, runs: dict[str, Run]) -> "_Doubt":
        until = time.monotonic() + (UNKNOWN_LOOKS - 1) * self.poll_seconds
        return _Doubt(batch, runs, self.looks + UNKNOWN_LOOKS, until)

    def _passes(self, words: str) -> bool:
        """Say whether what sbatch refuses may be taken later.

        A limit of the user's jobs that refuses the first ones while none is there always will.
        """
        if "MaxSubmit" in words and not self.taken:
            return any(job.live for job in self.seen.values())
        return any(word in words for word in BUSY)

    def _sent(self, batch: Batch, runs: dict[str, Run]) -> dict[str, Job]:
        self.taken, self.refused, self.pause = True, "", FIRST_PAUSE
        return self._jobs(batch, runs)

    def refresh(self) -> dict[str, Job]:
        """Ask for the whole queue in one command; silence leaves what was known."""
        try:
            self.seen = slurm.queue()
        except SilentError as error:
            self.answered, self.unheard = False, str(error)
            return {}
        self.answered, self.unheard = True, ""
        self.looks += 1
        return self._found()

    def _found(self) -> dict[str, Job]:
        """Find out what became of the batch of which sbatch did not say whether it took it."""
        if self.doubt is None:
            return {}
        batch, runs = self._identified(self.doubt.batch), self.doubt.runs
        if batch.id is not None:
            self.doubt = None
            return self._sent(batch, runs)
        if self.looks >= self.doubt.looks and time.monotonic() >= self.doubt.until:
            batch.remove(self.root)
            self.doubt = None
        return {}

    def _identified(self, batch: Batch) -> Batch:
        """Give a batch with its id, if the queue shows jobs of its name."""
        id = slurm.ids_by_name(self.seen).get(batch.name)
        if batch.id is not None or id is None:
            return batch
        batch = batch.submitted(id)
        batch.write(self.root)
        return batch

    def adopt(self, runs: Sequence[Run], again: bool) -> dict[str, Job]:
        """Find our jobs of an earlier driver; wait for the controller, as guessing would double.

        Raises:
            SilentError: it does not answer.
        """
        deadline, wait = time.monotonic() + ANSWER_SECONDS, 1.0
        self.refresh()
        if not runs:
            return {}
        while not self.answered:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SilentError(f"{self.unheard}; nothing was submitted")
            time.sleep(min(wait, left))
            wait *= 2
            self.refresh()
        ids = slurm.ids_by_name(self.seen)
        for path in damaged(self.root):
            if path.stem in ids:
                raise ConfigError(
                    f"{path}: cannot be read, so it is not known which runs job "
                    f"{ids[path.stem]} holds; `scancel {ids[path.stem]}`, then remove the file"
                )
        keyed, newest = {run.key: run for run in runs}, dict[str, tuple[Job, Batch]]()
        for batch in batches(self.root):
            # Without an id: the driver that submitted it left before it knew of one.
            batch = self._identified(batch)
            if batch.id is not None:
                newest |= {k: (job, batch) for k, job in self._jobs(batch, keyed).items()}
        found = {
            key: job
            for key, (job, batch) in newest.items()
            if self._heard_of(job, batch, keyed[key], again)
        }
        return found | orphans(run for run in runs if run.key not in found)

    def _heard_of(self, job: Job, batch: Batch, run: Run, again: bool) -> bool:
        """Say whether the newest job of a run is still to be heard of.

        One in the queue is, unless its run ended in it while others of the pack go on.  Where it
        ended the run's fate is decided as if we had seen it, but not if a user asks again.
        """
        there = self.seen.get(job.id)
        if there is not None and there.name != batch.name:
            there = None  # an id of another time or cluster
        if there is not None and there.live:
            if not _has_left(run.folder, there) or run.folder.busy():
                return True
        elif there is not None and there.state in RETURNING:
            return True
        return not (again or forgiven_since(run.folder, job.id))

    def _jobs(self, batch: Batch, runs: dict[str, Run]) -> dict[str, Job]:
        return {
            key: _SlurmJob(self, job, batch.name, runs[key], log_of(self.logs / "%j", job),
                           [RunFolder(self.root / mate) for mate in keys if mate != key])
            for job, keys in batch.jobs()
            for key in keys
            if key in runs
        }  # fmt: skip


def _has_left(folder: RunFolder, there: Queued) -> bool:
    """Say whether a run has ended in a job that goes on, and is not to wait for its next turn."""
    state = folder.state()
    if state in (State.FAILED, State.CANCELLED):
        return True
    # A run may be lost to an earlier job, or wait for this one to begin with it.
    if state is State.RUNNING or last_job(folder) != there.id:
        return False
    if state is State.LOST:  # not while all of the job is ended: it will say why
        return there.state != "COMPLETING"
    return state is State.WAITING and not there.pending and forgiven_since(folder, there.id)


@dataclass(frozen=True)
class _Doubt:
    """A batch of which sbatch did not say whether it took it."""

    batch: Batch
    runs: dict[str, Run]
    looks: int
    until: float
    """The look at the queue, and the time, after which it was not taken if none has shown it."""


@dataclass
class _SlurmJob:
    cluster: Cluster
    id: str
    name: str
    run: Run
    log: str
    mates: Sequence[RunFolder]
    """The other runs of the job."""
    missed: int = 0
    """Looks in a row at which the queue did not have the job, nor the run a sign of life."""
    looked: int = -1
    pulse: int | None = None
    state: str = ""
    """The last state that the queue showed."""

    def done(self) -> bool:
        """Say whether the job has left the queue for good, or the run's part in it is over.

        One look is not enough: a job that SLURM puts back passes through an end.
        """
        self._look()
        folder, there = self.run.folder, self._seen()
        left = there is not None and there.live and _has_left(folder, there)
        if (left or folder.state().final) and not folder.busy():
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
        told = self.run.folder.status() or {}
        if told.get("state") == State.LOST and last_job(self.run.folder) == self.id:
            return str((told.get("error") or {}).get("message") or "")
        state = self._last()
        return f"SLURM says {state}" if state and state != "COMPLETED" else ""

    def cancelled(self) -> bool:
        return self._last().startswith("CANCELLED")

    def _last(self) -> str:
        if not self.state or self._seen() is None:
            self.state = slurm.accounted(self.id, self.name) or self.state
        return self.state

    def cancel(self) -> None:
        there = self._seen()
        if there is not None and there.live and not any(map(self._holds, self.mates)):
            slurm.cancel([self.id])

    def _holds(self, mate: RunFolder) -> bool:
        """Say whether another run of the job is to go on in it."""
        state = mate.state()
        over = state.final or state.ended_badly or mate.asked_to_cancel()
        return not (over or sent_since(mate, self.id))
