"""A study on processes of this machine that is disturbed, and ends as if it had not been.

The faults are real: processes are killed, disks are full, files are damaged.  Moments are drawn
from seeded generators and waited for as events, so that a slow machine changes none of them.
"""

import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.study.test_driver_local import Command
from tests.study.tiny import EXECUTION, planned, results, states, statuses, trials, written
from trm_lab.config.execution import InProcess, Local, Sweep
from trm_lab.runs import RunFolder, State
from trm_lab.study.attempts import attempts, progress
from trm_lab.study.driver import drive
from trm_lab.study.driver_lock import driven
from trm_lab.study.overview import overview
from trm_lab.study.values import evaluations, final_value
from trm_lab.training import train

pytestmark = pytest.mark.slow

Changes = tuple[tuple[str, str], ...]


def lasting(updates: int, every: int, *seeds: int) -> Changes:
    """Let runs last for so many updates, with a checkpoint every so many."""
    return (
        ("updates: 4\n", f"updates: {updates}\n"),
        ("every: 2", f"every: {every}"),
        ("seeds: [0, 1]", f"seeds: {list(seeds)}"),
    )


SWEEP = Sweep(
    name="local", executor=Local(workers=2, poll_seconds=0.1, max_attempts=4), execution=EXECUTION
)


class Disturbed:
    """A study, the commands that were started on it, and what was found of them."""

    def __init__(self, folder: Path, changes: Changes, sweep: Sweep = SWEEP) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.yaml").write_text(written(*changes))
        (folder / "sweep.yaml").write_text(json.dumps(sweep.model_dump(mode="json")))
        self.files = [str(folder / "tiny.yaml"), "--on", str(folder / "sweep.yaml")]
        self.plan = planned(folder / "runs", *changes, sweep=sweep)
        self.root = self.plan.root
        self.keys = [run.key for run in self.plan.runs()]
        self.commands: list[Command] = []
        self.kept: dict[str, tuple[int, bytes]] = {}

    def start(self, *arguments: str, moment: int | None = None) -> Command:
        """Start `trm-lab run`, or one that kills itself at the change of that number."""
        command = Mortal(self, moment) if moment else Command(
            [*self.files, *arguments], self.root.parent
        )  # fmt: skip
        self.commands.append(command)
        return command

    def finish(self, *arguments: str) -> str:
        """Run to the end, which must be a good one; give what was printed."""
        code, out, err = self.start(*arguments).end()
        assert (code, err) == (0, ""), out
        return out

    def drives(self, command: Command) -> bool:
        """Say whether a command has come so far that it holds the study."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads((self.root / ".driver.json").read_text())["pid"] == command.pid)
        return False

    def updates(self, key: str) -> int:
        """Give the update of a run's last record."""
        records = RunFolder(self.root / key).records()
        return int(records[-1]["update"]) if records else 0

    def cut_off(self) -> list[str]:
        """Kill all that runs, drivers and workers; give the runs on which somebody worked."""
        told = [command.pid for command in self.commands]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, they hold what they hold
            for group in told:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)
            if number == signal.SIGSTOP:
                at_work = [
                    key for key in self.keys
                    if states(self.root).get(key) == "running"
                    and RunFolder(self.root / key).busy()
                ]  # fmt: skip
        for command in self.commands:
            command.wait()
        return at_work

    def unharmed(self) -> None:
        """No run that was finished has changed, and none is finished no more."""
        found = {
            key: (path.stat().st_mtime_ns, path.read_bytes())
            for key in self.keys
            if states(self.root).get(key) == "completed"
            for path in [self.root / key / "weights.safetensors"]
        }
        assert {key: found.get(key) for key in self.kept} == self.kept
        self.kept = found

    def complete(self, wanted: dict[str, Any], tries: dict[str, int] | None = None) -> None:
        """All runs are there, computed what they do undisturbed, once, and the journal says so.

        `tries` are the attempts at a run that needed more than one.
        """
        self.unharmed()
        assert states(self.root) == dict.fromkeys(self.keys, "completed")
        assert results(self.root) == wanted
        assert {k: s["attempt"] for k, s in statuses(self.root).items()} == {
            key: (tries or {}).get(key, 1) for key in self.keys
        }
        found = trials(self.root)
        done = [t.user_attrs["run"] for t in found if t.state is TrialState.COMPLETE]
        assert sorted(done) == sorted(self.keys)
        assert not [t for t in found if t.state in (TrialState.RUNNING, TrialState.WAITING)]
        assert (self.root / "results.nc").exists()
        assert not driven(self.root)
        left = [p.name for p in self.root.rglob("*") if ".tmp-" in p.name or p.name == "cancel"]
        assert left == []

    def clear(self) -> None:
        for command in self.commands:
            command.clear()


