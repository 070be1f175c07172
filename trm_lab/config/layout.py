"""Which latents exist, and the cycle of updates that is repeated over them.

A layout is data: its cycle is a tuple of `Update` values, and T cycles make one program.  Latents
are addressed by index; `answer` is the index that the heads read.

TRM: Jolicoeur-Martineau 2025 (arXiv 2510.04871), fig. 3 and table 2.  HRM: Wang et al. 2025
(arXiv 2506.21734), two nets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trm_lab.config.base import BY_NAME, Setting
from trm_lab.config.contracts import OwnLayout
from trm_lab.config.extension import Extensible


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """`z[write] <- net(sum(state) + (sum(context) + x))`; the brackets fix the rounding."""

    write: int
    """Index of the latent that is written."""
    state: tuple[int, ...]
    """Latents summed into the state."""
    context: tuple[int, ...] = ()
    """Latents summed into what is injected."""
    inject: bool = False
    """Whether the embedded input x is injected."""
    net: int = 0
    """Index of the net applied."""


Cycle = Sequence[Update]


class TwoLatents(Setting):
    """Answer y and reasoning latent z: `z <- net(z + (y + x))` n times, then `y <- net(y + z)`.

    One net is TRM; with two nets z has the first and y the second, as in HRM.
    """

    kind: Literal["two_latents"] = "two_latents"
    nets: Literal[1, 2] = 1
    """Separate block stacks: 1 shared by all updates, 2 for one of z and one of y."""
    x_in_answer: bool = False
    """Whether the update of y sees x too: `y <- net(y + (z + x))`."""

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latents, by index."""
        return ("z", "y")

    @property
    def answer(self) -> int:
        """Index of the latent that the heads read."""
        return 1

    def cycle(self, n: int) -> tuple[Update, ...]:
        """Give the n + 1 updates of one cycle."""
        think = Update(write=0, state=(0,), context=(1,), inject=True)
        answer = Update(
            write=1, state=(1,), context=(0,), inject=self.x_in_answer, net=self.nets - 1
        )
        return (think,) * n + (answer,)


class _SingleLatent(Setting):
    @property
    def nets(self) -> int:
        """Number of separate block stacks."""
        return 1

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latents, by index."""
        return ("z",)

    @property
    def answer(self) -> int:
        """Index of the latent that the heads read."""
        return 0


class OneLatent(_SingleLatent):
    """A single latent z: `z <- net(z + x)` n times, then `z <- net(z)` (TRM, table 2)."""

    kind: Literal["one_latent"] = "one_latent"
    x_in_last: bool = False
    """Whether the last update sees x too.  TRM's text has it so, its released code not."""

    def cycle(self, n: int) -> tuple[Update, ...]:
        """Give the n + 1 updates of one cycle."""
        think = Update(write=0, state=(0,), inject=True)
        return (think,) * n + (Update(write=0, state=(0,), inject=self.x_in_last),)


class Looped(_SingleLatent):
    """A single latent z and nothing else: `z <- net(z + x)` n times.

    The looped Transformer: HRM's baseline (one update of eight layers) and URM (arXiv 2512.14693).
    Its cycle has n updates, where other layouts have n + 1.
    """

    kind: Literal["looped"] = "looped"

    def cycle(self, n: int) -> tuple[Update, ...]:
        """Give the n updates of one cycle."""
        return (Update(write=0, state=(0,), inject=True),) * n


class ManyLatents(Setting):
    """k reasoning latents and the answer y (TRM's multi-scale z, table 2).

    Update i writes `z_(i mod k) <- net(sum_j z_j + (y + x))`; then `y <- net(y + sum_j z_j)`.  The
    paper's row has k = n = 6.  With n < k the last latents keep their initial values.
    """

    kind: Literal["many_latents"] = "many_latents"
    k: int = Field(default=6, ge=2, le=64)
    """Reasoning latents beside the answer."""
    nets: Literal[1, 2] = 1
    """Separate block stacks: 1 shared by all updates, 2 for one of the z and one of y."""
    x_in_answer: bool = False
    """Whether the update of y sees x too: `y <- net(y + (sum_j z_j + x))`."""

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latents, by index."""
        return (*(f"z{i + 1}" for i in range(self.k)), "y")

    @property
    def answer(self) -> int:
        """Index of the latent that the heads read."""
        return self.k

    def cycle(self, n: int) -> tuple[Update, ...]:
        """Give the n + 1 updates of one cycle."""
        z = tuple(range(self.k))
        think = (
            Update(write=i % self.k, state=z, context=(self.k,), inject=True) for i in range(n)
        )
        answer = Update(
            write=self.k, state=(self.k,), context=z, inject=self.x_in_answer, net=self.nets - 1
        )
        return (*think, answer)


Layout = Annotated[
    TwoLatents | OneLatent | ManyLatents | Looped,
    Field(discriminator="kind"),
    BY_NAME,
    Extensible("layouts", OwnLayout),
]
