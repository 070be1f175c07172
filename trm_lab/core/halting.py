"""Halting rules: when a slot is released, and what the halting head learns.

A rule is two small functions of what a supervision step shows; the budget N_sup and the exploration
are added once for all rules in `release`.  Shapes: B slots, S positions, D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trm_lab.config.contracts import OwnHalting
from trm_lab.config.halting import Confidence, Fixed, Halting, Oracle, QLearning, Residual
from trm_lab.core.own import per_slot
from trm_lab.errors import ConfigError

HALT, CONTINUE = 0, 1
"""Columns of the head."""


class Shown(NamedTuple):
    """What a supervision step shows to a rule."""

    halt: Float[Tensor, "B 2"]
    """Logits of the head."""
    before: Float[Tensor, "B S D"]
    """Answer latent before the step."""
    after: Float[Tensor, "B S D"]
    correct: Bool[Tensor, " B"]
    """Whether the puzzle is solved; for the oracle alone."""


def wants_to_halt(rule: Halting | Oracle | OwnHalting, shown: Shown) -> Bool[Tensor, " B"]:
    """Say which slots the rule would release.

    Raises:
        ConfigError: somebody's own rule gives something else.
    """
    match rule:
        case Fixed():
            return torch.zeros_like(shown.halt[..., HALT], dtype=torch.bool)
        case Confidence():
            return shown.halt[..., HALT] > rule.threshold
        case QLearning():
            return shown.halt[..., HALT] > shown.halt[..., CONTINUE]
        case Residual():
            return relative_change(shown.before, shown.after) < rule.threshold
        case Oracle():
            return shown.correct
        case OwnHalting():
            wants = rule.wants_to_halt(shown)
            return per_slot(wants, shown.halt[..., HALT], _who(rule, "wants_to_halt"), flags=True)


def relative_change(
    before: Float[Tensor, "B S D"], after: Float[Tensor, "B S D"]
) -> Float[Tensor, " B"]:
    """Give |after - before| / |before| of each puzzle, in at least float32."""
    wide = torch.promote_types(before.dtype, torch.float32)
    old, new = before.to(wide), after.to(wide)
    change, length = (torch.linalg.vector_norm(v, dim=(-2, -1)) for v in (new - old, old))
    return torch.div(change, length)


def release(
    rule: Halting,
    shown: Shown,
    steps: Int[Tensor, " B"],
    N_sup: int,
    minimum: Int[Tensor, " B"],
) -> Bool[Tensor, " B"]:
    """Say which slots are done: out of budget, or wanting to halt at `minimum` steps or later."""
    return (steps >= N_sup) | (wants_to_halt(rule, shown) & (steps >= minimum))


def halting_losses(
    rule: Halting | OwnHalting,
    halt: Float[Tensor, "B 2"],
    correct: Bool[Tensor, " B"],
    look_ahead: Float[Tensor, " B"] | None,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Give the losses of halting and of continuing, per slot.

    `correct` is whether the puzzle is solved exactly at this step; `look_ahead` the value of going
    on, from `continue_value`, where the rule learns one.

    Raises:
        ConfigError: somebody's own rule gives something else.
    """
    nothing = torch.zeros_like(halt[..., HALT])
    if isinstance(rule, Fixed | Residual):
        return nothing, nothing
    if isinstance(rule, OwnHalting):
        who, losses = _who(rule, "losses"), rule.losses(halt, correct)
        if not isinstance(losses, tuple) or len(losses) != 2:
            raise ConfigError(f"{who} gives {type(losses).__name__}, not a tuple of two tensors")
        return per_slot(losses[0], nothing, who), per_slot(losses[1], nothing, who)
    stop = _bce(halt[..., HALT], correct.to(halt.dtype))
    go_on = nothing if look_ahead is None else _bce(halt[..., CONTINUE], look_ahead)
    return stop, go_on


def continue_value(
    rule: Halting,
    next_halt: Callable[[], Float[Tensor, "B 2"]],
    last: Bool[Tensor, " B"],
    N_sup: int,
) -> Float[Tensor, " B"] | None:
    """Value of going on, from the head's logits one step later; None if the rule has no use for it.

    `next_halt` is called only by the rule that needs HRM's look ahead.
    """
    if not isinstance(rule, QLearning) or N_sup == 1:
        return None
    with torch.no_grad():
        ahead = next_halt()
        best = torch.maximum(ahead[..., HALT], ahead[..., CONTINUE])
        return torch.sigmoid(torch.where(last, ahead[..., HALT], best))


def _who(rule: OwnHalting, method: str) -> str:
    return f"supervision.halting: {rule.kind}: {method}"


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, target, reduction="none")
