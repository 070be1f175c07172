import numpy as np
import pytest

from trm_lab.errors import ConfigError
from trm_lab.tasks import sudoku_generate
from trm_lab.tasks.dataset import fingerprint
from trm_lab.tasks.sudoku_generate import Draws, complete_grid, dig, generate
from trm_lab.tasks.sudoku_grid import BLANK, valid
from trm_lab.tasks.sudoku_solver import board, grade, solve

SPLITS = {"train": 40, "validation": 10, "test": 20}


@pytest.fixture(scope="module")
def small():
    return generate(6, 12, SPLITS, seed=0)


@pytest.mark.parametrize(("size", "clues"), [(4, 5), (6, 10), (9, 30)])
def test_puzzles_have_the_asked_clues_and_one_solution_which_is_the_label(size, clues):
    found = generate(size, clues, {"train": 12, "test": 4}, seed=1)
    assert {name: len(split) for name, split in found.items()} == {"train": 12, "test": 4}
    for split in found.values():
        assert valid(split.labels, size).all()
        assert (split.clues == clues).all()
        assert set(split.source.tolist()) == {f"trm_lab/{size}x{size}"}
        assert np.isnan(split.rating).all()
        for i in range(len(split)):
            question = (split.inputs[i] - BLANK).tolist()
            assert sum(map(bool, question)) == clues
            assert solve(question) == [tuple(split.labels[i] - BLANK)]
            assert split.guesses[i] == grade(question).guesses


def test_splits_share_no_puzzle_up_to_symmetry(small):
    train, validation, test = (set(split.signature.tolist()) for split in small.values())
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_thirteen_classes_of_4x4_are_dealt_out_without_overlap():
    found = generate(4, 4, {"train": 150, "validation": 40, "test": 40}, seed=0)
    classes = [set(split.signature.tolist()) for split in found.values()]
    assert [len(some) for some in classes] == [7, 3, 3]
    assert len(set.union(*classes)) == 13


def test_arrays_can_be_written_to_as_torch_expects(small):
    assert all(array.flags.writeable for array in small["train"].arrays().values())


def test_no_puzzle_comes_twice():
    found = generate(4, 4, {"train": 300, "test": 50}, seed=2)
    for split in found.values():
        assert len(np.unique(split.inputs, axis=0)) == len(split)


def test_splits_grow_without_changing(small):
    more = generate(6, 12, SPLITS | {"train": 80}, seed=0)
    np.testing.assert_array_equal(more["train"].inputs[:40], small["train"].inputs)
    np.testing.assert_array_equal(more["test"].inputs, small["test"].inputs)
    np.testing.assert_array_equal(more["validation"].inputs, small["validation"].inputs)


def test_batching_has_no_influence(small, monkeypatch):
    monkeypatch.setattr(sudoku_generate, "BATCH", 7)
    again = generate(6, 12, SPLITS, seed=0)
    assert fingerprint(*again.values()) == fingerprint(*small.values())


def test_seeds_give_different_puzzles(small):
    other = generate(6, 12, SPLITS, seed=1)
    assert not set(other["train"].signature.tolist()) & set(small["train"].signature.tolist())


def test_golden(small):
    """Changes only together with GENERATOR_VERSION."""
    assert sudoku_generate.GENERATOR_VERSION == 1
    assert fingerprint(*small.values()) == "cd944fb3a686b6f7"
    assert fingerprint(*generate(4, 5, {"train": 20}, seed=7).values()) == "e36aaff1e5147569"
    assert fingerprint(*generate(9, 30, {"train": 5}, seed=0).values()) == "270a3b398a37c8fa"
    assert (
        "".join(map(str, small["train"].inputs[0] - BLANK))
        == "032456400000000000040600300200000540"
    )


def test_draws_are_the_raw_words_of_philox():
    assert Draws(0, 0).words(2) == [213000021201967259, 4455796210202625458]
    assert Draws(3, 5).words(1) != Draws(5, 3).words(1)
    assert sorted(Draws(1, 2).order(50)) == list(range(50))
    draws = Draws(0, 1)
    below = [draws.below(6) for _ in range(600)]
    assert set(below) == set(range(6))
    assert max(np.bincount(below)) < 140


def test_first_rows_of_complete_grids_are_evenly_spread():
    tables = board(4)
    grids = [complete_grid(tables, Draws(0, index)) for index in range(600)]
    _, seen = np.unique([grid[:4] for grid in grids], axis=0, return_counts=True)
    assert len(seen) == 24
    assert 5 <= seen.min() <= seen.max() <= 50
    assert len(set(grids)) > 220


def test_dig_keeps_every_clue_that_is_needed_and_no_other():
    tables = board(6)
    draws = Draws(0, 3)
    answer = complete_grid(tables, draws)
    minimal = dig(tables, answer, draws.order(36))
    assert solve(minimal) == [answer]
    for cell in range(36):
        if minimal[cell]:
            without = [*minimal[:cell], 0, *minimal[cell + 1 :]]
            assert len(solve(without)) == 2


def test_dig_stops_at_the_asked_clues():
    answer = complete_grid(board(6), Draws(0, 4))
    question = dig(board(6), answer, range(36), clues=30)
    assert question[:6] == [0] * 6
    assert tuple(question[6:]) == answer[6:]


@pytest.mark.slow
def test_unfillable_split_is_an_error_that_says_what_was_found():
    with pytest.raises(ConfigError) as caught:
        generate(9, 17, {"train": 3, "test": 2}, seed=0, patience=10)
    assert str(caught.value) == (
        "9x9 Sudoku with 17 clues: found only 0 of 3 train, 0 of 2 test puzzles (0 distinct up to "
        "symmetry) and nothing new in the last 64 of 64 tries; ask for fewer puzzles or more clues"
    )
