"""The models whose golden values stand in the reference specification, Appendix A.

Every tensor is filled by one rule over its flat index, so that the values do not depend on a random
generator; the numbers were recorded from the released modules.
"""

import math
from typing import Any

import numpy as np
import torch

from trm_lab.config import (
    Attention,
    Confidence,
    Halting,
    LastUpdates,
    LearnedPositions,
    Model,
    NoPositions,
    PuzzleSlots,
    QLearning,
    Supervision,
    TokenMLP,
    TwoLatents,
)
from trm_lab.core.core import Core, Weights
from trm_lab.core.nets import apply_net
from trm_lab.core.supervision import Batch, Outcome, empty_carry, refill, supervise
from trm_lab.parameters import Geometry, parameters

B, L = 2, 9
GEOMETRY = Geometry(cells=L, vocabulary=11, identifiers=2)
ENDS = {"embed.tokens": 1, "head.logits": 2, "head.halt.weight": 3, "embed.positions": 8}
BLOCK = {
    "mixer.qkv": 1, "mixer.out": 2, "ffn.gate_up": 3, "ffn.down": 4,
    "mixer.gate_up": 5, "mixer.down": 6,
}  # fmt: skip
TABLE, Y_INIT, Z_INIT = 5, 6, 7
"""Numbers k of the tensors in the filling rule; blocks count from 100 per net, 10 per layer."""


def trm(**changes: Any) -> Model:
    base: dict[str, Any] = {
        "layers": 2,
        "width": 64,
        "mixer": Attention(heads=4),
        "puzzle": PuzzleSlots(slots=2, dim=64),
        "n": 3,
        "T": 2,
    }
    return Model(**(base | changes))


TRM_ATT = trm()
TRM_MLP = trm(mixer=TokenMLP(), positions=NoPositions())
TRM_LEARNED = trm(positions=LearnedPositions())
TRM_SHORT = trm(T=1, n=1)
HRM = trm(layout=TwoLatents(nets=2), puzzle=PuzzleSlots(slots=1, dim=64), gradient=LastUpdates(k=2))


class Uneven(Core):
    """A core whose second net has one layer: the recorded HRM had 2 layers for z and 1 for y."""

    def net(self, params):
        return lambda index, h: apply_net(
            self.model, self.block, params, f"net.{index}", h, layers=(2, 1)[index]
        )


def core_of(model: Model, dtype: torch.dtype = torch.float32) -> Core:
    return (Uneven if model.layout.nets == 2 else Core)(model, GEOMETRY, dtype)


def sine(k: int, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    """Fill a tensor: scale * sin((k + 1) + i * (1 + 0.1 * (k mod 7))) over its flat index i."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    values = scale * np.sin((k + 1) + index * (1 + 0.1 * (k % 7)))
    return torch.from_numpy(values.reshape(shape)).float()


def number(name: str) -> int:
    if name in ENDS:
        return ENDS[name]
    _, net, _, layer, rest = name.split(".", 4)
    return 100 * (int(net) + 1) + 10 * int(layer) + BLOCK[rest]


def weights_of(model: Model, dtype: torch.dtype = torch.float32) -> Weights:
    width = model.width
    params = {
        name: sine(number(name), p.shape, p.shape[-1] ** -0.5).requires_grad_()
        for name, p in parameters(model, GEOMETRY).items()
        if name != "head.halt.bias"
    }
    params["head.halt.bias"] = torch.tensor([-0.5, 0.25], requires_grad=True)
    initial = tuple(sine(k, (width,), 1.0).to(dtype).float() for k in (Z_INIT, Y_INIT))
    table = sine(TABLE, (GEOMETRY.identifiers, model.puzzle.dim), width**-0.5)
    return Weights(params, initial, table)


def batch() -> Batch:
    b, t = np.meshgrid(np.arange(B), np.arange(L), indexing="ij")
    labels = 2 + (7 * t + 2 * b) % 9
    labels[1, 8] = -100
    inputs = torch.tensor(1 + (3 * t + 5 * b) % 10, dtype=torch.int32)
    return Batch(inputs, torch.tensor(labels), torch.tensor([0, 1]))


def two_steps(
    model: Model, dtype: torch.dtype = torch.float32
) -> tuple[list[Outcome], list[float], list[list[bool]], dict[str, float]]:
    """Run steps 1 and 2 in training, no weights updated between.

    Gives the outcomes, the sums of y, which slots halted, and the 2-norms of the gradients of the
    first step's loss by parameter; `puzzle` is the gradient of the looked-up rows.
    """
    rule: Halting = QLearning() if model.layout.nets == 2 else Confidence()
    supervision = Supervision(N_sup=4, halting=rule, exploration=0.0)
    core, weights, new = core_of(model, dtype), weights_of(model, dtype), batch()
    carry = empty_carry(core, weights, new)
    outcomes, sums, halted, norms = [], [], [], {}
    for step in (1, 2):
        carry = refill(core, weights, carry, new)
        rows = weights.rows(carry.batch.identifiers).requires_grad_()
        none = torch.zeros(B, dtype=torch.int32)
        carry, outcome = supervise(core, weights.params, supervision, carry, rows, none)
        outcomes.append(outcome)
        sums.append(carry.z[model.layout.answer].double().sum().item())
        halted.append(carry.halted.tolist())
        if step == 1:
            leaves = weights.params | {"puzzle": rows}
            found = torch.autograd.grad(outcome.loss, [*leaves.values()], allow_unused=True)
            norms = {
                name: g.double().norm().item()
                for name, g in zip(leaves, found, strict=True)
                if g is not None
            }
    return outcomes, sums, halted, norms
