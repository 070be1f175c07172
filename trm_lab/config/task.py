"""Tasks as data: what puzzles there are, and how they are split.

`cells` is the number of cells of a puzzle (L), `vocabulary` the number of token values (V):
PAD 0, blank 1, digit k is k + 1, as in the official Sudoku-Extreme encoding.
"""

from math import comb
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from trm_lab.config.base import BY_NAME, Positive, Setting
from trm_lab.config.contracts import OwnTask
from trm_lab.config.extension import Extensible

MIN_CLUES = {4: 4, 6: 8, 9: 17}
"""Fewest clues of a uniquely solvable grid, by rows (9x9: McGuire et al. 2012)."""
GRIDS = {4: 288, 6: 28_200_960, 9: 6_670_903_752_021_072_936_960}
"""Complete grids, by rows (OEIS A107739 for 4x4 and 9x9; 6x6 of 2x3 boxes: Pettersen 2006)."""


class _Grid(Setting):
    @property
    def cells(self) -> int:
        """Number of cells, L."""
        return self.side**2

    @property
    def vocabulary(self) -> int:
        """Number of token values, V."""
        return self.side + 2

    @property
    def identifiers(self) -> int:
        """Rows of the puzzle-embedding table: Sudoku has one shared identifier."""
        return 1

    @property
    def side(self) -> int:
        """Rows of the grid."""
        return 9


class _Generated(_Grid):
    kind: str
    size: int
    augment: bool = True
    """Draw a random symmetry of each training puzzle every time it is started."""
    data_seed: int = Field(default=0, ge=0)

    @property
    def side(self) -> int:
        """Rows of the grid."""
        return self.size


class GeneratedSudoku(_Generated):
    """Sudoku of our own seeded generator, unique solutions, splits disjoint up to symmetry."""

    kind: Literal["sudoku"] = "sudoku"
    size: Literal[4, 6, 9] = 6
    """Rows of the grid; boxes are 2x2, 2x3 and 3x3."""
    clues: Positive = 12
    """Given cells of every puzzle."""
    train: Positive = 2000
    """Training puzzles before augmentation."""
    validation: Positive = 300
    """Puzzles evaluated while training."""
    test: Positive = 1000
    """Puzzles evaluated at the end."""

    @model_validator(mode="after")
    def _clues_fit(self) -> "GeneratedSudoku":
        least, most = MIN_CLUES[self.size], self.cells - 1
        if not least <= self.clues <= most:
            grid = f"{self.size}x{self.size}"
            raise ValueError(f"clues must be {least} to {most} for {grid}, not {self.clues}")
        return self

    @model_validator(mode="after")
    def _enough(self) -> "GeneratedSudoku":
        asked = self.train + self.validation + self.test
        there = GRIDS[self.size] * comb(self.cells, self.clues)  # with a unique solution or not
        if asked > there:
            raise ValueError(
                f"train, validation and test ask for {asked:,} puzzles; {self.size}x{self.size} "
                f"has no more than {there:,} with {self.clues} clues"
            )
        return self


class MultiSudoku(_Generated):
    """Sudoku puzzles with several solutions, the exact set of which is known.

    An answer is right if it is any of them.  Training draws one as the label each time a puzzle is
    started.  Splits are disjoint up to symmetry.
    """

    kind: Literal["sudoku_multi"] = "sudoku_multi"
    size: Literal[4, 6] = 4
    """Rows of the grid; boxes are 2x2 and 2x3."""
    fewest: int = Field(default=2, ge=2, le=64)
    """Solutions of a puzzle, at least."""
    most: int = Field(default=8, ge=1, le=64)
    """Solutions of a puzzle, at most."""
    train: Positive = 1000
    """Training puzzles before augmentation."""
    validation: Positive = 200
    """Puzzles evaluated while training."""
    test: Positive = 500
    """Puzzles evaluated at the end."""

    @model_validator(mode="after")
    def _range(self) -> "MultiSudoku":
        if self.fewest > self.most:
            raise ValueError(f"fewest {self.fewest} solutions is more than most {self.most}")
        return self


class BundledSudoku(_Grid):
    """The 9x9 puzzles that ship with the package: 1,000 train, 1,000 test, half of them hard."""

    kind: Literal["sudoku_bundled"] = "sudoku_bundled"
    validation: int = Field(default=200, ge=1, le=500)
    """Puzzles evaluated while training, of 500 that ship beside the 1,000 for training."""
    augment: bool = True


class SudokuCSV(_Grid):
    """9x9 puzzles in the official Sudoku-Extreme CSV format: `source,question,answer,rating`."""

    kind: Literal["sudoku_csv"] = "sudoku_csv"
    name: str = Field(min_length=1)
    """Name of the data set; part of the identity, where the paths are not."""
    train_csv: str = Field(min_length=1)
    test_csv: str = Field(min_length=1)
    train: Positive | None = None
    """Training puzzles drawn at random with `data_seed`; all if not given."""
    validation: Positive = 300
    """Puzzles set aside from the training file for evaluation while training."""
    test: Positive | None = None
    """Test puzzles drawn at random with `data_seed`; all if not given."""
    augment: bool = True
    data_seed: int = Field(default=0, ge=0)

    @field_validator("train_csv", "test_csv")
    @classmethod
    def _csv(cls, value: str) -> str:
        if not value.endswith((".csv", ".csv.gz")):
            raise ValueError(f"expected a .csv or .csv.gz file, not {value!r}")
        return value


Task = Annotated[
    GeneratedSudoku | MultiSudoku | BundledSudoku | SudokuCSV,
    Field(discriminator="kind"),
    BY_NAME,
    Extensible("tasks", OwnTask),
]
