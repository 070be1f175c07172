"""The run folder: where one run writes what it is, how far it got and what it found.

    recipe.yaml     the whole recipe
    status.json     state, counters, accounting, environment; rewritten whole, also as a heartbeat
    metrics.jsonl   training and validation records, appended
    evaluation/     last.npz, best.npz: per-puzzle outcomes on the test puzzles
    checkpoints/    last.pt, previous.pt (the one before it), best.pt
    weights.safetensors
    lease.json      who works on the run, and heartbeat, touched meanwhile; gone when it ends

Torch-free: the driver and the collector read these files too.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.atomic import append_text, flush, telling, write_bytes, write_text
from trm_lab.errors import ConfigError, RunBusyError
from trm_lab.locks import Lock, LocksUnknown, hold, is_held

if TYPE_CHECKING:  # whoever looks at a thousand runs reads no recipe
    from trm_lab.config.recipe import Recipe

SCHEMA = 1
"""Version of status.json."""

PROBE_SECONDS = 0.25
"""How long a lock is waited for at least: others take it for a moment to see whether it is free."""

LOOK_SECONDS = 7.0
"""How long a heartbeat is watched where locks do not tell; longer than between two beats."""

MAPPINGS = ("accounting", "best", "data", "environment", "error", "job", "solver")
NUMBERS = ("attempt", "checkpointed", "cpu_seconds", "examples", "flops", "seconds", "update",
           "updates")  # fmt: skip
"""Fields of status.json that are mappings or null, and those that are numbers."""

NOT_IN_SWEEP = "not in this sweep"
"""What is said of a study's run that the last sweep leaves out and that never began."""


class State(StrEnum):
    """The one vocabulary of states."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PRUNED = "pruned"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether running again would do nothing."""
        return self in (State.COMPLETED, State.DIVERGED, State.PRUNED)

    @property
    def ended_badly(self) -> bool:
        """Whether a user may ask for the run again."""
        return self in (State.FAILED, State.CANCELLED, State.LOST)


