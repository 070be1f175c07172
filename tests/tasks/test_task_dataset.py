from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from trm_lab.tasks.dataset import concatenate, fingerprint
from trm_lab.tasks.describe import describe
from trm_lab.tasks.sudoku_generate import generate


@pytest.fixture(scope="module")
def puzzles():
    return generate(4, 6, {"train": 6}, seed=0)["train"]


def test_select_takes_all_columns_in_the_given_order(puzzles):
    picked = puzzles.select(np.array([4, 1]))
    assert len(puzzles) == 6
    assert len(picked) == 2
    for name, array in puzzles.arrays().items():
        np.testing.assert_array_equal(picked.arrays()[name], array[[4, 1]])


def test_concatenate_joins_what_select_took_apart(puzzles):
    halves = [puzzles.select(np.arange(2)), puzzles.select(np.arange(2, 6))]
    for name, array in concatenate(halves).arrays().items():
        np.testing.assert_array_equal(array, puzzles.arrays()[name])


def test_puzzles_are_frozen_and_columns_have_one_length(puzzles):
    with pytest.raises(FrozenInstanceError):
        puzzles.inputs = puzzles.labels
    with pytest.raises((AssertionError, TypeError)):  # the latter where types are checked
        replace(puzzles, clues=puzzles.clues[:3])


def test_fingerprint_sees_every_cell_and_where_splits_end(puzzles):
    first, second = puzzles.select(np.arange(2)), puzzles.select(np.arange(2, 6))
    plain = fingerprint(first, second)
    assert len(plain) == 16
    assert fingerprint(first, second) == plain
    assert fingerprint(second, first) != plain
    assert fingerprint(puzzles) != plain
    labels = second.labels.copy()
    labels[-1, -1] = 0
    assert fingerprint(first, replace(second, labels=labels)) != plain
    assert fingerprint(first, replace(second, guesses=second.guesses + 1)) == plain


def test_describe_has_a_line_for_each_source_and_known_measure(puzzles):
    some = replace(
        puzzles,
        source=np.array(["b", "a", "b", "b", "b", "b"]),
        clues=np.array([6, 4, 7, 8, 9, 10], dtype=np.int16),
        guesses=np.array([0, 2, 0, 1, 1500, 0.5], dtype=np.float32),
        rating=np.array([np.nan, 3, np.nan, np.nan, np.nan, np.nan], dtype=np.float32),
    )
    assert describe(some) == (
        "| source | puzzles | measure | mean | min | 25 % | median | 75 % | max |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| all | 6 | clues | 7.3 | 4 | 6.25 | 7.5 | 8.75 | 10 |\n"
        "| all | 6 | guesses | 250.6 | 0 | 0.125 | 0.75 | 1.75 | 1500 |\n"
        "| all | 1 | rating | 3.0 | 3 | 3 | 3 | 3 | 3 |\n"
        "| a | 1 | clues | 4.0 | 4 | 4 | 4 | 4 | 4 |\n"
        "| a | 1 | guesses | 2.0 | 2 | 2 | 2 | 2 | 2 |\n"
        "| a | 1 | rating | 3.0 | 3 | 3 | 3 | 3 | 3 |\n"
        "| b | 5 | clues | 8.0 | 6 | 7 | 8 | 9 | 10 |\n"
        "| b | 5 | guesses | 300.3 | 0 | 0 | 0.5 | 1 | 1500 |\n"
    )


def test_describe_has_no_total_for_a_single_source(puzzles):
    assert [line.split(" | ")[:3] for line in describe(puzzles).splitlines()[2:]] == [
        ["| trm_lab/4x4", "6", "clues"],
        ["| trm_lab/4x4", "6", "guesses"],
    ]
