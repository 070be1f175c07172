"""Evaluation as a recipe asks for it: by its policy, carrying what training carries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from trm_lab.config.halting import AllSteps, AsTrained, WhenHalted
from trm_lab.config.recipe import Recipe
from trm_lab.core.compaction import evaluate_when_halted
from trm_lab.core.core import Core, Readout, Weights
from trm_lab.core.evaluation import Outcomes, evaluate
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.recursion import Latents
from trm_lab.tasks.dataset import Puzzles
from trm_lab.training.distributed import SOLO, Group
from trm_lab.training.stop import Stopped

BATCH = 100


@dataclass(frozen=True)
class _Leaving(Reasoner):
    """A reasoner that looks before every step whether it may go on."""

    check: Callable[[], None] = lambda: None

    def step(
        self, z: Latents, start: Latents, tokens: Int[Tensor, "B L"]
    ) -> tuple[Readout, Latents, Bool[Tensor, " B"]]:
        self.check()
        return super().step(z, start, tokens)


def outcomes(
    recipe: Recipe,
    core: Core,
    weights: Weights,
    puzzles: Puzzles,
    steps: tuple[int, ...],
    check: Callable[[], None] = lambda: None,
    group: Group = SOLO,
) -> Outcomes:
    """Evaluate weights on puzzles after each of the given (rising) steps.

    `check` is called before each supervision step of each batch; what it raises leaves at once.
    The processes of a group share the puzzles by whole batches, and all get all outcomes; if one
    of them leaves because it was asked to stop, all do.
    """
    if group.size == 1:
        return _outcomes(recipe, core, weights, puzzles, steps, check)
    batches = group.slots(-(-len(puzzles) // BATCH))
    rows = np.arange(len(puzzles))[batches.start * BATCH : batches.stop * BATCH]
    mine, left = None, None
    try:
        if len(rows):
            mine = _outcomes(recipe, core, weights, puzzles.select(rows), steps, check)
    except Stopped as stopped:
        left = (stopped.state, str(stopped))
    every = group.listed((mine, left))
    for _, left in every:
        if left is not None:
            raise Stopped(*left)
    parts = [part for part, _ in every if part is not None]
    return Outcomes(
        parts[0].steps,
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("solved", "cell_accuracy", "halt_logit", "halting_step", "unconverged")
        ),
    )


def _outcomes(
    recipe: Recipe,
    core: Core,
    weights: Weights,
    puzzles: Puzzles,
    steps: tuple[int, ...],
    check: Callable[[], None],
) -> Outcomes:
    reasoner = _Leaving(core, weights, recipe.supervision.carried, check=check)
    policy = recipe.eval.policy
    match policy:
        case AllSteps():
            return evaluate(reasoner, puzzles.inputs, puzzles.answers, steps=steps, batch=BATCH)
        case WhenHalted():
            trained = recipe.supervision.halting
            rule = trained if isinstance(policy.rule, AsTrained) else policy.rule
            return evaluate_when_halted(
                reasoner, puzzles.inputs, puzzles.answers, rule=rule, steps=steps, batch=BATCH
            )
