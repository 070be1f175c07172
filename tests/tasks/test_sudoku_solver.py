import csv
import gzip

import numpy as np
import pytest

from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.build import BUNDLED
from trm_lab.tasks.sudoku_grid import BLANK, valid
from trm_lab.tasks.sudoku_solver import (
    Grade,
    bits,
    board,
    grade,
    least_open,
    place,
    propagate,
    solve,
)


def digits(text):
    return [int(character) for character in text.replace(".", "0")]


KNOWN = digits("53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79")
KNOWN_ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
# 1 and 2 may change places in the corners of the open rectangle.
TWO_WAYS_4 = digits("..343412..434321")


def test_empty_4x4_grid_has_288_solutions_and_all_are_different_and_valid():
    found = solve([0] * 16, limit=1000)
    assert len(found) == len(set(found)) == 288
    assert valid(np.array(found, dtype=np.uint8) + np.uint8(BLANK), 4).all()


def test_limit_ends_the_search():
    assert len(solve([0] * 81, limit=3)) == 3
    assert len(solve([0] * 36, limit=1)) == 1


def test_known_puzzle_has_its_one_solution():
    assert solve(KNOWN) == [tuple(digits(KNOWN_ANSWER))]
    assert grade(KNOWN) == Grade(solutions=1, guesses=0)


def test_contradictions_have_no_solution_and_no_guess():
    twice_in_a_row = [1, 1] + [0] * 14
    assert solve(twice_in_a_row) == []
    assert grade(twice_in_a_row) == Grade(solutions=0, guesses=0)


def test_complete_grid_is_its_own_solution():
    (answer,) = solve([0] * 36, limit=1)
    assert solve(answer) == [answer]
    assert grade(answer) == Grade(solutions=1, guesses=0)


def test_two_solutions_are_told_from_one_with_one_guess():
    assert grade(TWO_WAYS_4) == Grade(solutions=2, guesses=1)
    assert len(solve(TWO_WAYS_4, limit=5)) == 2


def test_naked_and_hidden_singles_are_found_without_a_guess():
    tables = board(9)
    naked = digits("12345678." + "." * 72)
    state, done = propagate(tables, place(tables, naked))
    assert done >> (tables.planes[8] + 8) & 1
    # A 1 in the top left box: rows 2 and 3 and columns 2 and 3 are barred, cell 1 is left.
    hidden = [0] * 81
    for row, column in ((1, 4), (2, 7), (4, 1), (7, 2)):
        hidden[row * 9 + column] = 1
    state, done = propagate(tables, place(tables, hidden))
    assert done & 1
    assert done.bit_count() == 5
    assert state & done == done


def test_least_open_takes_the_first_cell_with_the_fewest_values_lowest_digit_first():
    tables = board(9)
    grid = digits("1234567.." + "." * 72)
    state, _ = propagate(tables, place(tables, grid))
    assert least_open(tables, state) == [tables.planes[7] + 7, tables.planes[8] + 7]
    assert least_open(tables, tables.full) == list(tables.planes)


def test_bits_lists_set_bits():
    assert list(bits(0)) == []
    assert list(bits(1 << 700 | 0b1010)) == [1, 3, 700]


def test_bundled_answers_and_guesses_are_those_of_the_solver():
    puzzles = sudoku_csv.read(BUNDLED / "sudoku9_test.csv.gz")
    for i in range(0, 1000, 9):
        question = (puzzles.inputs[i] - BLANK).tolist()
        assert solve(question) == [tuple(puzzles.labels[i] - BLANK)]
        assert grade(question) == Grade(solutions=1, guesses=puzzles.guesses[i])


@pytest.mark.parametrize("file", ["train.csv", "test_hard.csv"])
def test_guesses_of_real_puzzles_equal_their_annotation(shared, file):
    folder = shared / "data" / "sudoku_extreme_1k"
    with gzip.open(folder / "annotations.csv.gz", "rt") as lines:
        notes = [row for row in csv.DictReader(lines) if row["file"] == file][:50]
    with (folder / file).open() as lines:
        questions = [row["question"] for row in csv.DictReader(lines)][:50]
    grades = [grade(digits(question)) for question in questions]
    assert grades == [Grade(1, int(note["simple_full"])) for note in notes]
