"""From rows to the four groups of results.nc.

R runs in plan order, then folders outside the plan.  The update and step axes are the sorted
unions over runs, NaN where a run has no value.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from trm_lab.results.folders import (
    ACCURACIES,
    COUNTERS,
    TRAIN,
    Evaluation,
    FloatArray,
    IntArray,
    RunRecord,
)
from trm_lab.results.schema import STATES, VARIABLES, WEIGHTS, build, recipe_variable

ACCOUNTING = (
    "params",
    "table_params",
    "recurring_params",
    "once_params",
    "effective_depth",
    "max_depth",
    "graph_updates",
    "flops_per_update",
)
NOT_EVALUATED = 2
"""Value of `solved` where nothing was evaluated."""


@dataclass(frozen=True)
class Row:
    """One run: what the plan says about it and what its folder holds."""

    cell: str
    seed: int
    variant: str
    series: str
    recipe_id: str
    baseline: bool
    planned: bool
    recipe: Mapping[str, Any]
    accounting: Mapping[str, Any]
    metric_step: int | None
    """Supervision step at which the metric is read; None if neither plan nor recipe says."""
    folder: RunRecord | None
    """None for a planned run without a folder."""

    @property
    def name(self) -> str:
        """The run's name, and the path of its folder in the study."""
        return f"{self.cell}/seed-{self.seed}"


def runs_group(rows: Sequence[Row]) -> xr.Dataset:
    """/runs: one row per run, its recipe, its accounting, its end."""
    records = [_record(row) for row in rows]
    data = {v.name: [record[v.name] for record in records] for v in VARIABLES["runs"]}
    return build("runs", data, _recipe_columns([row.recipe for row in rows]))


def curves_group(rows: Sequence[Row]) -> xr.Dataset:
    """/curves: training records and validation accuracies over updates."""
    train = [row.folder.train if row.folder else None for row in rows]
    validation = [row.folder.validation if row.folder else None for row in rows]
    update = _union([c.update for c in train if c])
    evaluated = _union([v.update for v in validation if v])
    step = _union([v.step for v in validation if v])
    values = np.full((len(TRAIN), len(rows), len(update)), np.nan)
    counters = np.full((len(COUNTERS), len(rows), len(evaluated)), np.nan)
    accuracies = np.full((len(ACCURACIES), len(rows), len(evaluated), len(step)), np.nan)
    for r, (curve, checks) in enumerate(zip(train, validation, strict=True)):
        if curve is not None:
            values[:, r, np.searchsorted(update, curve.update)] = curve.values.T
        if checks is not None:
            at = np.searchsorted(evaluated, checks.update)
            counters[:, r, at] = checks.counters.T
            grid = np.ix_(at, np.searchsorted(step, checks.step))
            for a in range(len(ACCURACIES)):
                accuracies[a, r][grid] = checks.accuracies[..., a]
    return build(
        "curves",
        {
            "run": [row.name for row in rows],
            "update": update,
            "validation_update": evaluated,
            "validation_step": step,
            **dict(zip(TRAIN, values, strict=True)),
            **{f"validation_{n}": a for n, a in zip(ACCURACIES, accuracies, strict=True)},
            **{f"validation_{n}": c for n, c in zip(COUNTERS, counters, strict=True)},
        },
    )


