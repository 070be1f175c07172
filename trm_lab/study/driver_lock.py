"""One driver per study: its lock, and who holds it."""

import json
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from trm_lab.atomic import write_text
from trm_lab.errors import ConfigError
from trm_lab.locks import LocksUnknown, is_held
from trm_lab.runs import PROBE_SECONDS

NAME_SECONDS = 2.0
"""How long a driver that holds the lock may take to write its name."""


class sole_driver:
    """Holds the study's driver lock; the file names who holds it."""

    def __init__(self, root: Path) -> None:
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
        write_text(
            self.holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        )

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def holder(root: Path) -> str:
    """Name the process that drives, or last drove, a study."""
    try:
        who = json.loads((root / ".driver.json").read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def _lives(root: Path) -> bool:
    """Say whether the named driver may be the one that holds the lock, not one before it."""
    try:
        who = json.loads((root / ".driver.json").read_text())
        if who["host"] == socket.gethostname():
            os.kill(int(who["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return False
    return True


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
