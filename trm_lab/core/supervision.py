"""One supervision step over a carry of slots.

A slot whose puzzle is done takes the
row of the new batch at its place; a slot still at work keeps its puzzle, and the new row at its
place is not used.  No control flow depends on data, so a step can be compiled and captured.
Shapes: B slots, L cells.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trm_lab.config.gradient import Gradient
from trm_lab.config.loops import Counts
from trm_lab.config.supervision import Supervision
from trm_lab.core.core import Core, Weights
from trm_lab.core.fixed_point import Solves, squared_residual
from trm_lab.core.halting import HALT, Shown, continue_value, halting_losses, release
from trm_lab.core.hypotheses import repeated, starts, winners
from trm_lab.core.loops import Whole, alone, leave, step_weights
from trm_lab.core.losses import IGNORED, puzzle_losses, score
from trm_lab.core.products import Params
from trm_lab.core.recursion import Latents, Recursion


class Batch(NamedTuple):
    """Puzzles: tokens, labels (-100 ignored) and identifiers."""

    inputs: Int[Tensor, "B L"]
    labels: Int[Tensor, "B *M L"]
    """Of puzzles with several solutions all of them, the one to be learned first."""
    identifiers: Int[Tensor, " B"]


class Carry(NamedTuple):
    """What each slot holds between supervision steps."""

    z: Latents
    """One state per slot, or K in a row with K hypotheses."""
    steps: Int[Tensor, " B"]
    """Supervision steps that the slot's puzzle has had."""
    halted: Bool[Tensor, " B"]
    """Whether the slot is refilled before the next step."""
    batch: Batch


class Outcome(NamedTuple):
    """What one supervision step gives the optimiser and the log.

    Losses are sums over all slots; the rest are sums over the slots that are scored: those that
    halted at this step and have a label.
    """

    loss: Float[Tensor, ""]
    """All losses, with the weights of halting and of the step; the parts below have none."""
    lm_loss: Float[Tensor, ""]
    halt_loss: Float[Tensor, ""]
    continue_loss: Float[Tensor, ""]
    scored: Int[Tensor, ""]
    cell_accuracy: Float[Tensor, ""]
    solved: Int[Tensor, ""]
    halt_accuracy: Int[Tensor, ""]
    """Slots whose halting logit has the right sign."""
    steps: Int[Tensor, ""]
    logits: Float[Tensor, "B L V"]
    halt: Float[Tensor, "B 2"]
    look_ahead: Float[Tensor, " B"] | None
    """Target of the continue logit, for the rule that has one."""
    residual: Float[Tensor, ""] | None
    """Relative change of the latents over the last cycle, summed over all slots, where it is
    penalised or solved for."""
    solves: Solves | None
    """How the solver of an implicit gradient fared; its backward part once that pass is done."""


def empty_carry(core: Core, weights: Weights, batch: Batch, hypotheses: int = 1) -> Carry:
    """Give a carry whose slots all ask to be refilled."""
    size = batch.inputs.shape[0]
    device = batch.inputs.device
    none = torch.zeros(size, dtype=torch.int64, device=device)
    return Carry(
        tuple(latent.detach() for latent in starts(core, weights, size, hypotheses, none)),
        torch.zeros(size, dtype=torch.int32, device=device),
        torch.ones(size, dtype=torch.bool, device=device),
        batch,
    )


