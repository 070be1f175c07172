"""Evaluation: every puzzle gets all steps, and every step asked for is scored.

Shapes: P puzzles, K recorded steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer

from trm_lab.core.halting import HALT
from trm_lab.core.losses import score
from trm_lab.core.reasoner import Reasoner


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
    unconverged: Bool[np.ndarray, "P K"]
    """Whether the solve of that step is above its tolerance; never without an implicit gradient."""

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
    reasoner: Reasoner,
    inputs: Integer[np.ndarray, "P L"],
    labels: Integer[np.ndarray, "P *M L"],
    *,
    steps: tuple[int, ...],
    batch: int = 64,
) -> Outcomes:
    """Evaluate a model on puzzles after each of the given (rising) steps."""
    kept: tuple[list[np.ndarray], ...] = ([], [], [], [])
    device = reasoner.core.device
    for at in range(0, len(inputs), batch):
        tokens = torch.as_tensor(inputs[at : at + batch].astype(np.int32), device=device)
        target = torch.as_tensor(labels[at : at + batch].astype(np.int64), device=device)
        start = z = reasoner.start(reasoner.keys(inputs[at : at + batch]))
        recorded = []
        for step in range(1, steps[-1] + 1):
            read, z, missed = reasoner.step(z, start, tokens)
            if step in steps:
                recorded.append((*score(read.logits, target), read.halt[..., HALT], missed))
        for chunks, values in zip(kept, zip(*recorded, strict=True), strict=True):
            chunks.append(torch.stack(values, dim=-1).cpu().float().numpy())
    solved, cells, halts, unconverged = (np.concatenate(chunks) for chunks in kept)
    return Outcomes(
        np.array(steps, dtype=np.int32),
        solved > 0.5,
        cells.astype(np.float32),
        halts.astype(np.float32),
        np.full(len(inputs), steps[-1], dtype=np.int32),
        unconverged > 0.5,
    )
