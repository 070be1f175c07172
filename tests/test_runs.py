"""The run folder, and files that appear whole or not at all."""

import errno
import fcntl
import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

import trm_lab.runs
from tests.training.tiny_run import tiny_recipe
from trm_lab.atomic import replacing, write_text
from trm_lab.errors import ConfigError, RunBusyError
from trm_lab.runs import SCHEMA, RunFolder, State, now
from trm_lab.training.heartbeat import HEARTBEAT_SECONDS


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_there_is_one_vocabulary_of_states() -> None:
    assert [state.value for state in State] == [
        "waiting", "running", "completed", "diverged", "failed", "cancelled", "pruned", "lost",
    ]  # fmt: skip
    assert {state for state in State if state.final} == {
        State.COMPLETED, State.DIVERGED, State.PRUNED,
    }  # fmt: skip


def test_a_folder_is_claimed_by_one_recipe_and_seed(folder: RunFolder) -> None:
    recipe = tiny_recipe()
    folder.claim(recipe)
    assert folder.recipe() == recipe
    before = folder.recipe_file.read_bytes()
    folder.claim(recipe)
    assert folder.recipe_file.read_bytes() == before
    other = tiny_recipe(train={"batch": 5})
    with pytest.raises(ConfigError) as error:
        folder.claim(other)
    assert str(error.value) == (
        f"{folder.path}: holds recipe {recipe.id[:8]} seed 0, not {other.id[:8]} seed 0; "
        "give another folder"
    )
    with pytest.raises(ConfigError) as error:
        folder.claim(recipe.with_seed(3))
    assert str(error.value) == (
        f"{folder.path}: holds recipe {recipe.id[:8]} seed 0, not {recipe.id[:8]} seed 3; "
        "give another folder"
    )
    assert folder.recipe_file.read_bytes() == before


def test_a_spoilt_recipe_file_is_an_error_at_its_place(folder: RunFolder) -> None:
    folder.claim(tiny_recipe())
    text = folder.recipe_file.read_text().replace("width: 16", "widht: 16")
    folder.recipe_file.write_text(text)
    with pytest.raises(ConfigError, match=r"recipe\.yaml:\d+:\d+: model\.widht: unknown setting"):
        folder.claim(tiny_recipe())


def test_the_state_is_read_from_the_status(folder: RunFolder) -> None:
    assert folder.state() is State.WAITING
    assert folder.status() is None
    folder.write_status({"state": "completed", "update": 3})
    assert folder.state() is State.COMPLETED
    status = folder.status()
    assert status["schema"] == SCHEMA == 1
    assert status["update"] == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", status["updated_utc"])
    for text in ("", "{", "[]", '"x"', "{}", "\x00\x00"):
        folder.status_file.write_text(text)
        assert folder.status() is None
        assert folder.state() is State.WAITING
    folder.write_status({"state": "hibernating"})
    assert folder.state() is State.LOST


def test_what_is_no_number_is_written_as_null(folder: RunFolder) -> None:
    folder.write_status({"state": "diverged", "loss": float("nan"), "more": {"x": [float("inf")]}})
    assert folder.status()["loss"] is None
    assert folder.status()["more"] == {"x": [None]}
    folder.append({"update": 1, "loss": float("-inf"), "steps": (1, 2.5)})
    assert folder.records() == [{"update": 1, "loss": None, "steps": [1, 2.5]}]


def test_records_are_lines_and_a_cut_line_is_left_out(folder: RunFolder) -> None:
    assert folder.records() == []
    folder.path.mkdir()
    for update in (1, 2, 3):
        folder.append({"update": update})
    with folder.metrics_file.open("a") as file:
        file.write('{"update": 4, "lo')
    assert folder.records() == [{"update": 1}, {"update": 2}, {"update": 3}]


def test_rewinding_drops_later_records_and_a_cut_line(folder: RunFolder) -> None:
    folder.rewind(3)
    assert not folder.path.exists()
    folder.path.mkdir()
    for update in (1, 2, 2, 3):
        folder.append({"update": update, "x": 0.1})
    with folder.metrics_file.open("a") as file:
        file.write('{"up')
    folder.rewind(2)
    folder.append({"update": 9})
    lines = folder.metrics_file.read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2, 2, 9]


def test_a_folder_is_held_by_one_at_a_time(folder: RunFolder) -> None:
    lock = folder.lock()
    with pytest.raises(RunBusyError) as error:
        folder.lock()
    assert str(error.value) == f"{folder.path}: another process is running this run"
    lock.release()
    folder.lock().release()


@pytest.mark.slow
def test_a_folder_is_held_against_other_processes(folder: RunFolder) -> None:
    script = (
        "import sys; from trm_lab.runs import RunFolder; from trm_lab.errors import RunBusyError\n"
        "try: RunFolder(sys.argv[1]).lock()\n"
        "except RunBusyError: sys.exit(7)\n"
    )

    def elsewhere() -> int:
        return subprocess.run([sys.executable, "-c", script, str(folder.path)]).returncode

    lock = folder.lock()
    assert elsewhere() == 7
    lock.release()
    assert elsewhere() == 0


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one\n")
    with replacing(path) as temporary:
        temporary.write_text("two\n")
        assert path.read_text() == "one\n"
        assert temporary.parent == path.parent
    assert path.read_text() == "two\n"
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "one\n")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("tw")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert path.read_text() == "one\n"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_times_are_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())


