"""What a layout, halting rule, mixer or task of your own must be: four bases to derive from.

A class of your own is a frozen settings model like ours: its fields are settings, checked, written
to recipe files and part of the recipe's identity.  A recipe names it by the entry point of an
installed package or by its import path; see `docs/extend.md`.  Nothing here imports torch, and
what you write should import it inside the methods that get tensors.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from trm_lab.config.base import Setting

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from trm_lab.config.layout import Update
    from trm_lab.config.model import Model
    from trm_lab.core.halting import Shown
    from trm_lab.tasks.dataset import Augment, Puzzles

TOKENS = 256
"""Token values that puzzles can hold, which are bytes."""

OwnMix = Callable[[Mapping[str, "Tensor"], "Tensor"], "Tensor"]
"""(weights by name in the type of h, h [B, S, D]) to what is added to h, of its type or a narrower
one; an axis may have size 1."""


class Own(Setting):
    """The base of the four."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    """Names that a class must have beside the abstract methods: as field, property or constant."""

    kind: str
    """How a recipe names the class; its import path where it is built in Python."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and "kind" not in data:
            return {"kind": f"{cls.__module__}:{cls.__qualname__}", **data}
        return data

    @classmethod
    def missing(cls) -> list[str]:
        """Name what the class lacks of its contract."""
        names = [n for n in cls.REQUIRED if n not in cls.model_fields and not hasattr(cls, n)]
        return names + sorted(cls.__abstractmethods__)

    def problems(self) -> list[str]:
        """Say what values do not hold to the contract."""
        return []


