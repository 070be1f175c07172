"""Full disks, damaged files: a run goes on from the last whole checkpoint, to the same bits."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny_run import EXECUTION, results, tiny_recipe
from trm_lab.atomic import append_text, write_text
from trm_lab.errors import DiskFullError
from trm_lab.runs import RunFolder, State
from trm_lab.training import train
from trm_lab.training.recovery import whole
from trm_lab.training.session import Session
from trm_lab.training.stop import Stop

RECIPE = tiny_recipe()
LONG = tiny_recipe(train={"updates": 60}, eval={"every": 60})
RARELY = EXECUTION.model_copy(update={"checkpoint_seconds": 1e9})
"""Checkpoints at evaluations and stops only."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    assert train(RECIPE, path, execution=EXECUTION) is State.COMPLETED
    return path


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped after update 8: last.pt is of 8, previous.pt of 7, best.pt of 5."""
    path, stop = tmp_path_factory.mktemp("halfway"), Stop()

    def progress(record: dict[str, Any]) -> None:
        if record["update"] == 8:
            stop.request(State.WAITING, "halfway")

    assert train(RECIPE, path, execution=EXECUTION, progress=progress, stop=stop) is State.WAITING
    updates = [
        torch.load(path / "checkpoints" / name, weights_only=True)["counters"]["update"]
        for name in ("last.pt", "previous.pt")
    ]
    assert updates == [8, 7]
    return path


@pytest.fixture
def folder(halfway: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(halfway, tmp_path / "run"))


@pytest.fixture
def done(undisturbed: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(undisturbed, tmp_path / "done"))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(_: Session) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(Session, "advance", advance)


def first_update(folder: RunFolder) -> tuple[int, list[str]]:
    """Go on to the end; give the first update done and the remarks."""
    updates, advance = [], Session.advance

    def counted(session: Session) -> None:
        advance(session)
        updates.append(session.counters.update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", counted)
        assert train(RECIPE, folder.path, execution=EXECUTION) is State.COMPLETED
    return updates[0], folder.status()["remarks"]


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("kept", [0, 1, 1000, 0.5, -1])
def test_a_checkpoint_cut_short_gives_way_to_the_one_before(
    undisturbed: Path, folder: RunFolder, kept: float
) -> None:
    content = folder.checkpoint.read_bytes()
    size = int(kept * len(content)) if 0 < kept < 1 else int(kept)
    folder.checkpoint.write_bytes(content[:size])
    assert first_update(folder) == (8, ["last.pt: damaged, removed"])
    assert results(folder.path) == results(undisturbed)


def test_a_missing_checkpoint_gives_way_to_the_one_before(
    undisturbed: Path, folder: RunFolder
) -> None:
    """As after a kill between the two renames."""
    folder.checkpoint.unlink()
    assert first_update(folder) == (8, [])
    assert results(folder.path) == results(undisturbed)


def test_without_a_whole_checkpoint_the_run_starts_over(
    undisturbed: Path, folder: RunFolder
) -> None:
    for path in (folder.checkpoint, folder.previous):
        path.write_bytes(path.read_bytes()[:-100])
    assert first_update(folder) == (
        1,
        [
            "last.pt: damaged, removed",
            "previous.pt: damaged, removed",
            "no whole checkpoint, the run starts over",
        ],
    )
    assert results(folder.path) == results(undisturbed)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_without_its_best_weights_the_run_starts_over(
    undisturbed: Path, folder: RunFolder, how: str
) -> None:
    folder.best.unlink() if how == "missing" else folder.best.write_bytes(b"PK")
    assert first_update(folder) == (1, ["best.pt: missing or damaged, the run starts over"])
    assert results(folder.path) == results(undisturbed)


@pytest.mark.slow
def test_every_flipped_bit_is_found_or_harmless(halfway: Path, tmp_path: Path) -> None:
    """Single bits: 200 anywhere in the file, 200 within its first and last 500 bytes."""
    intact = RunFolder(halfway).checkpoint
    path, size = tmp_path / "last.pt", intact.stat().st_size
    before = torch.load(intact, weights_only=True)
    draw = random.Random(0)
    ends = [draw.choice((0, 8 * size - 4000)) + draw.randrange(4000) for _ in range(200)]
    found = 0
    for bit in [*ends, *(draw.randrange(8 * size) for _ in range(200))]:
        shutil.copyfile(intact, path)
        flip(path, bit)
        if whole(path):
            assert same(torch.load(path, weights_only=True), before), bit
        else:
            found += 1
    assert found > 100


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_with_a_flipped_bit_ends_in_the_same_bits(
    undisturbed: Path, folder: RunFolder, seed: int
) -> None:
    flip(folder.checkpoint, random.Random(seed).randrange(8 * folder.checkpoint.stat().st_size))
    first, remarks = first_update(folder)
    assert (first, remarks) in [(9, []), (8, ["last.pt: damaged, removed"])]
    assert results(folder.path) == results(undisturbed)


BROKEN = [b"", b'{"state": "compl', b"\x00\xff\xfe", b"[]", b"[" * 100_000, b'{"schema": 1}']


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.usefixtures("no_training")
def test_a_completed_run_with_a_broken_status_is_not_trained_again(
    undisturbed: Path, done: RunFolder, text: bytes, checkpoint: bool
) -> None:
    done.status_file.write_bytes(text)
    if not checkpoint:
        shutil.rmtree(done.checkpoint.parent)
    assert done.state() is State.WAITING
    assert train(RECIPE, done.path, execution=EXECUTION) is State.COMPLETED
    assert results(done.path) == results(undisturbed)
    remarks = done.status()["remarks"]
    assert remarks[0] == "status.json: damaged, written anew"
    assert (
        remarks[1:] == [] if checkpoint else ["no checkpoint, but all results: taken as completed"]
    )


@pytest.mark.parametrize("spoilt", ["weights.safetensors", "evaluation/last.npz"])
def test_a_run_without_checkpoint_and_with_a_broken_result_starts_over(
    undisturbed: Path, done: RunFolder, spoilt: str
) -> None:
    done.status_file.write_bytes(b"{")
    shutil.rmtree(done.checkpoint.parent)
    path = done.path / spoilt
    path.write_bytes(path.read_bytes()[:50])
    assert first_update(done)[0] == 1
    assert results(done.path) == results(undisturbed)


@pytest.mark.parametrize("text", BROKEN)
def test_a_run_under_way_with_a_broken_status_goes_on(
    undisturbed: Path, folder: RunFolder, text: bytes
) -> None:
    folder.status_file.write_bytes(text)
    assert first_update(folder) == (9, ["status.json: damaged, written anew"])
    assert results(folder.path) == results(undisturbed)
    assert folder.status()["attempt"] == 1


def test_a_status_with_wrong_values_is_no_obstacle(undisturbed: Path, folder: RunFolder) -> None:
    folder.status_file.write_text('{"state": ["x"], "attempt": "y", "remarks": 7, "solver": 3}')
    assert folder.state() is State.LOST
    assert first_update(folder) == (9, [])
    assert results(folder.path) == results(undisturbed)


def test_half_a_line_of_metrics_costs_nothing(undisturbed: Path, folder: RunFolder) -> None:
    with folder.metrics_file.open("ab") as file:
        file.write(b'{"kind": "train", "upd')
    assert first_update(folder) == (9, [])
    assert results(folder.path) == results(undisturbed)


def test_a_damaged_line_of_metrics_costs_that_line(undisturbed: Path, folder: RunFolder) -> None:
    lines = folder.metrics_file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\x00\xff\n"
    folder.metrics_file.write_bytes(b"".join(lines))
    assert len(folder.records()) == len(lines) - 1
    assert first_update(folder) == (9, ["metrics.jsonl:2: damaged, left out"])
    found, expected = results(folder.path), results(undisturbed)
    del expected["records"][1]
    assert found == expected


@pytest.mark.usefixtures("no_training")
def test_a_lost_evaluation_is_done_again(undisturbed: Path, done: RunFolder) -> None:
    """Of the update that the run stands on, whose line alone is damaged."""
    lines = done.metrics_file.read_bytes().splitlines(keepends=True)
    done.metrics_file.write_bytes(b"".join(lines[:-1]) + b"}" + lines[-1])
    done.status_file.unlink()
    assert train(RECIPE, done.path, execution=EXECUTION) is State.COMPLETED
    assert results(done.path) == results(undisturbed)


LIMITED = """
import resource, sys
from tests.training.test_damage import LONG, RARELY, RECIPE
from tests.training.tiny_run import EXECUTION
from trm_lab.training import train
path, limit, recipe, execution, update = sys.argv[1:]
def fill(record):
    if record["update"] == int(update):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
