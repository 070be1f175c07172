"""Evaluation as a recipe asks for it: by its policy, carrying what training carries."""

from collections.abc import Callable
from dataclasses import dataclass

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

BATCH = 100


@dataclass(frozen=True)
class _Leaving(Reasoner):
    """A reasoner that looks before every step whether it may go on."""

    check: Callable[[], None] = lambda: None

    def solve(
        self, z: Latents, start: Latents, tokens: Int[Tensor, "B L"]
    ) -> tuple[Readout, Latents, Bool[Tensor, " B"]]:
        self.check()
        return super().solve(z, start, tokens)


def outcomes(
    recipe: Recipe,
    core: Core,
    weights: Weights,
    puzzles: Puzzles,
    steps: tuple[int, ...],
    check: Callable[[], None] = lambda: None,
) -> Outcomes:
    """Evaluate weights on puzzles after each of the given (rising) steps.

    `check` is called before each supervision step of each batch; what it raises leaves at once.
    """
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
