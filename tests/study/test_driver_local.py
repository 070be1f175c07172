"""The driver with processes of this machine, some of which are killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from tests.study.tiny import (
    DEEP,
    EXECUTION,
    SHALLOW,
    local,
    planned,
    results,
    runs_by_key,
    states,
    statuses,
    trials,
    write_files,
)
from trm_lab.config.execution import Sweep
from trm_lab.runs import RunFolder, State
from trm_lab.study.attempts import attempts, progress
from trm_lab.study.dispatch import task_of
from trm_lab.study.driver import Event, drive
from trm_lab.study.plan import Plan
from trm_lab.study.worker import Work

ALL, HALF = (f"about {n} s of one core, 0 s of it evaluation" for n in (10, 5))
"""The estimate of two runs, and of one."""
LONG = (
    ("updates: 4\n", "updates: 300\n"),
    ("every: 2", "every: 50"),
    ("seeds: [0, 1]", "seeds: [0]"),
)
"""Two runs that take seconds."""
Changes = tuple[tuple[str, str], ...]


class Command(subprocess.Popen[str]):
    """`trm-lab run` in a session of its own, as a terminal starts it."""

    def __init__(self, files: list[str], runs: Path) -> None:
        super().__init__(
            [sys.executable, "-m", "trm_lab.cli", "run", *files, "--runs", str(runs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def clear(self) -> None:
        """Kill what is left of the command and of its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.communicate()

    def end(self) -> tuple[int, str, str]:
        """Wait; give exit code and both outputs."""
        out, err = self.communicate(timeout=240)
        return self.returncode, out, err

    def wait_until(self, what: Callable[[], Any]) -> None:
        """Wait for something that happens while the command runs."""
        deadline = time.monotonic() + 240
        while not what():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the long study computes when nothing disturbs it."""
    plan = planned(tmp_path_factory.mktemp("straight"), *LONG)
    assert drive(plan) == {State.COMPLETED: 2}
    return results(plan.root)


@pytest.fixture
def long(tmp_path: Path) -> Plan:
    """The long study, planned."""
    return planned(tmp_path / "runs", *LONG)


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command for a plan and clears up in the end."""
    commands: list[Command] = []

    def begin(plan: Plan, *arguments: str, workers: int = 2, changes: Changes = LONG) -> Command:
        files = write_files(tmp_path, *changes, sweep=local(workers))
        commands.append(Command([*files, *arguments], plan.root.parent))
        return commands[-1]

    yield begin
    for command in commands:
        command.clear()


def in_order(plan: Plan) -> tuple[str, str]:
    """Give the runs in the order in which a driver starts them: costly ones first."""
    shallow, deep = (run.key for run in plan.runs())
    return deep, shallow


def checkpointed(plan: Plan) -> list[str]:
    """Name the runs that tell of a checkpoint of some update.

    The file alone says less: it comes before the word, and a slow start writes one of update 0.
    """
    return [r.key for r in plan.runs() if progress(r.folder) > 0]


@pytest.mark.slow
def test_local_workers_complete_a_study_and_compute_what_one_process_does(
    tmp_path: Path, undisturbed: Plan
):
    plan = planned(tmp_path, sweep=local(2).model_copy(update={"seeds": 1}))
    assert drive(plan) == Counter({State.COMPLETED: 2})
    wanted = results(undisturbed.root)
    assert results(plan.root) == {k: v for k, v in wanted.items() if k[0].endswith("seed-0")}
    found = statuses(plan.root)
    assert {s["environment"]["threads"] for s in found.values()} == {1}
    assert {s["host"] for s in found.values()} == {socket.gethostname()}
    assert len({s["pid"] for s in found.values()} | {os.getpid()}) == 3
    told = trials(plan.root)
    assert [t.state for t in told] == [TrialState.COMPLETE] * 2
    assert all(list(t.intermediate_values) == [2, 4] for t in told)
    assert drive(plan) == Counter({State.COMPLETED: 2})
    assert {s["attempt"] for s in statuses(plan.root).values()} == {1}


