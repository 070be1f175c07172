"""What the loop over supervision steps does to slots: who leaves, and what a step weighs.

Shapes: B slots.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trm_lab.config.loops import (
    FullLoop,
    Geometric,
    LastOnly,
    Loop,
    NoCarry,
    SlotCarry,
    StepWeights,
    Uniform,
)

Whole = Callable[[Tensor], Tensor]
"""Gives what all slots have where a batch is shared by several processes, from the slots of one."""


def alone(mine: Tensor) -> Tensor:
    """Give the slots of the only process."""
    return mine


def leave(loop: Loop, halted: Bool[Tensor, " B"], whole: Whole = alone) -> Bool[Tensor, " B"]:
    """Say which slots get a new puzzle, from those whose own has halted."""
    match loop:
        case SlotCarry() | NoCarry():
            return halted
        case FullLoop():
            every = whole(halted)
            together = every.all() if loop.leave == "all" else every.any()
            return together & torch.ones_like(halted)


def step_weights(
    setting: StepWeights, steps: Int[Tensor, " B"], halted: Bool[Tensor, " B"]
) -> Float[Tensor, " B"] | None:
    """Give what the losses of a step weigh, per slot; None where all weigh one."""
    match setting:
        case Uniform():
            return None
        case Geometric():
            return torch.pow(setting.ratio, (steps - 1).to(torch.float64))
        case LastOnly():
            return halted.to(torch.float64)
