"""Where runs are sent.  The only module that knows submitit.

submitit writes jobs and starts them; what became of them is decided by us, from run folders and the
queue.  Its own word is not enough: without accounting it never notices a killed job, and it gives
up on one that SLURM is about to run again.
"""

import logging
import os
import signal
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import Any, Protocol

import submitit
from submitit.core.utils import FailedSubmissionError, JobPaths, UncompletedJobError

from trm_lab.config.execution import Execution, InProcess, Local, Slurm
from trm_lab.config.execution import Executor as ExecutorSetting
from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study.machine import VISIBLE, gpus, side_by_side
from trm_lab.study.plan import Run
from trm_lab.study.slurm import outside
from trm_lab.study.worker import Drive, Task, Work, work

NO_LIMIT_MINUTES = 60 * 24 * 365
"""submitit's local executor kills after five minutes unless told otherwise."""


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
        """Ask the process to stop."""


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


def build_executor(
    setting: ExecutorSetting, execution: Execution, root: Path, study: str
) -> Executor:
    """Build the executor of a sweep; its logs go below the study's folder."""
    logging.getLogger("submitit").setLevel(logging.ERROR)
    match setting:
        case InProcess():
            return _InProcess(execution)
        case Local():
            return _Local(setting, execution, root / "logs")
        case Slurm():
            from trm_lab.study.cluster import Cluster

            return Cluster(setting, execution, root.resolve(), study)


def task_of(run: Run, execution: Execution) -> Task:
    """Give a run as plain data."""
    folder = str(run.folder.path.resolve())
    return Task(folder, run.recipe.as_dict(), asdict(run.labels), execution.model_dump(mode="json"))


class _InProcess:
    capacity = 1
    max_attempts = 1
    poll_seconds = 0.0
    silence = ""
    unsure = ()

    def __init__(self, execution: Execution) -> None:
        self.execution = execution

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        return {run.key: self._run(run) for run in runs}

    def _run(self, run: Run) -> Job:
        try:
            work(task_of(run, self.execution))
        except Exception as error:  # a failed run is a row of the study; `train` recorded it
            return _Ended(f"{type(error).__name__}: {error}")
        return _Ended("")

    def adopt(self, runs: Sequence[Run], again: bool) -> dict[str, Job]:
        del again
        return _orphans(runs)

    def room(self, jobs: Collection[Job]) -> int:
        return self.capacity - len(jobs)

    def refresh(self) -> dict[str, Job]:
        return {}


class _Ended:
    id = "in_process"
    log = ""

    def __init__(self, failure: str) -> None:
        self._failure = failure

    def done(self) -> bool:
        return True

    def failure(self) -> str:
        return self._failure

    def cancelled(self) -> bool:
        return False

    def cancel(self) -> None:
        return None


class _Local:
    silence = ""
    unsure = ()

    def __init__(self, setting: Local, execution: Execution, logs: Path) -> None:
        self.execution = execution
        self.gpus = [] if execution.device == "cpu" else gpus()
        self.capacity = setting.workers or len(self.gpus) or side_by_side(execution)
        self.max_attempts, self.poll_seconds = setting.max_attempts, setting.poll_seconds
        self.executor = submitit.LocalExecutor(folder=logs / "%j")
        self.executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)
        self.load: dict[str, str] = {}
        """The GPU of every run that was sent."""
        self.jobs: dict[str, _LocalJob] = {}

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        return {run.key: self._start(run) for run in runs}

    def _start(self, run: Run) -> Job:
        devices = self._device(run)
        with _threads(self.execution.threads), _shielded():
            call = Work((task_of(run, self.execution),), "local", devices)
            job = _LocalJob(self.executor.submit(call))
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
        del again
        return _orphans(runs)

    def room(self, jobs: Collection[Job]) -> int:
        return self.capacity - len(jobs)

    def refresh(self) -> dict[str, Job]:
        return {}


class _LocalJob:
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


class Orphan:
    """A run that a process of an earlier driver still works on: done when it lets go of it."""

    log = ""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.id = f"orphan {run.key}"

    def done(self) -> bool:
        """Say whether the folder is free again."""
        return not is_busy(self.run)

    def failure(self) -> str:
        """Nothing is known of the process but what it wrote."""
        return ""

    def cancelled(self) -> bool:
        """Nothing is known of it."""
        return False

    def cancel(self) -> None:
        """Ask the process to stop, if it is one of this machine."""
        stop_process(self.run)


def stop_process(run: Run) -> bool:
    """Send SIGTERM to the process that works on a run here; say whether there was one."""
    import socket

    status = run.folder.status() or {}
    here = status.get("host") == socket.gethostname()
    told = status.get("pid")
    # What is no process number must not become 0, which is this whole group.
    pid = told if isinstance(told, int) else -1
    if not (here and pid > 0 and status.get("state") == State.RUNNING and is_busy(run)):
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def _orphans(runs: Sequence[Run]) -> dict[str, Job]:
    return {run.key: Orphan(run) for run in runs if is_busy(run)}


def is_busy(run: Run) -> bool:
    """Say whether some process works in the run's folder."""
    return run.folder.busy()


def sbatch(
    logs: Path, parameters: dict[str, Any], python: str, calls: Sequence[Work | Drive]
) -> str:
    """Submit calls as one job, or as one array; give the id.

    Raises:
        ConfigError: sbatch's own words.
    """
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


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Limit the thread pools of child processes from their very start."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    if count is not None:
        os.environ.update(dict.fromkeys(names, str(count)))
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
