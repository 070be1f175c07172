"""Recipes that `twins` calls one computation train and evaluate alike, bit for bit."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from trm_lab.config import GeneratedSudoku, Recipe
from trm_lab.config.remarks import twins
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import TaskData
from trm_lab.training.evaluation import outcomes
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

TASK = GeneratedSudoku(size=4, clues=8, train=24, validation=4, test=8)
CPU = torch.device("cpu")
EAGER = {"kind": "confidence", "threshold": -100.0}
"""A rule that wants to halt at every step, so that exploration has something to hold."""
LATER = ({"until": 0.5, "N_sup": 3},)


@cache
def puzzles() -> TaskData:
    return build(TASK)


def recipe(policy: Any = None, **supervision: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "task": TASK.model_dump(),
            "model": {
                "layers": 1, "width": 8, "round_to": 4, "puzzle": None, "n": 1, "T": 1,
                "mixer": {"kind": "attention", "heads": 1},
            },
            "supervision": {"exploration": 0.5, **supervision},
            "train": {
                "updates": 8, "batch": 8, "dtype": "float32",
                "schedule": {"kind": "constant", "warmup": 1},
            },
            "eval": {"policy": policy or {"kind": "all_steps"}},
        }
    )  # fmt: skip


def trained(recipe: Recipe) -> list[np.ndarray]:
    """Give weights, slots and evaluation after eight updates."""
    data = puzzles()
    session = Session.fresh(recipe, Stream(data, 8, recipe.seed, CPU), CPU)
    found = []
    for _ in range(8):
        session.advance()
        found += [session.carry.steps, session.carry.halted]
    found += [*session.weights.params.values(), *session.carry.z]
    told = outcomes(recipe, session.core, session.evaluated, data.test, (1, 3))
    seen = (told.solved, told.halt_logit, told.halting_step)
    return [*(v.detach().numpy().copy() for v in found), *seen]


FIXED, RESIDUAL = {"halting": "fixed"}, {"halting": {"kind": "residual", "threshold": 1.0}}
EARLY = {"N_sup": 3, "halting": EAGER}
CASES = {
    "fixed, explored or not": (FIXED, {"exploration": 0.5}, {"exploration": 0.0}, True),
    "confidence, explored or not": (EARLY, {"exploration": 0.5}, {"exploration": 0.0}, False),
    "fixed, by any law": (FIXED, {}, {"exploration_law": "full"}, True),
    "three steps, by two laws": (EARLY, {}, {"exploration_law": "full"}, False),
    "two steps, by two laws": (EARLY | {"N_sup": 2}, {}, {"exploration_law": "full"}, True),
    "two steps, by another law": (EARLY | {"N_sup": 2}, {}, {"exploration_law": "geometric"}, True),
    "two steps, after three": (
        EARLY | {"N_sup": 2, "curriculum": LATER}, {}, {"exploration_law": "full"}, False
    ),
    "fixed, at any weight": (FIXED, {}, {"halt_weight": 3.0}, True),
    "residual, at any weight": (RESIDUAL, {}, {"halt_weight": 3.0}, True),
    "confidence, at two weights": (EARLY, {}, {"halt_weight": 3.0}, False),
    "one step, explored or not": (EARLY | {"N_sup": 1}, {}, {"exploration": 0.0}, True),
    "one step, after three": (
        EARLY | {"N_sup": 1, "curriculum": LATER}, {}, {"exploration": 0.0}, False
    ),
    "one step, two heads": ({"N_sup": 1}, {"halting": EAGER}, {"halting": "q_learning"}, True),
    "two steps, two heads": ({"N_sup": 2}, {"halting": EAGER}, {"halting": "q_learning"}, False),
    "one step, no head": ({"N_sup": 1}, FIXED, RESIDUAL, True),
    "one step, head or none": ({"N_sup": 1}, FIXED, {"halting": EAGER}, False),
}  # fmt: skip


@pytest.mark.parametrize(("shared", "one", "other", "same"), CASES.values(), ids=CASES)
def test_twins_are_the_same_bits_and_others_are_not(
    shared: dict[str, Any], one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    pair = [recipe(**shared | own) for own in (one, other)]
    assert pair[0].id != pair[1].id
    assert twins(pair) == ([[0, 1]] if same else [])
    bits = [np.array_equal(a, b) for a, b in zip(*map(trained, pair), strict=True)]
    assert all(bits) == same


def test_rules_of_one_step_differ_where_evaluation_halts_by_them() -> None:
    policy = {"kind": "when_halted"}
    pair = [
        recipe(policy, N_sup=1, halting={"kind": "confidence", "threshold": at})
        for at in (-100.0, 100.0)
    ]
    assert twins(pair) == []
    one, other = map(trained, pair)
    assert one[-1].tolist() == [1] * 8
    assert other[-1].tolist() == [3] * 8
