"""Evaluation: all steps for every puzzle, scored where asked."""

import numpy as np
import pytest
import torch

from tests.contract.tiny import GEOMETRY, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import Attention, Implicit, Mixer, TokenMLP
from trm_lab.core.core import Core, Weights
from trm_lab.core.evaluation import Outcomes, evaluate
from trm_lab.core.losses import score, solution
from trm_lab.core.reasoner import Reasoner

P = 9
MIXERS = [Attention(heads=1), TokenMLP()]


def setting(mixer: Mixer) -> tuple[Core, Weights, np.ndarray, np.ndarray]:
    """A tiny core, and puzzles whose labels it gets right at different steps."""
    model = tiny_model(mixer=mixer, n=1, T=1)
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    inputs = tiny_batch(P).inputs
    z, labels = core.start(weights, P), torch.zeros(P, GEOMETRY.cells, dtype=torch.int64)
    rows = weights.rows(torch.zeros(P, dtype=torch.int64))
    for step in range(1, 5):
        z, logits, _ = core.step(weights.params, z, inputs, rows)
        chosen = torch.arange(P) % 4 == step - 1
        labels[chosen] = logits.argmax(-1)[chosen]
    labels[8, 0] = (labels[8, 0] + 1) % 6
    return core, weights, inputs.numpy().astype(np.uint8), labels.numpy().astype(np.uint8)


def outcomes(mixer: Mixer, batch: int = 64, steps: tuple[int, ...] = (1, 2, 4)) -> Outcomes:
    core, weights, inputs, labels = setting(mixer)
    reasoner = Reasoner(core, weights, carried=True)
    return evaluate(reasoner, inputs, labels, steps=steps, batch=batch)


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda m: m.kind)
def test_evaluation_is_a_hand_loop_over_puzzles_and_steps(mixer: Mixer) -> None:
    core, weights, inputs, labels = setting(mixer)
    found = outcomes(mixer)
    assert found.steps.tolist() == [1, 2, 4]
    seen = set()
    for i in range(P):
        z = tuple(v.double().expand(1, core.positions, 4) for v in weights.initial)
        for step in range(1, 5):
            z, logits, halt = core.step(
                weights.params, z, torch.tensor(inputs[i : i + 1].astype(np.int32)),
                weights.table[:1],
            )  # fmt: skip
            right = logits[0].argmax(-1).numpy() == labels[i]
            if step in (1, 2, 4):
                k = [1, 2, 4].index(step)
                assert found.solved[i, k] == right.all()
                assert found.cell_accuracy[i, k] == pytest.approx(right.mean())
                assert found.halt_logit[i, k] == pytest.approx(halt[0, 0].item(), rel=1e-6)
                seen.add((k, bool(right.all())))
    # Solved and unsolved puzzles at every step, or the comparison says little.
    assert seen == {(k, solved) for k in range(3) for solved in (True, False)}


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda m: m.kind)
@pytest.mark.parametrize("batch", [1, 2, 4, 9])
def test_the_batch_size_does_not_change_predictions(mixer: Mixer, batch: int) -> None:
    whole, parts = outcomes(mixer), outcomes(mixer, batch)
    assert np.array_equal(parts.solved, whole.solved)
    assert np.array_equal(parts.cell_accuracy, whole.cell_accuracy)
    np.testing.assert_allclose(parts.halt_logit, whole.halt_logit, rtol=1e-6)


def test_the_steps_asked_for_do_not_change_what_a_step_gives() -> None:
    some, every = outcomes(MIXERS[0], steps=(2, 3)), outcomes(MIXERS[0], steps=(1, 2, 3, 4))
    assert np.array_equal(some.solved, every.solved[:, 1:3])
    assert np.array_equal(some.halt_logit, every.halt_logit[:, 1:3])
    assert not np.array_equal(every.halt_logit[:, 0], every.halt_logit[:, 3])


def test_permuting_puzzles_permutes_outcomes() -> None:
    core, weights, inputs, labels = setting(MIXERS[0])
    order = np.random.default_rng(0).permutation(P)
    reasoner = Reasoner(core, weights, carried=True)
    kept = evaluate(reasoner, inputs, labels, steps=(1, 4))
    moved = evaluate(reasoner, inputs[order], labels[order], steps=(1, 4))
    assert np.array_equal(moved.solved, kept.solved[order])
    assert np.array_equal(moved.cell_accuracy, kept.cell_accuracy[order])
    np.testing.assert_allclose(moved.halt_logit, kept.halt_logit[order], rtol=1e-6)


def test_no_slot_leaves_early_even_if_the_head_says_so() -> None:
    core, weights, inputs, labels = setting(MIXERS[0])
    plain = evaluate(Reasoner(core, weights, carried=True), inputs, labels, steps=(4,))
    weights.params["head.halt.bias"].data[:] = 100.0
    found = evaluate(Reasoner(core, weights, carried=True), inputs, labels, steps=(4,))
    assert (found.halt_logit > 50).all()
    assert np.array_equal(found.solved, plain.solved)


def test_means_are_over_puzzles() -> None:
    found = outcomes(MIXERS[0])
    assert found.puzzle_accuracy.tolist() == [np.mean(found.solved[:, k]) for k in range(3)]
    expected = [np.mean(found.cell_accuracy[:, k].astype(float)) for k in range(3)]
    assert found.mean_cell_accuracy.tolist() == pytest.approx(expected, rel=1e-12)


def test_any_of_several_solutions_is_right() -> None:
    """Three puzzles of two cells: the second solution, neither, the first repeated."""
    logits = torch.eye(4)[torch.tensor([[1, 2], [3, 3], [0, 1]])]
    solutions = torch.tensor([[[2, 1], [1, 2]], [[3, 0], [1, 0]], [[0, 1], [0, 1]]])
    solved, share = score(logits, solutions)
    assert solved.tolist() == [True, False, True]
    assert share.tolist() == [1.0, 0.5, 1.0]
    assert solution(logits, solutions).tolist() == [1, -1, 0]
    assert solution(logits, solutions[:, 0]).tolist() == [-1, -1, 0]
    one, cells = score(logits, solutions[:, 0])
    assert one.tolist() == [False, False, True]
    assert cells.tolist() == [0.0, 0.5, 1.0]


def test_unconverged_solves_are_told_by_puzzle_and_step() -> None:
    model = tiny_model(T=4, gradient=Implicit(memory=0, tolerance=0.3))
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    batch = tiny_batch(9)
    with torch.no_grad():
        z = core.start(weights, 9)
        rows = weights.table[torch.zeros(9, dtype=torch.int64)]
        residuals = []
        for _ in range(3):
            moved = core.recur(weights.params, z, batch.inputs, rows)
            assert moved.solves is not None
            residuals.append(moved.solves.forward.residual)
            z = moved.z
    tolerance = float(torch.stack(residuals).median())
    what = (batch.inputs.numpy(), batch.labels.numpy())

    def missed(tolerance: float) -> np.ndarray:
        gradient = Implicit(memory=0, tolerance=tolerance)
        own = Core(model.model_copy(update={"gradient": gradient}), GEOMETRY, torch.float64)
        return evaluate(Reasoner(own, weights, True), *what, steps=(1, 3), batch=4).unconverged

    assert missed(0.0).all()
    assert not missed(1e9).any()
    middle = missed(tolerance)
    assert middle.shape == (9, 2)
    assert 0 < middle.mean() < 1
