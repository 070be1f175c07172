"""Every task: what it says of itself is what its data is."""

from pathlib import Path

import numpy as np
import pytest

from tests.contract.instances import TASKS, name
from trm_lab.config import GeneratedSudoku, MultiSudoku, SudokuCSV, Task
from trm_lab.parameters import Geometry
from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.build import BUNDLED, build
from trm_lab.tasks.dataset import TaskData


@pytest.fixture(params=TASKS, ids=name)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture
def data(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskData:
    if isinstance(task, SudokuCSV):
        rows = sudoku_csv.read(BUNDLED / "sudoku9_train.csv.gz")
        sudoku_csv.write(tmp_path / task.train_csv, rows.select(np.arange(20)))
        sudoku_csv.write(tmp_path / task.test_csv, rows.select(np.arange(20, 30)))
        monkeypatch.chdir(tmp_path)
    return build(task)


def test_a_task_has_the_geometry_that_it_states(task: Task, data: TaskData) -> None:
    assert Geometry.of(task) == (data.cells, data.vocabulary, data.identifiers)
    assert data.cells == task.side**2
    assert (data.augment is not None) == task.augment
    assert len(data.validation) == task.validation
    for puzzles in (data.train, data.validation, data.test):
        assert puzzles.inputs.shape == puzzles.labels.shape == (len(puzzles), data.cells)
        assert len(puzzles) > 0
        assert puzzles.inputs.min() == 1
        assert puzzles.inputs.max() == data.vocabulary - 1
        assert puzzles.labels.min() == 2
        assert puzzles.labels.max() == data.vocabulary - 1
        given = puzzles.inputs != 1
        assert (puzzles.inputs[given] == puzzles.labels[given]).all()
        assert (given.sum(1) == puzzles.clues).all()


def test_a_task_keeps_its_splits_apart(task: Task, data: TaskData) -> None:
    signatures = [set(p.signature.tolist()) for p in (data.train, data.validation, data.test)]
    assert not signatures[0] & signatures[1]
    assert not signatures[0] & signatures[2]
    assert not signatures[1] & signatures[2]


def test_a_task_is_built_the_same_twice(task: Task, data: TaskData, tmp_path: Path) -> None:
    if isinstance(task, GeneratedSudoku | MultiSudoku):
        again = build(task, tmp_path / "another cache")
    else:
        again = build(task)
    assert again.fingerprint == data.fingerprint
    assert np.array_equal(again.train.inputs, data.train.inputs)


def test_a_symmetry_keeps_a_puzzle_a_puzzle(task: Task, data: TaskData) -> None:
    if data.augment is None:
        assert not task.augment
        return
    inputs, labels = data.train.inputs, data.train.labels
    rng = np.random.default_rng(0)
    turned, solved = data.augment(inputs, labels, rng)
    assert (turned != inputs).any()
    given = turned != 1
    assert (turned[given] == solved[given]).all()
    assert (given.sum(1) == (inputs != 1).sum(1)).all()
    rows = np.sort(solved.reshape(len(solved), task.side, task.side), axis=2)
    assert (rows == np.arange(2, task.side + 2)).all()
