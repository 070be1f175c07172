"""What training draws at each supervision step, as a function of (seed, step) alone.

Steps are counted through the run: with one of them per optimiser update they are the updates.  No
generator is carried along: the counter is the generator's state, so a resumed run draws what an
uninterrupted one would, and two models of one seed see the same puzzles.  On several processes all
of them draw for the whole batch and keep their own slots, which are therefore those of one process.
Shapes: G slots of the whole batch, B of this process, L cells.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trm_lab.config.gradient import Gradient, RandomTruncation
from trm_lab.config.loops import SampledDepth
from trm_lab.config.supervision import ExplorationLaw
from trm_lab.core.initial import keyed
from trm_lab.core.supervision import Batch
from trm_lab.tasks.dataset import TaskData
from trm_lab.training.distributed import SOLO, Group


class Stream:
    """Batches of training puzzles and exploration minima."""

    def __init__(
        self,
        data: TaskData,
        batch: int,
        seed: int,
        device: torch.device,
        group: Group = SOLO,
    ) -> None:
        """Draw for a whole batch of `batch` slots.

        Raises:
            ConfigError: the group cannot share it equally.
        """
        group.check_batch(batch)
        self.data = data
        self.batch = batch
        """Slots of the whole batch."""
        self.group = group
        self.slots = group.slots(batch)
        """Those of this process."""
        self.seed = seed
        self.device = device
        self._order = lru_cache(maxsize=2)(self._permutation)

    def draw(self, step: int) -> Batch:
        """Give the new batch of a step counted from 1.

        Puzzles follow one random order per pass over the training set; each gets a fresh random
        symmetry where the task allows one.  Of several solutions a random one comes first, as the
        label to be learned.
        """
        puzzles, size = self.data.train, len(self.data.train)
        place = (step - 1) * self.batch + np.arange(self.batch)
        rows = np.array([self._order(int(p) // size)[int(p) % size] for p in place])
        inputs, labels = puzzles.inputs[rows], puzzles.labels[rows]
        if puzzles.solutions is not None:
            counts = puzzles.solution_counts[rows, None]
            first = keyed(self.seed, "solution", step).integers(0, counts)
            order = (first + np.arange(puzzles.solutions.shape[1])) % puzzles.solutions.shape[1]
            labels = np.take_along_axis(puzzles.solutions[rows], order[..., None], axis=1)
        if self.data.augment is not None:
            inputs, labels = self._turned(inputs, labels, step)
        inputs, labels = inputs[self.slots], labels[self.slots]
        return Batch(
            torch.as_tensor(inputs.astype(np.int32), device=self.device),
            torch.as_tensor(labels.astype(np.int64), device=self.device),
            torch.zeros(len(inputs), dtype=torch.int64, device=self.device),
        )

    def _turned(
        self, inputs: np.ndarray, labels: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply to each puzzle its symmetry, the same to all of its solutions: the key is one."""
        assert self.data.augment is not None
        answers = [labels] if labels.ndim == 2 else list(labels.swapaxes(0, 1))
        pairs = [
            self.data.augment(inputs, answer, keyed(self.seed, "augment", step))
            for answer in answers
        ]
        turned = [pair[1] for pair in pairs]
        return pairs[0][0], turned[0] if labels.ndim == 2 else np.stack(turned, axis=1)

    def keys(self, step: int) -> Int[Tensor, " B"]:
        """Give each slot's random key at a step, from which a random start is drawn."""
        rng = keyed(self.seed, "start", step)
        keys = rng.integers(-(2**63), 2**63, self.batch, dtype=np.int64)
        return torch.as_tensor(keys[self.slots], device=self.device)

    def minimum(
        self,
        step: int,
        exploration: float,
        N_sup: int,
        law: ExplorationLaw = "uniform",
        *,
        together: bool = False,
    ) -> Int[Tensor, " B"]:
        """Give the steps before which exploration keeps each slot: 2..N_sup, or 0 for none.

        `together` draws once for all slots: of many that leave together, one or the other would
        always be kept.
        """
        count = 1 if together else self.batch
        if N_sup == 1:
            least = np.zeros(count, dtype=np.int32)
        else:
            rng = keyed(self.seed, "explore", step)
            explores = rng.random(count) < exploration
            match law:
                case "uniform":
                    drawn = rng.integers(2, N_sup + 1, count)
                case "full":
                    drawn = np.full(count, N_sup)
                case "geometric":
                    drawn = np.minimum(1 + rng.geometric(0.5, count), N_sup)
            least = np.where(explores, drawn, 0)
        least = np.broadcast_to(least.astype(np.int32), self.batch)[self.slots].copy()
        return torch.as_tensor(least, device=self.device)

    def gradient(self, update: int, scheme: Gradient) -> Gradient:
        """Give the gradient scheme of an update: of a random truncation, the one that is drawn."""
        if not isinstance(scheme, RandomTruncation):
            return scheme
        law = scheme.law()
        rng = keyed(self.seed, "truncation", update)
        return law[int(rng.choice(len(law), p=[share for share, _ in law]))][1]

    def cycles(self, step: int, depth: SampledDepth) -> Int[np.ndarray, " G"]:
        """Draw T for each slot of the whole batch, the same for all where it is drawn per batch."""
        count = self.batch if depth.per == "puzzle" else 1
        drawn = keyed(self.seed, "depth", step).integers(depth.low, depth.high + 1, count)
        return np.broadcast_to(drawn, (self.batch,))

    def _permutation(self, epoch: int) -> np.ndarray:
        return keyed(self.seed, "order", epoch).permutation(len(self.data.train))
