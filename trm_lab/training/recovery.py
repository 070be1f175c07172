"""Going on from what a folder holds, damaged files included."""

import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from trm_lab.config.recipe import Recipe
from trm_lab.runs import RunFolder
from trm_lab.training.session import Counters, Session


@dataclass(frozen=True)
class Before:
    """What status.json tells of earlier attempts, as far as it can be read."""

    attempt: int = 0
    started_utc: str | None = None
    solver: dict[str, Any] | None = None
    remarks: tuple[str, ...] = ()
    checkpointed: int = 0

    @classmethod
    def of(cls, folder: RunFolder) -> "Before":
        """Read it, trusting nothing."""
        status = folder.status()
        if status is None:
            damaged = folder.status_file.exists()
            return cls(remarks=("status.json: damaged, written anew",) if damaged else ())

        def told(name: str, kind: type, otherwise: Any) -> Any:
            value = status.get(name)
            return value if isinstance(value, kind) else otherwise

        remarks = (str(remark) for remark in told("remarks", list, []))
        return cls(
            told("attempt", int, 0),
            told("started_utc", str, None),
            told("solver", dict, None),
            tuple(remarks),
            told("checkpointed", int, 0),
        )


class Resumed(NamedTuple):
    """Where a run goes on."""

    session: Session
    kept: tuple[int, int] | None
    """Update and last validation of the checkpoint it goes on from; None without one."""
    done: bool
    """Whether there is nothing left to do."""
    remarks: list[str]
    """On damage."""


def resumed(fresh: Callable[[], Session], folder: RunFolder, fingerprint: str) -> Resumed:
    """Bring session and folder to the state of the newest whole checkpoint.

    Raises:
        ConfigError: the checkpoint is not of this run; see `Session.restore`.
    """
    session, remarks = restored(fresh, folder, fingerprint)
    group, update = session.stream.group, session.counters.update
    kept = None
    if group.leading(lambda: folder.checkpoint.exists() or folder.previous.exists()):
        kept = (update, session.validated)
    elif (ended := group.leading(lambda: finished(folder, session.recipe))) is not None:
        session.counters, session.best = ended
        remarks.append("no checkpoint, but all results: taken as completed")
        return Resumed(session, kept, True, remarks)
    if group.first:
        remarks += folder.rewind(update, evaluated=session.validated == update)
    if session.validated == update and not group.leading(lambda: _recorded(folder, update)):
        session.validated = 0  # its record was lost
    return Resumed(session, kept, False, remarks)


def _recorded(folder: RunFolder, update: int) -> bool:
    """Say whether the evaluation of an update is in metrics.jsonl."""
    records = reversed(folder.records())
    return any(r["update"] == update and r.get("kind") == "evaluation" for r in records)


STARTS_OVER = "the run starts over"


def restored(
    fresh: Callable[[], Session], folder: RunFolder, fingerprint: str
) -> tuple[Session, list[str]]:
    """Give the session of the newest whole checkpoint, or a fresh one; also remarks on damage.

    A damaged checkpoint is removed: it must not take the place of the whole one before it.  Of
    several processes the first one looks and removes.

    Raises:
        ConfigError: the checkpoint is not of this run; see `Session.restore`.
    """
    session, remarks = fresh(), []
    ask = session.stream.group.leading
    for path in (folder.checkpoint, folder.previous):
        if not ask(path.exists):
            continue
        if not ask(lambda: whole(path)):  # noqa: B023 - asked here and now
            ask(path.unlink)
            remarks.append(f"{path.name}: damaged, removed")
            continue
        session.restore(path, fingerprint)
        if session.best is None or not session.recipe.eval.best or ask(lambda: whole(folder.best)):
            return session, remarks
        # The best weights can be had again only by training up to them.
        for spoilt in (folder.checkpoint, folder.previous):
            ask(partial(spoilt.unlink, missing_ok=True))
        return fresh(), [*remarks, f"best.pt: missing or damaged, {STARTS_OVER}"]
    if remarks:
        remarks.append(f"no whole checkpoint, {STARTS_OVER}")
    return session, remarks


def whole(path: Path) -> bool:
    """Say whether a file of torch is there and undamaged, by its checksums.

    Raises:
        UnpicklingError: undamaged, but holds more than numbers.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                return False
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError):
        return False
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except RuntimeError:  # what torch's own reader does not find or finds twice
        return False
    return True


def finished(folder: RunFolder, recipe: Recipe) -> tuple[Counters, dict[str, float] | None] | None:
    """Give counters and best evaluation of a run that has all its results; None if one is missing.

    For a run whose checkpoints were removed and whose status was lost.
    """
    evaluations = ("last", "best") if recipe.eval.best else ("last",)
    try:
        with safe_open(folder.weights, framework="numpy"):
            pass
        for which in evaluations:
            path = folder.evaluation(which)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
            if which == "last" and int(found["update"]) != recipe.train.updates:
                return None
    except (
        OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError,
        zipfile.BadZipFile, zlib.error, SafetensorError,
    ):  # fmt: skip
        return None
    records = folder.records()
    fields = Counters.__dataclass_fields__
    newest = records[-1] if records else {}
    counters = Counters(**{k: v for k, v in newest.items() if k in fields})
    counters.update = recipe.train.updates
    best = None
    for r in (r for r in records if r.get("kind") == "evaluation"):
        if best is None or r["puzzle_accuracy"][-1] > best["puzzle_accuracy"]:
            best = {"update": r["update"], "puzzle_accuracy": r["puzzle_accuracy"][-1]}
    return counters, best
