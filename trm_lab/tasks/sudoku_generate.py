"""Seeded Sudoku puzzles with unique solutions and splits that are disjoint up to symmetry.

A puzzle is a random complete grid from which clues are taken in random order while the solution
stays unique.  Puzzle `index` of a seed depends on nothing but size, clues, seed and index: its
draws are raw words of the Philox4x64-10 generator (Salmon et al. 2011) keyed with (seed, index),
which is fixed by its definition, unlike the derived distributions of a library.

The grids are random, not uniform over all grids.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from trm_lab.errors import ConfigError
from trm_lab.tasks.dataset import Puzzles
from trm_lab.tasks.sudoku_grid import BLANK, signature
from trm_lab.tasks.sudoku_solver import Board, Search, board, grade, place, state_digits

GENERATOR_VERSION = 1
"""Goes up with every change that alters a generated puzzle or its split."""
PATIENCE = 5000
"""Tries in a row that may add nothing before a split is given up."""
BATCH = 64
"""Tries whose signatures are computed together; has no influence on the result."""


Row = TypeVar("Row")


class Draws:
    """An endless supply of random 64-bit words, the same on every machine."""

    def __init__(self, seed: int, index: int) -> None:
        self._words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64))

    def words(self, count: int) -> list[int]:
        """Return the next `count` words."""
        return list(map(int, self._words.random_raw(count)))

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to limit - 1 (bias below limit / 2**64)."""
        return self.words(1)[0] % limit

    def order(self, count: int) -> list[int]:
        """Return a random permutation of 0 to count - 1."""
        return sorted(range(count), key=self.words(count).__getitem__)


def complete_grid(tables: Board, draws: Draws) -> tuple[int, ...]:
    """Fill an empty grid: solver order of cells, random order of digits in each."""
    rank = draws.words(len(tables.keep))
    search = Search(tables, limit=1, order=lambda options: sorted(options, key=rank.__getitem__))
    search.run(tables.full)
    return state_digits(tables, search.found[0])


def dig(tables: Board, grid: Sequence[int], order: Sequence[int], clues: int = 0) -> list[int]:
    """Take clues off a puzzle with a unique solution, in this order, keeping it unique.

    Stops at `clues` clues; has more if none can be spared any longer.  One pass is enough: a clue
    that is needed stays needed when others go.
    """
    given = list(grid)
    left = sum(map(bool, given))
    for cell in order:
        digit = given[cell]
        if left <= clues:
            break
        if digit:
            given[cell] = 0
            # Without this clue the puzzle stays unique if no solution has another digit there.
            search = Search(tables, limit=1)
            search.run(place(tables, given) & ~(1 << (tables.planes[digit - 1] + cell)))
            if search.found:
                given[cell] = digit
            else:
                left -= 1
    return given


def generate(
    size: int, clues: int, splits: Mapping[str, int], seed: int, patience: int = PATIENCE
) -> dict[str, Puzzles]:
    """Generate the asked number of puzzles for each split.

    Puzzles that are equal up to symmetry always go to the same split, so no test puzzle is a
    relabelled training puzzle.  New symmetry classes are dealt out in order of appearance: every
    other one to the first split, the rest to the others in turn.  Which puzzles a split draws from
    therefore does not depend on the counts: a larger training set contains the smaller one, and
    the test set stays.

    Raises:
        ConfigError: a split stays unfilled, because puzzles with so few clues are too rare or
            there are not that many.
    """

    def tries(index: int) -> Iterator[tuple[bytes, int, tuple[bytes, bytes, int]]]:
        batch = [_attempt(size, clues, seed, index + i) for i in range(BATCH)]
        found = [puzzle for puzzle in batch if puzzle is not None]
        for question, answer, mark in zip(*_hashed(found, size), strict=True):
            yield question, mark, (question, answer, mark)

    what = f"{size}x{size} Sudoku with {clues} clues"
    kept = deal(tries, splits, patience, what, "ask for fewer puzzles or more clues")
    return {name: _puzzles(rows, size) for name, rows in kept.items()}


def deal(
    tries: Callable[[int], Iterable[tuple[Hashable, int, Row]]],
    splits: Mapping[str, int],
    patience: int,
    what: str,
    advice: str,
) -> dict[str, list[Row]]:
    """Deal puzzles to splits until each has its number, as `generate` says.

    `tries` gives what comes of `BATCH` tries from a number on: question, signature up to symmetry,
    and what is kept of the puzzle.

    Raises:
        ConfigError: `patience` tries in a row gave nothing new; it says of `what`, and the advice.
    """
    home: dict[int, str] = {}
    seen: set[Hashable] = set()
    kept: dict[str, list[Row]] = {name: [] for name in splits}
    fruitless = index = 0
    while any(len(kept[name]) < count for name, count in splits.items()):
        found = tries(index)
        index += BATCH
        fruitless += BATCH
        for question, mark, row in found:
            name = home.setdefault(mark, _turn(list(splits), len(home)))
            if question not in seen and len(kept[name]) < splits[name]:
                seen.add(question)
                kept[name].append(row)
                fruitless = 0
        if fruitless >= patience:
            counts = ", ".join(f"{len(kept[name])} of {splits[name]} {name}" for name in splits)
            raise ConfigError(
                f"{what}: found only {counts} puzzles ({len(home)} distinct up to symmetry) and "
                f"nothing new in the last {fruitless} of {index} tries; {advice}"
            )
    return kept


def _attempt(
    size: int, clues: int, seed: int, index: int
) -> tuple[list[int], tuple[int, ...]] | None:
    """Try number `index`: question and answer, or `None` if it does not get down to `clues`."""
    tables, draws = board(size), Draws(seed, index)
    answer = complete_grid(tables, draws)
    question = dig(tables, answer, draws.order(tables.cells), clues)
    return (question, answer) if sum(map(bool, question)) == clues else None


def _turn(names: list[str], rank: int) -> str:
    """Split of the symmetry class that is number `rank` to appear."""
    first, others = names[0], names[1:]
    return others[rank // 2 % len(others)] if others and rank % 2 else first


def _hashed(
    found: list[tuple[list[int], tuple[int, ...]]], size: int
) -> tuple[list[bytes], list[bytes], list[int]]:
    """Questions and answers as token bytes, and their signatures."""
    if not found:
        return [], [], []
    tokens = np.array(found, dtype=np.uint8) + np.uint8(BLANK)
    inputs, labels = tokens[:, 0], tokens[:, 1]
    return (
        [row.tobytes() for row in inputs],
        [row.tobytes() for row in labels],
        signature(inputs, labels, size).tolist(),
    )


def _puzzles(rows: list[tuple[bytes, bytes, int]], size: int) -> Puzzles:
    shape = (len(rows), size * size)
    # Through a bytearray, as arrays over bytes cannot be written to.
    inputs, labels = (
        np.frombuffer(bytearray().join(column), dtype=np.uint8).reshape(shape)
        for column in ([row[0] for row in rows], [row[1] for row in rows])
    )
    return Puzzles(
        inputs=inputs,
        labels=labels,
        clues=(inputs != BLANK).sum(axis=1, dtype=np.int16),
        guesses=np.array([grade((row - BLANK).tolist()).guesses for row in inputs], np.float32),
        signature=np.array([row[2] for row in rows], dtype=np.uint64),
        rating=np.full(len(rows), np.nan, dtype=np.float32),
        source=np.full(len(rows), f"trm_lab/{size}x{size}"),
    )
