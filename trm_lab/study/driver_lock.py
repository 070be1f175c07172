"""One driver per study: its lock, who holds it, and how the last one ended."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trm_lab.atomic import write_text
from trm_lab.errors import ConfigError
from trm_lab.locks import LocksUnknown, is_held
from trm_lab.runs import PROBE_SECONDS

DRIVER_LOG = "driver.log"
"""In the study's folder: what drivers in the background print."""
NAME_SECONDS = 2.0
"""How long a driver that holds the lock may take to write its name."""


class sole_driver:
    """Holds the study's driver lock; the file names who holds it, or held it last.

    With `drives` false it is held for a repair, which leaves the word of the last driver as it is.
    """

    def __init__(self, root: Path, drives: bool = True) -> None:
        self.drives = drives
        self.lock = FileLock(root / ".driver.lock")
        self.holder = root / ".driver.json"

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=PROBE_SECONDS, poll_interval=0.02)
        except Timeout:
            root = self.holder.parent
            deadline = time.monotonic() + NAME_SECONDS
            while not _lives(root) and time.monotonic() < deadline:
                time.sleep(0.02)
            raise ConfigError(f"{root}: {holder(root)} is already driving this study") from None
        clear_up(self.holder.parent)
        if self.drives:
            name_driver(self.holder.parent, os.getpid())

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        failed = isinstance(error, Exception)  # an interrupt is no failure
        why = (str(error) or type(error).__name__) if failed else ""
        if self.drives:
            # A full disk is told of by what it did to the driver.  The room of the first word is
            # what the last one needs there; without it a driver that ended seems killed.
            with suppress(OSError):
                self.holder.unlink(missing_ok=True)
                name_driver(self.holder.parent, os.getpid(), ended=why)
        self.lock.release()


def name_driver(root: Path, pid: int, *, logged: bool | None = None, **ended: str) -> None:
    """Note which process of this machine drives a study; `ended`: it does not any more, and why.

    `logged`: it prints into driver.log; if None, whether we do so is looked at.
    """
    logged = _printing_to(root / DRIVER_LOG) if logged is None else logged
    who = {"pid": pid, "host": socket.gethostname(), "logged": logged, **ended}
    write_text(root / ".driver.json", json.dumps(who) + "\n")


def holder(root: Path) -> str:
    """Name the process that drives, or last drove, a study."""
    who = _named(root)
    return f"process {who['pid']} on {who['host']}" if who else "another process"


def failure(root: Path) -> str:
    """Say why the last driver ended, if badly; nothing where one works, or this cannot be known."""
    who = _named(root)
    if not who or driven(root):
        return ""
    why = who.get("ended", "" if _lives(root) else "was killed, or could not begin")
    return f"{holder(root)}: {why}" if why else ""


def driver_log(root: Path) -> Path | None:
    """Give the file that has the words of the last driver; None if they went elsewhere."""
    return root / DRIVER_LOG if _named(root).get("logged") else None


def _printing_to(path: Path) -> bool:
    """Say whether a file is what this process prints to."""
    try:
        return os.path.samestat(os.fstat(1), path.stat())
    except OSError:
        return False


def _named(root: Path) -> dict[str, Any]:
    """Read who drives, or last drove; nothing where that cannot be read."""
    try:
        who = json.loads((root / ".driver.json").read_text())
        return {**who, "pid": int(who["pid"]), "host": str(who["host"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _lives(root: Path) -> bool:
    """Say whether the named driver may be the one that holds the lock, not one before it."""
    who = _named(root)
    try:
        if who and who["host"] == socket.gethostname():
            os.kill(who["pid"], 0)
    except OSError:
        return False
    return bool(who)


def clear_up(root: Path) -> None:
    """Remove what a killed driver left half-written, of the files that only drivers write."""
    names = ("*.yaml", "plan.json", ".driver.json", "optuna.journal*", "jobs/*.json")
    for left in (path for name in names for path in root.glob(f"{name}.tmp-*")):
        left.unlink(missing_ok=True)


def driven(root: Path) -> bool:
    """Say whether a driver works on the study now."""
    try:
        return is_held(root / ".driver.lock")
    except LocksUnknown:
        return True  # without locks filelock lets the file itself stand for one
