"""Three hundred recipes drawn across all axes train, evaluate and cost what accounting says."""

import random
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.contract.instances import INSTANCES
from trm_lab.config import (
    AsTrained,
    GeneratedSudoku,
    MultiSudoku,
    Recipe,
    Task,
    WhenHalted,
)
from trm_lab.core import supervision
from trm_lab.core.compaction import evaluate_when_halted
from trm_lab.core.halting import release, wants_to_halt
from trm_lab.core.reasoner import Reasoner
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import Puzzles, TaskData
from trm_lab.training.evaluation import outcomes
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

SEEDS = range(300)
CPU = torch.device("cpu")
TASKS = (
    GeneratedSudoku(size=4, clues=8, train=24, validation=4, test=20),
    MultiSudoku(train=24, validation=4, test=20),
)
SPACE: dict[str, tuple[Any, ...]] = {
    "task": tuple(task.model_dump() for task in TASKS),
    "model.layers": (1, 2),
    "model.width": (8, 16),
    "model.expansion": (1.0, 2.5),
    "model.round_to": (2, 8),
    "model.puzzle": (None, {"slots": 1, "dim": 8}, {"slots": 2, "dim": 5}),
    "model.n": (1, 2, 3),
    "model.T": (1, 2, 4),
    "model.norm": ("post", "pre"),
    "model.residual_scale": (1.0, 0.5),
    "model.head": ("untied", "tied"),
    "supervision.N_sup": (1, 2, 4),
    "supervision.exploration": (0.0, 0.5),
    "supervision.exploration_law": ("uniform", "full", "geometric"),
    "supervision.halt_weight": (0.5, 1.0),
    "supervision.curriculum": (
        (),
        ({"until": 0.5, "n": 1, "T": 2, "N_sup": 1},),
        (
            {"until": 0.125, "n": 1, "T": None, "N_sup": None},
            {"until": 0.5, "n": None, "T": None, "N_sup": 3},
        ),
    ),
    "supervision.residual_penalty": (0.0, 0.5),
    "supervision.hypotheses": (1, 3),
    "train.batch": (1, 3),
    "train.ema": (None, 0.9),
    "train.ema_table": (False, True),
    "train.dtype": ("float32", "float64", "bfloat16"),
    "eval.steps": ((1,), (1, 3)),
    "eval.best": (False, True),
}
"""Values of the settings that are no unions; those are in `tests.contract.instances`."""
HELD = {"seed", "model.norm_eps", "train.updates", "train.table_optimizer",
        "eval.every", "eval.final_steps"}  # fmt: skip
"""Settings that are no axes."""
FINAL = (1, 4)
BASE: dict[str, Any] = {
    "task": TASKS[0].model_dump(),
    "model": {
        "layers": 1,
        "width": 8,
        "round_to": 4,
        "puzzle": {"slots": 2, "dim": 5},
        "mixer": {"kind": "attention", "heads": 1},
    },
    "train": {
        "updates": 8,
        "batch": 2,
        "dtype": "float32",
        "schedule": {"kind": "constant", "warmup": 1},
    },
    "eval": {"every": 8, "steps": (1,), "final_steps": FINAL},
}


@cache
def axes() -> dict[str, tuple[Any, ...]]:
    """Give the values of every setting that is an axis, by its dotted name."""
    return dict(_axes(Recipe, ""))


def _axes(model: type[BaseModel], prefix: str) -> Any:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        members = frozenset(
            p for p in (field.annotation, *get_args(field.annotation))
            if isinstance(p, type) and issubclass(p, BaseModel)
        )  # fmt: skip
        found = [v for k, v in INSTANCES.items() if frozenset(get_args(get_args(k)[0])) == members]
        if path in HELD:
            continue
        if path in SPACE:
            yield path, SPACE[path]
        elif found:
            yield path, tuple(instance.model_dump() for instance in found[0])
        else:
            assert len(members) == 1, f"{path} is no axis: give it values in SPACE, or hold it"
            yield from _axes(*members, f"{path}.")


def drawn(seed: int) -> Recipe:
    """Change a small recipe axis by axis, in random order, wherever the change is valid."""
    rng = random.Random(seed)
    recipe = Recipe.model_validate(BASE)
    for path in rng.sample(sorted(axes()), len(axes())):
        data = recipe.model_dump()
        *parents, last = path.split(".")
        inside = data
        for parent in parents:
            inside = inside[parent]
        inside[last] = rng.choice(axes()[path])
        try:
            recipe = Recipe.model_validate(data)
        except ValidationError:
            continue
    return recipe.with_seed(seed)


@cache
def puzzles(task: Task) -> TaskData:
    return build(task)


def session(recipe: Recipe, checkpointing: Any = None) -> Session:
    """Start a run whose halting head tells puzzles apart; a fresh one says -5 of all."""
    stream = Stream(puzzles(recipe.task), recipe.train.batch, recipe.seed, CPU)
    made = Session.fresh(recipe, stream, CPU, checkpointing)
    for params in (made.weights.params, made.shadow or {}):
        generator = torch.Generator().manual_seed(recipe.seed)
        for name in params.keys() & {"head.halt.weight", "head.halt.bias"}:
            with torch.no_grad():
                params[name].normal_(generator=generator)
    return made


