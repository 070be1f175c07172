"""The labelled dataset of a depth x breadth grid: one run, one set of puzzles, many budgets.

Dimensions: `selector`, `rollouts` (K), `steps`, `puzzle`, and `rollout` (the single rollouts that
every K takes its first ones from).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from trm_lab.selectors import Trials, choose, pick

CELL = ("selector", "rollouts", "steps")
EACH = ("puzzle", "rollout", "steps")
SETS = {
    "coverage": "Mean share of a puzzle's solutions that its rollouts find",
    "precision": "Mean share of rollouts that are solutions",
    "diversity": "Mean, over puzzles with a right rollout, of different solutions found over the "
    "most that so many right rollouts could find",
}
"""Measures against the exact sets, on a task of puzzles with several solutions."""


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
        "chosen": (
            (*CELL[:2], "puzzle", "steps"),
            np.array([[chosen[s, K] for K in rollouts] for s in selectors], dtype=np.int16),
            "Rollout chosen", "1",
        ),
        "solved": (EACH, trials.solved.astype(np.uint8), "Rollout right", "1"),
        "halt_logit": (EACH, trials.halt_logit, "Logit of halting", "1"),
        "residual": (EACH, trials.residual, "Relative change of y over the step", "1"),
        "unconverged": (
            EACH, trials.unconverged.astype(np.uint8), "Implicit solve above the tolerance", "1",
        ),
        "same_answer": (EACH, trials.same, "Lowest rollout with the same answer", "1"),
    }  # fmt: skip
    if "solutions" in facts:
        found: dict[str, list[np.ndarray]] = {name: [] for name in SETS}
        for K in rollouts:
            for name, values in set_measures(trials, facts["solutions"], K).items():
                found[name].append(values)
        data |= {name: (CELL[1:], np.array(found[name]), SETS[name], "1") for name in SETS}
        data["solution"] = (EACH, trials.solution, "Index of the solution found, -1 none", "1")
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


def perturbation(attrs: Mapping[str, Any]) -> str:
    """Say in words what tells the rollouts of a grid apart, from its attributes."""
    unit = " of the rms" * bool(attrs["relative"])
    how = [f"noise {attrs['noise']:g}{unit}"] * bool(attrs["noise"])
    how += ["random restarts"] * bool(attrs["restarts"])
    plain = attrs["hypotheses"]
    after = f" after the first {f'{plain} rollouts' if plain > 1 else 'rollout'}" * bool(how)
    seed = f", seed {attrs['seed']}" * bool(attrs["seed"])
    return f"{' and '.join(how) or 'no noise'}{after}{seed}"


def set_measures(trials: Trials, counts: np.ndarray, K: int) -> dict[str, np.ndarray]:
    """Measure the first K rollouts against the exact set of solutions, by depth.

    `counts` are the sizes of the sets.  Diversity is NaN where no rollout of any puzzle is right.
    """
    which = trials.solution[:, :K]
    right = (which >= 0).sum(axis=1)
    distinct = np.sum([(which == m).any(axis=1) for m in range(int(counts.max()))], axis=0)
    sizes = np.asarray(counts)[:, None]
    share = distinct / np.maximum(1, np.minimum(right, sizes))
    hit = right > 0
    with np.errstate(invalid="ignore"):
        diversity = np.where(hit, share, 0).sum(axis=0) / hit.sum(axis=0)
    return {
        "coverage": (distinct / sizes).mean(axis=0),
        "precision": (right / K).mean(axis=0),
        "diversity": diversity,
    }


def rows(grid: xr.Dataset) -> list[dict[str, Any]]:
    """Give the grid as one row per depth and breadth, selectors side by side.

    `unconverged` is the share of the first K rollouts of all puzzles.
    """
    return [
        {"steps": int(step), "rollouts": int(K)}
        | {"flops": float(grid["flops"].sel(rollouts=K, steps=step))}
        | {
            str(s): float(grid["puzzle_accuracy"].sel(selector=s, rollouts=K, steps=step))
            for s in grid["selector"].values
        }
        | {m: float(grid[m].sel(rollouts=K, steps=step)) for m in SETS if m in grid}
        | {"unconverged": float(grid["unconverged"].sel(steps=step)[:, :K].mean())}
        for step in grid["steps"].values
        for K in grid["rollouts"].values
    ]
