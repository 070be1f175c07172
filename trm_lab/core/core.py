"""The recursive core: embed, recurse, read out.  Functions over named tensors, no hidden state.

Letters: B puzzles, L cells, E puzzle slots, S = L + E positions, D width, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from trm_lab.config.blocks import LearnedPositions
from trm_lab.config.gradient import Gradient
from trm_lab.config.initial import FixedStart, LearnedStart, RandomStart, ZeroStart
from trm_lab.config.model import Model
from trm_lab.core.nets import Block, apply_net, build_block
from trm_lab.core.noise import derive, normal
from trm_lab.core.products import Params, linear
from trm_lab.core.recursion import Checkpointing, Latents, Recursion, run
from trm_lab.parameters import Geometry

CPU = torch.device("cpu")
HALF = 0.707106781
"""1/sqrt(2) to nine digits, the published constant: keeps the variance of tokens + positions."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a model."""

    params: dict[str, Tensor]
    """Trained parameters by name; see `trm_lab.parameters`."""
    initial: tuple[Float[Tensor, " D"], ...]
    """Untrained start of each latent, one vector broadcast over positions; none for other starts
    than the fixed one."""
    table: Float[Tensor, "ids dim"] | None = None
    """Puzzle table, trained by its own sparse optimiser."""
    others: tuple[Float[Tensor, "H D"], ...] = ()
    """Untrained starts of the hypotheses beside the first, per latent; none without any."""

    @property
    def hypotheses(self) -> int:
        """Number of starts that a puzzle can have."""
        return 1 + (len(self.others[0]) if self.others else 0)

    def rows(self, identifiers: Int[Tensor, " B"]) -> Float[Tensor, "B dim"] | None:
        """Look up the puzzle vectors of a batch, detached."""
        return None if self.table is None else self.table[identifiers].detach()


class Readout(NamedTuple):
    """What one supervision step gives."""

    z: Latents
    """Latents after the step, with the graph that the gradient scheme left."""
    logits: Float[Tensor, "B L V"]
    halt: Float[Tensor, "B 2"]
    """Logits of halting and of continuing, in at least float32."""


@dataclass(frozen=True)
class Core:
    """A model made ready for a geometry, an activation type and a device."""

    model: Model
    geometry: Geometry
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU
    checkpointing: Checkpointing = None
    """Activation checkpointing; no value or gradient depends on it."""
    block: Block = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        block = build_block(self.model, self.positions, self.dtype, self.device)
        object.__setattr__(self, "block", block)

    @property
    def positions(self) -> int:
        """Positions of a state, S."""
        return self.geometry.cells + self.model.slots

    @property
    def draws_start(self) -> bool:
        """Whether `start` needs random keys."""
        return isinstance(self.model.initial, RandomStart)

    def start(
        self,
        weights: Weights,
        batch: int,
        keys: Int[Tensor, " B"] | None = None,
    ) -> Latents:
        """Give the latents of fresh puzzles; `keys` are their keys, which a random start needs."""
        shape = (batch, self.positions, self.model.width)
        latents, setting = self.model.layout.latents, self.model.initial
        match setting:
            case FixedStart():
                return tuple(v.to(self.dtype).expand(shape) for v in weights.initial)
            case LearnedStart():
                vectors = (weights.params[f"initial.{name}"] for name in latents)
                return tuple(v.to(self.dtype).expand(shape) for v in vectors)
            case ZeroStart():
                zeros = torch.zeros(shape, dtype=self.dtype, device=self.device)
                return (zeros,) * len(latents)
            case RandomStart():
                assert keys is not None, "a random start needs the random keys of its puzzles"
                size = shape[1] * shape[2]
                drawn = (normal(derive(keys, i), size) for i in range(len(latents)))
                return tuple((setting.std * d).to(self.dtype).view(shape) for d in drawn)

    def embed(
        self, params: Params, inputs: Int[Tensor, "B L"], rows: Float[Tensor, "B dim"] | None
    ) -> Float[Tensor, "B S D"]:
        """Embed tokens, put the puzzle slots in front, add positions, scale by sqrt(D)."""
        model = self.model
        x = F.embedding(inputs, params["embed.tokens"].to(self.dtype))
        if model.puzzle is not None:
            assert rows is not None, "a model with puzzle slots needs their rows"
            filled = model.puzzle.slots * model.width
            prefix = F.pad(rows.to(self.dtype), (0, filled - rows.shape[-1]))
            x = torch.cat((prefix.view(-1, model.puzzle.slots, model.width), x), dim=-2)
        if isinstance(model.positions, LearnedPositions):
            x = HALF * (x + params["embed.positions"].to(self.dtype))
        return math.sqrt(model.width) * x

    def net(self, params: Params) -> Callable[[int, Tensor], Tensor]:
        """Bind the nets to parameters."""
        model = self.model
        return lambda index, h: apply_net(model, self.block, params, f"net.{index}", h)

    def recur(
        self,
        params: Params,
        z: Latents,
        inputs: Int[Tensor, "B L"],
        rows: Float[Tensor, "B dim"] | None = None,
        *,
        n: int | None = None,
        T: int | None = None,
        gradient: Gradient | None = None,
        waits: Int[Tensor, " B"] | None = None,
    ) -> Recursion:
        """Run the program of one supervision step from latents z.

        `n`, `T` and `gradient` default to the model's.  `waits` are cycles that a puzzle leaves
        out, at the beginning.
        """
        model = self.model
        x = self.embed(params, inputs, rows)
        cycle = model.layout.cycle(model.n if n is None else n)
        T = model.T if T is None else T
        net = self.net(params)
        return run(z, x, net, cycle, T, gradient or model.gradient, self.checkpointing, waits)

    def read(self, params: Params, z: Latents) -> Readout:
        """Read answer and halting logits out of latents."""
        y = z[self.model.layout.answer]
        head = "head.logits" if self.model.head == "untied" else "embed.tokens"
        logits = linear(y, params[head])[..., self.model.slots :, :]
        first = y[..., 0, :]
        halt = F.linear(
            first, params["head.halt.weight"].to(y.dtype), params["head.halt.bias"].to(y.dtype)
        )
        return Readout(z, logits, halt.to(torch.promote_types(y.dtype, torch.float32)))

    def step(
        self,
        params: Params,
        z: Latents,
        inputs: Int[Tensor, "B L"],
        rows: Float[Tensor, "B dim"] | None = None,
        *,
        n: int | None = None,
        T: int | None = None,
    ) -> Readout:
        """Run one supervision step from latents z and read it out.

        `n` and `T` default to the model's; test-time compute is a matter of passing others.
        """
        return self.read(params, self.recur(params, z, inputs, rows, n=n, T=T).z)
