"""Builds the data of a task from its settings."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from trm_lab.config.contracts import OwnTask
from trm_lab.config.task import BundledSudoku, GeneratedSudoku, MultiSudoku, SudokuCSV, Task
from trm_lab.errors import ConfigError
from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.cache import Splits, cached, default_folder
from trm_lab.tasks.dataset import Augment, Puzzles, TaskData, fingerprint
from trm_lab.tasks.sudoku_generate import GENERATOR_VERSION, generate
from trm_lab.tasks.sudoku_grid import augment
from trm_lab.tasks.sudoku_multi import MULTI_VERSION, generate_multi

BUNDLED = Path(__file__).with_name("bundled")
BUNDLED_TRAIN = 1000
"""Training puzzles of the bundled file; those after them are for validation."""

TRAIN_STREAM, TEST_STREAM = 0, 1
"""Tell the draws from the two files of a CSV task apart."""


def build(task: Task | OwnTask, cache: Path | None = None) -> TaskData:
    """Build a task; generated puzzles are kept in `cache` (default: `cache.default_folder()`).

    Equal settings give equal data on every machine.

    Raises:
        ConfigError: a file is missing, broken or too small, or the asked puzzles do not exist.
    """
    match task:
        case GeneratedSudoku():
            splits = _generated(task, cache or default_folder())
        case MultiSudoku():
            splits = _multi(task, cache or default_folder())
        case BundledSudoku():
            splits = _bundled(task)
        case SudokuCSV():
            splits = _from_csv(task)
        case OwnTask():
            splits = _own(task, cache)
    train, validation, test = (splits[name] for name in ("train", "validation", "test"))
    return TaskData(
        train=train,
        validation=validation,
        test=test,
        vocabulary=task.vocabulary,
        cells=task.cells,
        identifiers=task.identifiers,
        fingerprint=fingerprint(train, validation, test),
        augment=_symmetries(task),
    )


def _symmetries(task: Task | OwnTask) -> Augment | None:
    if isinstance(task, OwnTask):
        return task.symmetries()
    if not task.augment:
        return None
    return lambda inputs, labels, rng: augment(inputs, labels, task.side, rng)


def _own(task: OwnTask, cache: Path | None) -> Splits:
    """Load the puzzles of somebody else's task and hold them to what it says of itself."""
    splits = task.load(cache)
    for name in ("train", "validation", "test"):
        if name not in splits or not len(splits[name]):
            raise ConfigError(f"task {task.kind}: load gives no {name} puzzles")
        puzzles = splits[name]
        if not isinstance(puzzles, Puzzles):
            raise ConfigError(f"task {task.kind}: {name} is {type(puzzles).__name__}, not Puzzles")
        if puzzles.inputs.shape[1] != task.cells:
            raise ConfigError(
                f"task {task.kind}: {name} puzzles have {puzzles.inputs.shape[1]} cells, and the "
                f"task says {task.cells}"
            )
        largest = max(int(puzzles.inputs.max()), int(puzzles.labels.max()))
        if largest >= task.vocabulary:
            raise ConfigError(
                f"task {task.kind}: {name} puzzles have token {largest}, and vocabulary "
                f"{task.vocabulary} ends at {task.vocabulary - 1}"
            )
    return splits


def _generated(task: GeneratedSudoku, folder: Path) -> Splits:
    counts = {"train": task.train, "validation": task.validation, "test": task.test}
    return cached(
        folder,
        f"generator {GENERATOR_VERSION} {task.model_dump_json()}",
        lambda: generate(task.size, task.clues, counts, task.data_seed),
    )


def _multi(task: MultiSudoku, folder: Path) -> Splits:
    counts = {"train": task.train, "validation": task.validation, "test": task.test}
    return cached(
        folder,
        f"multi {MULTI_VERSION} {task.model_dump_json()}",
        lambda: generate_multi(task.size, task.fewest, task.most, counts, task.data_seed),
    )


def _bundled(task: BundledSudoku) -> Splits:
    rows = sudoku_csv.read(BUNDLED / "sudoku9_train.csv.gz")
    return {
        "train": rows.select(np.arange(BUNDLED_TRAIN)),
        "validation": rows.select(np.arange(BUNDLED_TRAIN, BUNDLED_TRAIN + task.validation)),
        "test": sudoku_csv.read(BUNDLED / "sudoku9_test.csv.gz"),
    }


def _from_csv(task: SudokuCSV) -> Splits:
    """Draw validation first, then training puzzles: one set whatever the size of the other."""
    rows = sudoku_csv.read(task.train_csv)
    order = _order(len(rows), task.data_seed, TRAIN_STREAM)
    held, rest = order[: task.validation], order[task.validation :]
    fresh = rest[~np.isin(rows.signature[rest], rows.signature[held])]
    wanted = 1 if task.train is None else task.train
    if len(held) < task.validation or len(fresh) < wanted:
        raise ConfigError(
            f"{task.train_csv}: {len(rows)} puzzles are too few for {task.validation} validation "
            f"and {wanted} training puzzles ({len(rest) - len(fresh)} equal a validation puzzle "
            "up to symmetry)"
        )
    chosen = np.sort(fresh[: task.train])
    held = np.sort(held)

    tests = sudoku_csv.read(task.test_csv)
    if task.test is not None and task.test > len(tests):
        raise ConfigError(
            f"{task.test_csv}: {len(tests)} puzzles are too few for {task.test} test puzzles"
        )
    tested = np.sort(_order(len(tests), task.data_seed, TEST_STREAM)[: task.test])
    _refuse_overlap(task, rows, np.concatenate([chosen, held]), tests, tested)
    return {
        "train": rows.select(chosen),
        "validation": rows.select(held),
        "test": tests.select(tested),
    }


def _order(count: int, seed: int, stream: int) -> npt.NDArray[np.intp]:
    """Random order of `count` rows; raw words, as derived distributions may change with numpy."""
    key = np.array([seed, stream], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


def _refuse_overlap(
    task: SudokuCSV,
    rows: Puzzles,
    used: npt.NDArray[np.intp],
    tests: Puzzles,
    tested: npt.NDArray[np.intp],
) -> None:
    leaked = tested[np.isin(tests.signature[tested], rows.signature[used])]
    if len(leaked):
        first = int(leaked[0])
        twin = int(used[rows.signature[used] == tests.signature[first]].min())
        raise ConfigError(
            f"{len(leaked)} of {len(tested)} test puzzles equal a training or validation puzzle up "
            f"to symmetry, the first {task.test_csv}:{sudoku_csv.line_of(first)} "
            f"and {task.train_csv}:{sudoku_csv.line_of(twin)}"
        )
