"""A run has one process at a time, and shows that it lives."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

import trm_lab.lease
from tests.training.tiny_run import EXECUTION, results, tiny_recipe
from trm_lab.core.reasoner import Reasoner
from trm_lab.errors import RunBusyError, Superseded
from trm_lab.lease import SETTLE_SECONDS, Lease, holder
from trm_lab.locks import Lock, hold
from trm_lab.runs import RunFolder, State
from trm_lab.training import heartbeat, loop, train
from trm_lab.training.stop import Stop

RECIPE = tiny_recipe()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that does not pass locks from node to node."""

    class Free:
        def release(self) -> None:
            pass

    monkeypatch.setattr(RunFolder, "lock", lambda *_: Free())


def files(folder: RunFolder) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.path.rglob("*")) if p.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("at", [("train", 2), ("evaluation", 5), ("train", 8), ("evaluation", 12)])
@pytest.mark.parametrize("stopped", [False, True])
def test_the_first_of_two_processes_ends_and_writes_nothing_more(
    tmp_path: Path, at: tuple[str, int], stopped: bool
) -> None:
    """While the first pauses at a record, a second one takes the run and brings it to its end."""
    undisturbed = tmp_path / "undisturbed"
    train(RECIPE, undisturbed, execution=EXECUTION)
    folder, left, stop = RunFolder(tmp_path / "run"), {}, Stop()

    def paused(record: dict[str, Any]) -> None:
        if (record["kind"], record["update"]) == at:
            assert train(RECIPE, folder.path, execution=EXECUTION) is State.COMPLETED
            left.update(files(folder))
            if stopped:
                stop.request(State.WAITING, "preempted")

    with pytest.raises(Superseded, match="another process has taken this run over"):
        train(RECIPE, folder.path, execution=EXECUTION, progress=paused, stop=stop)
    assert files(folder) == left
    assert results(folder.path) == results(undisturbed)
    assert folder.status()["attempt"] == 2


def test_a_run_that_is_taken_away_ends_without_a_word(tmp_path: Path) -> None:
    folder, left = RunFolder(tmp_path), {}

    def revoked(record: dict[str, Any]) -> None:
        if record["update"] == 8:
            folder.revoke()
            left.update(files(folder))

    with pytest.raises(Superseded):
        train(RECIPE, tmp_path, execution=EXECUTION, progress=revoked)
    assert files(folder) == left
    assert folder.state() is State.RUNNING
    assert train(RECIPE, tmp_path, execution=EXECUTION) is State.COMPLETED


def test_being_superseded_is_no_exception_that_an_executor_would_answer() -> None:
    assert not issubclass(Superseded, Exception)


def test_a_lease_says_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    slept: list[float] = []
    monkeypatch.setattr(trm_lab.lease.time, "sleep", slept.append)
    path = tmp_path / "lease.json"
    first = Lease.take(path, {"executor": "slurm"})
    told = holder(path)
    assert (told["token"], told["host"], told["job_id"]) == (first.token, "n1", "41")
    assert (told["restart_count"], told["job"]) == (2, {"executor": "slurm"})
    assert first.held()
    first.check()
    Lease.take(path)
    assert slept == []  # one host: the lock has told
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    last = Lease.take(path)
    assert slept == [SETTLE_SECONDS]
    assert (first.held(), last.held()) == (False, True)
    with pytest.raises(Superseded, match=r"process \d+ on n2 has taken this run over"):
        first.check()
    first.release()
    assert last.held()
    for text in (b"", b"{", b"\x00\xff", b"[]", b"{}", b"[" * 100_000):
        path.write_bytes(text)
        assert not last.held()
    last.release()
    assert path.exists()
    path.write_text(json.dumps({"token": last.token}))
    last.release()
    assert not path.exists()


def test_a_run_leaves_neither_lease_nor_heartbeat(tmp_path: Path) -> None:
    folder, seen = RunFolder(tmp_path), []

    def progress(_: Any) -> None:
        seen.append((folder.lease.exists(), folder.pulse() is not None))

    assert folder.pulse() is None
    train(RECIPE, tmp_path, execution=EXECUTION, progress=progress)
    assert set(seen) == {(True, True)}
    assert not folder.lease.exists()
    assert folder.pulse() is None


@pytest.mark.parametrize("where", ["data", "evaluation"])
def test_the_heart_beats_while_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Data building and evaluation wait until it has beaten three times."""
    folder, waited = RunFolder(tmp_path), []
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.005)

    def wait_for_beats() -> None:
        before, status = folder.pulse(), folder.status_file.read_bytes()
        pulses = {before}
        deadline = threading.Event()
        for _ in range(2000):
            pulses.add(folder.pulse())
            if len(pulses) == 4:
                break
            deadline.wait(0.005)
        waited.append(len(pulses))
        assert folder.status_file.read_bytes() == status

    owner, name = (loop, "build") if where == "data" else (Reasoner, "step")
    slow = getattr(owner, name)

    def slowly(*args: Any) -> Any:
        wait_for_beats()
        return slow(*args)

    monkeypatch.setattr(owner, name, slowly)
    assert train(RECIPE, tmp_path, execution=EXECUTION) is State.COMPLETED
    assert set(waited) == {4}
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.slow
def test_a_heart_stops_where_the_run_is_no_longer_ours(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lease = Lease.take(folder.lease)
    with heartbeat.beating(folder, lease, 0.002):
        other = Lease.take(folder.lease)
        (beat,) = (t for t in threading.enumerate() if t.name == "heartbeat")
        beat.join(timeout=20)
        assert not beat.is_alive()
    assert folder.pulse() is not None  # left to the other
    assert other.held()


def test_a_busy_folder_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = RunFolder(tmp_path).lock()
    times: list[float] = []

    def held_after(path: Path, patience: float) -> Lock:
        times.append(patience)
        if patience > 1:
            held.release()
        return hold(path, patience)

    monkeypatch.setattr(trm_lab.runs, "hold", held_after)
    with pytest.raises(RunBusyError):
        train(RECIPE, tmp_path, execution=EXECUTION)
    assert RunFolder(tmp_path).busy()
    assert train(RECIPE, tmp_path, execution=EXECUTION, patience=7.0) is State.COMPLETED
    assert times == [0.25, 7.0]
    assert not RunFolder(tmp_path).busy()
