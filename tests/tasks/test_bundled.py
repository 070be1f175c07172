import re

import numpy as np
import pytest

from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.build import BUNDLED
from trm_lab.tasks.bundled_build import ROWS, assemble, build_bundled, row
from trm_lab.tasks.describe import describe
from trm_lab.tasks.sudoku_grid import BLANK
from trm_lab.tasks.sudoku_solver import solve


@pytest.fixture(scope="module")
def files():
    return {name: sudoku_csv.read(BUNDLED / name) for name in ROWS}


def test_files_have_their_rows_half_easy_half_hard(files):
    assert {name: len(puzzles) for name, puzzles in files.items()} == ROWS
    for puzzles in files.values():
        hard = puzzles.source == "trm_lab/hard"
        np.testing.assert_array_equal(hard, np.arange(len(puzzles)) % 2 == 1)
        np.testing.assert_array_equal(puzzles.guesses > 0, hard)
        assert (puzzles.source[~hard] == "trm_lab/easy").all()


def test_no_two_puzzles_are_equal_up_to_symmetry(files):
    marks = np.concatenate([puzzles.signature for puzzles in files.values()])
    assert len(np.unique(marks)) == sum(ROWS.values())


def test_hard_puzzles_are_minimal_and_spread_widely(files):
    hard = files["sudoku9_test.csv.gz"].select(np.arange(1, 1000, 2))
    low, high = np.quantile(hard.guesses, [0.1, 0.9])
    assert low <= 5
    assert high >= 30
    assert len(np.unique(hard.clues)) >= 5
    for i in range(0, 500, 50):
        question = (hard.inputs[i] - BLANK).tolist()
        for cell in np.flatnonzero(question):
            assert len(solve([*question[:cell], 0, *question[cell + 1 :]])) == 2


@pytest.mark.slow
def test_rows_are_those_of_the_generator(files):
    for name, first in (("sudoku9_train.csv.gz", 0), ("sudoku9_test.csv.gz", 1500)):
        made = assemble([row(0, first + i) for i in range(6)])
        for column, array in made.arrays().items():
            np.testing.assert_array_equal(
                files[name].select(np.arange(6)).arrays()[column], array, err_msg=column
            )


def test_readme_tables_are_what_describe_prints(files):
    readme = (BUNDLED / "README.md").read_text(encoding="utf-8")
    for name, puzzles in files.items():
        (section,) = re.findall(
            rf"^## {re.escape(name)}\n\n(\|.*?\n)(?:\n|\Z)", readme, re.S | re.M
        )
        assert section == describe(puzzles)


@pytest.mark.slow
def test_build_writes_both_files(tmp_path, monkeypatch):
    monkeypatch.setattr("trm_lab.tasks.bundled_build.ROWS", {"a.csv.gz": 2, "b.csv": 2})
    build_bundled(tmp_path / "new", seed=0, processes=1)
    made = assemble([row(0, i) for i in range(4)])
    for name, part in (("a.csv.gz", [0, 1]), ("b.csv", [2, 3])):
        found = sudoku_csv.read(tmp_path / "new" / name)
        np.testing.assert_array_equal(found.inputs, made.inputs[part])
        np.testing.assert_array_equal(found.guesses, made.guesses[part])
