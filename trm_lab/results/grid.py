"""The labelled dataset of a depth x breadth grid: one run, one set of puzzles, many budgets.

Dimensions: `selector`, `rollouts` (K), `steps`, `puzzle`, and `rollout` (the single rollouts that
every K takes its first ones from).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from trm_lab.core.selection import Trials, choose, pick

CELL = ("selector", "rollouts", "steps")
EACH = ("puzzle", "rollout", "steps")


def grid_dataset(
    trials: Trials,
    selectors: Sequence[str],
    rollouts: Sequence[int],
    step_flops: int,
    facts: Mapping[str, np.ndarray],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Choose one rollout for every selector, K, depth and puzzle, and label the outcome.

    `step_flops` are those of one supervision step of one puzzle; `facts` are known of each puzzle.
    """
    chosen = {(s, K): choose(s, trials, K) for s in selectors for K in rollouts}  # type: ignore[arg-type]

    def over(values: np.ndarray) -> np.ndarray:
        return np.array([[pick(values, chosen[s, K]) for K in rollouts] for s in selectors])

    solved, cells = over(trials.solved), over(trials.cell_accuracy)
    cost = float(step_flops) * np.outer(rollouts, trials.steps)
    data: dict[str, tuple[tuple[str, ...], np.ndarray, str, str]] = {
        "puzzle_accuracy": (CELL, solved.mean(-2), "Share of puzzles solved by the answer", "1"),
        "cell_accuracy": (
            CELL, cells.mean(-2, dtype=np.float64), "Mean share of right cells of the answer", "1",
        ),
        "flops": (CELL[1:], cost, "Compute per puzzle, matrix products", "FLOP"),
        "chosen_solved": (
            (*CELL[:2], "puzzle", "steps"), solved.astype(np.uint8), "Answer right", "1",
        ),
        "solved": (EACH, trials.solved.astype(np.uint8), "Rollout right", "1"),
        "halt_logit": (EACH, trials.halt_logit, "Logit of halting", "1"),
        "residual": (EACH, trials.residual, "Relative change of y over the step", "1"),
        "same_answer": (EACH, trials.same, "Lowest rollout with the same answer", "1"),
    }  # fmt: skip
    for name, values in facts.items():
        data[name] = (("puzzle",), values, name, "1")
    return xr.Dataset(
        {
            name: xr.Variable(dims, values, {"long_name": text, "units": unit})
            for name, (dims, values, text, unit) in data.items()
        },
        coords={
            "selector": list(selectors),
            "rollouts": np.array(rollouts, dtype=np.int64),
            "steps": trials.steps.astype(np.int64),
            "rollout": np.arange(trials.solved.shape[1]),
        },
        attrs=dict(attrs),
    )


def rows(grid: xr.Dataset) -> list[dict[str, Any]]:
    """Give the grid as one row per depth and breadth, selectors side by side."""
    return [
        {"steps": int(step), "rollouts": int(K)}
        | {"flops": float(grid["flops"].sel(rollouts=K, steps=step))}
        | {
            str(s): float(grid["puzzle_accuracy"].sel(selector=s, rollouts=K, steps=step))
            for s in grid["selector"].values
        }
        for step in grid["steps"].values
        for K in grid["rollouts"].values
    ]
