"""Every halting rule: when slots are released, and what the head learns."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.instances import HALTINGS, TASKS, name
from tests.contract.tiny import GEOMETRY, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Confidence,
    Fixed,
    Halting,
    Oracle,
    QLearning,
    Residual,
    Supervision,
)
from trm_lab.core.core import Core
from trm_lab.core.halting import (
    Shown,
    continue_value,
    halting_losses,
    relative_change,
    release,
    wants_to_halt,
)
from trm_lab.core.supervision import empty_carry, refill, supervise
from trm_lab.tasks.build import build
from trm_lab.training.stream import Stream

rules = st.sampled_from(HALTINGS)
logit = st.floats(-30, 30, width=32)
slots = st.lists(
    st.tuples(logit, logit, st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=8
)


def shown(
    halt: torch.Tensor, change: torch.Tensor | None = None, correct: torch.Tensor | None = None
) -> Shown:
    """What a step shows: an answer that turned by the given relative change, 1 unless given."""
    change = torch.ones(len(halt)) if change is None else change
    before = torch.ones(len(halt), 3, 2)
    correct = torch.zeros(len(halt), dtype=torch.bool) if correct is None else correct
    return Shown(halt, before, before * (1 + change)[:, None, None], correct)


def tensors(rows: list[tuple[float, float, int, int]]) -> tuple[Any, ...]:
    halt = torch.tensor([row[:2] for row in rows], dtype=torch.float32)
    steps, minimum = torch.tensor([row[2:] for row in rows], dtype=torch.int32).T
    return shown(halt, change=halt.abs().sum(-1) / 20), steps, minimum


@given(rule=rules, rows=slots, N_sup=st.integers(1, 9))
def test_a_slot_is_released_at_its_budget_and_never_before_its_minimum(
    rule: Halting, rows: list[tuple[float, float, int, int]], N_sup: int
) -> None:
    step, steps, minimum = tensors(rows)
    released = release(rule, step, steps, N_sup, minimum)
    wants = wants_to_halt(rule, step)
    assert released.shape == wants.shape == steps.shape
    for i in range(len(rows)):
        if steps[i] >= N_sup:
            assert released[i]
        elif steps[i] < minimum[i]:
            assert not released[i]
        else:
            assert released[i] == wants[i]


def test_what_each_rule_wants() -> None:
    halt = torch.tensor([[0.5, 0.9], [0.5, -1.0], [-0.5, -1.0], [0.0, 0.0], [1.0, 1.0]])
    step = shown(halt, change=torch.tensor([0.2, -0.01, 0.09, -0.3, 0.0]), correct=halt[:, 0] == 0)
    assert wants_to_halt(Fixed(), step).tolist() == [False] * 5
    assert wants_to_halt(Confidence(), step).tolist() == [True, True, False, False, True]
    high, low = Confidence(threshold=0.5), Confidence(threshold=-0.5)
    assert wants_to_halt(high, step).tolist() == [False, False, False, False, True]
    assert wants_to_halt(low, step).tolist() == [True, True, False, True, True]
    assert wants_to_halt(QLearning(), step).tolist() == [False, True, True, False, False]
    assert wants_to_halt(Residual(threshold=0.1), step).tolist() == [False, True, True, False, True]
    assert wants_to_halt(Oracle(), step).tolist() == [False, False, False, True, False]


def test_the_residual_is_the_relative_change_of_the_whole_answer() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 4, 3, 5))
    pairs = zip(before, after, strict=True)
    expected = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs]
    found = relative_change(torch.tensor(before), torch.tensor(after))
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    # In float32 where the latents are narrower: the square of 300 is beyond float16.
    half = torch.full((1, 2, 2), 300.0, dtype=torch.float16)
    assert relative_change(half, half + 100).item() == pytest.approx(1 / 3, rel=1e-3)
    # A start of zeros is no fixed point.
    nothing = torch.zeros(2, 2, 2)
    moved = torch.stack([nothing[0], nothing[0] + 1])
    nowhere = Shown(torch.zeros(2, 2), nothing, moved, torch.zeros(2, dtype=torch.bool))
    assert wants_to_halt(Residual(threshold=9.0), nowhere).tolist() == [False, False]


@given(rule=rules, rows=slots, correct=st.lists(st.booleans(), min_size=8, max_size=8))
def test_losses_are_per_slot_and_not_negative(
    rule: Halting, rows: list[tuple[float, float, int, int]], correct: list[bool]
) -> None:
    halt = tensors(rows)[0].halt
    right = torch.tensor(correct[: len(rows)])
    ahead = torch.linspace(0, 1, len(rows)) if isinstance(rule, QLearning) else None
    for part in halting_losses(rule, halt, right, ahead):
        assert part.shape == (len(rows),)
        assert (part >= 0).all()
        assert torch.isfinite(part).all()


def test_losses_are_binary_cross_entropies() -> None:
    halt = torch.tensor([[0.3, -0.7], [-2.0, 1.5]], dtype=torch.float64)
    correct, ahead = torch.tensor([True, False]), torch.tensor([0.2, 0.9], dtype=torch.float64)

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -target * math.log(p) - (1 - target) * math.log(1 - p)

    stop, go_on = halting_losses(QLearning(), halt, correct, ahead)
    assert stop.tolist() == pytest.approx([bce(0.3, 1), bce(-2.0, 0)], rel=1e-12)
    assert go_on.tolist() == pytest.approx([bce(-0.7, 0.2), bce(1.5, 0.9)], rel=1e-12)
    alone, nothing = halting_losses(Confidence(), halt, correct, None)
    assert torch.equal(alone, stop)
    assert nothing.tolist() == [0, 0]
    for silent in (Fixed(), Residual(threshold=1.0)):
        parts = halting_losses(silent, halt, correct, None)
        assert [part.tolist() for part in parts] == [[0, 0]] * 2


@pytest.mark.parametrize("rule", HALTINGS, ids=name)
@pytest.mark.parametrize("N_sup", [1, 3])
def test_only_q_learning_looks_ahead(rule: Halting, N_sup: int) -> None:
    calls = []

    def next_halt() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        return torch.tensor([[2.0, -1.0], [-3.0, 0.5]], requires_grad=True)

    value = continue_value(rule, next_halt, torch.tensor([False, True]), N_sup)
    if isinstance(rule, QLearning) and N_sup > 1:
        assert calls == [False]
        assert not value.requires_grad
        # Best of both going on; at the last step only halting is left.
        expected = [1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(3.0))]
        assert value.tolist() == pytest.approx(expected, rel=1e-6)
    else:
        assert value is None
        assert calls == []


@pytest.mark.parametrize("rule", HALTINGS, ids=name)
def test_a_slot_leaves_training_at_the_latest_after_n_sup_steps(rule: Halting) -> None:
    model = tiny_model()
    core, weights, batch = Core(model, GEOMETRY), tiny_weights(model), tiny_batch(5)
    supervision = Supervision(N_sup=3, halting=rule)
    # A minimum of N_sup keeps even a rule that wants to halt at once.
    minimum = torch.full((5,), 3, dtype=torch.int32)
    carry = empty_carry(core, weights, batch)
    for step in range(1, 7):
        carry = refill(core, weights, carry, batch)
        rows = weights.rows(carry.batch.identifiers)
        carry, _ = supervise(core, weights.params, supervision, carry, rows, minimum)
        expected = (step - 1) % 3 + 1
        assert carry.steps.tolist() == [expected] * 5
        assert carry.halted.tolist() == [expected == 3] * 5


def test_exploration_draws_a_minimum_of_two_to_n_sup_at_its_rate() -> None:
    stream = Stream(build(TASKS[0]), batch=200, seed=1, device=torch.device("cpu"))
    drawn = np.concatenate([stream.minimum(u, 0.25, 5).numpy() for u in range(1, 101)])
    counts = np.bincount(drawn, minlength=6)
    assert counts[1] == 0
    assert counts[6:].sum() == 0
    # 20,000 draws: five standard deviations are 0.015 of the rate and 0.008 of each value's.
    assert counts[0] / len(drawn) == pytest.approx(0.75, abs=0.015)
    assert counts[2:6] / len(drawn) == pytest.approx([0.0625] * 4, abs=0.009)
    assert not stream.minimum(3, 0.0, 5).any()
    assert not stream.minimum(3, 1.0, 1).any()
    assert (stream.minimum(3, 1.0, 2) == 2).all()
    assert torch.equal(stream.minimum(7, 0.25, 5), stream.minimum(7, 0.25, 5))
    assert not torch.equal(stream.minimum(7, 0.25, 5), stream.minimum(8, 0.25, 5))


def test_the_laws_of_exploration() -> None:
    stream = Stream(build(TASKS[0]), batch=200, seed=1, device=torch.device("cpu"))

    def drawn(law: str, N_sup: int = 5) -> np.ndarray:
        parts = [stream.minimum(u, 0.25, N_sup, law).numpy() for u in range(1, 101)]
        return np.concatenate(parts)

    uniform, full, geometric = (drawn(law) for law in ("uniform", "full", "geometric"))
    # Which slots explore is the same for all laws.
    assert np.array_equal(uniform > 0, full > 0)
    assert np.array_equal(uniform > 0, geometric > 0)
    assert set(full) == {0, 5}
    share = np.bincount(geometric[geometric > 0], minlength=6)[2:] / (geometric > 0).sum()
    # 5,000 draws: five standard deviations of 1/2 are 0.036.
    assert share == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 8], abs=0.036)
    assert set(drawn("geometric", 2)) == {0, 2}
    assert not drawn("full", 1).any()
