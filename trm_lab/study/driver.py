"""The driver: brings the runs of a plan to an end.

It owns the Optuna journal and is the only one to write it.  Run folders are the truth: a run that
is complete there is not run again, one that was cut off goes on from its checkpoint, one that
failed is tried again when the driver is started again.
"""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from trm_lab.atomic import write_text
from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study.executors import Executor, Job, Orphan, build_executor, is_busy
from trm_lab.study.journal import Journal
from trm_lab.study.matrix import no_cell
from trm_lab.study.plan import Plan, Run
from trm_lab.tasks.build import build

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Event:
    """Something that changed, for whoever watches."""

    run: Run
    state: State
    detail: str = ""


Listener = Callable[[Event], None]
Tick = Callable[[], None]
"""Called at every poll."""


def drive(
    plan: Plan, only: str | None = None, listen: Listener | None = None, tick: Tick | None = None
) -> Counter[State]:
    """Run what is left of a plan and give the number of runs in each state.

    `only` takes the cells whose variant or folder name it is.

    Raises:
        ConfigError: another driver works on the study, `only` names nothing, data cannot be had.
    """  # fmt: skip
    runs = select(plan, only)
    plan.root.mkdir(parents=True, exist_ok=True)
    with _sole_driver(plan.root):
        plan.write()
        for task in dict.fromkeys(run.recipe.task for run in runs):
            build(task)  # once, before many workers would each do it
        driver = _Driver(plan, runs, listen or (lambda _: None), tick or (lambda: None))
        try:
            driver.run()
        except BaseException:
            driver.cancel()
            raise
    return Counter(run.folder.state() for run in runs)


def select(plan: Plan, only: str | None) -> list[Run]:
    """Give the plan's runs, or those of one cell.

    Raises:
        ConfigError: no such cell.
    """
    runs = list(plan.runs())
    if only is None:
        return runs
    chosen = [run for run in runs if only in (run.cell.variant, run.cell.name)]
    if not chosen:
        raise no_cell("--only", only, plan.cells)
    return chosen


