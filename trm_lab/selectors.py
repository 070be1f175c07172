"""Choosing one of K rollouts.  Numpy alone.

Shapes: P puzzles, R rollouts, S recorded steps.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from trm_lab.config.test_time import Selector


@dataclass(frozen=True)
class Trials:
    """What every rollout of every puzzle gives after each recorded number of supervision steps."""

    steps: Int[np.ndarray, " S"]
    solved: Bool[np.ndarray, "P R S"]
    """All cells right."""
    cell_accuracy: Float[np.ndarray, "P R S"]
    """Share of the cells that are right, given cells included."""
    halt_logit: Float[np.ndarray, "P R S"]
    residual: Float[np.ndarray, "P R S"]
    """Relative change of y over the step: |y' - y| / |y|, noise apart."""
    same: Int[np.ndarray, "P R S"]
    """Lowest rollout that gives the same whole answer at that step."""
    solution: Int[np.ndarray, "P R S"]
    """Which of the puzzle's solutions the answer is; -1 where it is none."""
    unconverged: Bool[np.ndarray, "P R S"]
    """Whether the solve of that step is above its tolerance; never without an implicit gradient."""
    quiet: int = 0
    """Leading rollouts without noise, where the others have it."""


def choose(selector: Selector, trials: Trials, K: int) -> Int[np.ndarray, "P S"]:
    """Give the rollout that a selector picks out of the first K."""
    halt = _finite(trials.halt_logit[:, :K])
    chosen: Int[np.ndarray, "P S"]
    match selector:
        case "head":
            chosen = halt.argmax(axis=1)
        case "residual":
            # Noise keeps a residual up, so that a rollout without it would always be taken.
            first = trials.quiet if trials.quiet < K else 0
            chosen = first + _finite(-trials.residual[:, first:K]).argmax(axis=1)
        case "vote":
            count = votes(trials.same[:, :K])
            winners = count == count.max(axis=1, keepdims=True)
            chosen = np.where(winners, halt, -np.inf).argmax(axis=1)
        case "oracle":
            right = trials.solved[:, :K] + trials.cell_accuracy[:, :K].astype(np.float64)
            chosen = right.argmax(axis=1)
    return chosen


def votes(same: Int[np.ndarray, "P K S"]) -> Int[np.ndarray, "P K S"]:
    """Count, for each rollout, the rollouts that give its answer, itself included."""
    return np.stack(
        [(same == same[:, r : r + 1]).sum(axis=1) for r in range(same.shape[1])], axis=1
    )


def pick(values: np.ndarray, chosen: Int[np.ndarray, "P S"]) -> np.ndarray:
    """Take what the chosen rollouts have: `P R S` values to `P S`."""
    return np.take_along_axis(values, chosen[:, None], axis=1)[:, 0]


def _finite(values: np.ndarray) -> np.ndarray:
    """Put what is not a number behind everything else."""
    return np.where(np.isfinite(values), values, np.finfo(values.dtype).min)
