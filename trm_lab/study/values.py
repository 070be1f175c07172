"""The study's metric, read from a run folder."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from trm_lab.config.study import Study
from trm_lab.study.plan import Run


def evaluations(
    run: Run, study: Study, records: Iterable[dict[str, Any]]
) -> Iterator[tuple[int, float]]:
    """Give update and metric on the validation puzzles of every evaluation among records."""
    name, wanted = _metric(run, study)
    for record in records:
        if record.get("kind") == "evaluation":
            yield record["update"], record[name][record["steps"].index(wanted)]


def final_value(run: Run, study: Study) -> float:
    """Read the metric of a completed run from its test outcomes."""
    name, wanted = _metric(run, study)
    with np.load(run.folder.evaluation("last")) as found:
        values = found["solved" if name == "puzzle_accuracy" else "cell_accuracy"]
        return float(values[:, found["steps"].tolist().index(wanted)].mean())


def _metric(run: Run, study: Study) -> tuple[str, int]:
    """Name the metric and the supervision steps after which it is read."""
    return study.metric.name, study.metric.steps or run.recipe.supervision.N_sup
