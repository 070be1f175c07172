"""The tiny study as a search, and an executor whose runs are written instead of trained."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial

from tests.study.tiny import HERE, planned
from trm_lab.config.execution import Sweep
from trm_lab.runs import State
from trm_lab.study import driver
from trm_lab.study.dispatch import Job
from trm_lab.study.plan import Plan, Run
from trm_lab.study.storage import opened, study_name

SEARCH = """\
search:
  parameters:
    train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
    model.ffn: {choices: [swiglu, norm_gate_swiglu]}
  trials: 6
  confirm: {seeds: [10, 11]}
contrasts:"""
ONE_SEED = ("seeds: [0, 1]", "seeds: [0]")
FIRST_LR = 0.004430375245218269
"""The first suggestion of sampler seed 0."""

Curve = Callable[[Run, int], float | None]
"""The validation accuracy of a run at an update; None is NaN."""


def searching(
    runs: Path, *changes: tuple[str, str], sweep: Sweep = HERE, study: tuple[Any, ...] = ()
) -> Plan:
    """Plan the search, with parts of its text replaced, and of the study's."""
    text = SEARCH
    for old, new in changes:
        assert old in text, f"{old!r} is not in the search"
        text = text.replace(old, new, 1)
    return planned(runs, ("contrasts:", text), ONE_SEED, *study, sweep=sweep)


def best_at_a_hundredth(run: Run, update: int) -> float:
    """Rise with the updates, to a height that the learning rate decides."""
    peak = math.exp(-((math.log10(run.recipe.train.optimizer.lr) + 2) ** 2))
    return peak * update / run.recipe.train.updates


class Scripted:
    """Writes the records of its runs, one evaluation at every look."""

    max_attempts, poll_seconds, silence, unsure = 1, 0.0, "", ()

    def __init__(self, curve: Curve = best_at_a_hundredth, capacity: int = 1) -> None:
        self.curve, self.capacity = curve, capacity
        self.sent: list[str] = []
        self.most = 0
        self.jobs: list[_Written] = []
        self.fails: Counter[str] = Counter()
        """How often the runs of a key shall fail."""

    def submit(self, runs: Sequence[Run]) -> dict[str, Job]:
        self.sent += [run.key for run in runs]
        made = {run.key: _Written(run, self) for run in runs}
        self.jobs += made.values()
        self.most = max(self.most, sum(not job.done() for job in self.jobs))
        return dict(made)

    def adopt(self, _: Sequence[Run], again: bool) -> dict[str, Job]:
        del again
        return {}

    def room(self, jobs: Collection[Job]) -> int:
        return self.capacity - len(jobs)

    def refresh(self) -> dict[str, Any]:
        for job in self.jobs:
            job.advance()
        return {}


class _Written:
    log = ""

    def __init__(self, run: Run, of: Scripted) -> None:
        self.run, self.of, self.ended = run, of, False
        self.id = f"scripted {run.key}"
        records = run.folder.records()
        self.update = records[-1]["update"] if records else 0

    def advance(self) -> None:
        folder, recipe = self.run.folder, self.run.recipe
        if self.ended:
            return
        folder.path.mkdir(parents=True, exist_ok=True)
        if self.of.fails[self.run.key] > 0:
            self.of.fails[self.run.key] -= 1
            self._end(State.FAILED)
            return
        self.update = min(self.update + recipe.eval.every, recipe.train.updates)
        value = self.of.curve(self.run, self.update)
        folder.append(
            {"kind": "evaluation", "update": self.update, "steps": [2],
             "flops": 1000 * recipe.model.T * self.update,
             "puzzle_accuracy": [value], "cell_accuracy": [value]}
        )  # fmt: skip
        if self.update == recipe.train.updates:
            folder.evaluation("last").parent.mkdir(exist_ok=True)
            solved = np.zeros((4, 2), dtype=bool)
            np.savez(folder.evaluation("last"), steps=[1, 2], solved=solved, cell_accuracy=solved)
            self._end(State.COMPLETED)

    def _end(self, state: State) -> None:
        self.ended = True
        self.run.folder.write_status({"state": state.value, "update": self.update, "error": None})

    def done(self) -> bool:
        return self.ended

    def waits(self) -> str:
        return ""

    def failure(self) -> str:
        return ""

    def cancelled(self) -> bool:
        return False

    def cancel(self) -> None:
        if not self.ended:
            self._end(State.CANCELLED)


def scripted(
    patch: pytest.MonkeyPatch, curve: Curve = best_at_a_hundredth, capacity: int = 1
) -> Scripted:
    """Let the driver send its runs to a script."""
    made = Scripted(curve, capacity)
    patch.setattr(os, "fsync", lambda _: None)  # most of the time; no power fails here
    patch.setattr(driver, "build_executor", lambda *_: made)
    return made


def arms(plan: Plan) -> dict[str, list[FrozenTrial]]:
    """Read the trials of every arm as any user of Optuna would, by the variant's name."""
    told = json.loads((plan.root / "plan.json").read_text())["search"]
    return {arm["variant"]: trials_of(plan, arm["optuna"]) for arm in told}


def confirmed(plan: Plan) -> list[FrozenTrial]:
    """Read the trials of the runs that confirm."""
    return trials_of(plan, study_name(plan.sweep.storage, plan.root, "tiny"))


def trials_of(plan: Plan, name: str) -> list[FrozenTrial]:
    """Read the trials of one Optuna study."""
    with opened(plan.sweep.storage, plan.root) as storage:
        return optuna.load_study(storage=storage, study_name=name).get_trials()


def cells(plan: Plan) -> list[dict[str, Any]]:
    """Read the cells of plan.json."""
    found: list[dict[str, Any]] = json.loads((plan.root / "plan.json").read_text())["cells"]
    return found