class OwnLayout(Own):
    """Which latents exist and what a cycle does.

    `latents`: names by index.  `answer`: index of the latent that the heads read.  `nets`: separate
    block stacks.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("latents", "answer", "nets")

    if TYPE_CHECKING:

        @property
        def latents(self) -> tuple[str, ...]: ...  # noqa: D102
        @property
        def answer(self) -> int: ...  # noqa: D102
        @property
        def nets(self) -> int: ...  # noqa: D102

    @abstractmethod
    def cycle(self, n: int) -> "tuple[Update, ...]":
        """Give the updates of one cycle with n latent updates."""

    def problems(self) -> list[str]:
        """Say which index of a cycle points at nothing, and whether the answer is ever written."""
        count, found = len(self.latents), []
        if len(set(self.latents)) != count or not count:
            found.append(f"latents {self.latents} need one name each")
        if self.answer not in range(count):
            found.append(f"answer {self.answer} is no index of {count} latents")
        return found + [problem for n in (1, 2, 3) for problem in self._problems_of(n)]

    def refuse(self, n: int, where: str) -> None:
        """Raise ValueError, which begins with `where`, if there is no cycle with n updates."""
        try:
            found = self._problems_of(n)
        except Exception as error:  # anything may go wrong in somebody else's code
            found = [f"cycle({n}): {type(error).__name__}: {error}"]
        if found:
            raise ValueError(f"{where}: {self.kind}: " + "; ".join(found))

    def _problems_of(self, n: int) -> list[str]:
        count, cycle, found = len(self.latents), self.cycle(n), []
        for place, update in enumerate(cycle):
            where = f"cycle({n})[{place}]"
            for index in {update.write, *update.state, *update.context} - set(range(count)):
                found.append(f"{where}: {index} is no index of {count} latents")
            if update.net not in range(self.nets):
                found.append(f"{where}: {update.net} is no index of {self.nets} nets")
            if not update.state:
                found.append(f"{where}: has no state")
        if all(update.write != self.answer for update in cycle):
            found.append(f"cycle({n}) never writes the answer, latent {self.answer}")
        return found


class OwnMixer(Own):
    """Mixes positions.  The residual sum and the norm around it are ours."""

    @abstractmethod
    def parameters(self, model: "Model", positions: int) -> dict[str, tuple[int, ...]]:
        """Name the weights and their shapes, [out, in]; drawn with std 1/sqrt(last of shape)."""

    @abstractmethod
    def flops(self, model: "Model", positions: int) -> int:
        """Count the matrix-product FLOPs of one forward pass of one puzzle, 2 per multiply-add."""

    def first_flops(self, model: "Model", positions: int) -> int:  # noqa: ARG002
        """Count those of them that act on h itself.

        Where h has no graph, the backward pass leaves their input gradient out.
        """
        return 0

    def refuse(self, model: "Model", positions: int) -> None:
        """Raise ValueError where shapes or counts at this size are none."""
        try:
            shapes, counts = (
                self.parameters(model, positions),
                {
                    "flops": self.flops(model, positions),
                    "first_flops": self.first_flops(model, positions),
                },
            )
        except Exception as error:  # anything may go wrong in somebody else's code
            raise ValueError(f"model.mixer: {self.kind}: {type(error).__name__}: {error}") from None
        found = [
            f"parameters gives {shape!r} for {name}, which is no shape"
            for name, shape in (shapes.items() if isinstance(shapes, dict) else ())
            if not (isinstance(shape, tuple) and shape and all(_count(size) for size in shape))
        ]
        if not isinstance(shapes, dict):
            found.append(f"parameters gives {shapes!r}, which is no mapping")
        for name, value in counts.items():
            if value != 0 and not _count(value):
                found.append(f"{name} gives {value!r}, which is no count")
        if found:
            raise ValueError(f"model.mixer: {self.kind}: " + "; ".join(found))

    @abstractmethod
    def build(
        self, model: "Model", positions: int, dtype: "torch.dtype", device: "torch.device"
    ) -> OwnMix:
        """Give the function of (weights by name, h [B, S, D]) that says what is added to h."""


class OwnHalting(Own):
    """When a slot is released, and what the halting head learns.

    The budget N_sup and the exploration are added for all rules by us.  Shapes: B slots; the head's
    columns are halting and going on.
    """

    @abstractmethod
    def wants_to_halt(self, shown: "Shown") -> "Tensor":
        """Say which slots to release, [B] of bool.

        `shown` has the head's logits `halt` [B, 2] and the answer latent `before` and `after` the
        step [B, S, D].
        """

    @abstractmethod
    def losses(self, halt: "Tensor", correct: "Tensor") -> "tuple[Tensor, Tensor]":
        """Give the losses of halting and of going on per slot, [B] each.

        `correct` [B] of bool: whether the puzzle is solved at this step.
        """


class OwnTask(Own):
    """Puzzles.

    `cells`: cells of a puzzle, L.  `vocabulary`: token values, V.  `identifiers`: rows of the
    puzzle table; 1, as all puzzles share one.  `validation`, `test`: puzzles evaluated, for the
    estimate of cost; `test` may be None for unknown.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = (
        "cells", "vocabulary", "identifiers", "validation", "test",
    )  # fmt: skip

    if TYPE_CHECKING:

        @property
        def cells(self) -> int: ...  # noqa: D102
        @property
        def vocabulary(self) -> int: ...  # noqa: D102
        @property
        def identifiers(self) -> int: ...  # noqa: D102
        @property
        def validation(self) -> int: ...  # noqa: D102
        @property
        def test(self) -> int | None: ...  # noqa: D102

    @abstractmethod
    def load(self, cache: "Path | None") -> "dict[str, Puzzles]":
        """Give the puzzles of `train`, `validation` and `test`; `cache` may keep files.

        Equal settings must give equal puzzles on every machine.
        """

    def symmetries(self) -> "Augment | None":
        """Give the function that draws a symmetry of each puzzle of a batch, if there is one."""
        return None

    def problems(self) -> list[str]:
        """Say which size is no count, and whether there are rows that no puzzle could have."""
        found = [
            f"{name} must be 1 or more, not {value!r}"
            for name in ("cells", "vocabulary", "validation")
            if not _count(value := getattr(self, name))
        ]
        if _count(self.vocabulary) and self.vocabulary > TOKENS:
            found.append(f"vocabulary must be {TOKENS} at most, not {self.vocabulary}: bytes")
        if self.identifiers != 1:
            found.append(f"identifiers must be 1, not {self.identifiers!r}: all puzzles share one")
        return found


def _count(value: object) -> bool:
    return isinstance(value, int) and value >= 1
