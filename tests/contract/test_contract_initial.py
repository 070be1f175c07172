"""Every initial state: what fresh puzzles start from, in training and in evaluation."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.contract.instances import INITIALS, LAYOUTS, name
from tests.contract.tiny import GEOMETRY, leaves, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Attention,
    FixedStart,
    Initial,
    Layout,
    LearnedStart,
    Model,
    RandomStart,
    Recipe,
    Supervision,
    TwoLatents,
    WholeProgram,
    ZeroStart,
    preset,
)
from trm_lab.config.test_time import Rollouts
from trm_lab.core.core import Core
from trm_lab.core.evaluation import evaluate
from trm_lab.core.noise import derive
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.rollouts import roll_out
from trm_lab.core.supervision import empty_carry, refill, supervise
from trm_lab.errors import ConfigError


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return derive(torch.full((count,), seed), torch.arange(count))


def model_with(initial: Initial, **changes: Any) -> Model:
    return tiny_model(initial=initial, gradient=WholeProgram(), **changes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("initial", INITIALS, ids=name)
def test_a_start_has_one_state_per_latent(
    initial: Initial, layout: Layout, dtype: torch.dtype
) -> None:
    model = model_with(initial, layout=layout)
    core, weights = Core(model, GEOMETRY, dtype), tiny_weights(model, dtype)
    z = core.start(weights, 7, keys(7))
    assert len(z) == len(layout.latents)
    assert all(latent.shape == (7, core.positions, 4) and latent.dtype == dtype for latent in z)
    size = torch.stack(z).double().std().item()
    if isinstance(initial, ZeroStart):
        assert size == 0
    elif isinstance(initial, RandomStart):
        # 140 draws and more.
        assert size == pytest.approx(initial.std, rel=0.25)
        assert len({tuple(row.flatten().tolist()) for latent in z for row in latent}) == 7 * len(z)
    else:
        assert all(torch.equal(latent[0, 0], latent[6, -1]) for latent in z)
        assert not any(torch.equal(a, b) for a, b in itertools.pairwise(z))


def test_a_learned_start_begins_where_the_fixed_one_stands() -> None:
    fixed, learned = (model_with(i) for i in (FixedStart(), LearnedStart()))
    ours, theirs = tiny_weights(fixed, torch.float64), tiny_weights(learned, torch.float64)
    assert theirs.initial == ()
    for vector, latent in zip(ours.initial, fixed.layout.latents, strict=True):
        assert torch.equal(vector, theirs.params[f"initial.{latent}"])


def test_the_gradient_of_a_learned_start_is_its_derivative_in_refilled_slots_alone() -> None:
    model = model_with(LearnedStart(), n=1, T=2)
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    batch, none = tiny_batch(4), torch.zeros(4, dtype=torch.int32)
    supervision = Supervision(N_sup=5)
    carry = empty_carry(core, weights, batch)
    assert not any(latent.requires_grad for latent in carry.z)
    carry = carry._replace(halted=torch.tensor([True, False, False, True]))
    rows = weights.rows(batch.identifiers)
    names = [f"initial.{latent}" for latent in model.layout.latents]

    def loss(*vectors: torch.Tensor) -> torch.Tensor:
        changed = {**weights.params, **dict(zip(names, vectors, strict=True))}
        filled = refill(core, weights.__class__(changed, (), weights.table), carry, batch)
        return supervise(core, changed, supervision, filled, rows, none)[1].loss

    at = tuple(weights.params[key].detach().clone().requires_grad_() for key in names)
    assert torch.autograd.gradcheck(loss, at)
    found = torch.autograd.grad(loss(*at), at)
    assert all(g.abs().max() > 0 for g in found)
    kept = carry._replace(halted=torch.zeros(4, dtype=torch.bool))
    filled = refill(core, weights, kept, batch)
    outcome = supervise(core, weights.params, supervision, filled, rows, none)[1]
    grads = torch.autograd.grad(outcome.loss, leaves(weights, None), allow_unused=True)
    reached = dict(zip(weights.params, grads, strict=True))
    assert not any(reached[key].any() for key in names)


def test_a_learned_start_needs_a_gradient_that_reaches_it() -> None:
    def made(**model: Any) -> Recipe:
        return preset("trm_att", model={"initial": "learned", **model})

    assert made(gradient={"kind": "last_cycles", "c": 3}).model.graph_updates == 21
    assert made(gradient={"kind": "phantom", "k": 3}).model.graph_updates == 21
    assert made(T=1).model.graph_updates == 7
    drawn = made(gradient={"kind": "random_truncation", "high": 21})
    assert drawn.model.graph_updates == pytest.approx(11)
    for gradient in ("last_cycles", "last_updates", {"kind": "random_truncation", "high": 20}):
        with pytest.raises(ConfigError, match="initial: learned needs a gradient"):
            made(gradient=gradient)


def test_a_random_start_is_drawn_for_refilled_slots_alone() -> None:
    model = model_with(RandomStart())
    core, weights = Core(model, GEOMETRY), tiny_weights(model)
    batch = tiny_batch(4)
    carry = empty_carry(core, weights, batch)
    first = refill(core, weights, carry, batch, keys(4, 1))
    mixed = first._replace(halted=torch.tensor([False, True, True, False]))
    second = refill(core, weights, mixed, batch, keys(4, 2))
    for old, new in zip(first.z, second.z, strict=True):
        same = (old == new).flatten(1).all(1)
        assert torch.equal(same, torch.tensor([True, False, False, True]))
    with pytest.raises(AssertionError, match="random keys"):
        refill(core, weights, mixed, batch)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_evaluation_draws_by_seed_and_puzzle_whatever_its_batch(batch: int) -> None:
    model = model_with(RandomStart(), mixer=Attention(heads=1), layout=TwoLatents())
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    puzzles = tiny_batch(5)
    inputs, labels = puzzles.inputs.numpy(), puzzles.labels.numpy()

    def halts(seed: int, size: int) -> np.ndarray:
        reasoner = Reasoner(core, weights, carried=True, seed=seed)
        return evaluate(reasoner, inputs, labels, steps=(1, 2), batch=size).halt_logit

    np.testing.assert_allclose(halts(0, batch), halts(0, 3), rtol=1e-5)
    assert (np.abs(halts(0, batch) - halts(1, batch)) > 1e-6).all()
    setting = Rollouts(rollouts=(2,), steps=(1, 2), seed=0)
    rolled = roll_out(Reasoner(core, weights, carried=True), inputs, labels, setting).halt_logit
    # Rollout 0 is what evaluation does; the other one starts elsewhere.
    np.testing.assert_allclose(rolled[:, 0], halts(0, batch), rtol=1e-5)
    assert (np.abs(rolled[:, 1] - rolled[:, 0]) > 1e-6).all()


def test_evaluation_starts_from_the_parameters_it_is_given() -> None:
    model = model_with(LearnedStart())
    core, weights = Core(model, GEOMETRY), tiny_weights(model)
    puzzles = tiny_batch(3)
    inputs, labels = puzzles.inputs.numpy(), puzzles.labels.numpy()
    ours, other = (
        evaluate(
            Reasoner(core, replace(weights, params=params), carried=True),
            inputs,
            labels,
            steps=(1,),
        ).halt_logit
        for params in (
            weights.params,
            {k: -v if k.startswith("initial.") else v for k, v in weights.params.items()},
        )
    )
    assert not np.allclose(ours, other)
