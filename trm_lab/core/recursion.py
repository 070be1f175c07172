"""Recursion as data.

A cycle is a tuple of latent updates; T cycles make one program; a gradient scheme decides which
updates keep their graph.  Shapes: B puzzles, S positions, D width.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trm_lab.config.gradient import Gradient, Implicit, Phantom
from trm_lab.config.layout import Cycle, Update
from trm_lab.core.fixed_point import Latents, Solves, State, fixed_point

__all__ = ["Checkpointing", "Latents", "Net", "Recursion", "State", "run", "write"]

Net = Callable[[int, Tensor], Tensor]
"""Applies the net of an index to a state."""
Checkpointing = Literal["update", "cycle"] | None
"""Pieces of the graph whose activations are computed again in the backward pass."""


class Recursion(NamedTuple):
    """What a program did."""

    z: Latents
    """Latents after it."""
    before: Latents
    """Those latents that a cycle writes, before the last cycle."""
    after: Latents
    """What the last cycle made of them, before any damping and with that cycle's own graph."""
    solves: Solves | None
    """How the solver of an implicit gradient fared."""


def run(
    z: Latents,
    x: State,
    net: Net,
    cycle: Cycle,
    T: int,
    gradient: Gradient,
    checkpointing: Checkpointing = None,
    waits: Int[Tensor, "*B"] | None = None,
) -> Recursion:
    """Run T cycles from latents z under the embedded input x.

    Values do not depend on a truncation; only the graph does.  TRM (arXiv 2510.04871, fig. 3) is
    `LastCycles(1)`, HRM's one-step gradient is `LastUpdates(2)`.  `Phantom` and `Implicit` are
    forwards of their own.  Under a truncation a puzzle stays as it is for the first `waits` of its
    T cycles, as if it had so many fewer.
    """

    def step(z: Latents, at: tuple[int, Update]) -> Latents:
        cycles, update = at
        new = write(z, x, net, update)
        if waits is None:
            return new
        i = update.write
        waited = torch.where((waits <= cycles)[..., None, None], new[i], z[i])
        return (*z[:i], waited, *z[i + 1 :])

    def steps(z: Latents, updates: Sequence[tuple[int, Update]]) -> Latents:
        return reduce(step, updates, z)

    def kept(z: Latents, updates: Sequence[tuple[int, Update]]) -> Latents:
        """Run updates with a graph."""
        if checkpointing is None or not torch.is_grad_enabled():
            return steps(z, updates)
        size = 1 if checkpointing == "update" else len(cycle)
        for i in range(0, len(updates), max(1, size)):
            piece = updates[i : i + size]
            z = checkpoint(steps, z, piece, use_reentrant=False, preserve_rng_state=False)
        return z

    program = [(cycles, update) for cycles in range(T) for update in cycle]  # with cycles before
    last = len(program) - len(cycle)
    cut = gradient.cut(len(cycle), T)
    written = sorted({update.write for update in cycle})

    def only(z: Latents) -> Latents:
        return tuple(z[i] for i in written)

    def walk(z: Latents, start: int, stop: int) -> Latents:
        """Run the updates of the program from start to stop."""
        middle = min(max(cut, start), stop)
        with torch.no_grad():
            z = steps(z, program[start:middle])
        return kept(z, program[middle:stop])

    match gradient:
        case Implicit():

            def among(part: Latents) -> Latents:
                """Put the latents that are solved for among those that no update writes."""
                whole = list(z)
                for i, v in zip(written, part, strict=True):
                    whole[i] = v
                return tuple(whole)

            solved = fixed_point(
                gradient,
                lambda part: only(steps(among(part), program[last:])),
                lambda part: only(kept(among(part), program[last:])),
                only(z),
                T,
            )
            return Recursion(among(solved.z), solved.before, solved.after, solved.solves)
        case Phantom():
            z = walk(z, 0, cut)
            for _ in range(min(gradient.k, T)):
                before, after = z, kept(z, program[last:])
                pairs = zip(before, after, strict=True)
                z = tuple(torch.lerp(a, b, gradient.damping) for a, b in pairs)
        case _:
            before = walk(z, 0, last)
            z = after = walk(before, last, len(program))
    return Recursion(z, only(before), only(after), None)


def write(z: Latents, x: State, net: Net, update: Update) -> Latents:
    """Give the latents after one update."""
    h = _total([z[i] for i in update.state])
    injected = [z[i] for i in update.context] + [x] * update.inject
    if injected:
        h = h + _total(injected)
    return (*z[: update.write], net(update.net, h), *z[update.write + 1 :])


def _total(states: Sequence[State]) -> State:
    """Sum from left to right: the order of additions is part of parity."""
    return reduce(torch.add, states)
