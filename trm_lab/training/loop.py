"""`train`: one recipe to one run folder, resumable at any moment."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from trm_lab.accounting import Account, account
from trm_lab.atomic import replacing
from trm_lab.config.execution import Execution
from trm_lab.config.extension import sources
from trm_lab.config.recipe import Recipe
from trm_lab.core.evaluation import Outcomes
from trm_lab.runs import Labels, RunFolder, State, now
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import Puzzles, TaskData
from trm_lab.training.environment import describe, prepare
from trm_lab.training.evaluation import outcomes
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

Progress = Callable[[dict[str, Any]], None]
"""Called with every record that is written."""

HEARTBEAT_SECONDS = 5.0
"""Least time between two writings of status.json while training."""
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
) -> State:
    """Train a recipe into a run folder; running again resumes, or does nothing when done.

    An interrupted and resumed run ends in the same bits as an uninterrupted one (same threads,
    torch and precision).  A loss that is not a number ends the run with state diverged.

    Raises:
        ConfigError: the folder holds another recipe, or the data cannot be had.
        RunBusyError: another process works in the folder.
    """
    folder = RunFolder(run_dir)
    lock = folder.lock()
    try:
        folder.claim(recipe)
        if folder.state().final:
            return folder.state()
        run = _Run(recipe, folder, execution or Execution(), labels or Labels(), progress)
        try:
            run.train(cache)
        except Diverged as error:
            return run.end(State.DIVERGED, error)
        except Exception as error:
            run.end(State.FAILED, error)
            raise
        except BaseException as error:  # an interrupt, or the executor's own signal
            run.end(State.CANCELLED, error)
            raise
        return run.end(State.COMPLETED)
    finally:
        lock.release()


class _Run:
    """The parts of one call of `train`."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        execution: Execution,
        labels: Labels,
        progress: Progress | None,
    ) -> None:
        self.recipe, self.folder, self.execution = recipe, folder, execution
        self.labels, self.progress = labels, progress
        self.account: Account = account(recipe)
        self.session: Session | None = None
        before = folder.status() or {}
        self.fixed: dict[str, Any] = {
            **asdict(labels),
            "recipe_id": recipe.id,
            "seed": recipe.seed,
            "attempt": int(before.get("attempt", 0)) + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_utc": before.get("started_utc") or now(),
            "updates": recipe.train.updates,
            "accounting": self.account._asdict(),
            "data": None,
            "environment": None,
        }
        self.solver: dict[str, Any] | None = before.get("solver")
        self.beat = 0.0
        self.saved = time.monotonic()

    def train(self, cache: Path | None) -> None:
        device = prepare(self.execution)
        self.fixed["environment"] = describe(device) | {"own": sources(self.recipe)}
        self.status(State.RUNNING)
        data = build(self.recipe.task, cache)
        self.fixed["data"] = {
            "fingerprint": data.fingerprint,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        }
        stream = Stream(data, self.recipe.train.batch, self.recipe.seed, device)
        session = self.session = Session.fresh(
            self.recipe, stream, device, self.execution.checkpointing
        )
        if self.folder.checkpoint.exists():
            session.restore(self.folder.checkpoint, data.fingerprint)
        self.folder.rewind(session.counters.update)
        self.status(State.RUNNING)
        while session.counters.update < self.recipe.train.updates:
            self.stretch(session)
            self.maybe_evaluate(session, data)
        self.finish(session, data)

    def stretch(self, session: Session) -> None:
        """Train up to the next record."""
        counters, every = session.counters, self.recipe.eval.every
        wall, cpu = time.perf_counter(), time.process_time()
        while True:
            session.advance()
            update = counters.update
            if update % self.execution.log_every == 0 or self.evaluates(update, every):
                break
        record = session.record()
        self.solver = {k: v for k, v in record.items() if k.removeprefix("backward_") in SOLVER}
        counters.seconds += time.perf_counter() - wall
        counters.cpu_seconds += time.process_time() - cpu
        self.write({"kind": "train", **record})
        if not np.isfinite(record["loss"]):
            raise Diverged(f"loss is {record['loss']} by update {counters.update}")
        if time.monotonic() - self.saved >= self.execution.checkpoint_seconds and not (
            self.evaluates(counters.update, every)
        ):
            self.checkpoint(session)

    def evaluates(self, update: int, every: int) -> bool:
        return update % every == 0 or update == self.recipe.train.updates

    def maybe_evaluate(self, session: Session, data: TaskData) -> None:
        update = session.counters.update
        if not self.evaluates(update, self.recipe.eval.every):
            return
        if not all(bool(p.isfinite().all()) for p in session.weights.params.values()):
            raise Diverged(f"weights are not numbers after update {update}")
        weights = session.evaluated
        found = outcomes(
            self.recipe, session.core, weights, data.validation, self.recipe.eval.steps
        )
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
            with replacing(self.folder.best) as temporary:
                torch.save({"params": weights.params, "table": weights.table}, temporary)
        self.checkpoint(session)

    def finish(self, session: Session, data: TaskData) -> None:
        """Evaluate on the test puzzles and write the weights."""
        recipe, setting, core = self.recipe, self.recipe.eval, session.core
        kind = "raw" if session.shadow is None else "ema"
        last = outcomes(recipe, core, session.evaluated, data.test, setting.final_steps)
        _store(self.folder.evaluation("last"), last, data.test, session.counters.update, kind)
        if setting.best and session.best is not None:
            best, weights = int(session.best["update"]), session.evaluated
            if best != session.counters.update:
                content = torch.load(self.folder.best, map_location=core.device, weights_only=True)
                weights = replace(weights, **content)
            found = outcomes(recipe, core, weights, data.test, setting.final_steps)
            _store(self.folder.evaluation("best"), found, data.test, best, kind)
        with replacing(self.folder.weights) as temporary:
            save_file(_flat(session), temporary)

    def checkpoint(self, session: Session) -> None:
        self.folder.flush_metrics()
        session.save(self.folder.checkpoint, self.fixed["data"]["fingerprint"])
        self.saved = time.monotonic()

    def write(self, record: Mapping[str, Any]) -> None:
        whole = {**record, **self.counters()}
        self.folder.append(whole)
        if time.monotonic() - self.beat >= HEARTBEAT_SECONDS:
            self.status(State.RUNNING)
        if self.progress is not None:
            self.progress(whole)

    def counters(self) -> dict[str, Any]:
        return asdict(self.session.counters) if self.session else {"update": 0, "flops": 0}

    def status(self, state: State, error: BaseException | None = None) -> None:
        ended = state is not State.RUNNING
        told = {"type": type(error).__name__, "message": str(error)} if error else None
        self.folder.write_status(
            {
                "state": state.value,
                **self.fixed,
                "finished_utc": now() if ended else None,
                **self.counters(),
                "best": self.session.best if self.session else None,
                "solver": self.solver or None,
                "error": told,
            }
        )
        self.beat = time.monotonic()

    def end(self, state: State, error: BaseException | None = None) -> State:
        self.status(state, error)
        return state


