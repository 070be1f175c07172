"""Starts processes here and submits jobs to SLURM.  The only module that knows submitit.

submitit writes jobs and starts them; what became of them is decided by us, from run folders and the
queue.  Its own word is not enough: without accounting it never notices a killed job, and it gives
up on one that SLURM is about to run again.
"""

import logging
import os
import signal
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import Any

import submitit
from submitit.core.utils import FailedSubmissionError, JobPaths, UncompletedJobError

from trm_lab.config.execution import Execution, Local
from trm_lab.errors import ConfigError
from trm_lab.study.dispatch import Job, orphans, task_of
from trm_lab.study.machine import THREADS, VISIBLE, gpus, side_by_side
from trm_lab.study.plan import Run
from trm_lab.study.slurm import outside
from trm_lab.study.worker import Drive, Work

NO_LIMIT_MINUTES = 60 * 24 * 365
"""submitit's local executor kills after five minutes unless told otherwise."""


class Processes:
    """Sends runs to processes of this machine, as many at a time as it has room for."""

    silence = ""
    unsure = ()

    def __init__(self, setting: Local, execution: Execution, logs: Path) -> None:
        _hush()
        self.execution = execution
        self.gpus = [] if execution.device == "cpu" else gpus()
        self.capacity = setting.workers or len(self.gpus) or side_by_side(execution)
        self.max_attempts, self.poll_seconds = setting.max_attempts, setting.poll_seconds
        self.executor = submitit.LocalExecutor(folder=logs / "%j")
        self.executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)
        self.load: dict[str, str] = {}
        """The GPU of every run that was sent."""
        self.jobs: dict[str, _Process] = {}

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        """Start runs."""
        return {run.key: self._start(run) for run in runs}

    def _start(self, run: Run) -> Job:
        devices = self._device(run)
        with _threads(self.execution.threads), _shielded():
            call = Work((task_of(run, self.execution),), "local", devices)
            job = _Process(self.executor.submit(call))
        self.jobs[run.key] = job
        return job

    def _device(self, run: Run) -> str | None:
        """Choose the GPU with the fewest runs; submitit's executor hides all of them."""
        if not self.gpus:
            return os.environ.get(VISIBLE)
        at_work = [gpu for key, gpu in self.load.items() if not self.jobs[key].done()]
        self.load[run.key] = chosen = min(self.gpus, key=at_work.count)
        return chosen

    def adopt(self, runs: Sequence[Run], again: bool) -> dict[str, Job]:
        """Find the runs on which processes of an earlier driver work."""
        del again
        return orphans(runs)

    def room(self, jobs: Collection[Job]) -> int:
        """Count the processes that may be started beside these."""
        return self.capacity - len(jobs)

    def refresh(self) -> dict[str, Job]:
        """Give none: it is always known what was started."""
        return {}


class _Process:
    def __init__(self, job: Any) -> None:
        self.job = job
        self.id = f"local {job.job_id}"
        self.log = str(job.paths.stderr)

    def done(self) -> bool:
        return bool(self.job.done(force_check=True))

    def failure(self) -> str:
        if not self.job.paths.result_pickle.exists():
            return ""  # killed; submitit would let the driver wait for what does not come
        error = self.job.exception()
        return "" if error is None else str(error).strip().splitlines()[-1]

    def cancelled(self) -> bool:
        return False

    def cancel(self) -> None:
        # Not submitit's own way, which is SIGINT and a second later SIGKILL.  A local job's id is
        # the process that passes SIGTERM on to the worker.
        if not self.done():
            os.kill(int(self.job.job_id), signal.SIGTERM)


def sbatch(
    logs: Path, parameters: dict[str, Any], python: str, calls: Sequence[Work | Drive]
) -> str:
    """Submit calls as one job, or as one array; give the id.

    Raises:
        ConfigError: sbatch's own words.
    """
    _hush()
    with outside():  # a driver may itself be in a job, whose variables would shape ours
        try:
            executor = submitit.SlurmExecutor(folder=logs / "%j", python=python)
            executor.update_parameters(**parameters)
            with redirect_stderr(StringIO()):  # where submitit prints the words that it raises
                jobs = executor.submit_array(calls)
        except (UncompletedJobError, FailedSubmissionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"sbatch: {_last_words(str(error))}") from None
    return str(jobs[0].job_id).split("_")[0]


def script(logs: Path, parameters: dict[str, Any], python: str, count: int) -> str:
    """Give the text that sbatch would get for `count` jobs."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{python} -u -m submitit.core._submit {quote(str(logs / '%j'))}"
    several = {"map_count": count} if count > 1 else {}
    return _make_sbatch_string(command=command, folder=logs / "%j", **(parameters | several))


def _last_words(text: str) -> str:
    """Give what sbatch said, without Python's frame around it."""
    lines = [line for line in text.splitlines() if line.startswith("sbatch:")]
    return "; ".join(line.removeprefix("sbatch:").strip() for line in lines) or text.strip()


def log_of(folder: Path, job: str) -> str:
    """Give where submitit lets a job's standard error go."""
    return str(JobPaths(folder, job, 0).stderr)


def _hush() -> None:
    """Leave it to the driver to say what became of jobs."""
    logging.getLogger("submitit").setLevel(logging.ERROR)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Limit the thread pools of child processes from their very start."""
    before = {name: os.environ.get(name) for name in THREADS}
    if count is not None:
        os.environ.update(dict.fromkeys(THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _shielded() -> Iterator[None]:
    """Keep a terminal's Ctrl-C from child processes: it is for the driver, which tells them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
