"""A recipe: everything that decides the numbers of one training run.

Its identity is the hash of every science field, defaults included, without the seed: the same
recipe under another seed is a replicate of the same cell.  Device, workers, paths, logging and
checkpoint interval are not part of a recipe.
"""

import hashlib
import itertools
import json
import math
from typing import Any, Self

from pydantic import Field, model_validator

from trm_lab.config.base import Setting
from trm_lab.config.blocks import Rope2D
from trm_lab.config.contracts import OwnHalting, OwnLayout, OwnMixer
from trm_lab.config.gradient import Gradient, Implicit, RandomTruncation, Truncation
from trm_lab.config.halting import AsTrained, Confidence, Fixed, QLearning, WhenHalted
from trm_lab.config.initial import FixedStart, LearnedStart, RandomStart
from trm_lab.config.loops import Counts, SampledDepth
from trm_lab.config.model import Model
from trm_lab.config.supervision import Supervision
from trm_lab.config.task import Task
from trm_lab.config.training import Eval, Train

OUTSIDE_IDENTITY: dict[str, Any] = {"seed": True, "task": {"train_csv", "test_csv"}}
"""Left out of the hash: the replicate's number and where files lie."""

BFLOAT16 = 2.0**-7
"""Relative distance of neighbouring numbers: what a residual in bfloat16 cannot fall below."""

ADDED: dict[str, Any] = {
    "train.ema_table": False,
    "model.layout.x_in_answer": False,
    "model.layout.x_in_last": False,
    "model.ffn": {"kind": "swiglu"},
    "model.norm": "post",
    "model.residual_scale": 1.0,
    "model.head": "untied",
    "model.initial": {"kind": "fixed"},
    "supervision.halting.threshold": 0.0,
    "supervision.exploration_law": "uniform",
    "eval.policy": {"kind": "all_steps"},
    "supervision.residual_penalty": 0.0,
    "supervision.loop": {"kind": "slot_carry", "steps": 1, "linked": False},
    "supervision.step_weights": {"kind": "uniform"},
    "supervision.curriculum": [],
    "supervision.depth": {"kind": "fixed"},
    "supervision.hypotheses": 1,
}
"""Settings younger than the first release, each with the one value that does what was done before.

They are left out of the hash at that value, so that recipes written earlier keep their ids.  Lines
are added and never changed, whatever becomes of the default.
"""


