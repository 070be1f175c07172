"""What a job does: it works on its runs.  It knows nothing of Optuna or of the study.

A worker gets plain data: a folder, a recipe, labels and execution settings.  Signals only ask it to
stop; what it needs to go on later is on disk all along, since a node that fails, a process out of
memory and a preemption without notice send no signal at all.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trm_lab.lease import holder, host
from trm_lab.runs import RunFolder, State
from trm_lab.study.attempts import progress, sent_since
from trm_lab.study.notices import LEAVE, Notices
from trm_lab.study.slurm import rendezvous

LOG = "worker.log"
"""File in the run folder that takes what the worker prints."""
PATIENCE = 30.0
"""Seconds to wait for a predecessor that is still dying; a requeued job may overtake itself."""
REQUEUE_SECONDS = 30
PREDECESSOR_SECONDS = 60.0
"""How long a driver's job waits for a driver before it that still holds the study."""
AGAIN_SECONDS = 2.0
CHILD_SECONDS = 0.5
"""Time between two looks at the processes of a pack."""
ALREADY = "already driving"
"""What a driver says that finds another at work."""
ENDED = (State.CANCELLED, State.FAILED)
"""States in which a job that was put back leaves a run: others may ask for it again."""


@dataclass(frozen=True)
class Task:
    """One run, as plain data."""

    folder: str
    recipe: dict[str, Any]
    labels: dict[str, str]
    execution: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """The callable that a job holds: its runs, one in this process or several in as many."""

    tasks: tuple[Task, ...]
    executor: str
    """local or slurm."""
    devices: str | None = None
    """CUDA_VISIBLE_DEVICES of local runs; None leaves it unset."""

    def __call__(self) -> list[str]:
        """Work, and give the state in which each run ended."""
        notices = Notices()
        if self.executor == "local":  # submitit hides all GPUs from local jobs
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            if self.devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.devices
        job = _job(self.executor)
        if self.executor == "slurm" and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            os.environ.update(rendezvous())
        if len(self.tasks) > 1:
            return _side_by_side(self.tasks, self.executor, notices)
        with _logged(Path(self.tasks[0].folder) / LOG):
            return [_heeding_signals(self.tasks[0], self.executor, job, notices)]

    def checkpoint(self, *_: Any) -> None:
        """Never called: the signals that submitit would answer so are answered by the run.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("the run answers signals itself")


@dataclass(frozen=True)
class Drive:
    """The callable of a job that holds a driver: `trm-lab` with these arguments."""

    arguments: tuple[str, ...]

    def __call__(self) -> int:
        """Drive to the end; at the end of the wall time leave, and be put back into the queue.

        A driver that was put back goes on; it does not ask for failed and cancelled runs again.
        """
        notices, job = Notices(), _job("slurm")
        arguments = [*self.arguments, "--carry-on"] if job["restart"] else [*self.arguments]
        command = [sys.executable, "-m", "trm_lab.cli", *arguments]
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while True:
            code, words = _told(command, notices)
            # The driver of the job's last turn may still be dying, on another node.
            early = code == 2 and ALREADY in words and time.monotonic() < deadline
            if not early or notices.heard:
                break
            time.sleep(AGAIN_SECONDS)
        if notices.of_wall_time:
            _requeue(job["id"])
        return code

    def checkpoint(self, *_: Any) -> None:
        """Never called, as of `Work`.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("the driver answers signals itself")


def _told(command: Sequence[str], notices: Notices) -> tuple[int, str]:
    """Run a driver that hears of our signals; give its exit code and its last words."""
    last = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as driver:
        # Its jobs stay at an interrupt, and it finds them again.
        notices.answered_by(lambda _: driver.send_signal(signal.SIGINT))
        assert driver.stderr is not None
        for line in driver.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
    return driver.returncode, last


def work(task: Task, **how: Any) -> State:
    """Run one recipe in this process."""
    from trm_lab.config.execution import Execution
    from trm_lab.config.recipe import Recipe
    from trm_lab.config.source import Source
    from trm_lab.config.validate import validate
    from trm_lab.runs import Labels
    from trm_lab.training import train
    from trm_lab.training.distributed import joined

    execution = Execution.model_validate(task.execution)
    with joined(execution.device) as group:  # of one, but in a job of several tasks
        return train(
            validate(Recipe, Source(task.recipe, "the worker's recipe")),
            task.folder,
            execution=execution,
            labels=Labels(**task.labels),
            group=group,
            **how,
        )


