import numpy as np
import pytest

from trm_lab.config.task import BundledSudoku, GeneratedSudoku, SudokuCSV
from trm_lab.errors import ConfigError
from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.build import BUNDLED, build
from trm_lab.tasks.dataset import concatenate, fingerprint
from trm_lab.tasks.sudoku_generate import generate
from trm_lab.tasks.sudoku_grid import augment, valid

SMALL = GeneratedSudoku(size=6, clues=14, train=30, validation=6, test=12, data_seed=3)


def marks(puzzles):
    return set(puzzles.signature.tolist())


@pytest.fixture(scope="module")
def rows():
    return sudoku_csv.read(BUNDLED / "sudoku9_test.csv.gz").select(np.arange(60))


@pytest.fixture
def files(tmp_path, rows):
    sudoku_csv.write(tmp_path / "train.csv", rows.select(np.arange(40)))
    sudoku_csv.write(tmp_path / "test.csv.gz", rows.select(np.arange(40, 60)))
    return {"train_csv": str(tmp_path / "train.csv"), "test_csv": str(tmp_path / "test.csv.gz")}


def csv_task(files, **changes):
    return SudokuCSV(**{"name": "some", "validation": 10} | files | changes)


def test_generated_task(tmp_path):
    data = build(SMALL, tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 6, 12]
    assert (data.cells, data.vocabulary, data.identifiers) == (36, 8, 1)
    assert data.fingerprint == fingerprint(data.train, data.validation, data.test)
    direct = generate(6, 14, {"train": 30, "validation": 6, "test": 12}, seed=3)
    np.testing.assert_array_equal(data.test.inputs, direct["test"].inputs)


def test_generated_task_is_made_once_per_setting(tmp_path):
    first = build(SMALL, tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    assert build(SMALL, tmp_path).fingerprint == first.fingerprint
    assert path.stat().st_mtime_ns == written
    other = build(SMALL.model_copy(update={"data_seed": 4}), tmp_path)
    assert other.fingerprint != first.fingerprint
    assert len(list(tmp_path.iterdir())) == 2


def test_corrupted_cache_gives_the_same_data(tmp_path):
    first = build(SMALL, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    assert build(SMALL, tmp_path).fingerprint == first.fingerprint


def test_default_cache_is_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("TRM_LAB_CACHE", str(tmp_path / "cache"))
    build(SMALL)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_augment_is_the_symmetry_of_the_size_or_none(tmp_path):
    data = build(SMALL, tmp_path)
    batch = data.train.inputs[:5], data.train.labels[:5]
    moved = data.augment(*batch, np.random.default_rng(0))
    for found, expected in zip(moved, augment(*batch, 6, np.random.default_rng(0)), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert valid(moved[1], 6).all()
    assert build(SMALL.model_copy(update={"augment": False}), tmp_path).augment is None


def test_bundled_task():
    data = build(BundledSudoku(validation=200))
    assert [len(data.train), len(data.validation), len(data.test)] == [1000, 200, 1000]
    assert (data.cells, data.vocabulary, data.identifiers) == (81, 11, 1)
    for one, two in (
        (data.train, data.validation),
        (data.train, data.test),
        (data.validation, data.test),
    ):
        assert not marks(one) & marks(two)
    for split in (data.train, data.validation, data.test):
        assert (split.source == "trm_lab/hard").mean() == 0.5
    assert data.fingerprint == "bfcc890ce3f25f68"
    assert len(build(BundledSudoku(validation=500)).validation) == 500


def test_csv_task_uses_all_rows_but_the_validation_ones(files, rows):
    data = build(csv_task(files))
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 10, 20]
    assert marks(data.train) | marks(data.validation) == marks(rows.select(np.arange(40)))
    np.testing.assert_array_equal(data.test.inputs, rows.inputs[40:])
    np.testing.assert_array_equal(data.test.guesses, rows.guesses[40:])


def test_csv_draws_are_nested_seeded_and_in_file_order(files, rows):
    small, large = (build(csv_task(files, train=train, test=5)) for train in (8, 20))
    assert marks(small.train) < marks(large.train)
    np.testing.assert_array_equal(small.validation.inputs, large.validation.inputs)
    np.testing.assert_array_equal(small.test.inputs, large.test.inputs)
    other = build(csv_task(files, train=8, test=5, data_seed=1))
    assert marks(other.train) != marks(small.train)
    assert marks(other.test) != marks(small.test)
    position = {mark: i for i, mark in enumerate(rows.signature.tolist())}
    for split in (large.train, large.validation, large.test):
        places = [position[mark] for mark in split.signature.tolist()]
        assert places == sorted(places)


def test_training_puzzles_equal_to_a_validation_puzzle_are_dropped(files, rows):
    some = rows.select(np.arange(20))
    moved = augment(some.inputs, some.labels, 9, np.random.default_rng(0))
    twins = type(some)(**some.arrays() | dict(zip(("inputs", "labels"), moved, strict=True)))
    sudoku_csv.write(files["train_csv"], concatenate([some, twins]))
    data = build(csv_task(files))
    assert not marks(data.train) & marks(data.validation)
    assert len(data.train) == 40 - 2 * len(marks(data.validation))


def test_too_few_rows_are_an_error_with_the_numbers(files):
    with pytest.raises(ConfigError) as caught:
        build(csv_task(files, train=31))
    assert str(caught.value) == (
        f"{files['train_csv']}: 40 puzzles are too few for 10 validation and 31 training puzzles "
        "(0 equal a validation puzzle up to symmetry)"
    )
    with pytest.raises(ConfigError, match="too few for 41 validation and 1 training"):
        build(csv_task(files, validation=41))
    with pytest.raises(ConfigError, match="too few for 40 validation and 1 training"):
        build(csv_task(files, validation=40))
    with pytest.raises(ConfigError) as caught:
        build(csv_task(files, test=21))
    assert str(caught.value) == (f"{files['test_csv']}: 20 puzzles are too few for 21 test puzzles")


def test_test_puzzles_equal_to_a_training_puzzle_are_an_error(files, rows):
    leaked = rows.select(np.array([45, 7, 46, 30]))
    moved = augment(leaked.inputs, leaked.labels, 9, np.random.default_rng(0))
    twins = type(leaked)(**leaked.arrays() | dict(zip(("inputs", "labels"), moved, strict=True)))
    sudoku_csv.write(files["test_csv"], twins)
    with pytest.raises(ConfigError) as caught:
        build(csv_task(files))
    assert str(caught.value) == (
        "2 of 4 test puzzles equal a training or validation puzzle up to symmetry, "
        f"the first {files['test_csv']}:3 and {files['train_csv']}:9"
    )


def test_official_files_make_a_task(shared):
    folder = shared / "data" / "sudoku_extreme_1k"
    data = build(
        SudokuCSV(
            name="sudoku-extreme-1k",
            train_csv=str(folder / "train.csv"),
            test_csv=str(folder / "test_hard.csv"),
            train=700,
            test=2000,
        )
    )
    assert [len(data.train), len(data.validation), len(data.test)] == [700, 300, 2000]
    assert np.isnan(data.test.guesses).all()
    assert data.fingerprint == "11bf093ce9e2b6a8"
