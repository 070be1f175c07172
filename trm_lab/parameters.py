"""The one table of parameters: names, shapes, initial spread and whether a recursion reuses them.

Initialisation, counting, checkpoints and the exchange with official files all read this table, so
that none of them can disagree.  Torch-free.

Letters: D width, V vocabulary, L cells, E puzzle slots, S = L + E positions.  Weights are
[out, in], as in torch.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from trm_lab.config.blocks import (
    Attention,
    Convolution,
    ConvSwiGLU,
    LearnedPositions,
    MixtureOfExperts,
    NormGateSwiGLU,
    SwiGLU,
    TokenMLP,
)
from trm_lab.config.contracts import OwnMixer, OwnTask
from trm_lab.config.initial import FixedStart, LearnedStart
from trm_lab.config.model import Model
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
    def of(cls, task: Task | OwnTask) -> "Geometry":
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
    S = geometry.cells + model.slots
    if isinstance(model.positions, LearnedPositions):
        once["embed.positions"] = Parameter((S, D), D**-0.5, recurring=False)
    if isinstance(model.initial, LearnedStart):
        once |= {name: Parameter((D,), 1.0, recurring=False) for name in _latent_names(model)}
    nets = {
        f"net.{net}.layer.{layer}.{name}": parameter
        for net in range(model.layout.nets)
        for layer in range(model.layers)
        for name, parameter in block(model, S).items()
    }
    heads = {
        "head.logits": Parameter((V, D), D**-0.5, recurring=False),
        "head.halt.weight": Parameter((2, D), 0.0, recurring=False),
        "head.halt.bias": Parameter((2,), 0.0, constant=-5.0, recurring=False),
    }
    if model.head == "tied":
        del heads["head.logits"]
    return once | nets | heads


def untrained_latents(model: Model) -> list[str]:
    """Name the untrained initial vectors, one of length D per latent; none for other starts."""
    return _latent_names(model) if isinstance(model.initial, FixedStart) else []


def table_shape(model: Model, geometry: Geometry) -> tuple[int, int] | None:
    """Shape of the puzzle table, or None without puzzle slots."""
    return (geometry.identifiers, model.puzzle.dim) if model.puzzle else None


def block(model: Model, positions: int) -> dict[str, Parameter]:
    """List the parameters of one block over a number of positions, S."""
    D = model.width
    match model.mixer:
        case Attention():
            across = model.mixer.heads * model.head_dim
            mixer = _matrices({"mixer.qkv": (3 * across, D), "mixer.out": (D, across)})
        case TokenMLP():
            mixer = _swiglu("mixer", positions, model.inner(positions))
        case Convolution():
            mixer = _matrices({"mixer.conv": (D, 3 * D)})
        case OwnMixer():
            own = model.mixer.parameters(model, positions)
            mixer = _matrices({f"mixer.{name}": shape for name, shape in own.items()})
    return mixer | _feed_forward(model)


def _feed_forward(model: Model) -> dict[str, Parameter]:
    D, setting = model.width, model.ffn
    inner = model.inner(D)
    match setting:
        case SwiGLU() | NormGateSwiGLU():
            return _swiglu("ffn", D, inner)
        case ConvSwiGLU():
            kernel = Parameter((inner, 1, setting.kernel), 1 / math.sqrt(setting.kernel))
            return _swiglu("ffn", D, inner) | {"ffn.conv": kernel}
        case MixtureOfExperts():
            # All experts side by side; the last matrix sums over them, but each is drawn as one.
            wide = _swiglu("ffn", D, setting.experts * inner)
            down = wide["ffn.down"]._replace(std=1 / math.sqrt(inner))
            return wide | {"ffn.down": down} | _matrices({"ffn.router": (setting.experts, D)})


def _swiglu(name: str, width: int, inner: int) -> dict[str, Parameter]:
    return _matrices({f"{name}.gate_up": (2 * inner, width), f"{name}.down": (width, inner)})


def _matrices(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Parameter]:
    return {name: Parameter(shape, 1 / math.sqrt(shape[-1])) for name, shape in shapes.items()}


def _latent_names(model: Model) -> list[str]:
    return [f"initial.{name}" for name in model.layout.latents]
