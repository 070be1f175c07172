"""A driver keeps as many processes as it was told, and leaves none behind, nor an open file."""

import os
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.study.light import Copies
from tests.study.tiny import EXECUTION, SHALLOW, planned, states, trials
from trm_lab.config.execution import Local, Sweep
from trm_lab.runs import State
from trm_lab.study import submission
from trm_lab.study.driver import drive
from trm_lab.study.plan import Plan

CELLS, WORKERS = 100, 4
RATES = [round(0.01 + 1e-5 * i, 5) for i in range(CELLS // 2)]
"""Crossed with two variants."""


def children() -> set[int]:
    """Processes that this one started and that are not over, zombies too."""
    return {
        int(pid)
        for task in Path("/proc/self/task").glob("*/children")
        for pid in task.read_text().split()
    }


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # the one of the listing itself
            continue
    return sorted(found)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to count in")
def test_a_hundred_cells_take_no_more_processes_than_told_and_leave_nothing(
    undisturbed: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sweep = Sweep(
        name="local", executor=Local(workers=WORKERS, poll_seconds=0.02), execution=EXECUTION
    )
    changes = ("seeds: [0, 1]", f"seeds: [0]\nfactors: {{train.optimizer.lr: {RATES}}}")
    plan = planned(tmp_path, changes, sweep=sweep)
    model = str(undisturbed.root.resolve() / SHALLOW / "seed-0")
    monkeypatch.setattr(submission, "Work", partial(Copies, model=model))
    before = children(), open_files(), threading.active_count()
    at_work: list[int] = []

    def tick() -> None:
        at_work.append(len(children() - before[0]))

    assert drive(plan, tick=tick) == Counter({State.COMPLETED: CELLS})
    assert max(at_work) == WORKERS
    assert (children(), open_files(), threading.active_count()) == before
    assert len(states(plan.root)) == CELLS
    assert Counter(t.user_attrs["run"] for t in trials(plan.root)) == Counter(
        run.key for run in plan.runs()
    )
