"""What a run writes into its folder: records, checkpoints, outcomes, and how it stands."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trm_lab.accounting import account
from trm_lab.atomic import write_bytes
from trm_lab.config.recipe import Recipe
from trm_lab.lease import Lease
from trm_lab.runs import Labels, RunFolder, State, now
from trm_lab.training.heartbeat import HEARTBEAT_SECONDS
from trm_lab.training.recovery import Before
from trm_lab.training.session import Session

Progress = Callable[[dict[str, Any]], None]
"""Called with every record that is written."""


class Writer:
    """Writes a run's folder, as long as the run is ours; of a group the first process does."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        lease: Lease | None,
        labels: Labels,
        listeners: list[Progress],
        job: Mapping[str, Any] | None,
    ) -> None:
        self.folder, self.lease, self.listeners = folder, lease, listeners
        self.session: Session | None = None
        """Whose counters are told; null until there is one."""
        before = Before.of(folder)
        self.remarks = list(before.remarks)
        self.facts: dict[str, Any] = {
            **asdict(labels),
            "recipe_id": recipe.id,
            "seed": recipe.seed,
            "attempt": before.attempt + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": dict(job) if job is not None else None,
            "started_utc": before.started_utc or now(),
            "updates": recipe.train.updates,
            "accounting": account(recipe)._asdict(),
            "data": None,
            "environment": None,
        }
        """What status.json says at every time."""
        self.solver, self.checkpointed = before.solver, before.checkpointed
        self.beat = 0.0
        self.saved = time.monotonic()
        self.kept: tuple[int, int] | None = None
        """Update and last validation of the newest checkpoint."""

    def has(self, session: Session) -> bool:
        """Say whether the newest checkpoint is of where the session is."""
        return self.kept == (session.counters.update, session.validated)

    def writes(self) -> bool:
        """Say whether this process writes the folder; leave if the run is no longer ours."""
        if self.lease is not None:
            self.lease.check()
        return self.lease is not None

    def put(self, path: Path, content: bytes) -> None:
        """Write a file of the run, if it is still ours."""
        if self.writes():
            write_bytes(path, content)

    def checkpoint(self, session: Session) -> None:
        """Write a checkpoint of where the session is."""
        if self.writes():
            self.folder.flush_metrics()
        folder, fingerprint = self.folder, self.facts["data"]["fingerprint"]
        session.save(folder.checkpoint, fingerprint, folder.previous)
        self.kept = (session.counters.update, session.validated)
        self.saved = time.monotonic()
        self.status(State.RUNNING)  # how far a killed run had come is told by the last word

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record to the metrics, and tell the listeners."""
        whole = {**record, **self.counters()}
        if not self.writes():
            return
        self.folder.append(whole)
        if time.monotonic() - self.beat >= HEARTBEAT_SECONDS:
            self.status(State.RUNNING)
        for listen in self.listeners:
            listen(whole)

    def counters(self) -> dict[str, Any]:
        """Give how far the run is, and what it took."""
        return asdict(self.session.counters) if self.session else {"update": 0, "flops": 0}

    def status(self, state: State, error: BaseException | None = None) -> State:
        """Write status.json and give the state."""
        ended = state not in (State.RUNNING, State.WAITING)
        told = {"type": type(error).__name__, "message": str(error)} if error else None
        if not self.writes():
            return state
        self.folder.write_status(
            {
                "state": state.value,
                **self.facts,
                "finished_utc": now() if ended else None,
                **self.counters(),
                "checkpointed": self.kept[0] if self.kept else self.checkpointed,
                "best": self.session.best if self.session else None,
                "solver": self.solver or None,
                "error": told,
                "remarks": self.remarks,
            }
        )
        self.beat = time.monotonic()
        return state
