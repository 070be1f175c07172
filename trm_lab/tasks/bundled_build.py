"""Makes the 9x9 puzzles that ship with the package, half of them easy, half hard.

Puzzle i of a seed has its own random draws (see `sudoku_generate.Draws`), so the files do not
depend on the number of processes.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.dataset import Puzzles
from trm_lab.tasks.sudoku_generate import Draws, complete_grid, dig
from trm_lab.tasks.sudoku_grid import BLANK, signature
from trm_lab.tasks.sudoku_solver import board, grade

ROWS = {"sudoku9_train.csv.gz": 1500, "sudoku9_test.csv.gz": 1000}
"""The first 1,000 rows of the training file are for training, the others for validation."""
KINDS = ("trm_lab/easy", "trm_lab/hard")
"""Even rows are easy and odd rows hard, so every run of rows is half and half."""
SIZE, CELLS = 9, 81
EXTRA = 13
"""An easy puzzle gets 0 to EXTRA - 1 clues more than it needs to be easy."""
CLIMB = 61
"""A hard puzzle is sharpened in 0 to CLIMB - 1 steps."""
LOOSEN = 4
"""Clues put back at the start of a step; more reach further but lose more of what was won."""

Row = tuple[str, list[int], tuple[int, ...], int]
"""Source, question, answer, guesses."""


def build_bundled(folder: Path, seed: int = 0, processes: int = 2) -> None:
    """Write both files to `folder`; about 15 minutes of one core."""
    total = sum(ROWS.values())
    # Fresh interpreters: forking a process that has threads (torch, BLAS) can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        puzzles = assemble(list(pool.map(partial(row, seed), range(total), chunksize=10)))
    # Two random 9x9 puzzles are equal up to symmetry about once in 10**20 pairs.
    assert len(np.unique(puzzles.signature)) == total
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for name, count in ROWS.items():
        sudoku_csv.write(folder / name, puzzles.select(np.arange(first, first + count)))
        first += count


def row(seed: int, index: int) -> Row:
    """Make puzzle number `index` of a seed."""
    draws = Draws(seed, index)
    kind = KINDS[index % 2]
    answer = complete_grid(board(SIZE), draws)
    minimal = dig(board(SIZE), answer, draws.order(CELLS))
    question = (_ease if kind == "trm_lab/easy" else _sharpen)(minimal, answer, draws)
    return kind, question, answer, grade(question).guesses


def assemble(rows: Sequence[Row]) -> Puzzles:
    """Turn rows into puzzles; the rating, which is another solver's count, stays unknown."""
    sources, questions, answers, guesses = zip(*rows, strict=True)
    inputs = np.array(questions, dtype=np.uint8) + np.uint8(BLANK)
    labels = np.array(answers, dtype=np.uint8) + np.uint8(BLANK)
    return Puzzles(
        inputs=inputs,
        labels=labels,
        clues=(inputs != BLANK).sum(axis=1, dtype=np.int16),
        guesses=np.array(guesses, dtype=np.float32),
        signature=signature(inputs, labels, SIZE),
        rating=np.full(len(rows), np.nan, dtype=np.float32),
        source=np.array(sources),
    )


def _ease(minimal: list[int], answer: Sequence[int], draws: Draws) -> list[int]:
    """Give clues back until singles solve the puzzle, then a random number more."""
    question, extra = list(minimal), draws.below(EXTRA)
    blanks = [cell for cell in draws.order(CELLS) if not question[cell]]
    while grade(question).guesses:
        cell = blanks.pop()
        question[cell] = answer[cell]
    for cell in blanks[:extra]:
        question[cell] = answer[cell]
    return question


def _sharpen(minimal: list[int], answer: Sequence[int], draws: Draws) -> list[int]:
    """Climb towards more guesses: put a few clues back, dig anew, keep what is no easier."""
    question, guesses = minimal, grade(minimal).guesses
    steps = draws.below(CLIMB)
    while steps > 0 or guesses == 0:
        steps -= 1
        order = draws.order(CELLS)
        back = [cell for cell in order if not question[cell]][:LOOSEN]
        loose = [answer[c] if c in back else digit for c, digit in enumerate(question)]
        # What was put back is the last to be dug, or it would mostly be dug again.
        order = [cell for cell in order if cell not in back] + back
        other = dig(board(SIZE), loose, order)
        found = grade(other).guesses
        if found >= guesses:
            question, guesses = other, found
    return question
