"""The one table of parameters: names, shapes, initial spread and whether a recursion reuses them.

Initialisation, counting, checkpoints and the exchange with official files all read this table, so
that none of them can disagree.  Torch-free.

Letters: D width, V vocabulary, L cells, E puzzle slots, S = L + E positions.  Weights are
[out, in], as in torch.
"""

import math
from typing import NamedTuple

from trm_lab.config.layout import Layout
from trm_lab.config.model import Attention, LearnedPositions, Model
from trm_lab.config.task import Task


class Geometry(NamedTuple):
    """What a task fixes of a model's shapes."""

    cells: int
    """Cells of a puzzle, L."""
    vocabulary: int
    """Token values, V."""
    identifiers: int
    """Rows of the puzzle table."""

    @classmethod
    def of(cls, task: Task) -> "Geometry":
        """Read the geometry of a task."""
        return cls(task.cells, task.vocabulary, task.identifiers)


class Parameter(NamedTuple):
    """Shape and start of one trained tensor."""

    shape: tuple[int, ...]
    std: float
    """Standard deviation of the truncated normal it is drawn from; 0 for a constant."""
    constant: float = 0.0
    """Value where std is 0."""
    recurring: bool = True
    """Whether every update applies it (a net) or only the ends of a supervision step."""


def parameters(model: Model, geometry: Geometry) -> dict[str, Parameter]:
    """List the trunk's parameters by name, in a fixed order.

    The puzzle table is not among them: it has its own optimiser and its own count.  Initial values
    follow the released code (TRM e7b6871, HRM 42410da): truncated normal with std 1/sqrt(fan in),
    halting head at weight 0 and bias -5, so that nothing halts at first.
    """
    D, V = model.width, geometry.vocabulary
    once: dict[str, Parameter] = {"embed.tokens": Parameter((V, D), D**-0.5, recurring=False)}
    if isinstance(model.positions, LearnedPositions):
        S = geometry.cells + model.slots
        once["embed.positions"] = Parameter((S, D), D**-0.5, recurring=False)
    nets: dict[str, Parameter] = {}
    for net in range(model.layout.nets):
        for layer in range(model.layers):
            for name, shape in _block(model, geometry.cells + model.slots).items():
                std = 1 / math.sqrt(shape[-1])
                nets[f"net.{net}.layer.{layer}.{name}"] = Parameter(shape, std)
    heads = {
        "head.logits": Parameter((V, D), D**-0.5, recurring=False),
        "head.halt.weight": Parameter((2, D), 0.0, recurring=False),
        "head.halt.bias": Parameter((2,), 0.0, constant=-5.0, recurring=False),
    }
    return once | nets | heads


def latent_names(layout: Layout) -> list[str]:
    """Name the untrained initial vectors, one of length D per latent."""
    return [f"initial.{name}" for name in layout.latents]


def table_shape(model: Model, geometry: Geometry) -> tuple[int, int] | None:
    """Shape of the puzzle table, or None without puzzle slots."""
    return (geometry.identifiers, model.puzzle.dim) if model.puzzle else None


def _block(model: Model, positions: int) -> dict[str, tuple[int, int]]:
    D = model.width
    if isinstance(model.mixer, Attention):
        across = model.mixer.heads * model.head_dim
        mixer = {"mixer.qkv": (3 * across, D), "mixer.out": (D, across)}
    else:
        mixer = _swiglu("mixer", positions, model.inner(positions))
    return mixer | _swiglu("ffn", D, model.inner(D))


def _swiglu(name: str, width: int, inner: int) -> dict[str, tuple[int, int]]:
    return {f"{name}.gate_up": (2 * inner, width), f"{name}.down": (width, inner)}
