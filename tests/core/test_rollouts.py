"""Rollouts: plain first, then perturbed, each a function of its own key."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.contract.tiny import GEOMETRY, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import Attention, TokenMLP
from trm_lab.config.test_time import Rollouts
from trm_lab.core.core import Core, Weights
from trm_lab.core.evaluation import evaluate
from trm_lab.core.noise import derive, normal
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.rollouts import roll_out
from trm_lab.selectors import Trials

P = 7
NOISY = Rollouts(steps=(1, 2, 4), rollouts=(1, 3), noise=0.7)


def setting(dtype: torch.dtype = torch.float64) -> tuple[Core, Weights, np.ndarray, np.ndarray]:
    model = tiny_model(mixer=Attention(heads=1), n=1, T=1)
    core, weights = Core(model, GEOMETRY, dtype), tiny_weights(model, dtype)
    inputs = tiny_batch(P).inputs.numpy()
    rng = np.random.default_rng(1)
    return core, weights, inputs, rng.integers(0, 6, inputs.shape)


def run(grid: Rollouts, batch: int = 64, order: np.ndarray | None = None) -> Trials:
    core, weights, inputs, labels = setting()
    order = np.arange(P) if order is None else order
    reasoner = Reasoner(core, weights, carried=True)
    return roll_out(reasoner, inputs[order], labels[order], grid, batch=batch)


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("grid", [NOISY, Rollouts(steps=(1, 2, 4), rollouts=(3,), restarts=True)])
def test_rollout_0_is_the_plain_evaluation(grid: Rollouts, carried: bool) -> None:
    core, weights, inputs, labels = setting()
    what = (Reasoner(core, weights, carried), inputs, labels)
    plain = evaluate(*what, steps=grid.steps)
    found = roll_out(*what, grid)
    assert np.array_equal(found.solved[:, 0], plain.solved)
    np.testing.assert_allclose(found.halt_logit[:, 0], plain.halt_logit, rtol=1e-6)
    np.testing.assert_allclose(found.cell_accuracy[:, 0], plain.cell_accuracy, rtol=1e-6)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("carried", [True, False])
def test_a_noisy_rollout_is_a_hand_loop(relative: bool, carried: bool) -> None:
    core, weights, inputs, labels = setting()
    grid = Rollouts(
        steps=(1, 3), rollouts=(2,), noise=0.3, relative=relative, restarts=True, seed=5
    )
    reasoner = Reasoner(core, weights, carried, seed=5)
    found = roll_out(reasoner, inputs, labels, grid)
    S, D = core.positions, core.model.width
    for p in range(P):
        key = reasoner.keys(inputs[p : p + 1], 2)[1:]
        z = [normal(derive(derive(key, 0), i), S * D).view(1, S, D).double() for i in range(2)]
        start = z
        for step in (1, 2, 3):
            z = z if carried else start
            before = z[1]
            noise = [normal(derive(derive(key, step), i), S * D).view(1, S, D) for i in range(2)]
            size = [a.square().mean().sqrt() if relative else 1.0 for a in z]
            z = [a + 0.3 * s * e for a, s, e in zip(z, size, noise, strict=True)]
            z, logits, halt = core.step(
                weights.params, tuple(z), torch.tensor(inputs[p : p + 1]), weights.table[:1]
            )
            if step in (1, 3):
                at = (p, 1, (1, 3).index(step))
                change = (z[1] - before).norm() / before.norm()
                assert found.halt_logit[at] == pytest.approx(halt[0, 0].item(), rel=1e-5)
                assert found.residual[at] == pytest.approx(change.item(), rel=1e-5)
                right = logits.argmax(-1)[0].numpy() == labels[p]
                assert found.cell_accuracy[at] == pytest.approx(right.mean())


@pytest.mark.parametrize("batch", [1, 6, 64])
def test_draws_depend_neither_on_the_batch_nor_on_the_order(batch: int) -> None:
    whole = run(NOISY)
    order = np.array([5, 2, 0, 6])
    parts = run(NOISY, batch, order)
    np.testing.assert_allclose(parts.halt_logit, whole.halt_logit[order], rtol=1e-5)
    np.testing.assert_allclose(parts.residual, whole.residual[order], rtol=1e-5)
    assert np.array_equal(parts.same, whole.same[order])


def test_more_rollouts_and_more_steps_leave_the_first_as_they_are() -> None:
    few, many = run(NOISY), run(Rollouts(steps=(1, 2, 3, 4, 9), rollouts=(6,), noise=0.7))
    np.testing.assert_allclose(many.halt_logit[:, :3, [0, 1, 3]], few.halt_logit, rtol=1e-5)


def test_rollouts_differ_from_each_other_and_between_seeds() -> None:
    found = run(NOISY)
    assert len(np.unique(found.halt_logit[0, :, 0])) == 3
    other = run(NOISY.model_copy(update={"seed": 1}))
    assert np.array_equal(other.halt_logit[:, 0], found.halt_logit[:, 0])
    assert not np.isclose(other.halt_logit[:, 1:], found.halt_logit[:, 1:]).any()


def test_same_names_the_lowest_rollout_with_that_answer() -> None:
    core, weights, inputs, labels = setting()
    weights.params["head.logits"].data[:] = 0  # every answer alike
    found = roll_out(Reasoner(core, weights, carried=True), inputs, labels, NOISY)
    assert (found.same == 0).all()
    mixed = run(Rollouts(steps=(2,), rollouts=(8,), noise=2.0)).same[..., 0]
    assert (mixed <= np.arange(8)).all()
    assert (np.take_along_axis(mixed, mixed.astype(int), 1) == mixed).all()
    assert len(np.unique(mixed)) > 3


def test_depth_and_width_of_a_step_can_be_changed() -> None:
    core, weights, inputs, labels = setting()
    reasoner = Reasoner(core, weights, carried=True)
    deep = roll_out(reasoner, inputs, labels, Rollouts(steps=(2,), n=3, T=2))
    plain = evaluate(replace(reasoner, n=3, T=2), inputs, labels, steps=(2,))
    np.testing.assert_allclose(deep.halt_logit[:, 0], plain.halt_logit, rtol=1e-6)
    shallow = roll_out(reasoner, inputs, labels, Rollouts(steps=(2,)))
    assert not np.isclose(shallow.halt_logit, deep.halt_logit).any()


def test_half_precision_rolls_out_too() -> None:
    model = tiny_model(mixer=TokenMLP())
    core, weights = Core(model, GEOMETRY, torch.bfloat16), tiny_weights(model, torch.bfloat16)
    inputs = tiny_batch(P).inputs.numpy()
    found = roll_out(Reasoner(core, weights, carried=True), inputs, inputs, NOISY)
    assert np.isfinite(found.halt_logit).all()
    assert np.isfinite(found.residual).all()
