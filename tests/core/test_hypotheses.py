"""Winner-take-all: K states per slot, the loss of the best, each with a start of its own."""

from dataclasses import replace

import pytest
import torch

from tests.contract.tiny import GEOMETRY, leaves, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Confidence,
    Fixed,
    Geometric,
    Halting,
    LastOnly,
    QLearning,
    Stablemax,
    StepWeights,
    Supervision,
    preset,
)
from trm_lab.core.core import Core, Weights
from trm_lab.core.diagnostics import compare_gradients
from trm_lab.core.hypotheses import repeated, starts, winners
from trm_lab.core.initial import initial_weights
from trm_lab.core.losses import puzzle_losses
from trm_lab.core.supervision import Carry, empty_carry, refill, supervise
from trm_lab.errors import ConfigError

B, K = 6, 3
CPU = torch.device("cpu")


def setting() -> tuple[Core, Weights]:
    model = tiny_model(n=1, T=2)
    weights = tiny_weights(model, torch.float64)
    others = initial_weights(model, GEOMETRY, 0, torch.float64, CPU, K).others
    return Core(model, GEOMETRY, torch.float64), replace(weights, others=others)


def rule(halting: Halting, hypotheses: int = K) -> Supervision:
    return Supervision(
        N_sup=4, halting=halting, loss=Stablemax(dtype="float64"), hypotheses=hypotheses
    )


def alone(carry: Carry, k: int) -> Carry:
    """The carry of hypothesis k by itself."""
    return carry._replace(z=tuple(latent[k::K] for latent in carry.z))


def test_each_hypothesis_has_a_start_of_its_own_and_the_first_is_the_models() -> None:
    model = tiny_model()
    one, three, five = (
        initial_weights(model, GEOMETRY, 7, torch.float64, CPU, k) for k in (1, 3, 5)
    )
    assert one.others == ()
    assert (one.hypotheses, three.hypotheses, five.hypotheses) == (1, 3, 5)
    for latent in range(2):
        assert torch.equal(three.initial[latent], one.initial[latent])
        assert torch.equal(five.others[latent][:2], three.others[latent])
    every = torch.cat([torch.stack(five.initial), *five.others])
    assert len(every.unique(dim=0)) == 10
    core = Core(model, GEOMETRY, torch.float64)
    z, y = starts(core, three, B, 3)
    plain = core.start(three, B)
    assert z.shape == (B * 3, core.positions, 4)
    assert torch.equal(z[::3], plain[0])
    for b in range(B):
        for k in (1, 2):
            assert (y[b * 3 + k] == three.others[1][k - 1]).all()


def test_a_random_start_is_another_for_every_hypothesis() -> None:
    model = tiny_model(initial={"kind": "random"})
    core = Core(model, GEOMETRY, torch.float64)
    weights = initial_weights(model, GEOMETRY, 0, torch.float64, CPU, K)
    keys = torch.arange(B)
    z, _ = starts(core, weights, B, K, keys)
    assert torch.equal(z[::K], core.start(weights, B, keys)[0])
    assert len(z.flatten(1).unique(dim=0)) == B * K


