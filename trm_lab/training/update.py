"""The supervision steps of one optimiser update, and the gradient of their losses."""

from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trm_lab.accounting import Evaluations, step_flops
from trm_lab.config.loops import Counts, FullLoop, SampledDepth
from trm_lab.config.recipe import Recipe
from trm_lab.core.core import Core, Weights
from trm_lab.core.fixed_point import Solve
from trm_lab.core.supervision import Carry, Outcome, refill, supervise
from trm_lab.training.distributed import Group
from trm_lab.training.stream import Stream


class Worked(NamedTuple):
    """What the steps of an update give."""

    carry: Carry
    outcomes: list[Outcome]
    """One of each step."""
    flops: int
    """FLOPs of the steps as they turned out, in the slots of all processes."""
    started: Int[Tensor, ""]
    """Puzzles started, in the slots of this process."""
    grads: list[Tensor | None]
    """Gradient of every parameter, summed over the steps and over the slots of all processes."""
    identifiers: Int[Tensor, " R"]
    """Puzzle identifiers of the slots of all processes, step after step."""
    row_grads: Float[Tensor, "R dim"] | None
    """Gradient of their rows of the puzzle table, if there is one."""


def work(
    recipe: Recipe, core: Core, weights: Weights, stream: Stream, carry: Carry, update: int
) -> Worked:
    """Run the supervision steps of an update, counted from 1, and differentiate their losses.

    Losses are divided by the number of slots of the whole batch and summed over the steps.  Steps
    that are not linked are differentiated one by one, in the memory of one.
    """
    supervision = recipe.supervision
    steps, linked = supervision.steps_per_update, supervision.linked
    params = list(weights.params.values())
    group, gradient = stream.group, stream.gradient(update, recipe.model.gradient)
    started = torch.zeros((), dtype=torch.int64, device=core.device)
    outcomes: list[Outcome] = []
    taken: list[Counts] = []
    grads: list[Tensor | None] = [None] * len(params)
    identifiers: list[Tensor] = []
    row_grads: list[Tensor | None] = []
    losses: list[Tensor] = []
    leaves: list[Tensor] = []
    for k in range(steps):
        step = (update - 1) * steps + k + 1
        started = started + carry.halted.sum()
        keys = stream.keys(step) if core.draws_start else None
        carry = refill(core, weights, carry, stream.draw(step), keys, carried=supervision.carried)
        rows = weights.rows(carry.batch.identifiers)
        if rows is not None:
            leaves.append(rows.requires_grad_())
        counts, waits = _counts(recipe, stream, update, step)
        minimum = stream.minimum(
            step, supervision.exploration, counts.N_sup, supervision.exploration_law,
            together=isinstance(supervision.loop, FullLoop),
        )  # fmt: skip
        carry, outcome = supervise(
            core, weights.params, supervision, carry, rows, minimum,
            gradient=gradient, counts=counts, waits=waits,
            linked=linked and k + 1 < steps, whole=group.gathered,
        )  # fmt: skip
        outcomes.append(outcome)
        taken.append(counts)
        identifiers.append(carry.batch.identifiers)
        losses.append(outcome.loss / recipe.train.batch)
        if not linked or k + 1 == steps:
            total = reduce(torch.add, losses)
            found = torch.autograd.grad(total, [*params, *leaves], allow_unused=True)
            grads = [_plus(a, b) for a, b in zip(grads, found[: len(params)], strict=True)]
            row_grads += found[len(params) :]
            losses, leaves = [], []
    kept = [g for g in row_grads if g is not None]
    assert len(kept) in (0, steps)
    evaluations = _evaluations(group, outcomes)
    flops = sum(
        step_flops(recipe, counts, gradient, took)
        for counts, took in zip(taken, evaluations, strict=True)
    )
    return Worked(
        carry, outcomes, flops, started, _summed(group, grads),
        _everywhere(group, identifiers), _everywhere(group, kept) if kept else None,
    )  # fmt: skip


def _evaluations(group: Group, outcomes: list[Outcome]) -> list[Evaluations | None]:
    """Give what the solvers of each step took, None where nothing is solved for.

    Of several processes it is the most of any: what one process with all slots takes, so that the
    count does not depend on their number.
    """
    solves = [outcome.solves for outcome in outcomes if outcome.solves is not None]
    if not solves:
        return [None] * len(outcomes)

    def took(*parts: Solve) -> int:
        return sum(part.evaluations for part in parts)

    mine = [(took(s.forward), took(*s.backward), took(*s.ahead)) for s in solves]
    # On the CPU, so that no device waits.
    every = group.gathered(torch.tensor([mine]))
    return [Evaluations(*most) for most in every.amax(0).tolist()]


def _summed(group: Group, grads: list[Tensor | None]) -> list[Tensor | None]:
    """Sum gradients over the processes; all have the same ones, as graphs do not depend on data."""
    summed = iter(group.total([g for g in grads if g is not None]))
    return [None if g is None else next(summed) for g in grads]


def _everywhere(group: Group, parts: list[Tensor]) -> Tensor:
    """Join what each step has of its slots, step after step in the slots' order of one process."""
    whole: Tensor = group.gathered(torch.stack(parts, dim=1))
    return whole.transpose(0, 1).flatten(0, 1)


def _counts(
    recipe: Recipe, stream: Stream, update: int, step: int
) -> tuple[Counts, Int[Tensor, " B"] | None]:
    """Give the recursion counts of a step, and what each slot leaves out of the cycles."""
    counts, depth = recipe.counts(update), recipe.supervision.depth
    if not isinstance(depth, SampledDepth):
        return counts, None
    drawn = stream.cycles(step, depth)
    deepest = int(drawn.max())
    counts = counts._replace(T=deepest)
    if depth.per == "batch":
        return counts, None
    return counts, torch.as_tensor((deepest - drawn)[stream.slots], device=stream.device)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Add two gradients, of which one may not be."""
    return b if a is None else a if b is None else a + b
