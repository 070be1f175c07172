"""Evaluation in which a puzzle stops at its own halting step, and its slot goes to the next one.

Slots are filled from a queue, so the batch keeps one shape and the cost follows the mean halting
step; when the queue is empty the batch shrinks.  What a puzzle gives must not depend on its company
or its slot, to the last bit.  With one shape that mostly holds where the number of slots is a
multiple of 8 (a matrix product computes left-over rows by another kernel, which rounds otherwise:
float64 on CPU, and a batch of one), but not for inner widths such as 6.  So the first step runs a
second time with the slots in reverse, and where that gives other bits no slot is filled before its
batch is done.  Between two shapes nothing holds it, as a library may choose another kernel; so the
first step at a smaller size runs at both sizes, and a size that gives other bits is not used.
Shapes: P puzzles, W slots, K recorded steps.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer
from torch import Tensor

from trm_lab.config.halting import Halting, Oracle
from trm_lab.core.core import Readout
from trm_lab.core.evaluation import Outcomes
from trm_lab.core.halting import HALT, Shown, wants_to_halt
from trm_lab.core.losses import score
from trm_lab.core.reasoner import Reasoner

MULTIPLE = 8
"""Every number of slots is a multiple of this."""


@torch.no_grad()
def evaluate_when_halted(
    reasoner: Reasoner,
    inputs: Integer[np.ndarray, "P L"],
    labels: Integer[np.ndarray, "P *M L"],
    *,
    rule: Halting | Oracle,
    steps: tuple[int, ...],
    batch: int = 64,
    compact: bool = True,
) -> Outcomes:
    """Evaluate like `evaluate`, each puzzle up to the step at which `rule` halts it.

    From then on its outcome stays as it is; the last of `steps` ends every puzzle.  The rule need
    not be the one trained with.  `compact=False` leaves halted puzzles in the batch until all its
    puzzles have halted, and gives the same bits.
    """
    core, count = reasoner.core, len(inputs)
    device, wide = core.device, torch.promote_types(core.dtype, torch.float32)
    # One more puzzle than there are: empty slots work on it, and its outcome is left out.
    tokens = torch.as_tensor(inputs.astype(np.int32)[[*range(count), 0]], device=device)
    target = torch.as_tensor(labels.astype(np.int64)[[*range(count), 0]], device=device)
    columns = torch.tensor(steps, device=device)
    found = torch.zeros(count + 1, len(steps), 4, dtype=wide, device=device)
    halting_step = np.zeros(count + 1, dtype=np.int32)
    keys = reasoner.keys(inputs)
    slots = _Slots(count, *_sizes(min(batch, count)))
    start = z = reasoner.start(keys[:1].expand(slots.size))
    turned = False
    while slots.fill(everywhere=not compact):
        new = torch.as_tensor(slots.fresh, device=device)
        place = torch.as_tensor(slots.place, device=device)
        if len(new):
            fresh = reasoner.start(keys[place[new]])
            z, start = (
                tuple(old.index_copy(0, new, f) for old, f in zip(latents, fresh, strict=True))
                for latents in (z, start)
            )
        read, after, missed = reasoner.step(z, start, tokens[place])
        if compact and not turned:
            turned = True
            back = torch.arange(slots.size - 1, -1, -1, device=device)
            across, starts = (tuple(latent[back] for latent in old) for old in (z, start))
            again, _, _ = reasoner.step(across, starts, tokens[place[back]])
            compact = _same_bits(read, again, back)
        smaller = slots.smaller() if compact else None
        if smaller is not None:
            kept = torch.as_tensor(slots.kept(smaller), device=device)
            packed, starts = (tuple(latent[kept] for latent in old) for old in (z, start))
            again, then, left = reasoner.step(packed, starts, tokens[place[kept]])
            if _same_bits(read, again, kept[: slots.working]):
                z, start, read, after, missed = packed, starts, again, then, left
                place = place[kept]
                slots.shrink(smaller)
            else:
                slots.sizes.remove(smaller)
        right, cells = score(read.logits, target[place])
        answer = core.model.layout.answer
        shown = Shown(read.halt, z[answer], read.z[answer], right)
        z = after
        done = slots.advance(wants_to_halt(rule, shown).cpu().numpy(), steps[-1])
        halting_step[slots.place[done]] = slots.taken[done]
        now = torch.as_tensor(slots.taken, device=device)[:, None]
        ended = torch.as_tensor(done, device=device)[:, None]
        written = (columns == now) | (ended & (columns > now))
        told = (right, cells, read.halt[..., HALT], missed)
        values = torch.stack([v.to(wide) for v in told], dim=-1)
        found[place] = torch.where(written[..., None], values[:, None], found[place])
        slots.place[done] = count
    solved, accuracy, logit, unconverged = found[:count].float().cpu().numpy().transpose(2, 0, 1)
    return Outcomes(
        np.array(steps, dtype=np.int32),
        solved > 0.5,
        np.ascontiguousarray(accuracy),
        np.ascontiguousarray(logit),
        halting_step[:count],
        unconverged > 0.5,
    )


class _Slots:
    """Which puzzle is in which slot."""

    def __init__(self, count: int, *sizes: int) -> None:
        self.count = count
        self.sizes = list(sizes)
        """Numbers of slots that may be used, falling."""
        self.place = np.full(sizes[0], count, dtype=np.int64)
        """The puzzle of each slot; `count` where it is empty."""
        self.taken = np.zeros(sizes[0], dtype=np.int32)
        """Steps that the puzzle of each slot has had."""
        self.fresh = np.zeros(0, dtype=np.int64)
        """Slots filled last."""
        self.waiting = 0
        """The next puzzle of the queue."""

    @property
    def size(self) -> int:
        return len(self.place)

    @property
    def working(self) -> int:
        return int((self.place < self.count).sum())

    def fill(self, *, everywhere: bool) -> bool:
        """Put waiting puzzles into empty slots; into none before all are empty if `everywhere`.

        False when there is nothing left to do.
        """
        empty = np.flatnonzero(self.place == self.count)
        if everywhere and len(empty) < self.size:
            empty = empty[:0]
        self.fresh = empty[: self.count - self.waiting]
        self.place[self.fresh] = self.waiting + np.arange(len(self.fresh))
        self.taken[self.fresh] = 0
        self.waiting += len(self.fresh)
        return self.working > 0

    def advance(self, wants: Bool[np.ndarray, " W"], last: int) -> Bool[np.ndarray, " W"]:
        """Count one step; say which puzzles it ended."""
        self.taken += 1
        return (wants | (self.taken >= last)) & (self.place < self.count)

    def smaller(self) -> int | None:
        """Give the smallest size that holds the puzzles at work, if no more are waiting."""
        if self.waiting < self.count:
            return None
        size = min(size for size in self.sizes if size >= self.working)
        return size if size < self.size else None

    def kept(self, size: int) -> Int[np.ndarray, " W2"]:
        """Give the slots that go into a smaller batch: those at work, then empty ones."""
        return np.argsort(self.place == self.count, kind="stable")[:size]

    def shrink(self, size: int) -> None:
        """Leave the other slots behind."""
        kept = self.kept(size)
        self.place, self.taken = self.place[kept], self.taken[kept]


def _sizes(slots: int) -> list[int]:
    """Halve a number of slots down to the least, each rounded up to a multiple of 8."""
    sizes = [-(-slots // MULTIPLE) * MULTIPLE]
    while sizes[-1] > MULTIPLE:
        sizes.append(-(-sizes[-1] // (2 * MULTIPLE)) * MULTIPLE)
    return sizes


def _same_bits(large: Readout, small: Readout, rows: Int[Tensor, " W2"]) -> bool:
    """Say whether the first rows of `small` are the given rows of `large`."""
    pairs = zip((*large.z, *large[1:]), (*small.z, *small[1:]), strict=True)
    return all(torch.equal(a[rows], b[: len(rows)]) for a, b in pairs)