def _heeding_signals(task: Task, executor: str, job: Mapping[str, Any], notices: Notices) -> str:
    """Work until the end or a signal, and put the job back into the queue if there is notice."""
    folder = RunFolder(task.folder)
    before = folder.state()
    if job.get("restart") and before in ENDED:
        return before.value  # the job was put back for others, or by SLURM itself
    if sent_since(folder, str(job["id"])):
        return before.value  # it ended in an earlier turn of this job, and is another's by now
    from trm_lab.training.stop import Stop

    stop = Stop()

    def leave(number: int) -> None:
        """Ask the run to stop; once, so that a further signal does not disturb its last words."""
        if not stop.requested:
            # A local job is terminated by its driver, or as it is, and a SLURM job by whoever wants
            # its place.
            if executor == "local" and number == signal.SIGTERM:
                stop.request(State.CANCELLED, "stopped with its driver")
            else:
                stop.request(State.WAITING, f"told to leave by {signal.Signals(number).name}")

    notices.answered_by(leave)
    start = progress(folder)
    state = work(task, stop=stop, job=job, patience=PATIENCE)
    if executor == "slurm" and notices.of_wall_time:
        _requeue_if_it_helps([folder], [start], str(job["id"]))
    return state.value


def _requeue_if_it_helps(folders: Sequence[RunFolder], starts: Sequence[int], job: str) -> None:
    """Put our job back if a run is left, and one came further.

    Otherwise the driver counts an attempt: nothing else would bound turns that come to nothing.
    """
    ours = [(f, n) for f, n in zip(folders, starts, strict=True) if not sent_since(f, job)]
    left = any(not (state := f.state()).final and state not in ENDED for f, _ in ours)
    further = any(progress(f) > start for f, start in ours)
    if left and further:
        _requeue(job)


def _requeue(job: str) -> None:
    """Put our own job back.

    The end of the job that this brings about must not hit scontrol itself, which inherits that
    SIGTERM is ignored.  If the site refuses, the driver sends the run again.
    """
    if int(os.environ.get("SLURM_PROCID", "0")) > 0:
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    command = ["scontrol", "requeue", job]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=REQUEUE_SECONDS)
        words = told.stderr.strip() if told.returncode else "requeued"
    except (OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    print(f"job {job}: {words}", flush=True)


def _side_by_side(tasks: Sequence[Task], executor: str, notices: Notices) -> list[str]:
    """Run each task in a process of its own and pass signals on."""
    folders = [RunFolder(task.folder) for task in tasks]
    starts = [progress(folder) for folder in folders]
    # A child is born deaf, and listens once it can answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)
    try:
        children = [_started(task, executor) for task in tasks]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE)

    def forward(number: int) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    notices.answered_by(forward)
    job, at_work = _job(executor), dict(zip(children, folders, strict=True))
    while at_work:
        for child in [child for child in at_work if child.poll() is not None]:
            _tell_of_end(child.returncode, at_work.pop(child), job)
        time.sleep(CHILD_SECONDS * bool(at_work))
    codes = [child.returncode for child in children]
    if executor == "slurm" and notices.of_wall_time:
        _requeue_if_it_helps(folders, starts, str(job["id"]))
    if any(codes):
        raise RuntimeError(f"of {len(codes)} runs {sum(map(bool, codes))} ended badly: {codes}")
    return ["ended"] * len(codes)


def _tell_of_end(code: int, folder: RunFolder, job: Mapping[str, Any]) -> None:
    """Note that a run's process was killed, which the queue shows only once its mates have ended.

    Nothing is noted where it has told its end itself, or the run is another's by now: on this host
    the lock tells that nobody works on it, elsewhere only the lease does.
    """
    state, lease = folder.state(), holder(folder.lease)
    elsewhere = lease is not None and lease.get("host") != host()
    told = code == 0 or state.final or state in ENDED
    if told or elsewhere or folder.busy() or sent_since(folder, str(job["id"])):
        return
    why = f"killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
    with suppress(OSError):  # as on a full disk: the driver hears of it when the job ends
        folder.mark(State.LOST, why, job={**job, "packed": True})


def _started(task: Task, executor: str) -> "subprocess.Popen[bytes]":
    """Start a process that works on a task."""
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    with (Path(task.folder) / LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "trm_lab.study.worker", executor],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    assert child.stdin is not None
    child.stdin.write(json.dumps(asdict(task)).encode())
    child.stdin.close()
    return child


def _job(executor: str) -> dict[str, Any]:
    """Say which job this process is."""
    variable = os.environ.get
    if executor != "slurm":
        return {"executor": executor, "id": variable("SUBMITIT_LOCAL_JOB_ID", "")}
    job = variable("SLURM_JOB_ID", "")
    if array := variable("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{variable('SLURM_ARRAY_TASK_ID')}"
    return {
        "executor": executor,
        "id": job,
        "restart": int(variable("SLURM_RESTART_COUNT", "0")),
        "node": variable("SLURMD_NODENAME", ""),
    }


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Let this process and its children write into the run's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            yield
        except BaseException:
            import traceback

            traceback.print_exc()  # submitit prints it too, but into a log that nobody looks for
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        for number, before in enumerate(kept, start=1):
            os.dup2(before, number)
            os.close(before)
        os.close(log)


def _child() -> None:
    """Work on the task on standard input: one of several in a job."""
    notices, executor = Notices(), sys.argv[1]
    job = _job(executor)
    # The parent puts the job back; a child only stops.
    packed = {**job, "packed": True}
    task = Task(**json.load(sys.stdin))
    _heeding_signals(task, "packed" if executor == "slurm" else executor, packed, notices)


if __name__ == "__main__":
    _child()