class Mortal(Command):
    """`trm-lab run` that is killed at a change."""

    def __init__(self, disturbed: Disturbed, moment: int) -> None:
        subprocess.Popen.__init__(
            self,
            [
                sys.executable, "-m", "tests.study.mortal", str(disturbed.root), str(moment),
                "run", *disturbed.files, "--runs", str(disturbed.root.parent),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip


Disturb = Callable[..., Disturbed]


@pytest.fixture
def disturb(tmp_path: Path) -> Iterator[Disturb]:
    """Gives a study to be disturbed and clears up in the end."""
    made: list[Disturbed] = []

    def make(*changes: tuple[str, str], folder: Path = tmp_path, sweep: Sweep = SWEEP) -> Disturbed:
        made.append(Disturbed(folder, changes, sweep))
        return made[-1]

    yield make
    for disturbed in made:
        disturbed.clear()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """What a study computes when nothing disturbs it."""
    known: dict[Changes, dict[str, Any]] = {}

    def wanted(changes: Changes, sweep: Sweep = SWEEP) -> dict[str, Any]:
        if changes not in known:
            alone = sweep.model_copy(update={"executor": InProcess()})
            plan = planned(tmp_path_factory.mktemp("straight"), *changes, sweep=alone)
            assert set(drive(plan)) == {State.COMPLETED}
            known[changes] = results(plan.root)
        return known[changes]

    return wanted


KILLS = 20
MANY = lasting(40, 10, *range(8))
"""16 runs: enough that drivers die while there is work left."""


def test_a_driver_killed_at_twenty_moments_loses_nothing(disturb: Disturb, straight):
    """Half of the moments are changes that the driver makes, half are places in the runs' work.

    Half of the times the workers die too, and half of the times they live on.
    """
    study, rng = disturb(*MANY), random.Random(20)
    total = 40 * len(study.keys)
    places = sorted(rng.sample(range(total * 9 // 10), KILLS // 2))
    kinds = ["change", "place"] * (KILLS // 2)
    fates = ["alone", "with workers"] * (KILLS // 2)
    rng.shuffle(kinds)
    rng.shuffle(fates)
    tries = dict.fromkeys(study.keys, 1)
    unfinished = 0
    for kind, fate in zip(kinds, fates, strict=True):
        if kind == "change":
            command = study.start(moment=rng.randint(1, 60))
            command.communicate(timeout=240)
        else:
            place = places.pop(0)
            command = study.start()
            command.wait_until(
                lambda c=command, p=place: (
                    study.drives(c) and sum(map(study.updates, study.keys)) >= p
                )
            )
            command.send_signal(signal.SIGKILL)
            command.wait()
        assert command.returncode == -signal.SIGKILL, command.communicate()
        if fate == "with workers":
            tries = dict(Counter(tries) + Counter(study.cut_off()))
        study.unharmed()
        unfinished += len(study.kept) < len(study.keys)
    assert unfinished >= KILLS * 3 // 4
    study.finish()
    study.complete(straight(MANY), tries)
    assert study.finish().splitlines()[0] == "tiny: 16 runs, 16 already done"
    study.complete(straight(MANY), tries)


STEPS = lasting(120, 10, 0)
"""Two runs of 12 checkpoints."""


def test_workers_killed_at_random_steps_go_on_each_time(disturb: Disturb, straight):
    study, rng = disturb(*STEPS), random.Random(5)
    left = {key: sorted(rng.sample(range(1, 100), 4)) for key in study.keys}
    dead: dict[str, list[int]] = {key: [] for key in study.keys}
    due: list[str] = []

    def some_due() -> bool:
        told = statuses(study.root)
        due[:] = [
            key for key, steps in left.items()
            if steps and study.updates(key) >= steps[0]
            and told[key]["state"] == "running" and told[key]["pid"] not in dead[key]
        ]  # fmt: skip
        return bool(due)

    command = study.start()
    while any(left.values()):
        command.wait_until(some_due)
        for key in due:
            pid = statuses(study.root)[key]["pid"]
            os.kill(pid, signal.SIGKILL)
            dead[key].append(pid)
            left[key].pop(0)
    code, out, err = command.end()
    assert (code, err) == (0, "")
    assert sum(line.endswith("; goes on from its checkpoint") for line in out.splitlines()) == 8
    study.complete(straight(STEPS), dict.fromkeys(study.keys, 5))
    for key in study.keys:
        begun = [line["from"] for line in attempts(RunFolder(study.root / key))]
        assert begun == sorted(begun)
        assert len(begun) == 5
        assert begun[-1] >= 10


DISK = lasting(200, 10, 0)
RARELY = SWEEP.model_copy(update={"execution": EXECUTION.model_copy(update={"log_every": 10})})


def test_a_worker_that_cannot_write_its_checkpoint_fails_and_goes_on_later(
    disturb: Disturb, straight
):
    study = disturb(*DISK, sweep=RARELY)
    victim = study.keys[1]
    folder = RunFolder(study.root / victim)
    command = study.start()
    command.wait_until(lambda: progress(folder) >= 10)
    limit = folder.checkpoint.stat().st_size // 2
    resource.prlimit(statuses(study.root)[victim]["pid"], resource.RLIMIT_FSIZE, (limit, limit))
    code, out, err = command.end()
    assert (code, err) == (1, "")
    assert f"{study.root}: 1 completed, 1 failed" in out.splitlines()
    status = statuses(study.root)[victim]
    assert status["error"]["type"] == "DiskFullError"
    assert re.match(
        rf"{folder.path}/checkpoints/(last|best).pt: cannot be written: File too large; ",
        status["error"]["message"],
    )
    assert 10 <= status["checkpointed"] < 200
    study.unharmed()
    study.finish()
    study.complete(straight(DISK, RARELY), {victim: 2})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        told = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no file system of our own: {error}")
    if told.returncode:
        pytest.skip(f"no file system of our own: {told.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_full_disk_under_driver_and_workers_ends_the_command_and_loses_nothing(
    disturb: Disturb, straight, small_disk: Path
):
    study = disturb(*STEPS, folder=small_disk)
    command = study.start()
    command.wait_until(
        lambda: all(RunFolder(study.root / k).checkpoint.exists() for k in study.keys)
    )
    while command.poll() is None:  # what a process gives up when it fails is taken too
        fill(small_disk / "balloon")
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(0.1)
    code, _, err = command.end()
    assert code == 1
    assert "No space left on device" in err
    assert "Traceback" not in err
    study.cut_off()
    (small_disk / "balloon").unlink()
    study.unharmed()
    study.finish()
    found = {k: s["attempt"] for k, s in statuses(study.root).items()}
    assert set(found.values()) <= {2, 3}
    study.complete(straight(STEPS), found)


SHORT = lasting(20, 10, 0)
CELLS = ("metric: {name: puzzle_accuracy", "metric: {name: cell_accuracy")
FOUR = (*lasting(20, 10, 0, 1), CELLS)
"""Four runs whose values all differ, so that one which went to another run is seen."""


@pytest.fixture
def half(disturb: Disturb) -> Disturbed:
    """A study of which two runs of four are done."""
    study = disturb(*FOUR)
    assert drive(study.plan, only="shallow") == {State.COMPLETED: 2}
    study.unharmed()
    assert len(study.kept) == 2
    return study


def torn(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[-1][: len(lines[-1]) // 2]]


def filled_up(lines: list[bytes]) -> list[bytes]:
    return [*lines, bytes(700)]  # as some file systems leave a file after a power failure


STUDY_MADE, TRIAL_MADE, VALUE = (b'{"op_code":%d,' % number for number in (0, 4, 7))
"""How Optuna's lines begin."""


def spoilt(begins: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """Damage the first line of a kind."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        index = next(i for i, line in enumerate(lines) if line.startswith(begins))
        return [*lines[:index], bytes(40) + b'"run": ' + b"\n", *lines[index + 1 :]]

    return spoil


CUT = "dropped a last line cut short"
ANEW = "1 unreadable line; a driver writes it anew from the run folders"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (torn, CUT),
        (filled_up, CUT),
        (spoilt(STUDY_MADE), ANEW),
        (spoilt(TRIAL_MADE), ANEW),
        (spoilt(VALUE), ANEW),
    ],
    ids=["half_a_line", "nul_bytes", "line_of_the_study", "line_of_a_trial", "line_of_a_value"],
)
def test_a_damaged_journal_is_mended_or_made_anew(
    half: Disturbed, straight, damage: Callable[[list[bytes]], list[bytes]], said: str
):
    path = half.root / "optuna.journal"
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    as_it_was = path.read_bytes()
    out = half.finish()
    (kept,) = half.root.glob("optuna.journal.damaged-*")
    assert kept.read_bytes() == as_it_was
    assert f"{path}: {said}; the file as it was is {kept.name}" in out.splitlines()
    half.complete(straight(FOUR))
    runs = {run.key: run for run in half.plan.runs()}
    for trial in trials(half.root):
        run = runs[trial.user_attrs["run"]]
        assert trial.value == final_value(run, half.plan.study)
        seen = dict(evaluations(run, half.plan.study, run.folder.records()))
        assert trial.intermediate_values == seen
        assert list(seen) == [10, 20]


def test_damaged_status_files_of_finished_and_unfinished_runs(disturb: Disturb, straight):
    study = disturb(*FOUR)
    assert drive(study.plan, only="shallow") == {State.COMPLETED: 2}
    runs = {run.key: run for run in study.plan.runs()}
    one, two, begun, other = study.keys

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 13:
            raise KeyboardInterrupt

    for key in (begun, other):
        with pytest.raises(KeyboardInterrupt):
            train(
                runs[key].recipe, runs[key].folder.path, execution=EXECUTION,
                labels=runs[key].labels, progress=stop,
            )  # fmt: skip
    whole = runs[one].folder.status_file.read_bytes()
    runs[one].folder.status_file.write_bytes(whole[: len(whole) // 2])
    runs[two].folder.status_file.write_bytes(bytes(len(whole)))
    runs[two].folder.checkpoint.unlink()
    runs[begun].folder.status_file.write_bytes(b"[" * 100_000)
    runs[other].folder.status_file.write_bytes(whole.replace(b'"completed"', b'"complet"'))
    weights = {k: runs[k].folder.weights.read_bytes() for k in (one, two)}
    moment = runs[two].folder.weights.stat().st_mtime_ns

    study.finish()
    assert {k: runs[k].folder.weights.read_bytes() for k in (one, two)} == weights
    assert runs[two].folder.weights.stat().st_mtime_ns == moment
    # Attempts are counted in the status file: anew in three, on in the one that could be read.
    study.complete(straight(FOUR), {other: 2})
    written_anew = "status.json: damaged, written anew"
    assert {k: s["remarks"] for k, s in statuses(study.root).items()} == {
        one: [written_anew],
        two: [written_anew, "no checkpoint, but all results: taken as completed"],
        begun: [written_anew],
        other: [],
    }


def test_of_two_drivers_at_once_one_works_and_the_other_says_who(disturb: Disturb, straight):
    study = disturb(*SHORT)
    commands = [study.start(), study.start()]
    while all(command.poll() is None for command in commands):
        with contextlib.suppress(subprocess.TimeoutExpired):
            commands[0].wait(0.1)
    commands.sort(key=lambda command: command.poll() is None)
    refused, works = commands
    code, _, err = refused.end()
    assert code == 2
    assert err == (
        f"error: {study.root}: process {works.pid} on {socket.gethostname()} is already driving "
        "this study\n"
    )
    assert works.end()[0::2] == (0, "")
    study.complete(straight(SHORT))


def test_a_moved_clock_changes_nothing(disturb: Disturb, straight):
    """Times of files jump by hours, both ways, at every record of a run."""
    study, rng = disturb(*STEPS), random.Random(3)
    command = study.start()
    moved: set[str] = set()
    looks: set[tuple[str, ...]] = set()
    for place in sorted(rng.sample(range(1, 200), 12)):
        command.wait_until(lambda p=place: sum(map(study.updates, study.keys)) >= p)
        hours = rng.choice([-9, -1, 1, 9])
        for path in study.root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                before = path.stat().st_mtime
                os.utime(
                    path, (before + 3600 * hours, before + 3600 * hours), follow_symlinks=False
                )
                moved.add(path.name)
        looks.add(tuple(row.state.value for row in overview(study.root)))
    assert {"status.json", "heartbeat", "lease.json", ".lock", ".driver.lock"} <= moved
    assert "lost" not in {state for look in looks for state in look}
    code, _, err = command.end()
    assert (code, err) == (0, "")
    study.complete(straight(STEPS))
