"""The recursive core as data: layout, nets, recursion counts, gradient.

Letters: D width, L cells, E puzzle slots, S = L + E positions.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import BY_NAME, Setting
from trm_lab.config.gradient import Gradient, LastCycles
from trm_lab.config.layout import Layout, TwoLatents


class Attention(Setting):
    """Full bidirectional multi-head attention, no mask: padding attends and is attended."""

    kind: Literal["attention"] = "attention"
    heads: int = Field(default=8, ge=1)
    head_dim: int | None = Field(default=None, ge=2, multiple_of=2)
    """Width of a head; width / heads if not given."""


class TokenMLP(Setting):
    """SwiGLU over the positions, residual and norm over positions too (TRM's `mlp_t`)."""

    kind: Literal["token_mlp"] = "token_mlp"


Mixer = Annotated[Attention | TokenMLP, Field(discriminator="kind"), BY_NAME]


class Rope(Setting):
    """Rotary positions on queries and keys (Su et al. 2021, arXiv 2104.09864), half-split."""

    kind: Literal["rope"] = "rope"
    theta: float = Field(default=10000.0, gt=1)


class LearnedPositions(Setting):
    """A learned vector per position: `x <- (x + p) / sqrt(2)`."""

    kind: Literal["learned"] = "learned"


class NoPositions(Setting):
    """No position code."""

    kind: Literal["none"] = "none"


Positions = Annotated[Rope | LearnedPositions | NoPositions, Field(discriminator="kind"), BY_NAME]


class PuzzleSlots(Setting):
    """Positions in front of the cells that carry a learned vector per puzzle identifier."""

    slots: int = Field(default=16, ge=1, le=64)
    """Positions, E.  Those that the vector does not fill start at zero (register tokens)."""
    dim: int = Field(default=512, ge=1)
    """Length of the vector: a row of the puzzle table."""


class Model(Setting):
    """One recursive core.  Defaults are TRM with attention as published."""

    layout: Layout = TwoLatents()
    layers: int = Field(default=2, ge=1, le=64)
    """Blocks in a net."""
    width: int = Field(default=512, ge=2, multiple_of=2)
    """Channels, D."""
    expansion: float = Field(default=4.0, gt=0, le=64)
    """SwiGLU expansion; the inner width is 2/3 of expansion times the input width, rounded up."""
    round_to: int = Field(default=256, ge=1)
    """Inner widths are rounded up to a multiple of this; 256 as published, which at small widths
    costs up to four times the FLOPs."""
    mixer: Mixer = Attention()
    positions: Positions = Rope()
    puzzle: PuzzleSlots | None = PuzzleSlots()
    """Puzzle slots, or null for none."""
    n: int = Field(default=6, ge=1, le=1000)
    """Latent updates per cycle."""
    T: int = Field(default=3, ge=1, le=1000)
    """Cycles per supervision step."""
    gradient: Gradient = LastCycles()
    norm_eps: float = Field(default=1e-5, gt=0)

    @property
    def slots(self) -> int:
        """Positions in front of the cells, E."""
        return self.puzzle.slots if self.puzzle else 0

    def inner(self, width: int) -> int:
        """Give the inner width of a SwiGLU over `width` inputs."""
        return self.round_to * math.ceil(round(self.expansion * width * 2 / 3) / self.round_to)

    @property
    def head_dim(self) -> int:
        """Width of an attention head; 0 without attention."""
        if not isinstance(self.mixer, Attention):
            return 0
        return self.mixer.head_dim or self.width // self.mixer.heads

    @property
    def effective_depth(self) -> int:
        """Blocks in sequence in one supervision step: layers * T * (n + 1)."""
        return self.layers * self.T * len(self.layout.cycle(self.n))

    @property
    def graph_updates(self) -> int:
        """Updates of a supervision step that keep their graph."""
        cycle = len(self.layout.cycle(self.n))
        return cycle * self.T - self.gradient.cut(cycle, self.T)

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if isinstance(self.mixer, Attention) and self.mixer.head_dim is None:
            heads = self.mixer.heads
            if self.width % heads or (self.width // heads) % 2:
                fits = [h for h in range(1, self.width + 1) if self.width % (2 * h) == 0]
                near = min(fits, key=lambda h: (abs(h - heads), h))
                raise ValueError(
                    f"width {self.width} does not split into {heads} heads of even width; "
                    f"heads: {near} does, or give mixer.head_dim"
                )
        if isinstance(self.mixer, TokenMLP) and isinstance(self.positions, Rope):
            raise ValueError(
                "positions: rope acts inside attention only and would be ignored by "
                "mixer: token_mlp; use positions: none or learned"
            )
        if self.puzzle and self.puzzle.dim > self.puzzle.slots * self.width:
            raise ValueError(
                f"puzzle.dim {self.puzzle.dim} does not fit into {self.puzzle.slots} slots of "
                f"width {self.width}; at most {self.puzzle.slots * self.width}"
            )
        return self
