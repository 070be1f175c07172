"""Evaluation as a recipe asks for it: by its policy, carrying what training carries."""

from trm_lab.config.halting import AllSteps, AsTrained, WhenHalted
from trm_lab.config.recipe import Recipe
from trm_lab.core.compaction import evaluate_when_halted
from trm_lab.core.core import Core, Weights
from trm_lab.core.evaluation import Outcomes, evaluate
from trm_lab.core.reasoner import Reasoner
from trm_lab.tasks.dataset import Puzzles

BATCH = 100


def outcomes(
    recipe: Recipe, core: Core, weights: Weights, puzzles: Puzzles, steps: tuple[int, ...]
) -> Outcomes:
    """Evaluate weights on puzzles after each of the given (rising) steps."""
    reasoner = Reasoner(core, weights, recipe.supervision.carried)
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
