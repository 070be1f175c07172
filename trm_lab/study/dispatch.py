"""What a driver and what works for it know of each other: executors, and the jobs they give."""

import os
import signal
import socket
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Protocol

from trm_lab.config.execution import Execution
from trm_lab.runs import State
from trm_lab.study.plan import Run
from trm_lab.study.worker import Task


class Job(Protocol):
    """A run under way."""

    id: str
    log: str
    """Path of the job's own output; the run's is in its folder."""

    def done(self) -> bool:
        """Say whether the run's process has ended, well or not, and will not come back."""

    def failure(self) -> str:
        """Give why the process failed; empty if it did not, or nothing is known."""

    def cancelled(self) -> bool:
        """Say whether somebody took the job away for good."""

    def cancel(self) -> None:
        """Ask the process to stop, unless others that are to go on would stop with it."""


class Executor(Protocol):
    """Sends runs."""

    max_attempts: int
    poll_seconds: float

    @property
    def silence(self) -> str:
        """Say why nothing can be sent or seen at the moment; empty if all is well."""

    @property
    def unsure(self) -> Collection[str]:
        """Name runs of which it is not known whether they were sent: `refresh` may find them."""

    def room(self, jobs: Collection[Job]) -> int:
        """Say how many runs may be sent beside these jobs."""

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        """Send runs, all, some or none of them for now; give the job of each by its key.

        Raises:
            ConfigError: they are refused as they are.
        """

    def adopt(self, runs: Sequence[Run], again: bool) -> dict[str, Job]:
        """Find the jobs of an earlier driver that are still to be heard of, by the run's key.

        `again`: the user asks for all of them, so what a job ended as matters no more.
        """

    def refresh(self) -> dict[str, Job]:
        """Look at all jobs once, before they are asked; give those that it was unsure of."""


def task_of(run: Run, execution: Execution) -> Task:
    """Give a run as plain data."""
    folder = str(run.folder.path.resolve())
    return Task(folder, run.recipe.as_dict(), asdict(run.labels), execution.model_dump(mode="json"))


class Orphan:
    """A run that a process of an earlier driver still works on: done when it lets go of it."""

    log = ""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.id = f"orphan {run.key}"

    def done(self) -> bool:
        """Say whether the folder is free again."""
        return not self.run.folder.busy()

    def failure(self) -> str:
        """Nothing is known of the process but what it wrote."""
        return ""

    def cancelled(self) -> bool:
        """Nothing is known of it."""
        return False

    def cancel(self) -> None:
        """Ask the process to stop, if it is one of this machine."""
        _stop_process(self.run)


def orphans(runs: Iterable[Run]) -> dict[str, Job]:
    """Give those of the runs on which some process works, each as a job, by its key."""
    return {run.key: Orphan(run) for run in runs if run.folder.busy()}


def _stop_process(run: Run) -> None:
    """Send SIGTERM to the process that works on a run, if it is one of this machine."""
    status = run.folder.status() or {}
    here = status.get("host") == socket.gethostname()
    told = status.get("pid")
    # What is no process number must not become 0, which is this whole group.
    pid = told if isinstance(told, int) else -1
    if here and pid > 0 and status.get("state") == State.RUNNING and run.folder.busy():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