@pytest.mark.parametrize("halting", [Confidence(), QLearning()], ids=lambda h: h.kind)
def test_a_step_is_that_of_the_best_hypothesis_of_each_slot(halting: Halting) -> None:
    core, weights = setting()
    batch = tiny_batch(B)
    carry = refill(core, weights, empty_carry(core, weights, batch, K), batch)
    rows = weights.rows(batch.identifiers).requires_grad_()
    none = torch.zeros(B, dtype=torch.int32)
    after, outcome = supervise(core, weights.params, rule(halting), carry, rows, none)
    grads = torch.autograd.grad(outcome.loss, leaves(weights, rows), allow_unused=True)

    single = [
        supervise(core, weights.params, rule(halting, 1), alone(carry, k), rows, none)
        for k in range(K)
    ]
    losses = torch.stack(
        [puzzle_losses(Stablemax(), one.logits, batch.labels) for _, one in single]
    )
    best = losses.argmin(0)
    assert len(set(best.tolist())) > 1, "one hypothesis wins everywhere: the test says little"
    torch.testing.assert_close(outcome.lm_loss, losses.min(0).values.sum())
    for k in range(K):
        for latent, own in zip(after.z, single[k][0].z, strict=True):
            torch.testing.assert_close(latent[k::K], own)
        chosen = best == k
        torch.testing.assert_close(outcome.logits[chosen], single[k][1].logits[chosen])
        torch.testing.assert_close(outcome.halt[chosen], single[k][1].halt[chosen])
        assert torch.equal(after.halted[chosen], single[k][0].halted[chosen])

    # The gradient is that of the winners' losses alone, each computed by itself.
    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        k = int(best[b])
        slot = Carry(
            tuple(latent[b * K + k : b * K + k + 1] for latent in carry.z),
            carry.steps[b : b + 1],
            carry.halted[b : b + 1],
            type(batch)(*(part[b : b + 1] for part in batch)),
        )
        _, one = supervise(
            core, weights.params, rule(halting, 1), slot, rows[b : b + 1], none[b : b + 1]
        )
        total = total + one.loss
    alone_grads = torch.autograd.grad(total, leaves(weights, rows), allow_unused=True)
    for got, want in zip(grads, alone_grads, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_a_refilled_slot_starts_all_its_hypotheses_anew() -> None:
    core, weights = setting()
    old, new = tiny_batch(B), tiny_batch(B, seed=1)
    carry = empty_carry(core, weights, old, K)
    halted = torch.tensor([True, False, True, False, False, True])
    busy = tuple(torch.full_like(latent, 9.0) for latent in carry.z)
    found = refill(core, weights, carry._replace(z=busy, halted=halted), new)
    fresh = starts(core, weights, B, K)
    for latent, start in zip(found.z, fresh, strict=True):
        assert torch.equal(latent[repeated(halted, K)], start[repeated(halted, K)])
        assert (latent[repeated(~halted, K)] == 9).all()
    assert torch.equal(found.batch.inputs[halted], new.inputs[halted])
    assert torch.equal(found.batch.inputs[~halted], old.inputs[~halted])


def test_diagnostics_compare_the_gradients_of_the_first() -> None:
    core, weights = setting()
    batch = tiny_batch(B)
    carry = refill(core, weights, empty_carry(core, weights, batch), batch)
    rows = weights.rows(batch.identifiers)
    one, three = (
        compare_gradients(core, weights.params, rule(Confidence(), k), carry, rows) for k in (1, 3)
    )
    assert torch.equal(torch.stack(one), torch.stack(three))


@pytest.mark.parametrize("weights", [Geometric(), LastOnly()], ids=lambda w: w.kind)
def test_diagnostics_compare_the_gradients_of_a_step_whatever_it_weighs(
    weights: StepWeights,
) -> None:
    core, drawn = setting()
    batch = tiny_batch(B)
    carry = refill(core, drawn, empty_carry(core, drawn, batch), batch)
    carry = carry._replace(steps=torch.ones(B, dtype=torch.int32))
    rows, plain = drawn.rows(batch.identifiers), rule(Fixed(), 1)
    weighted = plain.model_copy(update={"step_weights": weights})
    found, expected = (
        torch.stack(compare_gradients(core, drawn.params, s, carry, rows))
        for s in (weighted, plain)
    )
    assert expected.isfinite().all()
    assert torch.equal(found, expected)


def test_the_winner_is_the_lowest_loss_and_the_first_of_equals() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 5.0, 5.0, 5.0])
    assert winners(losses, 3).tolist() == [1, 3]
    assert winners(losses, 2).tolist() == [1, 2, 4]


@pytest.mark.parametrize("start", ["zero", "learned"])
def test_hypotheses_that_would_start_alike_are_refused(start: str) -> None:
    model = {"initial": start, "gradient": "whole_program"}
    with pytest.raises(ConfigError, match=f"hypotheses: 4 needs starts that differ.*{start}"):
        preset("trm_mlp", supervision={"hypotheses": 4}, model=model)
