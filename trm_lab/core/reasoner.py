"""A model as it is evaluated: where a puzzle starts, and what a supervision step makes of it.

Whatever evaluates or diagnoses a model starts and steps through this one value, so that all agree
on what is carried, on the recursion counts and on the draws.  Shapes: B puzzles, R runs of each,
L cells.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer
from torch import Tensor

from trm_lab.core.core import Core, Readout, Weights
from trm_lab.core.initial import keyed
from trm_lab.core.noise import derive
from trm_lab.core.recursion import Latents

START = 0
"""Stands for the start among the steps, which count from 1, in the key of a draw."""


@dataclass(frozen=True)
class Reasoner:
    """A core with its weights, on puzzles with identifier 0."""

    core: Core
    weights: Weights
    carried: bool
    """Whether latents go on from step to step; else every step starts anew, as in training."""
    n: int | None = None
    """Latent updates per cycle; the model's own if None."""
    T: int | None = None
    """Cycles per supervision step; the model's own if None."""
    seed: int = 0
    """Seed of all draws."""

    def keys(self, inputs: Integer[np.ndarray, "B L"], R: int = 1) -> Int[Tensor, " B*R"]:
        """Give the random key of every run of every puzzle, from the seed and the puzzle's tokens.

        It depends neither on the puzzle's place nor on its batch.
        """
        words = keyed(self.seed, "rollouts").integers(-(2**63), 2**63 - 1, 1, dtype=np.int64)
        digests = [sha256(row.astype("<i4").tobytes()).digest()[:8] for row in inputs]
        whole = np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64) ^ words
        keys = torch.from_numpy(whole).repeat_interleave(R)
        return derive(keys, torch.arange(R).repeat(len(inputs))).to(self.core.device)

    def start(self, keys: Int[Tensor, " B"]) -> Latents:
        """Give the latents of fresh puzzles with these keys, of which a random start is drawn."""
        return self.core.start(self.weights, len(keys), derive(keys, START))

    def step(
        self, z: Latents, start: Latents, tokens: Int[Tensor, "B L"]
    ) -> tuple[Readout, Latents, Bool[Tensor, " B"]]:
        """Run one supervision step from latents z.

        Also gives the latents that the next step runs from (what this one made, or `start` where
        nothing is carried), and the puzzles whose solve did not converge: none where the gradient
        is not implicit, as nothing is solved for then.
        """
        rows = self.weights.rows(torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device))
        params = self.weights.params
        moved = self.core.recur(params, z, tokens, rows, n=self.n, T=self.T)
        read = self.core.read(params, moved.z)
        none = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        missed = none if moved.solves is None else moved.solves.forward.unconverged
        return read, read.z if self.carried else start, missed
