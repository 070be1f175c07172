"""The study's metric, read from a run folder."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from trm_lab.accounting import account
from trm_lab.config.study import Study
from trm_lab.errors import ConfigError
from trm_lab.study.plan import Run

_UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, IndexError, TypeError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises for damaged .npz files."""


def evaluations(
    run: Run, study: Study, records: Iterable[dict[str, Any]]
) -> Iterator[tuple[int, float]]:
    """Give update and metric on the validation puzzles of every evaluation among records.

    One whose metric is no number, which is written as null, is left out.
    """
    name, wanted = _metric(run, study)
    for record in records:
        if record.get("kind") == "evaluation":
            value = record[name][record["steps"].index(wanted)]
            if value is not None:
                yield record["update"], value


def objectives(run: Run, study: Study) -> list[float]:
    """Give what a search judges a completed run by: the last validation, and what it has cost.

    Test puzzles have no part in a search: they are for its winners.
    """
    _, wanted = _metric(run, study)
    seen = [record for record in run.folder.records() if record.get("kind") == "evaluation"]
    found = []
    for name in objective_names(study):
        match name:
            case "flops":
                found.append(float(seen[-1]["flops"]) if seen else float("nan"))
            case "params":
                found.append(float(account(run.recipe).params))
            case _:
                last = seen[-1][name][seen[-1]["steps"].index(wanted)] if seen else None
                found.append(float("nan") if last is None else float(last))
    return found


def objective_names(study: Study) -> tuple[str, ...]:
    """Name what a search judges by, in the order of a trial's values."""
    assert study.search is not None
    return tuple(study.search.objectives or (study.metric.name,))


def judged(study: Study, values: Sequence[float]) -> str:
    """Say the values of a trial with their names: `validation cell accuracy 0.478`."""
    return ", ".join(
        f"validation {name.replace('_', ' ')} {value:.3f}"
        if name.endswith("accuracy")
        else f"{name} {value:.3g}"
        for name, value in zip(objective_names(study), values, strict=True)
    )


def final_value(run: Run, study: Study) -> float:
    """Read the metric of a completed run from its test outcomes.

    Raises:
        ConfigError: they are missing or damaged.
    """
    name, wanted = _metric(run, study)
    path = run.folder.evaluation("last")
    try:
        with path.open("rb") as file, np.load(file) as found:
            values = found["solved" if name == "puzzle_accuracy" else "cell_accuracy"]
            return float(values[:, found["steps"].tolist().index(wanted)].mean())
    except _UNREADABLE as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _metric(run: Run, study: Study) -> tuple[str, int]:
    """Name the metric and the supervision steps after which it is read."""
    return study.metric.name, study.metric.steps or run.recipe.supervision.N_sup
