"""`train`: one recipe to one run folder, resumable at any moment."""

import io
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trm_lab.config.execution import Execution
from trm_lab.config.extension import sources
from trm_lab.config.recipe import Recipe
from trm_lab.errors import RankLostError, Superseded
from trm_lab.lease import Lease
from trm_lab.runs import Labels, RunFolder, State
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import TaskData
from trm_lab.training.artifacts import packed_outcomes, packed_weights
from trm_lab.training.distributed import SOLO, Group
from trm_lab.training.environment import describe, prepare
from trm_lab.training.evaluation import outcomes
from trm_lab.training.heartbeat import beating
from trm_lab.training.recovery import resumed
from trm_lab.training.session import Session
from trm_lab.training.stop import BY_HAND, Stop, Stopped, check_together
from trm_lab.training.stream import Stream
from trm_lab.training.trackers import tracking
from trm_lab.training.writer import Progress, Writer

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
        listeners = [progress] if progress else []
        writer = Writer(recipe, folder, lease, labels or Labels(), listeners, job)
        return _through(_Run(recipe, execution or Execution(), stop, group, writer), cache)


def _through(run: "_Run", cache: Path | None) -> State:
    """Bring a run to an end and write which."""
    try:
        names = run.execution.trackers if run.group.first else ()
        with tracking(names, run.recipe, run.folder.path) as trackers:
            run.writer.listeners += trackers
            run.train(cache)
    except Superseded:
        raise
    except Stopped as stopped:
        asked = run.folder.asked_to_cancel()  # the word may be too new for the heartbeat
        told = Stopped(State.CANCELLED, BY_HAND) if asked else stopped
        return run.writer.status(told.state, told)
    except Diverged as error:
        return run.writer.status(State.DIVERGED, error)
    except BaseException as error:  # not an Exception: an interrupt, or the executor's own signal
        state = State.FAILED if isinstance(error, Exception) else State.CANCELLED
        state = State.LOST if isinstance(error, RankLostError) else state
        try:
            run.writer.status(state, error)
        except OSError as again:  # as on a full disk: the first error is the one to be told
            error.add_note(f"status.json still says {run.folder.state().value}: {again}")
        raise
    return run.writer.status(State.COMPLETED)


class _Run:
    """The parts of one call of `train`."""

    def __init__(
        self, recipe: Recipe, execution: Execution, stop: Stop, group: Group, writer: Writer
    ) -> None:
        self.recipe, self.execution, self.stop, self.group = recipe, execution, stop, group
        self.writer, self.folder = writer, writer.folder

    def train(self, cache: Path | None) -> None:
        group, writer = self.group, self.writer
        device = prepare(self.execution, group)
        more = {"own": sources(self.recipe), "processes": group.size}
        writer.facts["environment"] = describe(device) | more
        writer.status(State.RUNNING)
        check_together(self.stop, group, False)
        data = group.each(lambda: build(self.recipe.task, cache))
        group.agree(
            recipe=self.recipe.id, seed=self.recipe.seed, data=data.fingerprint,
            log_every=self.execution.log_every, torch=torch.__version__, own=more["own"],
        )  # fmt: skip
        writer.facts["data"] = {
            "fingerprint": data.fingerprint,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        }

        def fresh() -> Session:
            stream = Stream(data, self.recipe.train.batch, self.recipe.seed, device, group)
            return Session.fresh(self.recipe, stream, device, self.execution.checkpointing)

        going = resumed(fresh, self.folder, data.fingerprint)
        session = writer.session = going.session
        writer.kept, writer.checkpointed = going.kept, 0  # until here what was told before counts
        writer.remarks += going.remarks
        if going.done:
            return
        writer.status(State.RUNNING)
        try:
            while True:
                self.maybe_evaluate(session, data)
                if session.counters.update == self.recipe.train.updates:
                    break
                self.stretch(session)
            self.finish(session, data)
        except Stopped:
            if not writer.has(session):
                writer.checkpoint(session)
            raise

    def stretch(self, session: Session) -> None:
        """Train up to the next record."""
        counters, writer = session.counters, self.writer
        while True:
            late = time.monotonic() - writer.saved >= self.execution.checkpoint_seconds
            # The one place between updates.  Clocks differ, so the first process's is the one.
            due = check_together(self.stop, self.group, late and self.group.first)
            if due and not writer.has(session):
                writer.checkpoint(session)
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
        writer.solver = {k: v for k, v in record.items() if k.removeprefix("backward_") in SOLVER}
        writer.write({"kind": "train", **record})
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
        self.writer.write(
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
            self.writer.put(self.folder.best, buffer.getvalue())
        session.validated = update
        self.writer.checkpoint(session)

    def finish(self, session: Session, data: TaskData) -> None:
        """Evaluate on the test puzzles and write the weights."""
        recipe, setting, core = self.recipe, self.recipe.eval, session.core
        writer, folder = self.writer, self.folder
        kind = "raw" if session.shadow is None else "ema"

        def evaluate(which: str, weights: Any, update: int) -> None:
            found = outcomes(
                recipe, core, weights, data.test, setting.final_steps, self.stop.check, self.group
            )
            writer.put(folder.evaluation(which), packed_outcomes(found, data.test, update, kind))

        evaluate("last", session.evaluated, session.counters.update)
        if setting.best and session.best is not None:
            best, weights = int(session.best["update"]), session.evaluated
            if best != session.counters.update:
                file = io.BytesIO(self.group.leading(folder.best.read_bytes))
                content = torch.load(file, map_location=core.device, weights_only=True)
                weights = replace(weights, **content)
            evaluate("best", weights, best)
        writer.put(folder.weights, packed_weights(session))
        if writer.writes():
            folder.previous.unlink(missing_ok=True)
