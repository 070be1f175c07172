"""Recursion as data.

A cycle is a tuple of latent updates; T cycles make one program; a gradient scheme decides which
updates keep their graph.  Shapes: B puzzles, S positions, D width.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from trm_lab.config.gradient import Gradient
from trm_lab.config.layout import Cycle, Update

State = Float[Tensor, "*B S D"]
Latents = tuple[State, ...]
Net = Callable[[int, Tensor], Tensor]
"""Applies the net of an index to a state."""


def recurse(z: Latents, x: State, net: Net, cycle: Cycle, T: int, gradient: Gradient) -> Latents:
    """Run T cycles from latents z under the embedded input x.

    Values never depend on `gradient`; only the graph does.  TRM (arXiv 2510.04871, fig. 3) is
    `LastCycles(1)`, HRM's one-step gradient is `LastUpdates(2)`.
    """

    def step(z: Latents, update: Update) -> Latents:
        h = _total([z[i] for i in update.state])
        injected = [z[i] for i in update.context] + [x] * update.inject
        if injected:
            h = h + _total(injected)
        return (*z[: update.write], net(update.net, h), *z[update.write + 1 :])

    program = tuple(cycle) * T
    cut = gradient.cut(len(cycle), T)
    with torch.no_grad():
        z = reduce(step, program[:cut], z)
    return reduce(step, program[cut:], z)


def _total(states: Sequence[State]) -> State:
    """Sum from left to right: the order of additions is part of parity."""
    return reduce(torch.add, states)
