"""The carry: which slots are refilled, what they keep, and what a step reports."""

import pytest
import torch

from tests.contract.tiny import GEOMETRY, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Attention,
    Confidence,
    Fixed,
    LastCycles,
    ManyLatents,
    QLearning,
    Supervision,
    TokenMLP,
)
from trm_lab.core.core import Core, Weights
from trm_lab.core.halting import halting_losses
from trm_lab.core.losses import puzzle_losses, score
from trm_lab.core.supervision import Batch, Carry, Outcome, empty_carry, refill, supervise

B = 5
MODEL = tiny_model(gradient=LastCycles())


@pytest.fixture
def weights() -> Weights:
    return tiny_weights(MODEL)


@pytest.fixture
def core() -> Core:
    return Core(MODEL, GEOMETRY)


def none() -> torch.Tensor:
    return torch.zeros(B, dtype=torch.int32)


def busy(core: Core, weights: Weights, halted: list[bool], seed: int = 5) -> Carry:
    """A carry in the middle of its work, with some slots done."""
    generator = torch.Generator().manual_seed(seed)
    shape = (B, core.positions, core.model.width)
    return Carry(
        tuple(torch.randn(shape, generator=generator) for _ in weights.initial),
        torch.arange(1, B + 1, dtype=torch.int32),
        torch.tensor(halted),
        tiny_batch(B, seed=seed),
    )


def test_an_empty_carry_asks_for_everything(core: Core, weights: Weights) -> None:
    carry = empty_carry(core, weights, tiny_batch(B))
    assert carry.halted.all()
    filled = refill(core, weights, carry, tiny_batch(B, seed=1))
    assert not filled.halted.any()
    assert not filled.steps.any()
    for ours, theirs in zip(filled.batch, tiny_batch(B, seed=1), strict=True):
        assert torch.equal(ours, theirs)


def test_halted_slots_are_refilled_and_the_others_keep_their_work(
    core: Core, weights: Weights
) -> None:
    halted = [True, False, False, True, False]
    before, new = busy(core, weights, halted), tiny_batch(B, seed=9)
    after = refill(core, weights, before, new)
    for slot, done in enumerate(halted):
        source = new if done else before.batch
        for ours, theirs in zip(after.batch, source, strict=True):
            assert torch.equal(ours[slot], theirs[slot])
        assert after.steps[slot] == (0 if done else before.steps[slot])
        for z, old, vector in zip(after.z, before.z, weights.initial, strict=True):
            expected = vector.expand_as(old[slot]) if done else old[slot]
            assert torch.equal(z[slot], expected)
    assert not after.halted.any()


def test_the_new_row_of_a_busy_slot_is_thrown_away(core: Core, weights: Weights) -> None:
    """Whatever stands in it, and although it was drawn, it is never seen."""
    before = busy(core, weights, [True, False, False, True, False])
    one, other = tiny_batch(B, seed=9), tiny_batch(B, seed=9)
    for slot in (1, 2, 4):
        other.inputs[slot] = 0
        other.labels[slot] = 1
        other.identifiers[slot] = 0
    a, b = (refill(core, weights, before, new) for new in (one, other))
    for ours, theirs in zip((*a.z, a.steps, *a.batch), (*b.z, b.steps, *b.batch), strict=True):
        assert torch.equal(ours, theirs)
    then = refill(core, weights, a._replace(halted=torch.ones(B, dtype=torch.bool)), tiny_batch(B))
    assert torch.equal(then.batch.inputs, tiny_batch(B).inputs)


def test_initial_vectors_are_broadcast_in_the_order_of_the_latents() -> None:
    model = tiny_model(layout=ManyLatents(k=3))
    weights, core = tiny_weights(model), Core(model, GEOMETRY, torch.bfloat16)
    z = core.start(weights, 2)
    assert len(z) == 4
    for latent, vector in zip(z, weights.initial, strict=True):
        assert latent.shape == (2, 5, 4)
        assert latent.dtype == torch.bfloat16
        assert torch.equal(latent, vector.bfloat16().expand(2, 5, 4))


def run(
    core: Core, weights: Weights, supervision: Supervision, carry: Carry
) -> tuple[Carry, Outcome]:
    rows = weights.rows(carry.batch.identifiers)
    return supervise(core, weights.params, supervision, carry, rows, none())