fill({"update": 0})
train(globals()[recipe], path, execution=globals()[execution], progress=fill)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "file", "recipe", "execution", "update"),
    [
        (75_000, "checkpoints/last.pt", "RECIPE", "EXECUTION", 5),
        (10_000, "checkpoints/best.pt", "RECIPE", "RARELY", 5),
        (5_000, "metrics.jsonl", "LONG", "RARELY", 4),
        (700, "status.json", "RECIPE", "EXECUTION", 0),
    ],
)
def test_a_file_that_cannot_be_written_fails_the_run_and_is_named(
    tmp_path: Path, limit: int, file: str, recipe: str, execution: str, update: int
) -> None:
    """The kernel refuses what goes beyond a size, in the middle of the writing."""
    trained = {"RECIPE": RECIPE, "LONG": LONG}[recipe]
    folder = RunFolder(tmp_path / "run")
    folder.claim(trained)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED,
         *map(str, (folder.path, limit, recipe, execution, update))],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."}, check=False,
    )  # fmt: skip
    told = f"{folder.path / file}: cannot be written: File too large; "
    assert done.returncode == 1
    assert f"trm_lab.errors.DiskFullError: {told}" in done.stderr
    assert list(folder.path.rglob("*.tmp-*")) == []
    if file == "status.json":
        assert f"status.json still says waiting: {told}" in done.stderr.splitlines()[-1]
        assert folder.status() is None
    else:
        status = folder.status()
        assert (status["state"], status["error"]["type"]) == ("failed", "DiskFullError")
        assert status["error"]["message"].startswith(told)
        assert "MiB free on the file system of" in status["error"]["message"]
        assert folder.metrics_file.read_bytes()[-1:] == b"\n"
    if file == "checkpoints/last.pt":  # of update 5; that of 4 is untouched
        content = torch.load(folder.checkpoint, weights_only=True)
        assert content["counters"]["update"] == 4
    assert train(trained, folder.path, execution=EXECUTION) is State.COMPLETED
    train(trained, tmp_path / "undisturbed", execution=EXECUTION)
    assert results(folder.path) == results(tmp_path / "undisturbed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("update", [2, 5, 8, 12])
@pytest.mark.parametrize("left", [0, 16])
def test_a_disk_that_fills_up_costs_nothing_but_time(
    undisturbed: Path, small_disk: Path, update: int, left: int
) -> None:
    """At some record nothing is left, or 16 KiB: room for a status, and for half a checkpoint."""
    folder, ballast = RunFolder(small_disk / "run"), small_disk / "ballast"

    def fill(record: dict[str, Any]) -> None:
        if record["update"] == update and not ballast.exists():
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    file.truncate(file.tell() - 1024 * left)

    with pytest.raises(DiskFullError, match=r"No space left on device; 0\.0 MiB free") as told:
        train(RECIPE, folder.path, execution=EXECUTION, progress=fill)
    assert list(folder.path.rglob("*.tmp-*")) == []
    notes = getattr(told.value, "__notes__", [])
    if left:
        assert (folder.state(), notes) == (State.FAILED, [])
        assert folder.status()["error"]["message"] == str(told.value)
    else:
        assert folder.state() is State.RUNNING
        (note,) = notes
        assert note.startswith("status.json still says running: ")
    assert all(whole(path) for path in folder.checkpoint.parent.glob("*.pt"))
    ballast.unlink()
    assert train(RECIPE, folder.path, execution=EXECUTION) is State.COMPLETED
    assert results(folder.path) == results(undisturbed)


def test_a_full_disk_leaves_files_as_they_were(small_disk: Path) -> None:
    path, log = small_disk / "a.txt", small_disk / "log.txt"
    write_text(path, "old\n")
    append_text(log, "one\n")
    with pytest.raises(DiskFullError, match=r"a\.txt: cannot be written: No space left on device"):
        write_text(path, "new" * 2**20)
    with pytest.raises(DiskFullError, match=r"log\.txt: cannot be written"):
        append_text(log, "two" * 2**20)
    assert (path.read_text(), log.read_text()) == ("old\n", "one\n")
    assert {p.name for p in small_disk.iterdir()} == {"a.txt", "log.txt"}
