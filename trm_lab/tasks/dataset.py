"""What a task is once built: three sets of puzzles and the facts a model needs.

Shapes: N puzzles, B puzzles of a batch, L cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int, Int16, Shaped, UInt8, UInt64

from trm_lab.config.contracts import TOKENS
from trm_lab.errors import ConfigError

Augment = Callable[
    [UInt8[np.ndarray, "B L"], UInt8[np.ndarray, "B L"], np.random.Generator],
    tuple[UInt8[np.ndarray, "B L"], UInt8[np.ndarray, "B L"]],
]
"""Draws a random symmetry of each puzzle of a batch: inputs, labels, generator -> the same two."""


@dataclass(frozen=True, eq=False)
class Puzzles:
    """Puzzles as token arrays, with what is known about each."""

    inputs: UInt8[np.ndarray, "N L"]
    """Tokens given."""
    labels: UInt8[np.ndarray, "N L"]
    """Tokens of the solution, all cells."""
    clues: Int16[np.ndarray, " N"]
    """Given cells."""
    guesses: Float32[np.ndarray, " N"]
    """Guesses our plain solver needs to exhaust the puzzle; NaN is unknown."""
    signature: UInt64[np.ndarray, " N"]
    """Equal for puzzles that are equal up to symmetry."""
    rating: Float32[np.ndarray, " N"]
    """Difficulty as the source states it; NaN is unknown."""
    source: Shaped[np.ndarray, " N"]
    """Where each puzzle comes from, as text."""
    solutions: UInt8[np.ndarray, "N M L"] | None = None
    """Every solution of each puzzle, the first repeated where there are fewer than M; None where
    the label is the only one."""

    def __post_init__(self) -> None:
        assert self.inputs.shape == self.labels.shape
        assert all(len(array) == len(self.inputs) for array in self.arrays().values())

    @classmethod
    def of(cls, inputs: npt.NDArray[Any], labels: npt.NDArray[Any], source: str = "") -> "Puzzles":
        """Make puzzles of which nothing is known but their tokens; token 1 is a blank.

        Raises:
            ConfigError: the two differ in shape, or a token is no byte.
        """
        if inputs.ndim != 2 or inputs.shape != labels.shape:
            shapes = f"inputs of shape {inputs.shape} and labels of {labels.shape}"
            raise ConfigError(f"puzzles: {shapes}, not both puzzles x cells")
        for tokens in (inputs, labels):
            if tokens.size and (tokens.min() < 0 or tokens.max() >= TOKENS):
                found = f"tokens from {tokens.min()} to {tokens.max()}"
                raise ConfigError(f"puzzles: {found}, not all in 0..{TOKENS - 1}")
        unknown = np.full(len(inputs), np.nan, dtype=np.float32)
        rows = zip(inputs.astype(np.uint8), labels.astype(np.uint8), strict=True)
        signature = [sha256(a.tobytes() + b.tobytes()).digest()[:8] for a, b in rows]
        return cls(
            inputs=inputs.astype(np.uint8),
            labels=labels.astype(np.uint8),
            clues=(inputs > 1).sum(axis=1).astype(np.int16),
            guesses=unknown,
            signature=np.frombuffer(b"".join(signature), dtype="<u8").astype(np.uint64),
            rating=unknown,
            source=np.full(len(inputs), source),
        )

    def __len__(self) -> int:
        return len(self.inputs)

    def select(self, indices: npt.NDArray[np.intp]) -> "Puzzles":
        """Return the puzzles at these positions, in this order."""
        return Puzzles(**{name: array[indices] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All columns by name; without solutions where there are none beside the labels."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in columns.items() if array is not None}

    @property
    def answers(self) -> UInt8[np.ndarray, "N *M L"]:
        """What counts as right: the labels, or any of the solutions where there are several."""
        return self.labels if self.solutions is None else self.solutions

    @property
    def solution_counts(self) -> Int[np.ndarray, " N"]:
        """Number of different solutions of each puzzle."""
        if self.solutions is None:
            return np.ones(len(self), dtype=np.int64)
        others = (self.solutions[:, 1:] != self.solutions[:, :1]).any(axis=-1)
        return 1 + np.asarray(others.sum(axis=1, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task, ready to train on."""

    train: Puzzles
    validation: Puzzles
    test: Puzzles
    vocabulary: int
    """Token values, V; token 0 is PAD."""
    cells: int
    """Cells of a puzzle, L."""
    identifiers: int
    """Rows of the puzzle-embedding table."""
    fingerprint: str
    """First 16 hex digits of the hash of every input and label; equal data, equal fingerprint."""
    augment: Augment | None
    """Random symmetry, drawn each time a training puzzle is started; `None` leaves them as is."""


def concatenate(parts: list[Puzzles]) -> Puzzles:
    """Join sets of puzzles of one size, in order."""
    columns = [part.arrays() for part in parts]
    return Puzzles(**{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})


def fingerprint(*splits: Puzzles) -> str:
    """Hash the inputs and labels of the splits, in order."""
    digest = sha256()
    for split in splits:
        digest.update(f"{split.inputs.shape}".encode())
        digest.update(np.ascontiguousarray(split.inputs).tobytes())
        digest.update(np.ascontiguousarray(split.labels).tobytes())
        if split.solutions is not None:
            digest.update(np.ascontiguousarray(split.solutions).tobytes())
    return digest.hexdigest()[:16]