def solvable(recipe: Recipe, trained: Session) -> Puzzles:
    """Give the test puzzles, of which every third has the model's first answer as a solution."""
    test = puzzles(recipe.task).test
    reasoner = Reasoner(trained.core, trained.evaluated, recipe.supervision.carried)
    start = reasoner.start(reasoner.keys(test.inputs))
    with torch.no_grad():
        read, _, _ = reasoner.step(start, start, torch.tensor(test.inputs.astype(np.int32)))
    answers = test.answers.copy()
    of_any = answers if answers.ndim == 2 else answers[:, 0]  # a view
    of_any[::3] = read.logits.argmax(-1)[::3]
    return replace(test, **{"labels" if answers.ndim == 2 else "solutions": answers})


def kept(trained: Session) -> list[torch.Tensor | None]:
    """Give all that an update changes."""
    carry, table = trained.carry, trained.weights.table
    return [*trained.weights.params.values(), table, *carry.z, carry.steps, carry.halted]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_recipe_trains_evaluates_and_costs_what_accounting_says(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = drawn(seed)
    trained = session(recipe)
    trained.advance()
    if checkpointing := (None, None, "update", "cycle")[seed % 4]:
        again = session(recipe, checkpointing)
        again.advance()
        assert again.counters.flops == trained.counters.flops  # computed again, not charged again
        for a, b in zip(kept(trained), kept(again), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
    before = trained.counters.flops
    monkeypatch.setattr(trained.optimizer, "step", lambda: None)  # Muon multiplies matrices too
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trained.advance()
    stated, found = trained.counters.flops - before, counter.get_total_flops()
    assert stated == pytest.approx(found, rel=0.01)
    assert np.isfinite(trained.record()["loss"])
    # Sixteen slots for twenty puzzles: slots are filled again, and then there are fewer of them.
    monkeypatch.setattr("trm_lab.training.evaluation.BATCH", 16)
    test = solvable(recipe, trained)
    told = outcomes(recipe, trained.core, trained.evaluated, test, FINAL)
    assert told.solved.shape == (20, 2)
    assert ((told.cell_accuracy >= 0) & (told.cell_accuracy <= 1)).all()
    assert np.isfinite(told.halt_logit).all()
    carried, policy = recipe.supervision.carried, recipe.eval.policy
    if isinstance(policy, WhenHalted):
        own = isinstance(policy.rule, AsTrained)
        whole = evaluate_when_halted(
            Reasoner(trained.core, trained.evaluated, carried), test.inputs, test.answers,
            rule=recipe.supervision.halting if own else policy.rule,
            steps=FINAL, batch=16, compact=False,
        )  # fmt: skip
        assert ((told.halting_step >= 1) & (told.halting_step <= FINAL[-1])).all()
        for name, value in vars(whole).items():
            assert np.array_equal(getattr(told, name), value), name
    else:
        assert (told.halting_step == FINAL[-1]).all()
    if not carried:
        assert np.array_equal(told.halt_logit[:, 0], told.halt_logit[:, 1])


def test_the_draws_reach_every_value_of_every_axis() -> None:
    recipes = [drawn(seed).model_dump() for seed in SEEDS]
    for path, values in axes().items():
        found = recipes
        for part in path.split("."):
            found = [inside[part] for inside in found]
        missing = [value for value in values if value not in found]
        assert missing == [], path


@pytest.mark.slow
def test_the_draws_halt_release_early_and_explore(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    def watched(rule: Any, shown: Any, steps: Any, N_sup: int, minimum: Any) -> Any:
        released = release(rule, shown, steps, N_sup, minimum)
        wants = wants_to_halt(rule, shown)
        seen[f"released early by {rule.kind}"] += int((released & (steps < N_sup)).any())
        seen["kept by exploration"] += int((wants & ~released).any())
        return released

    monkeypatch.setattr(supervision, "release", watched)
    recipes = [drawn(seed) for seed in SEEDS[:100]]
    for recipe in recipes:
        trained = session(recipe)
        trained.advance()
        trained.advance()
        policy = recipe.eval.policy
        if isinstance(policy, WhenHalted):
            test = solvable(recipe, trained)
            found = outcomes(recipe, trained.core, trained.evaluated, test, FINAL)
            early = found.halting_step < FINAL[-1]
            seen[f"halted by {policy.rule.kind}"] += int(early.any())
            seen["halted at different steps"] += int(early.any() and not early.all())
    own, learned = ("own", "oracle"), ("confidence", "q_learning", "residual")
    events = [*(f"halted by {kind}" for kind in own + learned),
              *(f"released early by {kind}" for kind in learned),
              "halted at different steps", "kept by exploration"]  # fmt: skip
    assert [event for event in events if not seen[event]] == []
