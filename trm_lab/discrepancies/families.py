"""Whose paper and code a recipe is compared with."""

from typing import Literal

from trm_lab.config.gradient import LastUpdates
from trm_lab.config.halting import QLearning
from trm_lab.config.layout import Looped, TwoLatents
from trm_lab.config.recipe import Recipe

Family = Literal["trm", "hrm", "baseline"]
"""The baseline is the Transformer of HRM's size in HRM's repository."""


def family(recipe: Recipe) -> Family:
    """Say which model a recipe is a variant of.

    HRM has a net of its own for each of its two latents, and a gradient shorter than a cycle or
    Q-learning; with neither it is the row of TRM's Table 1 with separate nets.  The baseline is one
    evaluation of one net in a supervision step.  All else counts as TRM.
    """
    model, gradient = recipe.model, recipe.model.gradient
    match model.layout:
        case TwoLatents(nets=2):
            q_learning = isinstance(recipe.supervision.halting, QLearning)
            cycle = len(model.layout.cycle(model.n))
            short = isinstance(gradient, LastUpdates) and gradient.k < cycle
            return "hrm" if q_learning or short else "trm"
        case Looped() if model.n == model.T == 1:
            return "baseline"
        case _:
            return "trm"
