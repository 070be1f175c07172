"""What a job does with signals, turns and words that reach it at awkward moments."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.study.tiny import EXECUTION, planned
from trm_lab.lease import host
from trm_lab.runs import RunFolder, State
from trm_lab.study import worker
from trm_lab.study.attempts import attempted, last_job
from trm_lab.study.dispatch import task_of
from trm_lab.study.notices import LEAVE, Notices
from trm_lab.study.worker import Drive, Task, Work


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what the process does at signals."""
    before = {number: signal.getsignal(number) for number in LEAVE}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be the job 17 of a cluster; gives the file of what scontrol was told."""
    told, command = tmp_path / "told", tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    told.touch()
    return told


def tasks(tmp_path: Path) -> list[Task]:
    return [task_of(run, EXECUTION) for run in planned(tmp_path / "runs").runs()]


def at(update: int, state: str = "waiting") -> dict[str, Any]:
    return {"state": state, "checkpointed": update}


def standing(monkeypatch: pytest.MonkeyPatch, act: Callable[[RunFolder], State]) -> None:
    """Let a run in this process be what `act` does."""
    monkeypatch.setattr(worker, "work", lambda task, **_: act(RunFolder(task.folder)))


@pytest.mark.parametrize(
    ("restart", "state", "worked"),
    [
        ("1", "cancelled", False),
        ("2", "failed", False),
        ("1", "waiting", True),
        ("1", "running", True),
        ("0", "cancelled", True),
        ("0", "failed", True),
    ],
)
def test_a_job_that_was_put_back_leaves_cancelled_and_failed_runs(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart, state, worked
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    task, seen = tasks(tmp_path)[0], []
    folder = RunFolder(task.folder)
    folder.mark(State(state), "as it was")
    before = folder.status_file.read_bytes()
    standing(monkeypatch, lambda f: seen.append(f.path) or State.COMPLETED)
    assert Work((task,), "slurm")() == ["completed" if worked else state]
    assert seen == ([folder.path] if worked else [])
    assert folder.status_file.read_bytes() == before


@pytest.mark.parametrize(
    ("number", "start", "end", "told"),
    [
        (signal.SIGUSR2, at(0), at(5), "requeue 17\n"),
        (signal.SIGUSR2, at(5), at(5), ""),
        (signal.SIGUSR2, at(5), at(0), ""),  # its checkpoint is lost
        (signal.SIGUSR2, at(5), at(9, "cancelled"), ""),
        (signal.SIGUSR2, at(5), at(9, "completed"), ""),
        (signal.SIGTERM, at(0), at(5), ""),
    ],
)
def test_a_job_is_put_back_only_if_its_run_came_further(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number, start, end, told
) -> None:
    task = tasks(tmp_path)[0]
    Path(task.folder).mkdir(parents=True)
    RunFolder(task.folder).write_status(start)

    def act(folder: RunFolder) -> State:
        os.kill(os.getpid(), number)
        folder.write_status(end)
        return folder.state()

    standing(monkeypatch, act)
    assert Work((task,), "slurm")() == [end["state"]]
    assert job.read_text() == told


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((at(0), at(5)), "requeue 17\n"),
        ((at(0), at(0)), ""),
        ((at(0), at(5, "completed")), "requeue 17\n"),
        ((at(5, "cancelled"), at(9, "completed")), ""),
    ],
)
def test_a_pack_is_put_back_if_one_is_left_and_one_came_further(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends, told
) -> None:
    pack = tasks(tmp_path)[:2]
    left = dict(zip((task.folder for task in pack), ends, strict=True))

    def started(task: Task, _: str) -> Popen[bytes]:
        Path(task.folder).mkdir(parents=True)
        RunFolder(task.folder).write_status(left[task.folder])
        os.kill(os.getpid(), signal.SIGUSR2)
        return Popen(["true"])

    monkeypatch.setattr(worker, "_started", started)
    assert Work(tuple(pack), "slurm")() == ["ended", "ended"]
    assert job.read_text() == told


def test_a_run_that_was_sent_again_is_left_to_that_job_and_keeps_none_in_the_queue(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, seen = tasks(tmp_path)[0], []
    folder = RunFolder(task.folder)
    attempted(folder, "16", "", 0)
    folder.write_status(at(0, "running"))

    def act(there: RunFolder) -> State:
        os.kill(os.getpid(), signal.SIGUSR2)
        seen.append(there.path)
        there.write_status(at(5, "running"))
        return there.state()

    standing(monkeypatch, act)
    Work((task,), "slurm")()  # of ours nothing is noted yet: the folder's lock tells
    attempted(folder, "17", "", 0)
    folder.write_status(at(0, "running"))
    Work((task,), "slurm")()
    assert (seen, job.read_text()) == ([folder.path] * 2, "requeue 17\n" * 2)
    attempted(folder, "18", "", 0)
    folder.write_status(at(0, "running"))
    assert Work((task,), "slurm")() == ["running"]
    assert len(seen) == 2
    folders = [folder, RunFolder(tasks(tmp_path)[1].folder)]
    folders[1].mark(State.COMPLETED, "")
    folder.write_status(at(9, "running"))  # that job came further, and is not over
    worker._requeue_if_it_helps(folders, [0, 0], "17")
    assert job.read_text() == "requeue 17\n" * 2


KILL = ["sh", "-c", "kill -KILL $$"]


@pytest.mark.parametrize(
    ("command", "before", "lease", "noted"),
    [
        (KILL, "running", "child", "killed by signal 9"),
        (KILL, "running", "none", "killed by signal 9"),
        (KILL, "waiting", "none", "killed by signal 9"),  # before it could say that it runs
        (["sh", "-c", "exit 3"], "lost", "none", "its process ended with code 3"),
        (KILL, "running", "elsewhere", ""),  # on another node, whose locks may not be seen
        (KILL, "running", "held", ""),
        (KILL, "running", "sent again", ""),
        (["true"], "waiting", "none", ""),
        (["false"], "failed", "none", ""),
        (["false"], "completed", "none", ""),
    ],
)
def test_a_pack_tells_of_the_run_whose_process_was_killed_while_its_mate_works(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command, before, lease, noted
) -> None:
    pack = tasks(tmp_path)[:2]
    folder, mate = (RunFolder(task.folder) for task in pack)
    held = []

    def started(task: Task, _: str) -> Popen[bytes]:
        there = RunFolder(task.folder)
        there.path.mkdir(parents=True)
        if there.path == mate.path:  # works until its mate's end is noted, or is past
            seen = f'grep -q "signal\\|code" {folder.status_file}'
            until = f"for i in $(seq 600); do {seen} && exit; sleep 0.05; done; exit 1"
            return Popen(["sh", "-c", until if noted else "sleep 1.5"])
        there.write_status(at(5, before))
        child = Popen(command)
        told = {"host": "elsewhere" if lease == "elsewhere" else host(), "pid": child.pid}
        if lease in ("child", "elsewhere"):
            there.lease.write_text(json.dumps(told))
        if lease == "held":
            held.append(there.lock())
        for number in ("17", "18") if lease == "sent again" else ():
            attempted(there, number, "", 5)
        return child

    monkeypatch.setattr(worker, "_started", started)
    if command == ["true"]:
        assert Work(tuple(pack), "slurm")() == ["ended", "ended"]
    else:
        with pytest.raises(RuntimeError, match="of 2 runs 1 ended badly"):
            Work(tuple(pack), "slurm")()
    status = folder.status()
    assert status is not None
    assert status["checkpointed"] == 5
    assert (status["state"], last_job(folder)) == (("lost", "17") if noted else (before, ""))
    assert ((status.get("error") or {}).get("message") or "") == noted
    for lock in held:
        lock.release()


def test_a_notice_before_the_run_is_there_is_kept(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, plain, stops = Work((tasks(tmp_path)[0],), "slurm"), worker._job, []
    signal.signal(signal.SIGUSR2, work.checkpoint)  # as submitit does

    def noticed(executor: str) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGUSR2)
        return plain(executor)

    def act(task: Task, *, stop: Any, **_: Any) -> State:
        stops.append((stop.state, stop.reason))
        return State.WAITING

    monkeypatch.setattr(worker, "_job", noticed)
    monkeypatch.setattr(worker, "work", act)
    assert work() == ["waiting"]
    assert stops == [(State.WAITING, "told to leave by SIGUSR2")]


def test_signals_that_were_kept_back_are_heard(job: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)
    signal.raise_signal(signal.SIGUSR2)
    heard: list[int] = []
    notices = Notices()
    assert (notices.heard, notices.of_wall_time) == ([signal.SIGUSR2], True)
    signal.raise_signal(signal.SIGTERM)
    notices.answered_by(heard.append)
    assert heard == [signal.SIGUSR2, signal.SIGTERM]
    assert notices.of_wall_time  # the first tells


@pytest.mark.slow
def test_a_pack_told_to_leave_as_it_starts_leaves_and_trains_no_cancelled_run(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    pack, plain, children = tasks(tmp_path)[:3], worker._started, []
    folders = [RunFolder(task.folder) for task in pack]
    folders[0].mark(State.CANCELLED, "as it was")
    folders[1].ask_to_cancel()

    def started(task: Task, executor: str) -> Popen[bytes]:
        children.append(plain(task, executor))
        if len(children) == 3:
            os.kill(os.getpid(), signal.SIGUSR2)
        return children[-1]

    monkeypatch.setattr(worker, "_started", started)
    assert Work(tuple(pack), "slurm")() == ["ended"] * 3
    told = [folder.status() for folder in folders]
    assert [(t["state"], t["error"]["message"]) for t in told] == [
        ("cancelled", "as it was"),
        ("cancelled", "cancelled by hand"),
        ("waiting", "told to leave by SIGUSR2"),
    ]
    assert [t.get("update", 0) for t in told] == [0, 0, 0]
    assert folders[1].asked_to_cancel()
    assert job.read_text() == ""  # nobody came further


KILLED = """#!/bin/sh
kill -TERM $PPID $$
kill -USR2 $PPID $$
echo "$@" >> {0}
"""


def test_the_end_that_a_requeue_brings_about_reaches_neither_the_worker_nor_scontrol(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin" / "scontrol").write_text(KILLED.format(job))
    heard = _put_back(tmp_path, monkeypatch)
    assert job.read_text() == "requeue 17\n"
    assert heard == [signal.SIGUSR2]  # the notice alone
    assert "job 17: requeued" in capsys.readouterr().out


def test_a_requeue_that_is_refused_leaves_the_run_waiting_for_the_driver(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "#!/bin/sh\necho 'Access/permission denied' >&2\nexit 1\n"
    (tmp_path / "bin" / "scontrol").write_text(refusal)
    _put_back(tmp_path, monkeypatch)
    assert RunFolder(tasks(tmp_path)[0].folder).state() is State.WAITING
    assert "job 17: Access/permission denied" in capsys.readouterr().out


def _put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a run come further, hear of its wall time and put its job back; give what it heard."""
    task, heard = tasks(tmp_path)[0], []
    plain = Notices.answered_by

    def answered_by(self: Notices, answer: Callable[[int], None]) -> None:
        def noted(number: int) -> None:
            heard.append(number)
            answer(number)

        plain(self, noted)

    def act(folder: RunFolder) -> State:
        os.kill(os.getpid(), signal.SIGUSR2)
        folder.write_status(at(5))
        return folder.state()

    monkeypatch.setattr(Notices, "answered_by", answered_by)
    standing(monkeypatch, act)
    assert Work((task,), "slurm")() == ["waiting"]
    return heard


DRIVER = """#!/bin/sh
echo "$@" >> {0}/calls
[ $(wc -l < {0}/calls) -gt {1} ] && exit 1
echo "error: runs/x: process 7 on n1 is already driving this study" >&2
exit 2
"""


@pytest.mark.parametrize(
    ("restart", "refusals", "seconds", "code", "calls"),
    [("0", 0, 60.0, 1, 1), ("1", 2, 60.0, 1, 3), ("1", 9, 0.0, 2, 1)],
)
def test_a_driver_s_job_waits_for_the_driver_before_it_and_carries_on(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], restart, refusals, seconds, code, calls,
) -> None:  # fmt: skip
    command = tmp_path / "python"
    command.write_text(DRIVER.format(tmp_path, refusals))
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command))
    monkeypatch.setattr(worker, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(worker, "PREDECESSOR_SECONDS", seconds)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    assert Drive(("run", "a.yaml"))() == code
    more = " --carry-on" if restart == "1" else ""
    assert (tmp_path / "calls").read_text() == f"-m trm_lab.cli run a.yaml{more}\n" * calls
    refused = "error: runs/x: process 7 on n1 is already driving this study\n"
    assert capfd.readouterr().err == refused * min(refusals, calls)
    assert job.read_text() == ""
