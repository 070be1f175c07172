"""Evaluation: every puzzle gets all steps, and every step asked for is scored.

Shapes: P puzzles, K recorded steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from trm_lab.core.core import Core, Weights
from trm_lab.core.halting import HALT
from trm_lab.core.losses import score
from trm_lab.core.rollouts import puzzle_keys, start_keys


@dataclass(frozen=True)
class Outcomes:
    """Per-puzzle results after each recorded number of supervision steps."""

    steps: Int[np.ndarray, " K"]
    solved: Bool[np.ndarray, "P K"]
    """All cells right."""
    cell_accuracy: Float[np.ndarray, "P K"]
    """Share of the cells that are right, given cells included."""
    halt_logit: Float[np.ndarray, "P K"]
    halting_step: Int[np.ndarray, " P"]
    """Supervision steps that each puzzle had: all, or up to its own halting."""

    @property
    def puzzle_accuracy(self) -> Float[np.ndarray, " K"]:
        """Share of puzzles solved, by step."""
        return np.asarray(self.solved.mean(axis=0))

    @property
    def mean_cell_accuracy(self) -> Float[np.ndarray, " K"]:
        """Mean over puzzles of the share of right cells, by step."""
        return np.asarray(self.cell_accuracy.mean(axis=0, dtype=np.float64))


@torch.no_grad()
def evaluate(
    core: Core,
    weights: Weights,
    params: Mapping[str, Tensor],
    inputs: Integer[np.ndarray, "P L"],
    labels: Integer[np.ndarray, "P *M L"],
    *,
    steps: tuple[int, ...],
    n: int | None = None,
    T: int | None = None,
    batch: int = 64,
    seed: int = 0,
    carried: bool = True,
) -> Outcomes:
    """Evaluate parameters on puzzles with identifier 0 after each of the given (rising) steps.

    `params` stands in for `weights.params`, so that averaged weights can be evaluated.  `n` and `T`
    default to the model's own.  A random start is that of rollout 0: keyed by `seed` and the
    puzzle's tokens, not by its place or its batch.  Without `carried` latents every step starts
    anew, as in training without a carry.
    """
    kept: tuple[list[np.ndarray], ...] = ([], [], [])
    for at in range(0, len(inputs), batch):
        tokens = torch.as_tensor(inputs[at : at + batch].astype(np.int32), device=core.device)
        target = torch.as_tensor(labels[at : at + batch].astype(np.int64), device=core.device)
        rows = weights.rows(torch.zeros(len(tokens), dtype=torch.int64, device=core.device))
        keys = start_keys(puzzle_keys(inputs[at : at + batch], seed, 1).to(core.device))
        start = z = core.start(weights, len(tokens), keys, params)
        recorded = []
        for step in range(1, steps[-1] + 1):
            z, logits, halt = core.step(params, z if carried else start, tokens, rows, n=n, T=T)
            if step in steps:
                recorded.append((*score(logits, target), halt[..., HALT]))
        for chunks, values in zip(kept, zip(*recorded, strict=True), strict=True):
            chunks.append(torch.stack(values, dim=-1).cpu().float().numpy())
    solved, cells, halts = (np.concatenate(chunks) for chunks in kept)
    return Outcomes(
        np.array(steps, dtype=np.int32),
        solved > 0.5,
        cells.astype(np.float32),
        halts.astype(np.float32),
        np.full(len(inputs), steps[-1], dtype=np.int32),
    )