@pytest.mark.parametrize("rule", [Fixed(), Confidence(), QLearning()], ids=lambda r: r.kind)
def test_a_step_reports_sums_over_all_slots_and_scores_of_those_that_halted(
    core: Core, weights: Weights, rule: Fixed | Confidence | QLearning
) -> None:
    supervision = Supervision(N_sup=4, halting=rule, halt_weight=0.7)
    carry = busy(core, weights, [False] * B)._replace(
        steps=torch.tensor([0, 1, 2, 3, 0], dtype=torch.int32)
    )
    carry.batch.labels[3] = -100
    after, out = run(core, weights, supervision, carry)
    inputs, labels, identifiers = carry.batch
    rows = weights.rows(identifiers)
    step = core.step(weights.params, carry.z, inputs, rows)
    assert torch.equal(out.logits, step.logits)
    assert torch.equal(out.halt, step.halt)
    assert all(torch.equal(a, b) for a, b in zip(after.z, step.z, strict=True))
    assert not any(z.requires_grad for z in after.z)
    assert after.steps.tolist() == [1, 2, 3, 4, 1]

    ahead = core.step(weights.params, step.z, inputs, rows).halt.detach()
    best = torch.where(after.steps >= 4, ahead[:, 0], ahead.max(-1).values).sigmoid()
    target = best if isinstance(rule, QLearning) else None
    correct, share = score(step.logits, labels)
    stop, go_on = halting_losses(rule, step.halt, correct, target)
    lm = puzzle_losses(supervision.loss, step.logits, labels)
    torch.testing.assert_close(out.lm_loss, lm.sum())
    torch.testing.assert_close(out.halt_loss, stop.sum())
    torch.testing.assert_close(out.continue_loss, go_on.sum())
    torch.testing.assert_close(out.loss, (lm + 0.7 * (stop + go_on)).sum())
    if isinstance(rule, QLearning):
        torch.testing.assert_close(out.look_ahead, best)
        assert out.continue_loss > 0
    else:
        assert out.look_ahead is None
        assert out.continue_loss == 0

    wants = {
        "fixed": torch.zeros(B, dtype=torch.bool),
        "confidence": step.halt[:, 0] > 0,
        "q_learning": step.halt[:, 0] > step.halt[:, 1],
    }[rule.kind]
    halted = (after.steps >= 4) | wants
    assert torch.equal(after.halted, halted)
    # Slot 3 is out of budget, but without a label there is nothing to score.
    scored = halted & torch.tensor([True, True, True, False, True])
    assert out.scored == scored.sum()
    assert out.solved == (scored & correct).sum()
    torch.testing.assert_close(out.cell_accuracy, share[scored].sum())
    assert out.steps == after.steps[scored].sum()
    assert out.halt_accuracy == (scored & ((step.halt[:, 0] >= 0) == correct)).sum()


def test_a_solved_puzzle_is_seen_as_solved(core: Core, weights: Weights) -> None:
    carry = busy(core, weights, [False] * B)
    rows = weights.rows(carry.batch.identifiers)
    answer = core.step(weights.params, carry.z, carry.batch.inputs, rows).logits.argmax(-1)
    labels = answer.clone()
    labels[0, 2] = (labels[0, 2] + 1) % 6
    carry = carry._replace(batch=carry.batch._replace(labels=labels))
    _, out = run(core, weights, Supervision(N_sup=1, halting=Fixed()), carry)
    assert out.scored == B
    assert out.solved == B - 1
    assert out.cell_accuracy.item() == pytest.approx(B - 0.25)


@pytest.mark.parametrize("mixer", [Attention(heads=1), TokenMLP()], ids=lambda m: m.kind)
def test_permuting_puzzles_permutes_outcomes(mixer: Attention | TokenMLP) -> None:
    model = tiny_model(mixer=mixer)
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    order = torch.tensor([4, 2, 0, 3, 1])
    batch = tiny_batch(B)
    moved = Batch(*(part[order] for part in batch))
    supervision = Supervision(N_sup=3, halting=QLearning())
    carries = [empty_carry(core, weights, b) for b in (batch, moved)]
    for _ in range(3):
        outs = []
        for i, b in enumerate((batch, moved)):
            carry = refill(core, weights, carries[i], b)
            carries[i], out = run(core, weights, supervision, carry)
            outs.append(out)
        a, b = outs
        # float64, as another place in a product may round otherwise.
        torch.testing.assert_close(b.logits, a.logits[order], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(b.halt, a.halt[order], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-10, atol=0)
        assert torch.equal(carries[1].halted, carries[0].halted[order])
        assert torch.equal(carries[1].steps, carries[0].steps[order])
        assert (a.scored, a.solved, a.steps) == (b.scored, b.solved, b.steps)


def test_no_gradient_reaches_the_step_before(core: Core, weights: Weights) -> None:
    batch = tiny_batch(B)
    carry = refill(core, weights, empty_carry(core, weights, batch), batch)
    first, _ = run(core, weights, Supervision(N_sup=4, halting=Fixed()), carry)
    second, out = run(core, weights, Supervision(N_sup=4, halting=Fixed()), first)
    alone = tuple(z.clone() for z in first.z)
    _, again = run(core, weights, Supervision(N_sup=4, halting=Fixed()), first._replace(z=alone))
    params = [*weights.params.values()]
    a, b = (torch.autograd.grad(o.loss, params, allow_unused=True) for o in (out, again))
    for p, q in zip(a, b, strict=True):
        assert (p is None and q is None) or torch.equal(p, q)
    assert second.steps.tolist() == [2] * B


def test_the_look_ahead_adds_nothing_to_the_gradient_of_the_nets(
    core: Core, weights: Weights
) -> None:
    """Its target is a constant: with a zero weight only the answer's loss is left."""
    batch = tiny_batch(B)
    carry = refill(core, weights, empty_carry(core, weights, batch), batch)
    params = [*weights.params.values()]
    found = []
    for rule in (QLearning(), Confidence()):
        _, out = run(core, weights, Supervision(N_sup=4, halting=rule, halt_weight=0.0), carry)
        found.append(torch.autograd.grad(out.loss, params))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
