"""Training learns what it learned before: minutes of real training on real puzzles."""

from pathlib import Path

import numpy as np
import pytest

from trm_lab import Execution, Recipe, train
from trm_lab.config.source import read_yaml
from trm_lab.demo import study as demo_study
from trm_lab.study.matrix import Cell, expand_study

pytestmark = pytest.mark.slow
STUDIES = Path(__file__).parent.parent / "studies"


def accuracy(recipe: Recipe, folder: Path) -> dict[int, float]:
    """Train and give test puzzle accuracy by evaluation steps."""
    train(recipe, folder, execution=Execution(device="cpu", threads=1))
    with np.load(folder / "evaluation" / "last.npz") as found:
        return dict(zip(found["steps"].tolist(), found["solved"].mean(0).tolist(), strict=True))


def cell(variant: str) -> Cell:
    return next(c for c in expand_study(demo_study()).cells if c.variant == variant)


def looked_at_once(cell: Cell, *steps: int) -> Recipe:
    """The cell, evaluated at its end alone and after these steps: the training is the same."""
    changed = {"every": cell.recipe.train.updates, "final_steps": steps, "best": False}
    return cell.recipe.model_copy(update={"eval": cell.recipe.eval.model_copy(update=changed)})


def test_the_shallowest_arm_of_the_demo_solves_few_puzzles(tmp_path):
    assert 0.05 <= accuracy(looked_at_once(cell("TRM (1,1)"), 1), tmp_path)[1] <= 0.30


def test_the_deepest_arm_of_the_demo_solves_most_puzzles(tmp_path):
    assert accuracy(looked_at_once(cell("TRM (3,2)"), 1), tmp_path)[1] >= 0.65


def test_the_recipe_of_ninety_seconds_solves_95_percent(tmp_path):
    (only,) = expand_study(read_yaml(STUDIES / "sanity.yaml")).cells
    assert accuracy(looked_at_once(only, 16), tmp_path)[16] >= 0.95
