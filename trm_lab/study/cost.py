"""What a run costs, as far as it can be known before it runs: training and evaluation apart."""

from typing import NamedTuple

from trm_lab.accounting import Account
from trm_lab.config.recipe import Recipe

CPU_FLOPS = 3e10
"""FLOP/s that one core reaches at width 64 (`bench/core.py` prints this machine's own)."""
CPU_OVERHEAD = 5.0
"""Seconds that a run's process takes to start and to load its data."""


class Cost(NamedTuple):
    """Compute of one run in FLOP, and its time on one core."""

    training: float
    evaluation: float
    """On validation puzzles while training, and on the test puzzles at the end."""

    @property
    def flops(self) -> float:
        """All of it."""
        return self.training + self.evaluation

    @property
    def seconds(self) -> float:
        """Time on one core, start included."""
        return self.flops / CPU_FLOPS + CPU_OVERHEAD

    @property
    def evaluation_seconds(self) -> float:
        """Of it, time of evaluation."""
        return self.evaluation / CPU_FLOPS


def cost(recipe: Recipe, account: Account) -> Cost:
    """Estimate what a run costs."""
    training = account.flops_per_update * recipe.train.updates
    return Cost(training, account.eval_flops * evaluated(recipe))


def evaluated(recipe: Recipe) -> int:
    """Count puzzle-steps of evaluation; a test file of unknown size counts as nothing."""
    task, setting = recipe.task, recipe.eval
    times = -(-recipe.train.updates // setting.every)
    test = 1000 if task.kind == "sudoku_bundled" else task.test or 0
    final = test * setting.final_steps[-1] * (2 if setting.best else 1)
    return times * task.validation * setting.steps[-1] + final
