"""Three hundred recipes drawn across all axes train, evaluate and cost what accounting says."""

import random
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.contract.instances import INSTANCES
from trm_lab.accounting import step_flops
from trm_lab.config import GeneratedSudoku, Implicit, Recipe
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import TaskData
from trm_lab.training.evaluation import outcomes
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

SEEDS = range(300)
CPU = torch.device("cpu")
TASK = GeneratedSudoku(size=4, clues=8, train=24, validation=4, test=6)
SPACE: dict[str, tuple[Any, ...]] = {
    "model.layers": (1, 2),
    "model.width": (8, 16),
    "model.expansion": (1.0, 2.5),
    "model.round_to": (2, 8),
    "model.puzzle": (None, {"slots": 1, "dim": 8}, {"slots": 2, "dim": 5}),
    "model.n": (1, 2, 3),
    "model.T": (1, 2, 3),
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
HELD = {"task", "seed", "model.norm_eps", "train.updates", "train.table_optimizer",
        "eval.every", "eval.final_steps"}  # fmt: skip
"""Settings that are no axes."""
BASE: dict[str, Any] = {
    "task": TASK.model_dump(),
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
    "eval": {"every": 8, "steps": (1,), "final_steps": (1, 2)},
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
def puzzles() -> TaskData:
    return build(TASK)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_recipe_trains_evaluates_and_costs_what_accounting_says(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = drawn(seed)
    stream = Stream(puzzles(), recipe.train.batch, recipe.seed, CPU)
    session = Session.fresh(recipe, stream, CPU)
    drawn_now = recipe.model.model_copy(
        update={"gradient": stream.gradient(2, recipe.model.gradient)}
    )
    counted = recipe.model_copy(update={"model": drawn_now})  # else a drawn gradient has its mean
    monkeypatch.setattr(
        "trm_lab.training.session.step_flops", lambda _, counts: step_flops(counted, counts)
    )
    session.advance()
    before = session.counters.flops
    monkeypatch.setattr(session.optimizer, "step", lambda: None)  # Muon multiplies matrices too
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        session.advance()
    stated, found = session.counters.flops - before, counter.get_total_flops()
    solver = recipe.model.gradient
    if isinstance(solver, Implicit) and solver.tolerance:  # may stop before its last iteration
        assert 0 < found <= 1.01 * stated
    else:
        assert found == pytest.approx(stated, rel=0.01)
    assert np.isfinite(session.record()["loss"])
    told = outcomes(
        recipe, session.core, session.evaluated, puzzles().test, recipe.eval.final_steps
    )
    assert told.solved.shape == (6, 2)
    assert ((told.cell_accuracy >= 0) & (told.cell_accuracy <= 1)).all()
    assert np.isfinite(told.halt_logit).all()
    at_once = recipe.eval.policy.kind == "all_steps"
    assert (told.halting_step == 2).all() if at_once else (told.halting_step <= 2).all()
    if not recipe.supervision.carried:
        assert np.array_equal(told.halt_logit[:, 0], told.halt_logit[:, 1])


def test_the_draws_reach_every_value_of_every_axis() -> None:
    recipes = [drawn(seed).model_dump() for seed in SEEDS]
    for path, values in axes().items():
        found = recipes
        for part in path.split("."):
            found = [inside[part] for inside in found]
        missing = [value for value in values if value not in found]
        assert missing == [], path
