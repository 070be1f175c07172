"""Where runs are sent.  The only module that knows submitit.

A worker gets a folder, a recipe and execution settings; it writes its run folder and knows nothing
of Optuna or of the study.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import submitit

from trm_lab.config.execution import Execution, InProcess, Local
from trm_lab.config.execution import Executor as ExecutorSetting
from trm_lab.study.plan import Run

NO_LIMIT_MINUTES = 60 * 24 * 365
"""submitit's local executor kills after five minutes unless told otherwise."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Job(Protocol):
    """A run under way."""

    def done(self) -> bool:
        """Say whether the process has ended, well or not."""

    def failure(self) -> str:
        """Give why the process failed; empty if it did not."""

    def cancel(self) -> None:
        """Ask the process to stop."""


class Executor(Protocol):
    """Sends runs."""

    capacity: int
    """Runs at a time."""

    def submit(self, run: Run) -> Job:
        """Start a run."""


def work(
    folder: str, recipe: dict[str, Any], labels: dict[str, str], execution: dict[str, Any]
) -> str:
    """Run one recipe in this process; what a worker does."""
    from trm_lab.config.recipe import Recipe
    from trm_lab.config.source import Source
    from trm_lab.config.validate import validate
    from trm_lab.runs import Labels
    from trm_lab.training import train

    state = train(
        validate(Recipe, Source(recipe, "the worker's recipe")),
        folder,
        execution=Execution.model_validate(execution),
        labels=Labels(**labels),
    )
    return state.value


def work_locally(devices: str | None, *call: Any) -> str:
    """Work until SIGTERM, with the driver's GPUs, all of which submitit's executor hides."""
    signal.signal(signal.SIGTERM, _stop)
    if devices is None:
        os.environ.pop(VISIBLE, None)
    else:
        os.environ[VISIBLE] = devices
    return work(*call)


def _stop(*_: object) -> None:
    """Stop the run once: a further signal must not disturb its last words."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def build_executor(setting: ExecutorSetting, execution: Execution, root: Path) -> Executor:
    """Build the executor of a sweep; its logs go below the study's folder."""
    match setting:
        case InProcess():
            return _InProcess(execution)
        case Local():
            return _Local(setting, execution, root / "logs")


def _call(run: Run, execution: Execution) -> tuple[Any, ...]:
    labels = vars(run.labels)
    return str(run.folder.path.resolve()), run.recipe.as_dict(), labels, execution.model_dump()


class _InProcess:
    capacity = 1

    def __init__(self, execution: Execution) -> None:
        self.execution = execution

    def submit(self, run: Run) -> Job:
        try:
            work(*_call(run, self.execution))
        except Exception as error:  # a failed run is a row of the study; `train` recorded it
            return _Ended(f"{type(error).__name__}: {error}")
        return _Ended("")


class _Ended:
    def __init__(self, failure: str) -> None:
        self._failure = failure

    def done(self) -> bool:
        return True

    def failure(self) -> str:
        return self._failure

    def cancel(self) -> None:
        return None


class _Local:
    def __init__(self, setting: Local, execution: Execution, logs: Path) -> None:
        self.execution = execution
        self.capacity = setting.workers or cores()
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.executor = submitit.LocalExecutor(folder=logs / "%j")
        self.executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)

    def submit(self, run: Run) -> Job:
        with _threads(self.execution.threads), _shielded():
            devices = os.environ.get(VISIBLE)
            call = _call(run, self.execution)
            return _LocalJob(self.executor.submit(work_locally, devices, *call))


class _LocalJob:
    def __init__(self, job: Any) -> None:
        self.job = job

    def done(self) -> bool:
        return bool(self.job.done(force_check=True))

    def failure(self) -> str:
        error = self.job.exception()
        return "" if error is None else str(error).strip().splitlines()[-1]

    def cancel(self) -> None:
        # Not submitit's own way, which is SIGINT and a second later SIGKILL.  A local job's id is
        # the process that passes SIGTERM on to the worker.
        if not self.done():
            os.kill(int(self.job.job_id), signal.SIGTERM)


class Orphan:
    """A run that a worker of an earlier driver still works on: done when it lets go of its lock."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def done(self) -> bool:
        """Say whether the folder is free again."""
        return not is_busy(self.run)

    def failure(self) -> str:
        """Nothing is known of the process but what it wrote."""
        return ""

    def cancel(self) -> None:
        """Leave it: it is not ours."""


def is_busy(run: Run) -> bool:
    """Say whether some process works in the run's folder."""
    return run.folder.busy()


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
