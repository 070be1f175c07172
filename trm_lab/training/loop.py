"""`train`: one recipe to one run folder, resumable at any moment."""

import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trm_lab.accounting import Account, account
from trm_lab.atomic import write_bytes
from trm_lab.config.execution import Execution
from trm_lab.config.extension import sources
from trm_lab.config.recipe import Recipe
from trm_lab.errors import RankLostError, Superseded
from trm_lab.lease import Lease
from trm_lab.runs import Labels, RunFolder, State, now
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import TaskData
from trm_lab.training.artifacts import packed_outcomes, packed_weights
from trm_lab.training.distributed import SOLO, Group
from trm_lab.training.environment import describe, prepare
from trm_lab.training.evaluation import outcomes
from trm_lab.training.heartbeat import HEARTBEAT_SECONDS, beating
from trm_lab.training.recovery import Before, resumed
from trm_lab.training.session import Session
from trm_lab.training.stop import BY_HAND, Stop, Stopped, check_together
from trm_lab.training.stream import Stream
from trm_lab.training.trackers import tracking

Progress = Callable[[dict[str, Any]], None]
"""Called with every record that is written."""

SOLVER = ("residual", "iterations", "unconverged")
"""Fields of a record, and with backward_ before them, that tell of residuals and solves."""


class Diverged(ArithmeticError):
    """The loss is no longer a number: a result, not a failure."""


def train(
    recipe: Recipe,
    run_dir: Path | str,
    *,
    execution: Execution | None = None,
    labels: Labels | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    job: Mapping[str, Any] | None = None,
    patience: float = 0.0,
    group: Group = SOLO,
) -> State:
    """Train a recipe into a run folder; running again resumes, or does nothing when done.

    An interrupted and resumed run ends in the same bits as an uninterrupted one (same threads,
    torch and precision).  A loss that is not a number ends the run with state diverged.  A stop
    ends it with a checkpoint of the update it has reached and the state that was asked for.  `job`
    goes into status.json as it is.  `patience` (seconds) is for a predecessor that may be dying.
    Every process of a group calls this alike; the first one writes.

    Raises:
        ConfigError: the folder holds another recipe, the data cannot be had, or the group cannot
            share the batch.
        RunBusyError: another process works in the folder.
        DiskFullError: a file could not be written; the run goes on from its last checkpoint.
        Superseded: another process took the run over; nothing more is written here.
        RankLostError: another process of the group is gone; the run's state is lost.
    """
    group.check_batch(recipe.train.batch)
    folder = RunFolder(run_dir)
    with ExitStack() as held:

        def taken() -> State:
            held.callback(folder.lock(patience).release)
            folder.claim(recipe)
            return folder.state()

        before = group.leading(taken)
        if before.final:
            return before
        lease, stop = None, stop or Stop()
        if group.first:
            folder.sweep()
            lease = Lease.take(folder.lease, job)
            held.callback(lease.release)
            held.enter_context(beating(folder, lease, stop))
        run = _Run(
            recipe, folder, lease, execution or Execution(), labels or Labels(),
            [progress] if progress else [], stop, job, group,
        )  # fmt: skip
        return _through(run, cache)


def _through(run: "_Run", cache: Path | None) -> State:
    """Bring a run to an end and write which."""
    try:
        names = run.execution.trackers if run.group.first else ()
        with tracking(names, run.recipe, run.folder.path) as trackers:
            run.listeners += trackers
            run.train(cache)
    except Superseded:
        raise
    except Stopped as stopped:
        asked = run.folder.asked_to_cancel()  # the word may be too new for the heartbeat
        told = Stopped(State.CANCELLED, BY_HAND) if asked else stopped
        return run.status(told.state, told)
    except Diverged as error:
        return run.status(State.DIVERGED, error)
    except BaseException as error:  # not an Exception: an interrupt, or the executor's own signal
        state = State.FAILED if isinstance(error, Exception) else State.CANCELLED
        state = State.LOST if isinstance(error, RankLostError) else state
        try:
            run.status(state, error)
        except OSError as again:  # as on a full disk: the first error is the one to be told
            error.add_note(f"status.json still says {run.folder.state().value}: {again}")
        raise
    return run.status(State.COMPLETED)