class _Driver:
    def __init__(self, plan: Plan, runs: list[Run], listen: Listener, tick: Tick) -> None:
        self.plan, self.listen, self.tick = plan, listen, tick
        self.runs = {run.key: run for run in runs}
        self.executor: Executor = build_executor(
            plan.sweep.executor, plan.sweep.execution, plan.root
        )
        self.journal = Journal(plan.root / "optuna.journal", plan.matrix.study.name)
        self.active: dict[str, tuple[int, Job]] = {}
        self.reported: dict[str, int] = {}

    def run(self) -> None:
        ready = self.reconcile()
        while ready or self.active:
            while ready and len(self.active) < self.executor.capacity:
                self.start(*ready.pop(0))
            for key in [key for key, (_, job) in self.active.items() if job.done()]:
                self.close(key)
            for key in self.active:
                self.report(key)
            self.tick()
            if self.active:
                time.sleep(POLL_SECONDS)

    def reconcile(self) -> list[tuple[Run, int]]:
        """Bring the journal in line with the folders; give what is left, costly runs first.

        Runs that a worker of an earlier driver still works on come before all others, because they
        take a worker's place.
        """
        self.journal.enqueue(run for run in self.runs.values() if not run.folder.state().final)
        numbers = self.journal.interrupted()
        while (asked := self.journal.ask()) is not None:
            key, number = asked
            if key in self.runs:
                numbers[key] = number
            else:
                self.journal.tell(number, None, "not in this plan")
        known = self.journal.newest()
        left = []
        for key, run in self.runs.items():
            if not run.folder.state().final:
                left.append(run)
            elif key in numbers:
                self.report_to(run, numbers[key])
                self.tell(run, numbers[key])
            elif key not in known:
                self.record(run)
        costs = {cell: account.flops_per_update for cell, account in self.plan.accounts().items()}
        left.sort(key=lambda r: (not is_busy(r), -costs[r.cell.name] * r.recipe.train.updates))
        return [(run, numbers[run.key]) for run in left]

    def start(self, run: Run, number: int) -> None:
        job: Job = Orphan(run) if is_busy(run) else self.executor.submit(run)
        self.active[run.key] = (number, job)
        self.listen(Event(run, State.RUNNING))

    def close(self, key: str) -> None:
        number, job = self.active.pop(key)
        run = self.runs[key]
        if is_busy(run):  # our process has ended, but one of an earlier driver works on
            self.active[key] = (number, Orphan(run))
            return
        self.report_to(run, number)
        failure = job.failure()
        if run.folder.state() in (State.WAITING, State.RUNNING):
            # The process is gone and wrote no end: killed, out of memory, or never started.
            status = run.folder.status() or {"updates": run.recipe.train.updates}
            error = {"type": "Lost", "message": failure or "the process ended without a word"}
            run.folder.path.mkdir(parents=True, exist_ok=True)
            run.folder.write_status({**status, "state": State.LOST.value, "error": error})
        self.tell(run, number)
        status = run.folder.status() or {}
        error = status.get("error") or {}
        self.listen(Event(run, run.folder.state(), str(error.get("message") or failure)))

    def tell(self, run: Run, number: int) -> None:
        state = run.folder.state()
        self.journal.tell(number, self.value(run), state.value)

    def record(self, run: Run) -> None:
        state = run.folder.state()
        self.journal.adopt(run, self.value(run), dict(_evaluations(run, self.plan)), state.value)

    def value(self, run: Run) -> float | None:
        completed = run.folder.state() is State.COMPLETED
        return final_value(run, self.plan) if completed else None

    def report(self, key: str) -> None:
        self.report_to(self.runs[key], self.active[key][0])

    def report_to(self, run: Run, number: int) -> None:
        for update, value in _evaluations(run, self.plan):
            if update > self.reported.get(run.key, 0):
                self.journal.report(number, update, value)
                self.reported[run.key] = update

    def cancel(self) -> None:
        ours = [job for _, job in self.active.values() if not isinstance(job, Orphan)]
        deadline = time.monotonic() + 10
        while ours and time.monotonic() < deadline:
            for job in ours:
                job.cancel()  # again and again: a process that is still starting may not hear
            time.sleep(0.1)
            ours = [job for job in ours if not job.done()]


def _metric(run: Run, plan: Plan) -> tuple[str, int]:
    """Name the study's metric and the supervision steps after which it is read."""
    metric = plan.matrix.study.metric
    return metric.name, metric.steps or run.recipe.supervision.N_sup


def _evaluations(run: Run, plan: Plan) -> Iterator[tuple[int, float]]:
    """Give update and the study's metric on the validation puzzles of every evaluation so far."""
    name, wanted = _metric(run, plan)
    for record in run.folder.records():
        if record["kind"] == "evaluation":
            yield record["update"], record[name][record["steps"].index(wanted)]


def final_value(run: Run, plan: Plan) -> float:
    """Read the study's metric of a completed run from its test outcomes."""
    name, wanted = _metric(run, plan)
    with np.load(run.folder.evaluation("last")) as found:
        values = found["solved" if name == "puzzle_accuracy" else "cell_accuracy"]
        return float(values[:, found["steps"].tolist().index(wanted)].mean())


class _sole_driver:
    """Holds the study's driver lock; the file names who holds it."""

    def __init__(self, root: Path) -> None:
        self.lock = FileLock(root / ".driver.lock")
        self.holder = root / ".driver.json"

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            try:
                who = json.loads(self.holder.read_text())
                name = f"process {who['pid']} on {who['host']}"
            except (OSError, ValueError, KeyError):
                name = "another process"
            raise ConfigError(
                f"{self.holder.parent}: {name} is already driving this study"
            ) from None
        write_text(
            self.holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        )

    def __exit__(self, *_: object) -> None:
        self.lock.release()