def eval_group(rows: Sequence[Row]) -> xr.Dataset:
    """/eval: accuracies on the test puzzles."""
    step = _union([e.step for _, _, e in _evaluations(rows)])
    shape = (len(rows), len(WEIGHTS), len(step))
    accuracy, cells, missed = (np.full(shape, np.nan) for _ in range(3))
    solved, puzzles = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    update, mean_steps = np.full(shape[:2], np.nan), np.full(shape[:2], np.nan)
    averaging = [["" for _ in WEIGHTS] for _ in rows]
    for r, w, e in _evaluations(rows):
        at = np.searchsorted(step, e.step)
        solved[r, w, at] = e.solved.sum(axis=0)
        puzzles[r, w, at] = len(e.solved)
        accuracy[r, w, at] = _fraction(e)
        cells[r, w, at] = e.cell_accuracy
        missed[r, w, at] = e.unconverged
        update[r, w] = e.update
        mean_steps[r, w] = e.halting_step.mean() if len(e.halting_step) else np.nan
        averaging[r][w] = e.averaging
    return build(
        "eval",
        {
            "run": [row.name for row in rows],
            "weights": WEIGHTS,
            "step": step,
            "puzzle_accuracy": accuracy,
            "cell_accuracy": cells,
            "unconverged": missed,
            "solved_count": solved,
            "puzzles": puzzles,
            "update": update,
            "mean_steps": mean_steps,
            "averaging": np.array(averaging, dtype=str).reshape(shape[:2]),
        },
    )


def puzzles_group(rows: Sequence[Row]) -> xr.Dataset:
    """/puzzles: which puzzle was solved by whom; runs share a test set if signatures agree."""
    sets: dict[str, Evaluation] = {}
    index = np.full(len(rows), -1, dtype=np.int64)
    found = _evaluations(rows)
    for r, _, e in found:
        fingerprint = hashlib.sha256(e.signature.astype("<u8").tobytes()).hexdigest()[:16]
        sets.setdefault(fingerprint, e)
        index[r] = list(sets).index(fingerprint)
    step = _union([e.step for _, _, e in found])
    most = max((len(e.signature) for e in sets.values()), default=0)
    solved = np.full((len(rows), len(WEIGHTS), most, len(step)), NOT_EVALUATED, dtype=np.uint8)
    evaluated = np.zeros(solved.shape[:2], dtype=np.uint8)
    halting = np.full(solved.shape[:3], -1, dtype=np.int16)
    for r, w, e in found:
        halting[r, w, : len(e.halting_step)] = e.halting_step
        solved[r, w, : len(e.solved), np.searchsorted(step, e.step)] = e.solved.T
        evaluated[r, w] = 1
    facts = np.full((3, len(sets), most), np.nan)
    signature = np.zeros((len(sets), most), dtype=np.uint64)
    for s, e in enumerate(sets.values()):
        facts[:, s, : len(e.signature)] = e.facts
        signature[s, : len(e.signature)] = e.signature
    return build(
        "puzzles",
        {
            "run": [row.name for row in rows],
            "weights": WEIGHTS,
            "step": step,
            "fingerprint": list(sets),
            "solved": solved,
            "evaluated": evaluated,
            "halting_step": halting,
            "test_set": index,
            "test_set_size": [len(e.signature) for e in sets.values()],
            "clues": facts[0],
            "guesses": facts[1],
            "rating": facts[2],
            "signature": signature,
        },
    )


def metric_problems(rows: Sequence[Row]) -> list[str]:
    """Name the runs whose final evaluation lacks the step that the metric is read at."""
    return [
        f"{row.name}: test accuracy at step {row.metric_step} was not evaluated,"
        f" only {', '.join(map(str, e.step))}"
        for row in rows
        if row.folder and (e := row.folder.evaluations.get("last"))
        if row.metric_step not in e.step
    ]


def _evaluations(rows: Sequence[Row]) -> list[tuple[int, int, Evaluation]]:
    return [
        (r, WEIGHTS.index(weights), evaluation)
        for r, row in enumerate(rows)
        if row.folder
        for weights, evaluation in row.folder.evaluations.items()
    ]


def _fraction(evaluation: Evaluation) -> FloatArray:
    solved: IntArray = evaluation.solved.sum(axis=0)
    puzzles = len(evaluation.solved)
    return solved / puzzles if puzzles else np.full(solved.shape, np.nan)


def _union(axes: Sequence[IntArray]) -> IntArray:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *axes]))