@dataclass(frozen=True)
class Labels:
    """What a study calls a run; no part of the recipe."""

    study: str = ""
    variant: str = ""
    series: str = ""
    cell: str = ""


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.status_file = self.path / "status.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoint = self.path / "checkpoints" / "last.pt"
        self.previous = self.path / "checkpoints" / "previous.pt"
        self.best = self.path / "checkpoints" / "best.pt"
        self.lease = self.path / "lease.json"
        self.heartbeat = self.path / "heartbeat"
        self.weights = self.path / "weights.safetensors"
        self.log = self.path / "worker.log"
        self.cancel_file = self.path / "cancel"

    def evaluation(self, which: str) -> Path:
        """Path of the test outcomes of the last or the best weights."""
        return self.path / "evaluation" / f"{which}.npz"

    def lock(self, patience: float = 0.0) -> Lock:
        """Take the folder for this process, waiting up to `patience` seconds for another.

        On a file system without locks the folder is taken if its heartbeat stands still; of two
        that come at the same moment the lease then leaves one.

        Raises:
            RunBusyError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        busy = RunBusyError(f"{self.path}: another process is running this run")
        deadline = time.monotonic() + patience
        try:
            return hold(self.path / ".lock", max(patience, PROBE_SECONDS))
        except TimeoutError:
            raise busy from None
        except LocksUnknown:
            while self.beats():
                if time.monotonic() >= deadline:
                    raise busy from None
            return Lock()

    def busy(self) -> bool:
        """Say whether some process works in the folder.

        Where locks do not tell, the heartbeat does, which takes up to `LOOK_SECONDS`.
        """
        try:
            return is_held(self.path / ".lock")
        except LocksUnknown:
            return self.beats()

    def beats(self) -> bool:
        """Watch the heartbeat, and say whether it goes on; a folder closed to us has none."""
        try:
            first = now = self.pulse()
            deadline = time.monotonic() + LOOK_SECONDS
            while now is not None and now == first and time.monotonic() < deadline:
                time.sleep(0.05)
                now = self.pulse()
        except PermissionError:
            return False
        return now is not None and now != first

    def pulse(self) -> int | None:
        """Give the time of the last heartbeat (ns, of the file system); None between runs.

        A process lives where this changes.  Clocks are not compared, so they may be wrong.
        """
        try:
            descriptor = os.open(self.heartbeat, os.O_RDONLY)  # opened, so no cache answers
        except FileNotFoundError:
            return None
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)

    def revoke(self) -> None:
        """Take the run from whoever works on it: that process ends before its next writing."""
        self.lease.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process left half-written.  Only for who holds the lock."""
        for left in self.path.rglob("*.tmp-*"):
            left.unlink(missing_ok=True)

    def claim(self, recipe: "Recipe") -> None:
        """Write the recipe, or make sure that the one already here is the same.

        Raises:
            ConfigError: the folder belongs to another recipe or seed.
        """
        if self.recipe_file.exists():
            there = self.recipe()
            if (there.id, there.seed) != (recipe.id, recipe.seed):
                raise ConfigError(
                    f"{self.path}: holds recipe {there.id[:8]} seed {there.seed}, not "
                    f"{recipe.id[:8]} seed {recipe.seed}; give another folder"
                )
            return
        import yaml

        text = yaml.safe_dump(recipe.as_dict(), sort_keys=False, default_flow_style=None)
        write_text(self.recipe_file, text)

    def recipe(self) -> "Recipe":
        """Read the recipe back."""
        from trm_lab.config.recorded import recorded

        return recorded(self.recipe_file, (self.status() or {}).get("environment") or {})

    def ask_to_cancel(self) -> None:
        """Leave word for whoever works here, now or later, on any machine: the run is to stop."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.cancel_file.touch()

    def asked_to_cancel(self, *, clear: bool = False) -> bool:
        """Say whether the run is to stop; `clear` takes the word back."""
        asked = self.cancel_file.exists()
        if asked and clear:
            self.cancel_file.unlink(missing_ok=True)
        return asked

    def status(self) -> dict[str, Any] | None:
        """Read status.json; None if there is none or it cannot be read.

        Fields of the wrong kind are left out, so that nobody who reads the others stumbles.
        """
        try:
            status = json.loads(self.status_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(status, dict) or "state" not in status:
            return None
        return {name: value for name, value in status.items() if _sound(name, value)}

    def state(self) -> State:
        """Give the recorded state; waiting where nothing is recorded yet."""
        status = self.status()
        try:
            return State(status["state"]) if status else State.WAITING
        except ValueError:
            return State.LOST

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace status.json, stamped with the time."""
        stamped = {"schema": SCHEMA, **status, "updated_utc": now()}
        write_text(self.status_file, json.dumps(finite(stamped), indent=1) + "\n")

    def mark(
        self, state: State, why: str, log: str = "", job: Mapping[str, Any] | None = None
    ) -> None:
        """Write a state, and why, where nobody works; what is known besides stays.

        `log` is the end of the log of a run that failed, `job` the one in which it ended.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        kind = {"type": state.value.capitalize(), "message": why}
        error = (kind | ({"log": log} if log else {})) if why else None
        ended = {"job": dict(job)} if job else {}
        self.write_status({**(self.status() or {}), **ended, "state": state.value, "error": error})

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record to metrics.jsonl."""
        append_text(self.metrics_file, json.dumps(finite(record)) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl.

        A last line cut short by a kill and lines that are damaged are left out; `rewind` tells
        which, and the collected results do.
        """
        return self.records_since(0)[0]

    def records_since(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Read the records after an offset (bytes, 0 at first); also give the next offset.

        A run that goes on from an earlier checkpoint writes its last records again, the same but
        for times: where the offset is then no end of a line, all records come again.  Whoever
        needs every one starts from 0 at each new attempt.
        """
        try:
            with self.metrics_file.open("rb") as file:
                if offset:
                    file.seek(offset - 1)
                    if file.read(1) != b"\n":
                        offset = 0
                file.seek(offset)
                text = file.read()
        except FileNotFoundError:
            return [], 0
        whole = text[: text.rfind(b"\n") + 1]
        lines = map(_record, whole.split(b"\n"))
        return [r for r in lines if r is not None], offset + len(whole)

    def rewind(self, update: int, *, evaluated: bool = True) -> list[str]:
        """Drop records later than `update`, which a resumed run will write again.

        Without `evaluated` the evaluation of that update is one of them.  Damaged lines go too;
        the answer tells of each.
        """
        if not self.metrics_file.exists():
            return []
        kept, remarks = [], []
        lines = self.metrics_file.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            record = _record(line)
            if record is None:
                remarks.append(f"metrics.jsonl:{number}: damaged, left out")
                continue
            redone = record["update"] == update and record.get("kind") == "evaluation"
            if record["update"] <= update and (evaluated or not redone):
                kept.append(line + b"\n")
        if len(kept) + 1 < len(lines) or lines[-1]:
            write_bytes(self.metrics_file, b"".join(kept))
        return remarks

    def flush_metrics(self) -> None:
        """Wait until the records are on disk."""
        if self.metrics_file.exists():
            with telling(self.metrics_file):
                flush(self.metrics_file)


def _record(line: bytes) -> dict[str, Any] | None:
    """Read one record; None if the line is damaged or empty."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("update"), int) else None


def _sound(name: str, value: Any) -> bool:
    """Say whether a field of status.json is what it should be."""
    if name in NUMBERS:
        return _is_number(value)
    if name not in MAPPINGS or value is None:
        return True
    if not isinstance(value, dict):
        return False
    return name != "best" or all(part is None or _is_number(part) for part in value.values())


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def now() -> str:
    """Give the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON has no word for, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