def refill(
    core: Core,
    weights: Weights,
    carry: Carry,
    batch: Batch,
    keys: Int[Tensor, " B"] | None = None,
    *,
    carried: bool = True,
) -> Carry:
    """Put fresh puzzles of `batch` into the halted slots.

    `keys` are random keys of the slots, which only a random start needs.  A learned start keeps
    its graph in the slots that are refilled; the others keep theirs.  Without `carried` latents all
    slots start anew, whatever their puzzle.
    """
    size = carry.steps.shape[0]
    K = carry.z[0].shape[0] // size

    def choose(new: Tensor, old: Tensor) -> Tensor:
        halted = repeated(carry.halted, old.shape[0] // size)
        return torch.where(halted.view(-1, *[1] * (old.ndim - 1)), new, old)

    start = starts(core, weights, size, K, keys)
    pairs = zip(start, carry.z, strict=True)
    return Carry(
        tuple(choose(new, old) for new, old in pairs) if carried else start,
        torch.where(carry.halted, 0, carry.steps),
        torch.zeros_like(carry.halted),
        Batch(*(choose(new, old) for new, old in zip(batch, carry.batch, strict=True))),
    )


def supervise(
    core: Core,
    params: Params,
    supervision: Supervision,
    carry: Carry,
    rows: Float[Tensor, "B dim"] | None,
    minimum: Int[Tensor, " B"],
    *,
    gradient: Gradient | None = None,
    counts: Counts | None = None,
    waits: Int[Tensor, " B"] | None = None,
    linked: bool = False,
    whole: Whole = alone,
) -> tuple[Carry, Outcome]:
    """Run one supervision step in training on a refilled carry.

    `rows` are the puzzle vectors of the carry's puzzles; `minimum` the steps before which
    exploration keeps a slot, 0 for none; `gradient` and `counts` stand in for the recipe's own;
    `waits` are cycles that a slot leaves out; `whole` gives all slots of a batch that several
    processes share, for a loop that leaves together.  The new carry is detached, unless `linked`.
    Of several hypotheses the one with the lowest loss of the answer is the slot's; all else is
    reckoned from it.
    """
    inputs, labels, _ = carry.batch
    target = labels if labels.ndim == 2 else labels[:, 0]
    rule = supervision.halting
    n, T, N_sup = counts or (None, None, supervision.N_sup)
    K = supervision.hypotheses

    def recur(z: Latents, K: int) -> Recursion:
        own, wait = (None if part is None else repeated(part, K) for part in (rows, waits))
        return core.recur(
            params, z, repeated(inputs, K), own, n=n, T=T, gradient=gradient, waits=wait
        )

    moved = recur(carry.z, K)
    _, logits, halt = core.read(params, moved.z)
    z = tuple(latent.detach() for latent in moved.z)
    lm = puzzle_losses(supervision.loss, logits, repeated(target, K))
    entered, won, best = carry.z, z, None
    if K > 1:
        best = winners(lm, K)
        lm, logits, halt = lm[best], logits[best], halt[best]
        entered, won = (tuple(latent[best] for latent in state) for state in (entered, won))
    steps = carry.steps + 1
    with torch.no_grad():
        correct, cell_accuracy = score(logits, labels)
        answer = core.model.layout.answer
        shown = Shown(halt, entered[answer], won[answer], correct)
        halted = leave(supervision.loop, release(rule, shown, steps, N_sup, minimum), whole)

    def next_halt() -> Tensor:
        if not supervision.carried:  # the next step is this one again
            return halt
        ahead = recur(won, 1)
        if moved.solves and ahead.solves:
            moved.solves.ahead.append(ahead.solves.forward)
        return core.read(params, ahead.z).halt

    look_ahead = continue_value(rule, next_halt, steps >= N_sup, N_sup)
    stop, go_on = halting_losses(rule, halt, correct, look_ahead)
    weights = step_weights(supervision.step_weights, steps, halted)

    def total(losses: Tensor) -> Tensor:
        return losses.sum() if weights is None else (weights * losses).sum()

    scored = halted & (target != IGNORED).any(-1)
    loss = total(lm) + supervision.halt_weight * (total(stop) + total(go_on))
    residual = None
    if supervision.residual_penalty or moved.solves:
        change = squared_residual(moved.before, moved.after)
        change = change if best is None else change[best]
        residual = change.detach().sqrt().sum()
        if supervision.residual_penalty:
            loss = loss + supervision.residual_penalty * total(change)
    outcome = Outcome(
        loss=loss,
        lm_loss=lm.detach().sum(),
        halt_loss=stop.detach().sum(),
        continue_loss=go_on.detach().sum(),
        scored=scored.sum(),
        cell_accuracy=torch.where(scored, cell_accuracy, 0).sum(),
        solved=(scored & correct).sum(),
        halt_accuracy=(scored & ((halt[..., HALT] >= 0) == correct)).sum(),
        steps=torch.where(scored, steps, 0).sum(),
        logits=logits.detach(),
        halt=halt.detach(),
        look_ahead=look_ahead,
        residual=residual,
        solves=moved.solves,
    )
    return Carry(moved.z if linked else z, steps, halted, carry.batch), outcome


def watch(outcome: Outcome) -> dict[str, Tensor]:
    """Sum over the slots what only some recipes have to tell, once the backward pass is done.

    A slot's solves are the mean of its hypotheses'.
    """

    def total(part: Tensor) -> Tensor:
        K = part.shape[0] // outcome.halt.shape[0]
        return part.sum() if K == 1 else part.sum() / K

    found = {} if outcome.residual is None else {"residual": outcome.residual}
    if outcome.solves is not None:
        forward, backward, _ = outcome.solves
        found |= {
            "iterations": total(forward.iterations),
            "unconverged": total(forward.unconverged),
        }
        for solve in backward:
            found |= {
                "backward_residual": total(solve.residual),
                "backward_iterations": total(solve.iterations),
                "backward_unconverged": total(solve.unconverged),
            }
    return found