def part(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give the mapping under `name`, empty if there is none."""
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(source: Mapping[str, Any], name: str) -> float:
    value = source.get(name)
    return float(value) if isinstance(value, int | float) else np.nan


def _record(row: Row) -> dict[str, Any]:
    status: Mapping[str, Any] = (row.folder.status if row.folder else None) or {}
    environment, best = part(status, "environment"), part(status, "best")
    error = part(status, "error")
    record: dict[str, Any] = {
        "run": row.name,
        "cell": row.cell,
        "recipe_id": row.recipe_id,
        "variant": row.variant,
        "series": row.series,
        "seed": row.seed,
        "state": STATES.index(row.folder.state if row.folder else "waiting"),
        "planned": row.planned,
        "baseline": row.baseline,
        "recipe": json.dumps(row.recipe, ensure_ascii=False) if row.recipe else "",
        "error": ": ".join(str(error[k]) for k in ("type", "message") if error.get(k)),
        "host": str(status.get("host") or ""),
        "device": str(environment.get("device") or ""),
        "started_utc": str(status.get("started_utc") or ""),
        "finished_utc": str(status.get("finished_utc") or ""),
        "data_fingerprint": str(part(status, "data").get("fingerprint") or ""),
        "attempt": _number(status, "attempt"),
        "threads": _number(environment, "threads"),
        **{name: _number(row.accounting, name) for name in ACCOUNTING},
        "updates": _number(status, "update"),
        **{name: _number(status, name) for name in COUNTERS},
        "loss": np.nan,
        "best_validation_puzzle_accuracy": _number(best, "puzzle_accuracy"),
        "best_validation_update": _number(best, "update"),
        "last_validation_puzzle_accuracy": np.nan,
        "puzzle_accuracy": np.nan,
        "cell_accuracy": np.nan,
    }
    if row.folder:
        record |= _last_records(row.folder, row.metric_step, bool(status))
    return record


def _last_records(run: RunRecord, step: int | None, has_status: bool) -> dict[str, float]:
    """Read the end of the curves and the test accuracy at the metric's step."""
    record: dict[str, float] = {}
    train, checks = run.train, run.validation
    if train.update.size:
        last = dict(zip(TRAIN, train.values[-1], strict=True))
        record["loss"] = last["loss"]
        if not has_status:
            record |= {"updates": train.update[-1], **{name: last[name] for name in COUNTERS}}
    if step is not None and checks.update.size and step in checks.step:
        at = int(np.searchsorted(checks.step, step))
        record["last_validation_puzzle_accuracy"] = checks.accuracies[-1, at, 0]
    evaluation = run.evaluations.get("last")
    if step is not None and evaluation is not None and step in evaluation.step:
        at = int(np.searchsorted(evaluation.step, step))
        record["puzzle_accuracy"] = _fraction(evaluation)[at]
        record["cell_accuracy"] = evaluation.cell_accuracy[at]
    return record


def _recipe_columns(recipes: Sequence[Mapping[str, Any]]) -> dict[str, xr.Variable]:
    leaves = [dict(_leaves(recipe, "")) for recipe in recipes]
    paths = list(dict.fromkeys(path for leaf in leaves for path in leaf if path != "seed"))
    taken = {v.name for v in VARIABLES["runs"]}
    return {
        f"recipe.{path}" if path in taken else path: recipe_variable(
            path, _column([leaf.get(path) for leaf in leaves])
        )
        for path in paths
    }


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        below = ((f"{path}.{key}" if path else str(key), part) for key, part in value.items())
        return [leaf for name, part in below for leaf in _leaves(part, name)]
    return [(path, json.dumps(value) if isinstance(value, list) else value)]


def _column(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Numbers stay numbers if all are; mixed types become text; absent is NaN or ""."""
    types = {type(value) for value in values if value is not None}
    if types == {bool} and None not in values:
        return np.array(values, dtype=np.bool_)
    if types == {int} and None not in values:
        return np.array(values, dtype=np.int64)
    if types and types <= {int, float}:
        return np.array(values, dtype=np.float64)
    text = ("" if v is None else v if isinstance(v, str) else json.dumps(v) for v in values)
    return np.array(list(text), dtype=str)