@pytest.mark.slow
def test_there_are_never_more_workers_than_told(tmp_path: Path):
    plan = planned(tmp_path, sweep=local(2))
    running: set[str] = set()
    started, at_work = [], []

    def listen(event: Event) -> None:
        (running.add if event.state is State.RUNNING else running.discard)(event.run.key)
        started.append(len(running))

    def tick() -> None:
        at_work.append(list(states(plan.root).values()).count("running"))

    assert drive(plan, listen=listen, tick=tick) == Counter({State.COMPLETED: 4})
    assert max(started) == 2
    assert max(at_work, default=0) <= 2


@pytest.mark.slow
def test_a_killed_worker_is_sent_again_and_goes_on_to_the_same_bits(
    start: Start, long: Plan, straight: dict[str, Any]
):
    command = start(long)
    command.wait_until(lambda: len(checkpointed(long)) == 2)
    victim = in_order(long)[0]
    os.kill(statuses(long.root)[victim]["pid"], signal.SIGKILL)
    code, out, err = command.end()
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.startswith("deep, seed 0: "))
    assert line.endswith("; goes on from its checkpoint")
    assert f"{long.root}: 2 completed" in out.splitlines()
    assert {key: s["attempt"] for key, s in statuses(long.root).items()} == {
        key: 1 + (key == victim) for key in in_order(long)
    }
    assert results(long.root) == straight
    assert [t.state for t in trials(long.root)] == [TrialState.COMPLETE] * 2
    sent = attempts(RunFolder(long.root / victim))
    assert sent[0]["from"] == 0 < sent[1]["from"] < 300


@pytest.mark.slow
def test_a_run_that_never_gets_further_fails_with_the_end_of_its_log(
    start: Start, long: Plan, straight: dict[str, Any]
):
    victim = in_order(long)[0]
    folder = RunFolder(long.root / victim)
    command = start(long)
    killed = []
    while len(killed) < 3:  # as many times as it is tried, and always before the first checkpoint
        command.wait_until(lambda: statuses(long.root).get(victim, {}).get("pid") not in
                           (None, *killed))  # fmt: skip
        folder.log.write_text("out of memory\n")
        killed.append(statuses(long.root)[victim]["pid"])
        os.kill(killed[-1], signal.SIGKILL)
        assert not folder.checkpoint.exists()
    code, out, err = command.end()
    assert (code, err) == (1, "")
    error = statuses(long.root)[victim]["error"]
    assert error["type"] == "Failed"
    assert error["message"].endswith("3 attempts came no further")
    assert error["log"].startswith("out of memory")
    assert f"{long.root}: 1 completed, 1 failed" in out.splitlines()
    # Asked for again it has all its attempts before it.
    assert start(long).end()[0] == 0
    assert results(long.root) == straight


@pytest.mark.slow
def test_a_worker_whose_overseer_is_killed_is_waited_for(
    start: Start, long: Plan, straight: dict[str, Any]
):
    # submitit starts a process that starts the worker; only the latter computes.
    command = start(long)
    command.wait_until(lambda: len(checkpointed(long)) == 2)
    worker = statuses(long.root)[in_order(long)[0]]["pid"]
    stat = Path(f"/proc/{worker}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    code, out, err = command.end()
    assert (code, err) == (0, "")
    assert f"{long.root}: 2 completed" in out.splitlines()
    assert {s["attempt"] for s in statuses(long.root).values()} == {1}
    assert results(long.root) == straight


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, True], ids=["workers_at_work", "workers_starting"])
def test_a_killed_driver_leaves_its_workers_to_the_next_one(
    start: Start, long: Plan, straight: dict[str, Any], early: bool
):
    command = start(long)
    if early:
        command.wait_until(lambda: len(list(long.root.glob("logs/*/*_log.out"))) == 2)
    else:
        command.wait_until(lambda: len(checkpointed(long)) == 2)
    command.send_signal(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    assert "completed" not in states(long.root).values()

    code, out, err = start(long).end()
    assert (code, err) == (0, "")
    assert f"{long.root}: 2 completed" in out.splitlines()
    assert {s["attempt"] for s in statuses(long.root).values()} == {1}
    assert results(long.root) == straight
    told = trials(long.root)
    assert [t.state for t in told] == [TrialState.COMPLETE] * 2
    assert all(list(t.intermediate_values) == list(range(50, 301, 50)) for t in told)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True], ids=["to_the_driver", "in_a_terminal"])
