"""Where runs are sent.  The only module that knows submitit.

A worker gets a folder, a recipe and execution settings; it writes its run folder and knows nothing
of Optuna or of the study.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import submitit

from trm_lab.config.execution import Execution, InProcess, Local
from trm_lab.config.execution import Executor as ExecutorSetting
from trm_lab.errors import RunBusyError
from trm_lab.study.plan import Run

NO_LIMIT_MINUTES = 60 * 24 * 365
"""submitit's local executor kills after five minutes unless told otherwise."""


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
    from trm_lab.runs import Labels
    from trm_lab.train import train

    state = train(
        Recipe.model_validate(recipe),
        folder,
        execution=Execution.model_validate(execution),
        labels=Labels(**labels),
    )
    return state.value


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
        self.capacity = setting.workers or len(os.sched_getaffinity(0))
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.executor = submitit.LocalExecutor(folder=logs / "%j")
        self.executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)

    def submit(self, run: Run) -> Job:
        with _threads(self.execution.threads):
            return _LocalJob(self.executor.submit(work, *_call(run, self.execution)))


class _LocalJob:
    def __init__(self, job: Any) -> None:
        self.job = job

    def done(self) -> bool:
        return bool(self.job.done(force_check=True))

    def failure(self) -> str:
        error = self.job.exception()
        return "" if error is None else str(error).strip().splitlines()[-1]

    def cancel(self) -> None:
        self.job.cancel(check=False)


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
    if not run.folder.path.exists():
        return False
    try:
        run.folder.lock().release()
    except RunBusyError:
        return True
    return False


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
