"""Losses of the answer.  Shapes: B puzzles, L cells, V vocabulary; label -100 is ignored."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trm_lab.config.supervision import Loss, Softmax, Stablemax

IGNORED = -100
"""Label of a cell that is neither trained nor scored."""


def log_stablemax(logits: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
    """Logarithm of s(v) / sum s, s(v) = v + 1 for v >= 0 and 1 / (1 - v) below.

    Prieto et al. 2025 (arXiv 2501.04697).  The usual form differentiates 1 / (1 - v) on the side
    that is not taken, which in float32 gives inf * 0 = NaN at v = 1; here each side sees only
    values of its own sign.
    """
    positive = logits.clamp(min=0) + 1
    negative = 1 / (1 - logits.clamp(max=0))
    s = torch.where(logits < 0, negative, positive)
    return torch.log(s / s.sum(dim=-1, keepdim=True))


def cell_losses(
    loss: Loss, logits: Float[Tensor, "B L V"], labels: Int[Tensor, "B L"]
) -> Float[Tensor, "B L"]:
    """Give the negative log-likelihood of every cell, 0 where the label is ignored."""
    log_probability: Callable[[Tensor], Tensor]
    match loss:
        case Stablemax():
            log_probability = log_stablemax
        case Softmax():
            log_probability = _log_softmax
    wide = logits.to(torch.promote_types(logits.dtype, getattr(torch, loss.dtype)))
    valid = labels != IGNORED
    target = torch.where(valid, labels, 0).long()
    picked = log_probability(wide).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return torch.where(valid, -picked, 0)


def puzzle_losses(
    loss: Loss, logits: Float[Tensor, "B L V"], labels: Int[Tensor, "B L"]
) -> Float[Tensor, " B"]:
    """Mean over the cells of each puzzle that have a label."""
    count = (labels != IGNORED).sum(-1).clamp(min=1).unsqueeze(-1)
    return (cell_losses(loss, logits, labels) / count).sum(-1)


def score(
    logits: Float[Tensor, "B L V"], labels: Int[Tensor, "B *M L"]
) -> tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]:
    """Give for each puzzle whether all its labelled cells are right, and the share that is.

    With several solutions (M) the answer is right if it is any of them, and its share of right
    cells is that of the nearest.
    """
    solved, share = _each(logits, labels)
    return (solved, share) if labels.ndim == 2 else (solved.any(-1), share.amax(-1))


def solution(logits: Float[Tensor, "B L V"], labels: Int[Tensor, "B *M L"]) -> Int[Tensor, " B"]:
    """Give the index of the solution that each answer is; -1 where it is none."""
    solved, _ = _each(logits, labels)
    solved = solved.view(len(labels), -1)
    return torch.where(solved.any(-1), solved.to(torch.uint8).argmax(-1), -1)


def _each(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    answers = logits.argmax(-1)
    valid = labels != IGNORED
    right = (valid & ((answers if labels.ndim == 2 else answers.unsqueeze(1)) == labels)).sum(-1)
    count = valid.sum(-1)
    return right == count, right / count.clamp(min=1)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1)
