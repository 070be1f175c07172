"""The recursive core as data: layout, nets, recursion counts, gradient.

Letters: D width, L cells, E puzzle slots, S = L + E positions.
"""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import Count, Setting
from trm_lab.config.blocks import (
    Attention,
    FeedForward,
    Mixer,
    Positions,
    Rope,
    Rope2D,
    SwiGLU,
)
from trm_lab.config.contracts import OwnLayout
from trm_lab.config.gradient import Gradient, LastCycles, RandomTruncation
from trm_lab.config.initial import FixedStart, Initial
from trm_lab.config.layout import Layout, TwoLatents


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
    width: int = Field(default=512, ge=2, le=2**16, multiple_of=2)
    """Channels, D."""
    expansion: float = Field(default=4.0, gt=0, le=64)
    """SwiGLU expansion; the inner width is 2/3 of expansion times the input width, rounded up."""
    round_to: int = Field(default=256, ge=1)
    """Inner widths are rounded up to a multiple of this; 256 as published, which at small widths
    costs up to four times the FLOPs."""
    mixer: Mixer = Attention()
    ffn: FeedForward = SwiGLU()
    positions: Positions = Rope()
    norm: Literal["post", "pre"] = "post"
    """Where a block normalises: `rms(h + f(h))`, or `h + f(rms(h))` with a norm at a net's end."""
    residual_scale: float = Field(default=1.0, gt=0, le=10)
    """Factor on what a mixer or a feed-forward adds, s in `h + s f(h)`."""
    head: Literal["untied", "tied"] = "untied"
    """Whether the output head has weights of its own or uses the token embedding's."""
    initial: Initial = FixedStart()
    puzzle: PuzzleSlots | None = PuzzleSlots()
    """Puzzle slots, or null for none."""
    n: Count = 6
    """Latent updates per cycle."""
    T: Count = 3
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
        """Blocks in sequence in one supervision step: layers * T * updates of a cycle (n + 1).

        Of an implicit gradient this is the most: its solver may stop earlier.
        """
        return self.layers * self.T * len(self.layout.cycle(self.n))

    @property
    def graph_updates(self) -> float:
        """Updates of a supervision step that keep their graph; the mean where it is drawn."""
        cycle = len(self.layout.cycle(self.n))
        if isinstance(self.gradient, RandomTruncation):
            return sum(p * (cycle * self.T - g.cut(cycle, self.T)) for p, g in self.gradient.law())
        return cycle * self.T - self.gradient.cut(cycle, self.T)

    @model_validator(mode="after")
    def _own_cycle(self) -> Self:
        if isinstance(self.layout, OwnLayout):
            self.layout.refuse(self.n, "layout")
        return self

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
        if isinstance(self.positions, Rope | Rope2D) and not isinstance(self.mixer, Attention):
            raise ValueError(
                f"positions: {self.positions.kind} acts inside attention only and would be ignored "
                f"by mixer: {self.mixer.kind}; use positions: none or learned"
            )
        if isinstance(self.positions, Rope2D) and self.head_dim % 4:
            raise ValueError(
                f"positions: rope_2d splits a head into four, and heads of width {self.head_dim} "
                "do not split; give mixer.heads or mixer.head_dim so that they are a multiple of 4"
            )
        if self.puzzle and self.puzzle.dim > self.puzzle.slots * self.width:
            raise ValueError(
                f"puzzle.dim {self.puzzle.dim} does not fit into {self.puzzle.slots} slots of "
                f"width {self.width}; at most {self.puzzle.slots * self.width}"
            )
        return self
