"""Seeded Sudoku puzzles with several solutions, each with the exact set of them.

Clues are taken off a random complete grid in random order until the puzzle has the number of
solutions that was drawn for it; a clue whose loss would give too many stays.  Draws, symmetry
classes and splits are those of `sudoku_generate`.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import UInt8, UInt64

from trm_lab.tasks.dataset import Puzzles
from trm_lab.tasks.sudoku_generate import BATCH, PATIENCE, Draws, complete_grid, deal
from trm_lab.tasks.sudoku_grid import BLANK, signature
from trm_lab.tasks.sudoku_solver import Search, board, grade, place, state_digits

MULTI_VERSION = 1
"""Goes up with every change that alters a generated puzzle or its split."""

Found = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Question and all its answers, in rising order."""


def generate_multi(
    size: int,
    fewest: int,
    most: int,
    splits: Mapping[str, int],
    seed: int,
    patience: int = PATIENCE,
) -> dict[str, Puzzles]:
    """Generate puzzles with `fewest` to `most` solutions for each split.

    Splits have no two puzzles in common that are equal up to symmetry, and do not depend on each
    other's counts; see `sudoku_generate.generate`.

    Raises:
        ConfigError: there are not that many.
    """

    def tries(index: int) -> Iterator[tuple[tuple[int, ...], int, tuple[Found, int]]]:
        batch = [attempt(size, fewest, most, seed, index + i) for i in range(BATCH)]
        found = [puzzle for puzzle in batch if puzzle is not None]
        for puzzle, mark in zip(found, map(int, marks(found, size)), strict=True):
            yield puzzle[0], mark, (puzzle, mark)

    what = f"{size}x{size} Sudoku with {fewest} to {most} solutions"
    kept = deal(tries, splits, patience, what, "ask for fewer puzzles")
    return {name: _puzzles(rows, size, most) for name, rows in kept.items()}


def attempt(size: int, fewest: int, most: int, seed: int, index: int) -> Found | None:
    """Try number `index`; None if it ends with fewer solutions than asked."""
    tables, draws = board(size), Draws(seed, index)
    given = list(complete_grid(tables, draws))
    target = fewest + draws.below(most - fewest + 1)
    answers = [tuple(given)]
    for cell in draws.order(tables.cells):
        if len(answers) == target:
            break
        digit, given[cell] = given[cell], 0
        search = Search(tables, limit=target + 1)
        search.run(place(tables, given))
        if len(search.found) > target:
            given[cell] = digit
        else:
            answers = [state_digits(tables, state) for state in search.found]
    return (tuple(given), tuple(sorted(answers))) if len(answers) >= fewest else None


def marks(found: list[Found], size: int) -> UInt64[np.ndarray, " N"]:
    """Hash puzzles so that those equal up to symmetry hash equal.

    A symmetry takes the solutions of one to the solutions of the other, in some order: the sum of
    the signatures with every solution in turn does not see which is which.
    """
    sums = np.zeros(len(found), dtype=np.uint64)
    if found:
        owner = np.repeat(np.arange(len(found)), [len(answers) for _, answers in found])
        questions = _tokens([found[i][0] for i in owner])
        each = signature(questions, _tokens([a for _, answers in found for a in answers]), size)
        np.add.at(sums, owner, each)
    return sums


def _puzzles(rows: list[tuple[Found, int]], size: int, most: int) -> Puzzles:
    inputs = _tokens([question for (question, _), _ in rows])
    solutions = np.stack(
        [_tokens([*answers, *answers[:1] * (most - len(answers))]) for (_, answers), _ in rows]
    )
    return Puzzles(
        inputs=inputs,
        labels=solutions[:, 0],
        clues=(inputs != BLANK).sum(axis=1, dtype=np.int16),
        guesses=np.array([grade(question).guesses for (question, _), _ in rows], np.float32),
        signature=np.array([mark for _, mark in rows], dtype=np.uint64),
        rating=np.full(len(rows), np.nan, dtype=np.float32),
        source=np.full(len(rows), f"trm_lab/{size}x{size} multi"),
        solutions=solutions,
    )


def _tokens(grids: list[tuple[int, ...]]) -> UInt8[np.ndarray, "N L"]:
    return np.array(grids, dtype=np.uint8) + np.uint8(BLANK)
