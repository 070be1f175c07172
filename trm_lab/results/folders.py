"""One run folder, read without trust: what is damaged is listed, the rest is used.

U updates with a training record, V evaluations, S supervision steps evaluated while training,
E supervision steps evaluated at the end, P test puzzles.
"""

import json
import operator
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
import yamlcore

from trm_lab.results.schema import STATES, WEIGHTS
from trm_lab.runs import RunFolder

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

COUNTERS = ("examples", "flops", "seconds", "cpu_seconds")
SOLVER = ("residual", "iterations", "unconverged", "backward_unconverged")
"""What only runs with an implicit gradient or a residual penalty record."""
TRAIN = (
    "loss",
    "lm_loss",
    "halt_loss",
    "cell_accuracy",
    "puzzle_accuracy",
    "mean_steps",
    "lr",
    *COUNTERS,
    *SOLVER,
)
ACCURACIES = ("puzzle_accuracy", "cell_accuracy")
_FACTS = ("clues", "guesses", "rating")
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy raises for damaged .npz files."""


@dataclass(frozen=True)
class Curve:
    """Training records, one per update."""

    update: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[U], rising."""
    values: FloatArray = field(default_factory=lambda: np.zeros((0, len(TRAIN))))
    """[U, len(TRAIN)]."""


@dataclass(frozen=True)
class Validation:
    """Evaluations while training: of the averaged weights where there are any, else the raw."""

    update: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[V], rising."""
    step: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[S], rising."""
    counters: FloatArray = field(default_factory=lambda: np.zeros((0, len(COUNTERS))))
    """[V, len(COUNTERS)]."""
    accuracies: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 2)))
    """[V, S, len(ACCURACIES)]."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the test puzzles."""

    update: int
    averaging: str
    """ema or raw."""
    step: IntArray
    """[E]."""
    solved: npt.NDArray[np.bool_]
    """[P, E]."""
    cell_accuracy: FloatArray
    """[E], mean over puzzles."""
    halting_step: IntArray
    """[P], supervision steps that each puzzle had; files without them gave every puzzle all."""
    unconverged: FloatArray
    """[E], share of the puzzles whose solve did not converge; NaN where nothing is solved for."""
    signature: npt.NDArray[np.uint64]
    """[P]."""
    facts: FloatArray
    """[3, P]: clues, guesses, rating."""


