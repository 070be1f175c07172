"""What a block is made of: mixer, position code, feed-forward.

Letters: D width, S positions.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import BY_NAME, Setting
from trm_lab.config.contracts import OwnMixer
from trm_lab.config.extension import Extensible


class Attention(Setting):
    """Full bidirectional multi-head attention, no mask: padding attends and is attended."""

    kind: Literal["attention"] = "attention"
    heads: int = Field(default=8, ge=1)
    head_dim: int | None = Field(default=None, ge=2, multiple_of=2)
    """Width of a head; width / heads if not given."""


class TokenMLP(Setting):
    """SwiGLU over the positions, residual and norm over positions too (TRM's `mlp_t`)."""

    kind: Literal["token_mlp"] = "token_mlp"


class Convolution(Setting):
    """Each position from itself and its two neighbours, all channels: a convolution of width 3.

    Positions are in reading order, so that the neighbours of a cell are those of its row, and rows
    follow one another; outside are zeros.  Puzzle slots are positions like any other: the last one
    is the left neighbour of the first cell.
    """

    kind: Literal["conv"] = "conv"


Mixer = Annotated[
    Attention | TokenMLP | Convolution,
    Field(discriminator="kind"),
    BY_NAME,
    Extensible("mixers", OwnMixer),
]


class Rope(Setting):
    """Rotary positions on queries and keys (Su et al. 2021, arXiv 2104.09864), half-split."""

    kind: Literal["rope"] = "rope"
    theta: float = Field(default=10000.0, gt=1)


class Rope2D(Setting):
    """Rotary positions by row and by column: one half of the pairs of a head turns with each.

    Puzzle slots are a row of their own above the grid, slot i at column i.
    """

    kind: Literal["rope_2d"] = "rope_2d"
    theta: float = Field(default=10000.0, gt=1)
    columns: int | None = Field(default=None, ge=1)
    """Columns of the grid; if not given, the grid is square."""

    def grid(self, cells: int) -> tuple[int, int]:
        """Give rows and columns.

        Raises:
            ValueError: that many cells do not fill a grid.
        """
        columns = self.columns or round(cells**0.5)
        rows, rest = divmod(cells, columns)
        if rest or not (self.columns or rows == columns):
            raise ValueError(
                f"model.positions: rope_2d: {cells} cells do not fill "
                + (f"rows of {columns}" if self.columns else "a square")
                + "; give positions.columns that divides them, or use positions: rope"
            )
        return rows, columns


class LearnedPositions(Setting):
    """A learned vector per position: `x <- (x + p) / sqrt(2)`."""

    kind: Literal["learned"] = "learned"


class NoPositions(Setting):
    """No position code."""

    kind: Literal["none"] = "none"


Positions = Annotated[
    Rope | Rope2D | LearnedPositions | NoPositions, Field(discriminator="kind"), BY_NAME
]


class SwiGLU(Setting):
    """`down(silu(gate) * up)` (Shazeer 2020, arXiv 2002.05202)."""

    kind: Literal["swiglu"] = "swiglu"


class ConvSwiGLU(Setting):
    """SwiGLU with a short convolution inside: `down(silu(conv(silu(gate) * up)))`.

    The convolution runs over positions, channel by channel, without bias; outside are zeros, and
    puzzle slots are positions like any other (URM, arXiv 2512.14693).
    """

    kind: Literal["conv_swiglu"] = "conv_swiglu"
    kernel: int = Field(default=2, ge=2, le=31)
    """Positions that one value sees: with 2 itself and the one before, with 3 one on each side."""


class NormGateSwiGLU(Setting):
    """SwiGLU whose gate is divided by its root mean square: `down(silu(rms(gate)) * up)`."""

    kind: Literal["norm_gate_swiglu"] = "norm_gate_swiglu"


class MixtureOfExperts(Setting):
    """SwiGLU experts, each of the full inner width, weighted by a router, position by position.

    A softmax over all experts, of which the largest `active` are kept as they are (arXiv
    2101.03961, without its balancing loss).  Every expert is computed, and what is not kept has
    weight 0, so that no control flow depends on data; the FLOPs are those of all experts.
    """

    kind: Literal["moe"] = "moe"
    experts: int = Field(default=4, ge=2, le=64)
    active: int = Field(default=2, ge=1)
    """Experts kept per position."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.active > self.experts:
            raise ValueError(
                f"active {self.active} is more than experts {self.experts}; at most all are active"
            )
        return self


FeedForward = Annotated[
    SwiGLU | ConvSwiGLU | NormGateSwiGLU | MixtureOfExperts,
    Field(discriminator="kind"),
    BY_NAME,
]