def test_records_are_read_on_from_an_offset(folder: RunFolder) -> None:
    assert folder.records_since(0) == ([], 0)
    folder.path.mkdir()
    for update in (1, 2):
        folder.append({"update": update})
    first, offset = folder.records_since(0)
    assert (first, offset) == ([{"update": 1}, {"update": 2}], 2 * len('{"update": 1}\n'))
    assert folder.records_since(offset) == ([], offset)
    with folder.metrics_file.open("ab") as file:
        file.write(b'{"upda')
    assert folder.records_since(offset) == ([], offset)
    with folder.metrics_file.open("ab") as file:
        file.write(b'te": 3}\n\x00\xff\n{"update": 4}\n')
    again, end = folder.records_since(offset)
    assert again == [{"update": 3}, {"update": 4}]
    assert end == folder.metrics_file.stat().st_size
    folder.rewind(1)
    assert folder.records_since(end)[0] == [{"update": 1}]
    folder.metrics_file.unlink()
    assert folder.records_since(end) == ([], 0)


def test_damaged_lines_are_left_out_and_told_once(folder: RunFolder) -> None:
    folder.path.mkdir()
    lines = [b'{"update": 1}', b'{"upd', b"[1]", b'{"update": "2"}', b'{"update": 2}']
    folder.metrics_file.write_bytes(b"\n".join(lines) + b"\n")
    assert folder.records() == [{"update": 1}, {"update": 2}]
    assert folder.rewind(2) == [f"metrics.jsonl:{n}: damaged, left out" for n in (2, 3, 4)]
    assert folder.rewind(2) == []
    assert folder.metrics_file.read_bytes() == b'{"update": 1}\n{"update": 2}\n'


def test_rewinding_to_before_an_evaluation_keeps_its_update(folder: RunFolder) -> None:
    folder.path.mkdir()
    for update in (1, 2):
        for kind in ("train", "evaluation"):
            folder.append({"kind": kind, "update": update})
    before = folder.metrics_file.stat()
    folder.rewind(2)
    assert folder.metrics_file.stat().st_ino == before.st_ino  # nothing to drop, nothing written
    folder.rewind(2, evaluated=False)
    assert [(r["kind"], r["update"]) for r in folder.records()] == [
        ("train", 1), ("evaluation", 1), ("train", 2),
    ]  # fmt: skip


def test_a_pulse_changes_whichever_way_the_clock_is_moved(folder: RunFolder) -> None:
    assert folder.pulse() is None
    folder.path.mkdir()
    folder.heartbeat.touch()
    seen = [folder.pulse()]
    for when in (4_000_000_000, 0, 1):
        os.utime(folder.heartbeat, (when, when))
        seen.append(folder.pulse())
    assert seen[1:] == [4_000_000_000 * 10**9, 0, 10**9]
    assert len(set(seen)) == 4


def test_asking_whether_a_folder_is_busy_changes_nothing(folder: RunFolder) -> None:
    assert not folder.busy()
    assert not folder.path.exists()
    lock = folder.lock()
    half = folder.path / "status.json.tmp-1-ab"
    half.touch()
    assert folder.busy()
    lock.release()
    assert not folder.busy()
    assert half.exists()
    folder.sweep()
    assert not half.exists()


def without_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_the_heartbeat_tells_who_works(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks)
    monkeypatch.setattr(trm_lab.runs, "LOOK_SECONDS", 0.3)
    assert not folder.busy()
    folder.lock().release()
    folder.heartbeat.touch()
    assert not folder.busy()  # left by a killed process
    folder.lock().release()
    times = itertools.count(1)
    monkeypatch.setattr(RunFolder, "pulse", lambda _: next(times))
    assert folder.busy()
    with pytest.raises(RunBusyError, match="another process is running this run"):
        folder.lock()


def test_a_look_lasts_from_one_heartbeat_to_the_next() -> None:
    assert trm_lab.runs.LOOK_SECONDS > HEARTBEAT_SECONDS + 1


def test_a_lock_that_may_not_be_read_is_not_known_and_the_heartbeat_tells(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, opened = folder.lock(), os.open

    def refused(path: Path, flags: int, *mode: int) -> int:
        if Path(path).name == ".lock":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    assert not folder.busy()
    times = itertools.count(1)
    monkeypatch.setattr(RunFolder, "pulse", lambda _: next(times))
    assert folder.busy()
    lock.release()


def test_a_folder_that_is_read_only_tells_whether_it_is_busy(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, opened = folder.lock(), os.open

    def read_only(path: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    assert folder.busy()
    lock.release()
    assert not folder.busy()


def test_a_file_lock_of_another_kind_is_seen(folder: RunFolder) -> None:
    folder.path.mkdir()
    with FileLock(folder.path / ".lock"):
        assert folder.busy()
        with pytest.raises(RunBusyError):
            folder.lock()
    lock = folder.lock()
    with pytest.raises(Timeout):
        FileLock(folder.path / ".lock").acquire(timeout=0)
    lock.release()


@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [
        ("best", "x", None),
        ("best", [1], {"update": 3}),
        ("best", {"puzzle_accuracy": "x"}, {"update": 3, "puzzle_accuracy": 0.5}),
        ("error", "x", {"message": "m"}),
        ("checkpointed", "x", 4),
        ("checkpointed", True, 0),
        ("update", None, 3),
        ("update", math.inf, 3),
        ("updates", [], 12),
        ("attempt", {}, 2),
    ],
)
def test_a_field_of_the_wrong_kind_is_left_out_and_the_rest_read(
    folder: RunFolder, field: str, bad: object, good: object
) -> None:
    folder.path.mkdir()
    for value, read in ((bad, {}), (good, {field: good})):
        folder.status_file.write_text(json.dumps({"state": "running", "pid": 7, field: value}))
        assert folder.status() == {"state": "running", "pid": 7, **read}
        assert folder.state() is State.RUNNING
