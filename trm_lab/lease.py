"""Who works on a run, where file locks do not tell.

A node that lost its controller works on while the run is started again elsewhere, and not every
network file system passes locks from node to node.  So whoever takes a run writes a token into
its folder, and looks whether it is still there before every further writing: the last to come
stays.  Between the look and the writing there is a moment left; both compute the same bits.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trm_lab.atomic import write_text
from trm_lab.errors import Superseded

SETTLE_SECONDS = 1.0
"""How long a writing of a holder on another host, begun before we came, may last."""


@dataclass(frozen=True)
class Lease:
    """A run taken by this process."""

    path: Path
    token: str

    @classmethod
    def take(cls, path: Path, job: Mapping[str, Any] | None = None) -> "Lease":
        """Take a run, from whoever may hold it; `job` says on whose behalf."""
        before, here = holder(path), host()
        lease = cls(path, secrets.token_hex(8))
        told = {
            "token": lease.token,
            "host": here,
            "pid": os.getpid(),
            "job": dict(job) if job else None,
            "job_id": os.environ.get("SLURM_JOB_ID"),
            "restart_count": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
            "taken_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(path, json.dumps(told) + "\n")
        # On one host the lock has told that the holder is gone.
        if before is not None and before.get("host") != here:
            time.sleep(SETTLE_SECONDS)
        return lease

    def held(self) -> bool:
        """Say whether the run is still ours."""
        return (holder(self.path) or {}).get("token") == self.token

    def check(self) -> None:
        """Go on only if the run is still ours.

        Raises:
            Superseded: it is not.
        """
        if not self.held():
            raise Superseded(f"{self.path.parent}: {self._successor()} has taken this run over")

    def release(self) -> None:
        """Give the run back, if it is still ours."""
        if self.held():
            self.path.unlink(missing_ok=True)

    def _successor(self) -> str:
        who = holder(self.path)
        return f"process {who.get('pid')} on {who.get('host')}" if who else "another process"


def holder(path: Path) -> dict[str, Any] | None:
    """Read who holds a run; None if nobody does, or if that cannot be read."""
    try:
        told = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def host() -> str:
    """Name this node; several nodes of a cluster may share one host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
