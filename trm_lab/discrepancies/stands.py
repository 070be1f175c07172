"""Where a recipe may stand between paper and released code.

Torch-free.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from trm_lab.config.gradient import Gradient
from trm_lab.config.recipe import Recipe
from trm_lab.config.remarks import computation
from trm_lab.discrepancies.families import family

Side = Literal["paper", "code", "both", "neither"]
"""Neither is also where the recipe goes beyond both, or the point does not apply to it."""


class Stand(NamedTuple):
    """Where a recipe stands on one point."""

    side: Side
    value: str
    """What the recipe has."""
    applies: bool = True
    """Whether the point bears on the recipe; "neither" where it does not."""


def between(value: object, paper: object, code: object, shown: str = "") -> Stand:
    """Compare a value with that of the paper and that of the code; `shown` writes it."""
    return Stand(side(value == paper, value == code), shown or str(value))


def side(paper: bool, code: bool) -> Side:
    """Name the side of what is as the paper, as the code, or both."""
    if paper:
        return "both" if code else "paper"
    return "code" if code else "neither"


def acts_as(recipe: Recipe, gradient: Gradient) -> bool:
    """Say whether a gradient would do the same in all programs of the recipe."""
    model = recipe.model.model_copy(update={"gradient": gradient})
    return computation(recipe.model_copy(update={"model": model})) == computation(recipe)


def fact(side: Side, value: str) -> Callable[[Recipe], Stand]:
    """Stand in one place, whatever the recipe."""
    return lambda _: Stand(side, value)


def fact_of_hrm(side: Side, value: str) -> Callable[[Recipe], Stand]:
    """Stand in one place if the recipe is a variant of HRM."""
    return lambda recipe: Stand(side, value) if family(recipe) == "hrm" else apart("not HRM")


def apart(value: str) -> Stand:
    """Stand where the point does not apply."""
    return Stand("neither", value, applies=False)
