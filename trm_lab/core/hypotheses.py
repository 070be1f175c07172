"""Winner-take-all over several latent states (Speed is Confidence, arXiv 2601.19085).

A slot keeps K latent states, its hypotheses, each with a start of its own.  All take every
supervision step; the answer with the lowest loss is the slot's winner, and the losses, the halting
head and the release see the winner alone.  All hypotheses go on from their own latents, as with
`carry: all` in the paper's code.  States of one slot lie together: row b K + k.
Shapes: B slots, K hypotheses, S positions, D width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trm_lab.core.core import Core, Weights
from trm_lab.core.noise import derive
from trm_lab.core.recursion import Latents


def starts(
    core: Core, weights: Weights, batch: int, K: int, keys: Int[Tensor, " B"] | None = None
) -> Latents:
    """Give the latents of fresh puzzles, K states each; the first is the model's own start.

    `keys` are random keys of the puzzles, which only a random start needs.
    """
    if K > 1 and core.draws_start and keys is not None:
        each = [keys, *(derive(keys, k) for k in range(1, K))]
        return core.start(weights, batch * K, torch.stack(each, dim=1).flatten())
    first = core.start(weights, batch, keys)
    if K == 1:
        return first
    assert len(weights.others[0]) >= K - 1, "the weights hold fewer starts"

    def joined(own: Float[Tensor, "B S D"], others: Float[Tensor, "H D"]) -> Tensor:
        shape = (batch, K - 1, *own.shape[1:])
        rest = others[: K - 1, None].to(own.dtype).expand(shape)
        return torch.cat((own.unsqueeze(1), rest), dim=1).flatten(0, 1)

    return tuple(joined(*pair) for pair in zip(first, weights.others, strict=True))


def repeated(values: Tensor, K: int) -> Tensor:
    """Give each row K times in a row."""
    return values if K == 1 else values.repeat_interleave(K, dim=0)


def winners(losses: Float[Tensor, " B*K"], K: int) -> Int[Tensor, " B"]:
    """Give the row of each slot's lowest loss, the first of equals."""
    best = losses.detach().view(-1, K).argmin(-1)
    return torch.arange(len(best), device=losses.device) * K + best
