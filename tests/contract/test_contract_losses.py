"""Every loss of the answer: finite gradients, equal forms, ignored cells."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.contract.instances import LOSSES, name
from trm_lab.config import Loss, Softmax, Stablemax
from trm_lab.core.losses import IGNORED, cell_losses, log_stablemax, puzzle_losses, score

TRAP = [1.0, 0.0, -1.0, 1.0, 2.0, -1e-30, 1e-30, 100.0, -100.0]
"""Logits at which careless forms give NaN: 1 exactly, both zeros, large values."""


def published_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """As the released code writes it: both sides are differentiated for every value."""
    s = torch.where(logits < 0, 1 / (1 - logits + 1e-30), logits + 1)
    log_p = torch.log(s / s.sum(-1, keepdim=True))
    return -log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_gradients_are_finite_where_a_logit_is_exactly_one(loss: Loss, dtype: torch.dtype) -> None:
    logits = torch.tensor([TRAP] * len(TRAP), dtype=dtype)[None].requires_grad_()
    labels = torch.arange(len(TRAP))[None]
    losses = cell_losses(loss, logits, labels)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    assert losses.dtype == torch.promote_types(dtype, getattr(torch, loss.dtype))


def test_the_published_form_has_no_gradient_there_in_float32() -> None:
    """The trap is real: this is why the form here differs."""
    logits = torch.tensor([[1.0, 0.5, -2.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(published_nll(logits, torch.tensor([1])).sum(), logits)
    assert torch.isnan(gradient).any()


@given(values=st.lists(st.floats(-50, 50), min_size=4, max_size=4), label=st.integers(0, 3))
def test_stablemax_is_the_published_function_with_the_published_gradient(
    values: list[float], label: int
) -> None:
    labels = torch.tensor([[label]])
    ours = torch.tensor([[values]], dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    a = cell_losses(Stablemax(), ours, labels)
    b = published_nll(theirs, labels)
    torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
    (ga,) = torch.autograd.grad(a.sum(), ours)
    (gb,) = torch.autograd.grad(b.sum(), theirs)
    # At exactly 1 the published form multiplies 0 by 1e60, which float64 survives.
    torch.testing.assert_close(ga, gb, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [Stablemax, Softmax])
def test_float32_and_float64_forms_agree(kind: type[Stablemax] | type[Softmax]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 7, 11, generator=generator)
    labels = torch.randint(0, 11, (4, 7), generator=generator)
    found = {}
    for dtype in ("float32", "float64"):
        leaf = logits.clone().requires_grad_()
        losses = cell_losses(kind(dtype=dtype), leaf, labels)
        assert losses.dtype == getattr(torch, dtype)
        found[dtype] = (losses.double(), torch.autograd.grad(losses.sum(), leaf)[0])
    # A dozen float32 operations on values of about 3.
    torch.testing.assert_close(found["float32"][0], found["float64"][0], rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(found["float32"][1], found["float64"][1], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_losses_are_negative_log_likelihoods(loss: Loss) -> None:
    logits = torch.linspace(-3, 3, 11, dtype=torch.float64)
    every = torch.arange(11)[None]
    p = torch.exp(-cell_losses(loss, logits.expand(1, 11, 11), every))
    assert p.sum().item() == pytest.approx(1, rel=1e-12)
    assert (p.diff() > 0).all()
    if isinstance(loss, Softmax):
        torch.testing.assert_close(p[0], torch.softmax(logits, 0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_ignored_cells_contribute_nothing(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 6, (3, 5), generator=generator)
    labels[0, 1] = labels[0, 3] = IGNORED
    labels[2] = IGNORED
    cells = cell_losses(loss, logits, labels)
    assert cells[labels == IGNORED].tolist() == [0] * 7
    assert (cells[labels != IGNORED] > 0).all()
    per_puzzle = puzzle_losses(loss, logits, labels)
    assert per_puzzle[2] == 0
    (gradient,) = torch.autograd.grad(per_puzzle.sum(), logits)
    assert (gradient[labels == IGNORED] == 0).all()
    assert (gradient[labels != IGNORED].abs().sum(-1) > 0).all()
    kept = cell_losses(loss, logits[:1, [0, 2, 4]], labels[:1, [0, 2, 4]])
    assert per_puzzle[0].item() == pytest.approx(kept.mean().item(), rel=1e-12)
    changed = logits.detach().clone()
    changed[labels == IGNORED] = 17.0
    assert torch.equal(puzzle_losses(loss, changed, labels), per_puzzle)


def test_a_puzzle_counts_by_its_mean_cell() -> None:
    logits = torch.zeros(2, 4, 3, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2, 0], [0, IGNORED, IGNORED, IGNORED]])
    log3 = torch.log(torch.tensor(3.0, dtype=torch.float64))
    assert torch.allclose(puzzle_losses(Softmax(dtype="float64"), logits, labels), log3)


def test_score_counts_labelled_cells() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0], [1, 2, 0], [1, 2, 0]]), 3)
    labels = torch.tensor([[1, 2, 0], [1, 1, IGNORED], [IGNORED] * 3])
    solved, share = score(logits.float(), labels)
    assert solved.tolist() == [True, False, True]
    assert share.tolist() == [1.0, 0.5, 0.0]


def test_log_stablemax_of_the_specification() -> None:
    logits = torch.tensor([2, -1, 0.5, -3], dtype=torch.float64)
    s = torch.tensor([3, 1 / 2, 1.5, 1 / 4], dtype=torch.float64)
    torch.testing.assert_close(log_stablemax(logits), torch.log(s / s.sum()), rtol=1e-14, atol=0)