class _Run:
    """The parts of one call of `train`."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        lease: Lease | None,
        execution: Execution,
        labels: Labels,
        listeners: list[Progress],
        stop: Stop,
        job: Mapping[str, Any] | None,
        group: Group,
    ) -> None:
        self.group = group
        self.recipe, self.folder, self.lease, self.execution = recipe, folder, lease, execution
        self.labels, self.listeners, self.stop = labels, listeners, stop
        self.account: Account = account(recipe)
        self.session: Session | None = None
        before = Before.of(folder)
        self.remarks = list(before.remarks)
        self.fixed: dict[str, Any] = {
            **asdict(labels),
            "recipe_id": recipe.id,
            "seed": recipe.seed,
            "attempt": before.attempt + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": dict(job) if job is not None else None,
            "started_utc": before.started_utc or now(),
            "updates": recipe.train.updates,
            "accounting": self.account._asdict(),
            "data": None,
            "environment": None,
        }
        self.solver, self.checkpointed = before.solver, before.checkpointed
        self.beat = 0.0
        self.saved = time.monotonic()
        self.kept: tuple[int, int] | None = None
        """Update and last validation of the newest checkpoint."""

    def train(self, cache: Path | None) -> None:
        group = self.group
        device = prepare(self.execution, group)
        more = {"own": sources(self.recipe), "processes": group.size}
        self.fixed["environment"] = describe(device) | more
        self.status(State.RUNNING)
        check_together(self.stop, group, False)
        data = group.each(lambda: build(self.recipe.task, cache))
        group.agree(
            recipe=self.recipe.id, seed=self.recipe.seed, data=data.fingerprint,
            log_every=self.execution.log_every, torch=torch.__version__, own=more["own"],
        )  # fmt: skip
        self.fixed["data"] = {
            "fingerprint": data.fingerprint,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        }

        def fresh() -> Session:
            stream = Stream(data, self.recipe.train.batch, self.recipe.seed, device, group)
            return Session.fresh(self.recipe, stream, device, self.execution.checkpointing)

        going = resumed(fresh, self.folder, data.fingerprint)
        session = self.session = going.session
        self.kept, self.checkpointed = going.kept, 0  # until here what was told before counts
        self.remarks += going.remarks
        if going.done:
            return
        self.status(State.RUNNING)
        try:
            while True:
                self.maybe_evaluate(session, data)
                if session.counters.update == self.recipe.train.updates:
                    break
                self.stretch(session)
            self.finish(session, data)
        except Stopped:
            if self.kept != (session.counters.update, session.validated):
                self.checkpoint(session)
            raise

    def stretch(self, session: Session) -> None:
        """Train up to the next record."""
        counters = session.counters
        while True:
            late = time.monotonic() - self.saved >= self.execution.checkpoint_seconds
            # The one place between updates.  Clocks differ, so the first process's is the one.
            due = check_together(self.stop, self.group, late and self.group.first)
            if due and self.kept != (counters.update, session.validated):
                self.checkpoint(session)
            wall, cpu = time.perf_counter(), time.process_time()
            session.advance()
            complete = self.evaluates(counters.update) or (
                counters.update % self.execution.log_every == 0
            )
            record = session.record() if complete else None
            counters.seconds += time.perf_counter() - wall
            counters.cpu_seconds += time.process_time() - cpu
            if record is not None:
                break
        self.solver = {k: v for k, v in record.items() if k.removeprefix("backward_") in SOLVER}
        self.write({"kind": "train", **record})
        if not np.isfinite(record["loss"]):
            raise Diverged(f"loss is {record['loss']} by update {counters.update}")

    def evaluates(self, update: int) -> bool:
        """Say whether the weights are evaluated after an update."""
        return update > 0 and (
            update % self.recipe.eval.every == 0 or update == self.recipe.train.updates
        )

    def maybe_evaluate(self, session: Session, data: TaskData) -> None:
        update = session.counters.update
        if not self.evaluates(update) or session.validated == update:
            return
        if not all(bool(p.isfinite().all()) for p in session.weights.params.values()):
            raise Diverged(f"weights are not numbers after update {update}")
        weights, setting = session.evaluated, self.recipe.eval
        found = outcomes(
            self.recipe, session.core, weights, data.validation, setting.steps, self.stop.check,
            self.group,
        )  # fmt: skip
        accuracy = [float(a) for a in found.puzzle_accuracy]
        self.write(
            {
                "kind": "evaluation",
                "split": "validation",
                "weights": "raw" if session.shadow is None else "ema",
                "puzzles": len(data.validation),
                "steps": [int(s) for s in found.steps],
                "puzzle_accuracy": accuracy,
                "cell_accuracy": [float(a) for a in found.mean_cell_accuracy],
                "mean_steps": float(found.halting_step.mean()),
            }
        )
        if session.best is None or accuracy[-1] > session.best["puzzle_accuracy"]:
            session.best = {"update": update, "puzzle_accuracy": accuracy[-1]}
            buffer = io.BytesIO()
            torch.save({"params": weights.params, "table": weights.table}, buffer)
            self.put(self.folder.best, buffer.getvalue())
        session.validated = update
        self.checkpoint(session)

    def finish(self, session: Session, data: TaskData) -> None:
        """Evaluate on the test puzzles and write the weights."""
        recipe, setting, core = self.recipe, self.recipe.eval, session.core
        kind = "raw" if session.shadow is None else "ema"

        def evaluate(which: str, weights: Any, update: int) -> None:
            found = outcomes(
                recipe, core, weights, data.test, setting.final_steps, self.stop.check, self.group
            )
            self.put(self.folder.evaluation(which), packed_outcomes(found, data.test, update, kind))

        evaluate("last", session.evaluated, session.counters.update)
        if setting.best and session.best is not None:
            best, weights = int(session.best["update"]), session.evaluated
            if best != session.counters.update:
                file = io.BytesIO(self.group.leading(self.folder.best.read_bytes))
                content = torch.load(file, map_location=core.device, weights_only=True)
                weights = replace(weights, **content)
            evaluate("best", weights, best)
        self.put(self.folder.weights, packed_weights(session))
        if self.writes():
            self.folder.previous.unlink(missing_ok=True)

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
        if self.writes():
            self.folder.flush_metrics()
        folder, fingerprint = self.folder, self.fixed["data"]["fingerprint"]
        session.save(folder.checkpoint, fingerprint, folder.previous)
        self.kept = (session.counters.update, session.validated)
        self.saved = time.monotonic()
        self.status(State.RUNNING)  # how far a killed run had come is told by the last word

    def write(self, record: Mapping[str, Any]) -> None:
        whole = {**record, **self.counters()}
        if not self.writes():
            return
        self.folder.append(whole)
        if time.monotonic() - self.beat >= HEARTBEAT_SECONDS:
            self.status(State.RUNNING)
        for listen in self.listeners:
            listen(whole)

    def counters(self) -> dict[str, Any]:
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
                **self.fixed,
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