@dataclass(frozen=True)
class RunRecord:
    """What one run folder holds."""

    status: dict[str, Any] | None
    """None where status.json is missing or unreadable."""
    state: str
    recipe: dict[str, Any] | None
    train: Curve
    validation: Validation
    evaluations: dict[str, Evaluation]
    """By "last" and "best"."""
    problems: tuple[str, ...]


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; never raises for what the folder holds."""
    damage: list[str] = []
    files = RunFolder(folder)
    status = _status(files.status_file, damage)
    recipe = _mapping(files.recipe_file, damage)
    train, validation = _metrics(files.metrics_file, damage)
    evaluations: dict[str, Evaluation] = {}
    for weights in WEIGHTS:
        evaluation = _evaluation(files.evaluation(weights), damage)
        if evaluation is not None:
            evaluations[weights] = evaluation
    if status is not None:
        state = str(status["state"])
    else:
        written = files.status_file.exists()
        begun = bool(train.update.size or validation.update.size or evaluations)
        state = "lost" if written or begun else "waiting"
        if begun and not written:
            damage.append("status.json: missing, though the run has begun")
    if {"last", "best"} <= set(evaluations) and not np.array_equal(
        evaluations["last"].signature, evaluations["best"].signature
    ):
        damage.append("evaluation/best.npz: not the test puzzles of last.npz; left out")
        del evaluations["best"]
    place = f"{folder.parent.name}/{folder.name}"
    problems = tuple(f"{place}/{text}" for text in damage)
    return RunRecord(status, state, recipe, train, validation, evaluations, problems)


def _status(path: Path, damage: list[str]) -> dict[str, Any] | None:
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        damage.append(f"status.json: unreadable: {error}")
        return None
    if not isinstance(status, dict) or status.get("state") not in STATES:
        state = status.get("state") if isinstance(status, dict) else status
        damage.append(f"status.json: state is {state!r}, not one of {', '.join(STATES)}")
        return None
    return status


def _mapping(path: Path, damage: list[str]) -> dict[str, Any] | None:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=yamlcore.CCoreLoader)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        damage.append(f"{path.name}: unreadable: {' '.join(str(error).split())}")
        return None
    if not isinstance(data, dict):
        damage.append(f"{path.name}: not a mapping")
        return None
    return data


def _metrics(path: Path, damage: list[str]) -> tuple[Curve, Validation]:
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return Curve(), Validation()
    except OSError as error:
        damage.append(f"{path.name}: unreadable: {error}")
        return Curve(), Validation()
    train: dict[int, dict[str, Any]] = {}
    evaluations: dict[str, dict[int, dict[str, Any]]] = {"ema": {}, "raw": {}}
    for i, record in _records(path.name, lines, damage):
        try:
            if record["kind"] == "train":
                train[int(record["update"])] = record
            elif record["kind"] == "evaluation" and record["split"] == "validation":
                evaluations[record["weights"]][int(record["update"])] = record
        except (ValueError, KeyError, TypeError) as error:
            damage.append(f"{path.name}:{i}: not a record: {error!r}")
    try:
        curve = _curve(train)
    except (ValueError, TypeError) as error:
        damage.append(f"{path.name}: training records left out: {error}")
        curve = Curve()
    try:
        validation = _validation(evaluations["ema"] or evaluations["raw"])
    except (ValueError, TypeError, KeyError) as error:
        damage.append(f"{path.name}: evaluations left out: {error!r}")
        validation = Validation()
    return curve, validation


def _records(name: str, lines: Sequence[str], damage: list[str]) -> list[tuple[int, Any]]:
    """Give (line number, record) of every line; a torn last line is no damage."""
    numbered = [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]
    try:  # in one go: three times as fast as line by line
        whole = json.loads("[" + ",".join(line for _, line in numbered) + "]")
        if len(whole) == len(numbered):
            return [(i, record) for (i, _), record in zip(numbered, whole, strict=True)]
    except ValueError:
        pass
    records = []
    for i, line in numbered:
        try:
            records.append((i, json.loads(line)))
        except ValueError as error:
            if i != numbered[-1][0]:
                damage.append(f"{name}:{i}: unreadable: {error}")
    return records


def _columns(records: Sequence[dict[str, Any]], names: Sequence[str]) -> FloatArray:
    try:
        rows = list(map(operator.itemgetter(*names), records))
    except KeyError:
        rows = [tuple(record.get(name) for name in names) for record in records]
    return np.array(rows, dtype=np.float64).reshape(-1, len(names))  # None becomes NaN


def _curve(records: dict[int, dict[str, Any]]) -> Curve:
    """A resumed run writes some updates twice; the later record counts."""
    updates = sorted(records)
    rows = [records[update] for update in updates]
    return Curve(np.array(updates, dtype=np.int64), _columns(rows, TRAIN))


def _validation(records: dict[int, dict[str, Any]]) -> Validation:
    updates = sorted(records)
    steps = sorted({int(step) for record in records.values() for step in record["steps"]})
    accuracies = np.full((len(updates), len(steps), len(ACCURACIES)), np.nan)
    column = {step: i for i, step in enumerate(steps)}
    for v, update in enumerate(updates):
        record = records[update]
        at = [column[int(step)] for step in record["steps"]]
        for a, name in enumerate(ACCURACIES):
            if len(record[name]) != len(at):
                raise ValueError(f"update {update}: {len(record[name])} of {name}, {len(at)} steps")
            accuracies[v, at, a] = np.array(record[name], dtype=np.float64)
    return Validation(
        np.array(updates, dtype=np.int64),
        np.array(steps, dtype=np.int64),
        _columns([records[update] for update in updates], COUNTERS),
        accuracies,
    )


def _evaluation(path: Path, damage: list[str]) -> Evaluation | None:
    place = f"evaluation/{path.name}"
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            solved = file["solved"].astype(np.bool_)
            signature = file["signature"].astype(np.uint64, casting="safe")
            cells = file["cell_accuracy"].astype(np.float64)
            evaluation = Evaluation(
                update=int(file["update"]),
                averaging=str(file["weights"]),
                step=file["steps"].astype(np.int64),
                solved=solved,
                cell_accuracy=cells.mean(axis=0) if len(cells) else cells.sum(axis=0) * np.nan,
                halting_step=_halting_step(file, len(solved)),
                unconverged=_unconverged(file, len(file["steps"])),
                signature=signature,
                facts=np.stack([file[name].astype(np.float64) for name in _FACTS]),
            )
    except FileNotFoundError:
        return None
    except _UNREADABLE as error:
        damage.append(f"{place}: unreadable: {error}")
        return None
    shape = (len(signature), len(evaluation.step))
    steps, missed = evaluation.halting_step.shape, evaluation.unconverged.shape
    if (steps, missed) != ((shape[0],), (shape[1],)):
        damage.append(f"{place}: halting_step {steps} and unconverged {missed} do not fit {shape}")
        return None
    if solved.shape != shape or cells.shape != shape or evaluation.facts.shape[1] != shape[0]:
        damage.append(f"{place}: arrays of {solved.shape} and {cells.shape}, not all {shape}")
        return None
    return evaluation


def _halting_step(file: Any, puzzles: int) -> IntArray:
    if "halting_step" in file.files:
        return np.asarray(file["halting_step"], dtype=np.int64)
    return np.full(puzzles, file["steps"][-1], dtype=np.int64)


def _unconverged(file: Any, steps: int) -> FloatArray:
    if "unconverged" not in file.files or not len(file["unconverged"]):
        return np.full(steps, np.nan)
    return np.asarray(file["unconverged"].mean(axis=0, dtype=np.float64))
