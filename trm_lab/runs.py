"""The run folder: where one run writes what it is, how far it got and what it found.

    recipe.yaml     the whole recipe
    status.json     state, counters, accounting, environment; rewritten whole, also as a heartbeat
    metrics.jsonl   training and validation records, appended
    evaluation/     last.npz, best.npz: per-puzzle outcomes on the test puzzles
    checkpoints/    last.pt, best.pt
    weights.safetensors

Torch-free: the driver and the collector read these files too.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from trm_lab.atomic import flush, write_text
from trm_lab.config.recipe import Recipe
from trm_lab.config.source import read_yaml
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError, RunBusyError

SCHEMA = 1
"""Version of status.json."""


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
        self.best = self.path / "checkpoints" / "best.pt"
        self.weights = self.path / "weights.safetensors"

    def evaluation(self, which: str) -> Path:
        """Path of the test outcomes of the last or the best weights."""
        return self.path / "evaluation" / f"{which}.npz"

    def lock(self) -> FileLock:
        """Take the folder for this process.

        Raises:
            RunBusyError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunBusyError(f"{self.path}: another process is running this run") from None
        for left in self.path.rglob("*.tmp-*"):  # half-written by a process that was killed
            left.unlink(missing_ok=True)
        return lock

    def busy(self) -> bool:
        """Say whether some process works in the folder."""
        if not self.path.exists():
            return False
        try:
            self.lock().release()
        except RunBusyError:
            return True
        return False

    def claim(self, recipe: Recipe) -> None:
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
        text = yaml.safe_dump(recipe.as_dict(), sort_keys=False, default_flow_style=None)
        write_text(self.recipe_file, text)

    def recipe(self) -> Recipe:
        """Read the recipe back."""
        return validate(Recipe, read_yaml(self.recipe_file))

    def status(self) -> dict[str, Any] | None:
        """Read status.json; None if there is none or it cannot be read."""
        try:
            status = json.loads(self.status_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return status if isinstance(status, dict) and "state" in status else None

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

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record to metrics.jsonl."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(record)) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl; a last line cut short by a kill is left out."""
        try:
            lines = self.metrics_file.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[:-1]]

    def rewind(self, update: int) -> None:
        """Drop records later than `update`, which a resumed run will write again."""
        if self.metrics_file.exists():
            kept = [r for r in self.records() if r["update"] <= update]
            write_text(self.metrics_file, "".join(json.dumps(r) + "\n" for r in kept))

    def flush_metrics(self) -> None:
        """Wait until the records are on disk."""
        if self.metrics_file.exists():
            flush(self.metrics_file)


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