def _store(path: Path, found: Outcomes, puzzles: Puzzles, update: int, weights: str) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            steps=found.steps,
            solved=found.solved,
            cell_accuracy=found.cell_accuracy,
            halt_logit=found.halt_logit,
            halting_step=found.halting_step,
            unconverged=found.unconverged,
            clues=puzzles.clues,
            guesses=puzzles.guesses,
            rating=puzzles.rating,
            signature=puzzles.signature,
            update=np.int64(update),
            weights=np.str_(weights),
        )


def _flat(session: Session) -> dict[str, Tensor]:
    """Name every weight for one safetensors file: raw/, ema/, initial/ and the tables."""
    tensors = session.tensors()
    latents = session.recipe.model.layout.latents
    flat = {f"raw/{k}": v for k, v in tensors["params"].items()}
    flat |= {f"ema/{k}": v for k, v in (tensors["ema"] or {}).items()}
    if tensors["initial"]:  # a learned start is among the parameters, others have no vectors
        flat |= {f"initial/{k}": v for k, v in zip(latents, tensors["initial"], strict=True)}
    flat |= {f"others/{k}": v for k, v in zip(latents, tensors["others"], strict=False)}
    flat |= {k: tensors[k] for k in ("table", "ema_table") if tensors[k] is not None}
    return {k: v.contiguous() for k, v in flat.items()}