def test_an_interrupted_command_exits_130_and_goes_on_to_the_same_bits(
    start: Start, long: Plan, straight: dict[str, Any], to_all: bool
):
    command = start(long)
    command.wait_until(lambda: len(checkpointed(long)) == 2)
    if to_all:
        os.killpg(command.pid, signal.SIGINT)  # as Ctrl-C does
    else:
        command.send_signal(signal.SIGINT)
    assert command.end() == (
        130,
        f"tiny: 2 runs; {ALL}\ninterrupted; the same command goes on from here\n",
        "",
    )
    assert states(long.root) == dict.fromkeys(in_order(long), "cancelled")
    for status in statuses(long.root).values():
        assert 50 <= status["update"] < 300
        assert status["error"] == {"type": "Stopped", "message": "stopped with its driver"}
    assert not (long.root / "results.nc").exists()

    code, out, err = start(long).end()
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"tiny: 2 runs; {ALL}"
    assert {s["attempt"] for s in statuses(long.root).values()} == {2}
    assert results(long.root) == straight
    assert [t.state for t in trials(long.root)] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_a_second_command_on_a_study_is_refused_and_names_the_first(start: Start, long: Plan):
    first = start(long, workers=1)
    first.wait_until(lambda: (long.root / ".driver.json").exists())
    assert start(long, workers=1).end() == (
        2,
        f"tiny: 2 runs; {ALL}\n",
        f"error: {long.root}: process {first.pid} on {socket.gethostname()} is already driving "
        "this study\n",
    )
    first.send_signal(signal.SIGINT)
    assert first.end()[0] == 130


@pytest.mark.slow
def test_a_run_that_fails_in_a_worker_makes_the_exit_code_1(tmp_path: Path, start: Start):
    plan = planned(tmp_path / "runs")
    bad = runs_by_key(plan)[f"{SHALLOW}/seed-1"]
    bad.folder.checkpoint.parent.mkdir(parents=True)
    torch.save({"recipe_id": "another"}, bad.folder.checkpoint)  # whole, and refused
    code, out, err = start(plan, "--only", "shallow", changes=()).end()
    assert (code, err) == (1, "")
    assert f"{plan.root}: 1 completed, 1 failed" in out.splitlines()
    line = next(line for line in out.splitlines() if "shallow, seed 1" in line)
    message = statuses(plan.root)[bad.key]["error"]["message"]
    assert line == f"[{line[1]}/2] shallow, seed 1: failed, {message.splitlines()[0]}"


def test_a_worker_sees_the_gpus_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = runs_by_key(planned(tmp_path))[f"{DEEP}/seed-0"]
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        for told, seen in ((None, None), ("", ""), ("GPU-1,GPU-2", "GPU-1,GPU-2")):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as submitit sets it
            assert Work((task_of(run, EXECUTION),), "local", told)() == ["completed"]
            assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_local_worker_computes_on_the_gpu(tmp_path: Path):
    execution = EXECUTION.model_copy(update={"device": "cuda"})
    sweep = Sweep(name="gpu", executor=local(1).executor, execution=execution, seeds=1)
    plan = planned(tmp_path, sweep=sweep)
    assert drive(plan, only="deep") == Counter({State.COMPLETED: 1})
    (status,) = statuses(plan.root).values()
    assert status["environment"]["device"].startswith("cuda: ")


def test_the_holder_of_the_drivers_lock_is_written_beside_it(finished: Plan):
    drive(finished)
    told = json.loads((finished.root / ".driver.json").read_text())
    assert told == {
        "pid": os.getpid(), "host": socket.gethostname(), "logged": False, "ended": "",
    }  # fmt: skip