class Recipe(Setting):
    """One cell and one seed."""

    task: Task
    model: Model
    supervision: Supervision = Supervision()
    train: Train
    eval: Eval = Eval()
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _table_is_there(self) -> Self:
        if self.train.ema_table and self.model.puzzle is None:
            raise ValueError(
                "train.ema_table: true averages the puzzle table, and model.puzzle: null has none"
            )
        return self

    @model_validator(mode="after")
    def _hypotheses_differ(self) -> Self:
        K, start = self.supervision.hypotheses, self.model.initial
        if K > 1 and not isinstance(start, FixedStart | RandomStart):
            raise ValueError(
                f"supervision.hypotheses: {K} needs starts that differ; model.initial: "
                f"{start.kind} gives all of them the same, use fixed or random"
            )
        return self

    @model_validator(mode="after")
    def _grid(self) -> Self:
        if isinstance(self.model.positions, Rope2D):
            self.model.positions.grid(self.task.cells)
        return self

    @model_validator(mode="after")
    def _own_mixer_counts(self) -> Self:
        if isinstance(self.model.mixer, OwnMixer):
            self.model.mixer.refuse(self.model, self.task.cells + self.model.slots)
        return self

    @model_validator(mode="after")
    def _own_cycles(self) -> Self:
        if isinstance(self.model.layout, OwnLayout):
            for _, counts in self.spans():
                self.model.layout.refuse(counts.n, "model.layout")
        return self

    @model_validator(mode="after")
    def _starts_are_reached(self) -> Self:
        model, gradient = self.model, self.model.gradient
        # A link is cut by any short truncation; a start learns from whatever reaches it.
        shortest = gradient.of(gradient.low) if isinstance(gradient, RandomTruncation) else gradient
        wanting: list[tuple[str, Gradient, str]] = []
        if self.supervision.linked:
            wanting.append(("supervision.loop: linked", shortest, ""))
        if isinstance(model.initial, LearnedStart):
            wanting.append(("model.initial: learned", gradient, ", or initial: fixed"))
        for what, scheme, other in wanting:
            if isinstance(scheme, Implicit):
                raise ValueError(
                    f"{what} needs a gradient that reaches the start of a step; model.gradient: "
                    "implicit looks for its fixed point without a graph, whatever the start; use "
                    f"whole_program{other}"
                )
            for _, counts in self.spans():
                cycle = len(model.layout.cycle(counts.n))
                cut = scheme.cut(cycle, counts.T)
                if cut:
                    leaves = "leaves" if scheme == gradient else "may leave"
                    own = (counts.n, counts.T) == (model.n, model.T)
                    where = "" if own else f" at n {counts.n}, T {counts.T}"
                    raise ValueError(
                        f"{what} needs a gradient that reaches the start of a step; "
                        f"model.gradient: {gradient.kind} {leaves} {cut} of {cycle * counts.T} "
                        f"updates without one{where}; use whole_program{other}"
                    )
        return self

    @model_validator(mode="after")
    def _stages_differ(self) -> Self:
        spans = self.spans()
        names = [f"stage until {stage.until:g}" for stage in self.supervision.curriculum]
        for i, ((end, counts), (later, after)) in enumerate(itertools.pairwise(spans)):
            follower = f"the {names[i + 1]}" if i + 1 < len(names) else "what follows"
            if end >= later:
                raise ValueError(
                    f"supervision.curriculum: the {names[i]} ends at update {end} of "
                    f"{self.train.updates}, which leaves {follower} no update"
                )
            if counts == after:
                raise ValueError(
                    f"supervision.curriculum: the {names[i]} is the same as {follower}: n "
                    f"{counts.n}, T {counts.T}, N_sup {counts.N_sup}; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _waits(self) -> Self:
        depth, gradient = self.supervision.depth, self.model.gradient
        apart = isinstance(depth, SampledDepth) and depth.per == "puzzle"
        if apart and not isinstance(gradient, Truncation):
            raise ValueError(
                f"supervision.depth: model.gradient: {gradient.kind} needs one T for all puzzles; "
                "use per: batch, or a truncation"
            )
        return self

    @model_validator(mode="after")
    def _solver_can_tell(self) -> Self:
        gradient = self.model.gradient
        if not isinstance(gradient, Implicit) or self.train.dtype != "bfloat16":
            return self
        for name in ("tolerance", "backward_tolerance"):
            if 0 < getattr(gradient, name) < BFLOAT16:
                raise ValueError(
                    f"model.gradient.{name} {getattr(gradient, name):g} is below what "
                    f"train.dtype: bfloat16 can tell; give {BFLOAT16:g} or more, or float32"
                )
        return self

    @model_validator(mode="after")
    def _rule_is_learned(self) -> Self:
        policy, trained = self.eval.policy, self.supervision.halting
        if not isinstance(policy, WhenHalted):
            return self
        rule = trained if isinstance(policy.rule, AsTrained) else policy.rule
        if isinstance(rule, Fixed):
            raise ValueError(
                "eval.policy: rule own is supervision.halting: fixed, which halts no puzzle before "
                "the last step; use policy: all_steps, or rule: residual"
            )
        if not isinstance(rule, Confidence | QLearning):
            return self
        heads = (QLearning, OwnHalting) + (Confidence,) * isinstance(rule, Confidence)
        why = None
        if not isinstance(trained, heads):
            why = f"a head that supervision.halting: {trained.kind} does not train"
        elif self.supervision.halt_weight == 0:
            why = "a head that supervision.halt_weight: 0 does not train"
        elif (
            isinstance(rule, QLearning) and isinstance(trained, QLearning) and self.most_steps == 1
        ):
            why = "a value of going on that supervision.N_sup: 1 does not train"
        if why:
            raise ValueError(
                f"eval.policy: rule {rule.kind} reads {why}; use rule: residual, or policy: "
                "all_steps"
            )
        return self

    @property
    def most_steps(self) -> int:
        """Supervision steps of a puzzle in training, at most: the largest N_sup of all stages."""
        return max(counts.N_sup for _, counts in self.spans())

    def counts(self, update: int) -> Counts:
        """Give the recursion counts in force at an update counted from 1."""
        return next(counts for end, counts in self.spans() if update <= end)

    def spans(self) -> list[tuple[int, Counts]]:
        """List the stages of training as (last update, recursion counts)."""
        model, supervision, updates = self.model, self.supervision, self.train.updates
        depth = supervision.depth
        T = depth.high if isinstance(depth, SampledDepth) else model.T
        spans = []
        for stage in supervision.curriculum:
            counts = Counts(stage.n or model.n, stage.T or T, stage.N_sup or supervision.N_sup)
            # Rounded first: 0.07 * 100 is a little more than 7.
            spans.append((max(1, math.ceil(round(stage.until * updates, 9))), counts))
        return [*spans, (updates, Counts(model.n, T, supervision.N_sup))]

    @property
    def id(self) -> str:
        """64 hex digits: SHA-256 of the canonical JSON of the science fields without the seed."""
        fields = self.model_dump(mode="json", exclude=OUTSIDE_IDENTITY)
        for path, before in ADDED.items():
            _leave_out(fields, path.split("."), before)
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Give the recipe as nested plain data, defaults included."""
        return self.model_dump(mode="json")

    def with_seed(self, seed: int) -> "Recipe":
        """Give the same cell under another seed."""
        return Recipe.model_validate({**self.__dict__, "seed": seed})


def _leave_out(fields: Any, path: list[str], value: Any) -> None:
    """Remove the entry at a path, in place, where it has a value."""
    *parents, last = path
    for name in parents:
        fields = fields.get(name) if isinstance(fields, dict) else None
    if isinstance(fields, dict) and last in fields and fields[last] == value:
        del fields[last]
