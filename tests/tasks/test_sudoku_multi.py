"""Puzzles with several solutions: exact sets, splits apart up to symmetry, labels drawn anew."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from trm_lab.config import MultiSudoku
from trm_lab.config.source import Source
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import Puzzles, TaskData
from trm_lab.tasks.sudoku_grid import BLANK, augment, valid
from trm_lab.tasks.sudoku_multi import attempt, generate_multi, marks
from trm_lab.training.stream import Stream

TASK = MultiSudoku(train=30, validation=8, test=12)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return build(TASK, tmp_path_factory.mktemp("multi"))


@pytest.fixture(scope="module")
def all_grids() -> set[tuple[int, ...]]:
    """Every complete 4x4 grid, by trying all rows: there are 288."""
    rows = list(permutations(range(2, 6)))
    grids = np.array([[*a, *b, *c, *d] for a in rows for b in rows if not _clash(a, b)
                      for c in rows if not _clash(a, c) and not _clash(b, c)
                      for d in rows if not _clash(c, d)], dtype=np.uint8)  # fmt: skip
    return set(map(tuple, grids[valid(grids, 4)].tolist()))


def _clash(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return any(x == y for x, y in zip(a, b, strict=True))


def test_the_solutions_are_exactly_the_grids_that_fit(
    data: TaskData, all_grids: set[tuple[int, ...]]
) -> None:
    assert len(all_grids) == 288
    for puzzles in (data.train, data.validation, data.test):
        assert puzzles.solutions is not None
        for question, label, stored, count in zip(
            puzzles.inputs, puzzles.labels, puzzles.solutions, puzzles.solution_counts, strict=True
        ):
            given = np.flatnonzero(question != BLANK)
            fits = {g for g in all_grids if all(g[i] == question[i] for i in given)}
            assert set(map(tuple, stored.tolist())) == fits
            assert 2 <= len(fits) == count <= 8
            assert (stored[count:] == stored[0]).all()
            assert (label == stored[0]).all()


def test_numbers_of_solutions_vary(data: TaskData) -> None:
    assert len(set(data.train.solution_counts.tolist())) >= 3


def test_a_mark_does_not_see_a_symmetry_and_sees_most_other_changes() -> None:
    found = [p for p in (attempt(4, 2, 8, 0, i) for i in range(60)) if p is not None]
    before = marks(found, 4)
    questions = np.array([q for q, _ in found], dtype=np.uint8) + np.uint8(BLANK)
    moved = []
    for i, (_, answers) in enumerate(found):
        sets = []
        for answer in answers:
            label = np.array([answer], dtype=np.uint8) + np.uint8(BLANK)
            q, a = augment(questions[i : i + 1], label, 4, np.random.default_rng(i))
            sets.append(tuple((a[0] - BLANK).tolist()))
        moved.append((tuple((q[0] - BLANK).tolist()), tuple(sorted(sets))))
    assert any(m[0] != f[0] for m, f in zip(moved, found, strict=True))
    assert (marks(moved, 4) == before).all()
    assert len(set(before.tolist())) > 20


def test_larger_training_sets_hold_the_smaller_and_tests_stay() -> None:
    small = generate_multi(4, 2, 8, {"train": 5, "test": 5}, 0)
    large = generate_multi(4, 2, 8, {"train": 9, "test": 5}, 0)
    assert (large["train"].inputs[:5] == small["train"].inputs).all()
    assert (large["test"].inputs == small["test"].inputs).all()
    other = generate_multi(4, 2, 8, {"train": 5, "test": 5}, 1)
    assert (other["train"].inputs != small["train"].inputs).any()


def test_the_cache_keeps_the_solutions(tmp_path: Path, data: TaskData) -> None:
    build(TASK, tmp_path)
    again = build(TASK, tmp_path)
    assert again.fingerprint == data.fingerprint
    assert (again.test.solutions == data.test.solutions).all()  # type: ignore[union-attr]


def test_a_task_that_cannot_be_filled_says_so() -> None:
    with pytest.raises(ConfigError, match="4x4 Sudoku with 7 to 7 solutions: found only"):
        generate_multi(4, 7, 7, {"train": 500, "test": 500}, 0, patience=64)
    with pytest.raises(ConfigError, match="fewest 5 solutions is more than most 4"):
        validate(MultiSudoku, Source({"kind": "sudoku_multi", "fewest": 5, "most": 4}, "x"))


def test_a_visit_draws_one_of_the_solutions_and_turns_all_alike(data: TaskData) -> None:
    plain = TaskData(**{**data.__dict__, "augment": None})
    stream = Stream(plain, 30, 0, CPU)
    sets = {
        tuple(question): set(map(tuple, answers))
        for question, answers in zip(
            data.train.inputs.tolist(), data.train.answers.tolist(), strict=True
        )
    }
    drawn: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for update in range(1, 80):
        batch = stream.draw(update)
        for question, labels in zip(batch.inputs.tolist(), batch.labels.tolist(), strict=True):
            drawn.setdefault(tuple(question), set()).add(tuple(labels[0]))
            assert set(map(tuple, labels)) == sets[tuple(question)]
    assert drawn == sets

    turned = Stream(data, 30, 0, CPU).draw(7)
    assert torch.equal(Stream(data, 30, 0, CPU).draw(7).labels, turned.labels)
    sizes = [len(set(map(tuple, answers))) for answers in turned.labels.tolist()]
    assert sorted(sizes) == sorted(data.train.solution_counts.tolist())
    for row in range(30):
        given = turned.inputs[row] != BLANK
        assert valid(turned.labels[row].numpy().astype(np.uint8), 4).all()
        assert (turned.labels[row][:, given] == turned.inputs[row][given]).all()
    assert (turned.inputs != stream.draw(7).inputs).any()


def test_puzzles_without_solutions_stay_what_they_were() -> None:
    inputs = np.full((2, 16), 1, dtype=np.uint8)
    none = np.zeros(2)
    puzzles = Puzzles(inputs, inputs, none, none, none, none, none)
    assert "solutions" not in puzzles.arrays()
    assert puzzles.answers is puzzles.labels
    assert puzzles.solution_counts.tolist() == [1, 1]
