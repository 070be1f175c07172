"""Cores so small that many can be run."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from trm_lab.config import Attention, Gradient, Model, NoPositions, PuzzleSlots, Rope
from trm_lab.config.layout import Cycle
from trm_lab.core.core import Core, Readout, Weights
from trm_lab.core.initial import initial_weights
from trm_lab.core.recursion import Checkpointing, Latents, Net, State, run
from trm_lab.core.supervision import Batch
from trm_lab.parameters import Geometry

GEOMETRY = Geometry(cells=4, vocabulary=6, identifiers=3)


def tiny_model(**changes: Any) -> Model:
    """Give a model of width 4 that has every part; rope only where attention uses it."""
    mixer = changes.get("mixer", Attention(heads=1))
    base: dict[str, Any] = {
        "layers": 1,
        "width": 4,
        "expansion": 1.0,
        "round_to": 2,
        "mixer": mixer,
        "positions": Rope() if isinstance(mixer, Attention) else NoPositions(),
        "puzzle": PuzzleSlots(slots=1, dim=3),
        "n": 2,
        "T": 2,
    }
    return Model(**(base | changes))


def tiny_weights(
    model: Model, dtype: torch.dtype = torch.float32, geometry: Geometry = GEOMETRY, seed: int = 0
) -> Weights:
    """Draw weights with informative heads and table, where training would start them constant."""
    weights = initial_weights(model, geometry, seed, dtype, torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    for key in ("head.halt.weight", "head.halt.bias"):
        weights.params[key].normal_(generator=generator)
    if weights.table is not None:
        weights.table.normal_(generator=generator)
    for p in weights.params.values():
        p.requires_grad_()
    return weights


def tiny_batch(size: int, geometry: Geometry = GEOMETRY, seed: int = 0) -> Batch:
    """Draw random puzzles; some labels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    shape = (size, geometry.cells)
    inputs = torch.randint(0, geometry.vocabulary, shape, generator=generator, dtype=torch.int32)
    labels = torch.randint(0, geometry.vocabulary, shape, generator=generator)
    ignored = torch.rand(shape, generator=generator) < 0.2
    identifiers = torch.randint(0, geometry.identifiers, (size,), generator=generator)
    return Batch(inputs, torch.where(ignored, -100, labels), identifiers)


def leaves(weights: Weights, rows: Tensor | None) -> list[Tensor]:
    """Give everything that gets a gradient."""
    return [*weights.params.values()] + ([] if rows is None else [rows])


def random_latents(core: Core, size: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw latents of unit size, another for each."""
    generator = torch.Generator().manual_seed(seed)
    shape = (size, core.positions, core.model.width)
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).to(core.dtype)
        for _ in core.model.layout.latents
    )


class TinyStep(NamedTuple):
    """A supervision step from random latents."""

    out: Readout
    leaves: list[Tensor]
    """Everything that gets a gradient."""

    def everything(self) -> list[Tensor | None]:
        """Give its values and the gradients of their unequal sum."""
        grads = torch.autograd.grad(scalar(self.out), self.leaves, allow_unused=True)
        return [*self.out.z, self.out.logits, self.out.halt, *grads]


def tiny_step(
    model: Model, dtype: torch.dtype = torch.float32, checkpointing: Checkpointing = None
) -> TinyStep:
    """Run one supervision step of three puzzles."""
    weights, batch = tiny_weights(model, dtype), tiny_batch(3)
    core = Core(model, GEOMETRY, dtype, checkpointing=checkpointing)
    rows = weights.rows(batch.identifiers)
    if rows is not None:
        rows.requires_grad_()
    out = core.step(weights.params, random_latents(core, 3), batch.inputs, rows)
    return TinyStep(out, leaves(weights, rows))


def recurse(z: Latents, x: State, net: Net, cycle: Cycle, T: int, gradient: Gradient) -> Latents:
    """Give the latents after T cycles."""
    return run(z, x, net, cycle, T, gradient).z


def scalar(out: Readout) -> Tensor:
    """Sum up a readout with unequal weights, so that no gradient cancels by symmetry."""
    parts = [out.logits, out.halt]
    return sum(
        (part * torch.linspace(-1, 2, part.numel(), dtype=part.dtype).view_as(part)).sum()
        for part in parts
    )
