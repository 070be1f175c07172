"""Where runs are sent, as a sweep says it: this process, others of this machine, or SLURM."""

from collections.abc import Collection, Sequence
from pathlib import Path

from trm_lab.config.execution import Execution, InProcess, Local, Slurm
from trm_lab.config.execution import Executor as ExecutorSetting
from trm_lab.study.cluster import Cluster
from trm_lab.study.dispatch import Executor, Job, orphans, task_of
from trm_lab.study.plan import Run
from trm_lab.study.submission import Processes
from trm_lab.study.worker import work


def build_executor(
    setting: ExecutorSetting, execution: Execution, root: Path, study: str
) -> Executor:
    """Build the executor of a sweep; its logs go below the study's folder."""
    match setting:
        case InProcess():
            return _InProcess(execution)
        case Local():
            return Processes(setting, execution, root / "logs")
        case Slurm():
            return Cluster(setting, execution, root.resolve(), study)


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
        return orphans(runs)

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
