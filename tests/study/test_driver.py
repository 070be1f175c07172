"""The driver with runs in its own process; see test_driver_local for processes."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.study.tiny import (
    DEEP,
    EXECUTION,
    HERE,
    LESS,
    ORDER,
    SHALLOW,
    planned,
    results,
    runs_by_key,
    snapshot,
    states,
    statuses,
    trials,
)
from trm_lab.config.execution import Local
from trm_lab.config.study import Metric
from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study.driver import Event, drive, select
from trm_lab.study.journal import Journal
from trm_lab.study.overview import overview
from trm_lab.study.plan import Plan, Run
from trm_lab.study.steering import retry
from trm_lab.study.storage import opened
from trm_lab.study.values import final_value
from trm_lab.training import train

EXPLODES = (
    "set: {model.n: 2}",
    "set: {model.n: 2, train.optimizer.lr: 1e+37}",
)
"""Lets the deep cell diverge."""


class Events:
    """What a driver tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.details: list[str] = []

    def __call__(self, event: Event) -> None:
        self.told.append((event.run.key, event.state.value))
        self.details.append(event.detail)


def test_every_run_is_driven_to_its_end_costly_ones_first(tmp_path: Path):
    plan, events = planned(tmp_path), Events()
    assert drive(plan, listen=events) == Counter({State.COMPLETED: 4})
    assert events.told == [(key, state) for key in ORDER for state in ("running", "completed")]
    assert states(plan.root) == dict.fromkeys(ORDER, "completed")
    for key, status in statuses(plan.root).items():
        cell, seed = key.split("/seed-")
        assert (status["study"], status["cell"], status["seed"]) == ("tiny", cell, int(seed))
        assert status["variant"] == cell.split("-")[0]
        assert (status["series"], status["attempt"], status["update"]) == ("TRM", 1, 4)
        assert status["environment"]["threads"] == 1
        assert status["error"] is None
    assert json.loads((plan.root / "plan.json").read_text()) == plan.as_dict()


def test_the_journal_has_one_complete_trial_per_run_with_its_values(finished: Plan):
    runs = runs_by_key(finished)
    found = trials(finished.root)
    assert [t.user_attrs["run"] for t in found] == [
        f"{SHALLOW}/seed-0", f"{SHALLOW}/seed-1", f"{DEEP}/seed-0", f"{DEEP}/seed-1",
    ]  # fmt: skip
    for trial in found:
        run = runs[trial.user_attrs["run"]]
        assert trial.state is TrialState.COMPLETE
        assert trial.params == {}
        assert trial.user_attrs == {
            "run": run.key,
            "variant": run.cell.variant,
            "series": "TRM",
            "seed": run.recipe.seed,
            "recipe_id": run.recipe.id,
        }
        with np.load(run.folder.evaluation("last")) as outcomes:
            assert outcomes["steps"].tolist() == [1, 2]
            assert trial.value == outcomes["solved"][:, 1].mean()
        records = [r for r in run.folder.records() if r["kind"] == "evaluation"]
        assert trial.intermediate_values == {r["update"]: r["puzzle_accuracy"][0] for r in records}
        assert list(trial.intermediate_values) == [2, 4]


@pytest.mark.parametrize("name", ["puzzle_accuracy", "cell_accuracy"])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_value_is_the_studys_metric_after_its_steps(finished: Plan, name: str, steps: int):
    metric = Metric.model_validate({"name": name, "steps": steps})
    study = finished.matrix.study.model_copy(update={"metric": metric})
    plan = replace(finished, matrix=replace(finished.matrix, study=study))
    for run in plan.runs():
        with np.load(run.folder.evaluation("last")) as outcomes:
            array = outcomes["solved" if name == "puzzle_accuracy" else name]
            assert final_value(run, plan.study) == array[:, steps - 1].mean()
    assert len({final_value(run, plan.study) for run in plan.runs()}) > (name == "cell_accuracy")


def test_the_journal_follows_the_studys_metric_while_training_and_at_the_end(tmp_path: Path):
    metric = (
        "metric: {name: puzzle_accuracy, steps: 2}",
        "metric: {name: cell_accuracy, steps: 1}",
    )
    plan = planned(
        tmp_path, metric, ("eval: {every: 2, steps: [2]", "eval: {every: 2, steps: [1, 2]")
    )
    assert drive(plan, only="deep") == Counter({State.COMPLETED: 2})
    for trial in trials(plan.root):
        folder = runs_by_key(plan)[trial.user_attrs["run"]].folder
        with np.load(folder.evaluation("last")) as outcomes:
            assert trial.value == pytest.approx(outcomes["cell_accuracy"][:, 0].mean())
        seen = [r["cell_accuracy"] for r in folder.records() if r["kind"] == "evaluation"]
        assert list(trial.intermediate_values.values()) == [first for first, _ in seen]
        assert 0 < trial.value < 1


def test_driving_again_does_nothing(finished: Plan):
    before = snapshot(finished.root.glob("*/seed-*/**/*"))
    known = trials(finished.root)
    events = Events()
    assert drive(finished, listen=events) == Counter({State.COMPLETED: 4})
    assert events.told == []
    assert snapshot(finished.root.glob("*/seed-*/**/*")) == before
    assert {s["attempt"] for s in statuses(finished.root).values()} == {1}
    assert trials(finished.root) == known


def test_a_deleted_journal_is_made_again_from_the_folders(finished: Plan):
    told = {t.user_attrs["run"]: t for t in trials(finished.root)}
    (finished.root / "optuna.journal").unlink()
    before = snapshot(finished.root.glob("*/seed-*/**/*"))
    events = Events()
    assert drive(finished, listen=events) == Counter({State.COMPLETED: 4})
    assert events.told == []
    assert snapshot(finished.root.glob("*/seed-*/**/*")) == before
    again = trials(finished.root)
    assert len(again) == 4
    for trial in again:
        old = told[trial.user_attrs["run"]]
        assert trial.state is TrialState.COMPLETE
        assert (trial.value, trial.user_attrs) == (old.value, old.user_attrs)
        assert trial.intermediate_values == old.intermediate_values


def test_a_deleted_run_is_run_again_and_no_other(finished: Plan):
    before, known = results(finished.root), trials(finished.root)
    gone = f"{DEEP}/seed-1"
    shutil.rmtree(finished.root / gone)
    others = snapshot(p for p in finished.root.glob("*/seed-*/**/*") if gone not in str(p))
    events = Events()
    assert drive(finished, listen=events) == Counter({State.COMPLETED: 4})
    assert events.told == [(gone, "running"), (gone, "completed")]
    assert snapshot(p for p in finished.root.glob("*/seed-*/**/*") if gone not in str(p)) == others
    assert results(finished.root) == before
    assert trials(finished.root) == known  # which tell of it already


def test_a_run_whose_process_is_gone_resumes_from_its_checkpoint(finished: Plan):
    wanted = results(finished.root)
    shutil.rmtree(finished.root / DEEP / "seed-0")
    run = runs_by_key(finished)[f"{DEEP}/seed-0"]

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run.recipe, run.folder.path, execution=EXECUTION, labels=run.labels, progress=stop)
    status = run.folder.status() or {}
    run.folder.write_status({**status, "state": "running", "pid": 2**22 + 1})

    events = Events()
    assert drive(finished, listen=events) == Counter({State.COMPLETED: 4})
    assert events.told == [(run.key, "running"), (run.key, "completed")]
    assert statuses(finished.root)[run.key]["attempt"] == 2
    assert results(finished.root) == wanted


@contextmanager
def broken(path: Path) -> Iterator[None]:
    """Put a checkpoint in place that is whole but refused: a damaged one is recovered from."""
    path.parent.mkdir(parents=True)
    torch.save({"best": Fraction(1, 2)}, path)
    yield
    path.unlink()


def test_a_failing_run_is_recorded_and_the_others_go_on(tmp_path: Path):
    plan, events = planned(tmp_path), Events()
    bad = runs_by_key(plan)[ORDER[0]]
    with broken(bad.folder.checkpoint):
        assert drive(plan, listen=events) == Counter({State.COMPLETED: 3, State.FAILED: 1})
        assert states(plan.root) == dict.fromkeys(ORDER, "completed") | {bad.key: "failed"}
        error = statuses(plan.root)[bad.key]["error"]
        assert error["type"] == "UnpicklingError"
        assert events.told[:2] == [(bad.key, "running"), (bad.key, "failed")]
        assert events.details[1] == error["message"] != ""
        told = {t.user_attrs["run"]: t for t in trials(plan.root)}
        assert told[bad.key].state is TrialState.FAIL
        assert told[bad.key].user_attrs["reason"] == "failed"
        assert [t.state for t in told.values()].count(TrialState.COMPLETE) == 3

        again = Events()
        assert drive(plan, listen=again) == Counter({State.COMPLETED: 3, State.FAILED: 1})
        assert again.told == [(bad.key, "running"), (bad.key, "failed")]
    assert drive(plan) == Counter({State.COMPLETED: 4})
    assert statuses(plan.root)[bad.key]["attempt"] == 3
    tried = [t.state for t in trials(plan.root) if t.user_attrs["run"] == bad.key]
    assert tried == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]


def test_a_diverged_run_is_a_result_and_told_as_failed(tmp_path: Path):
    plan, events = planned(tmp_path, EXPLODES), Events()
    assert drive(plan, listen=events) == Counter({State.COMPLETED: 2, State.DIVERGED: 2})
    deep = [key for key in runs_by_key(plan) if key.startswith("deep")]
    for key in deep:
        status = statuses(plan.root)[key]
        assert status["state"] == "diverged"
        assert status["error"] == {"type": "Diverged", "message": "loss is nan by update 2"}
        assert not (plan.root / key / "evaluation").exists()
    assert events.details[:4] == ["", "loss is nan by update 2"] * 2
    told = {t.user_attrs["run"]: t for t in trials(plan.root)}
    for key in deep:
        assert told[key].state is TrialState.FAIL
        assert told[key].user_attrs["reason"] == "diverged"

    again = Events()
    assert drive(plan, listen=again) == Counter({State.COMPLETED: 2, State.DIVERGED: 2})
    assert again.told == []
    assert len(trials(plan.root)) == 4

    (plan.root / "optuna.journal").unlink()
    drive(plan, listen=again)
    assert again.told == []
    told = {t.user_attrs["run"]: t for t in trials(plan.root)}
    assert len(told) == 4
    for key in deep:
        assert told[key].state is TrialState.FAIL
        assert told[key].user_attrs["reason"] == "diverged"


def test_one_cell_can_be_driven_alone_and_the_rest_later(tmp_path: Path):
    plan, events = planned(tmp_path), Events()
    assert drive(plan, only="shallow", listen=events) == Counter({State.COMPLETED: 2})
    assert [key for key, state in events.told if state == "completed"] == list(ORDER[2:])
    assert drive(plan, only=DEEP, listen=events) == Counter({State.COMPLETED: 2})
    assert drive(plan, listen=events) == Counter({State.COMPLETED: 4})
    assert [key for key, state in events.told if state == "completed"] == [*ORDER[2:], *ORDER[:2]]
    assert len(trials(plan.root)) == 4


def test_an_unknown_cell_is_refused_with_the_near_miss(tmp_path: Path):
    plan = planned(tmp_path)
    with pytest.raises(ConfigError) as caught:
        select(plan, "shalow")
    assert str(caught.value) == "--only shalow: no such cell; did you mean shallow?"
    with pytest.raises(ConfigError) as caught:
        drive(plan, only="xyz")
    assert str(caught.value) == "--only xyz: no such cell; known: shallow; deep"
    assert not plan.root.exists()


@pytest.mark.slow
def test_a_second_driver_is_refused_and_told_who_drives(tmp_path: Path):
    plan = planned(tmp_path)
    refused: list[str] = []

    def drive_too(event: Event) -> None:
        with pytest.raises(ConfigError) as caught:
            drive(plan)
        refused.append(str(caught.value))

    assert drive(plan, only="deep", listen=drive_too) == Counter({State.COMPLETED: 2})
    assert set(refused) == {
        f"{plan.root}: process {os.getpid()} on {socket.gethostname()} is already driving this "
        "study"
    }
    assert drive(plan) == Counter({State.COMPLETED: 4})


def test_data_that_cannot_be_had_is_refused_before_anything_runs(tmp_path: Path):
    csv = tmp_path / "none.csv"
    task = f"{{kind: sudoku_csv, name: none, train_csv: {csv}, test_csv: {csv}}}"
    old = "{kind: sudoku, size: 4, clues: 8, train: 32, validation: 8, test: 12}"
    plan = planned(tmp_path / "runs", (old, task))
    with pytest.raises(ConfigError) as caught:
        drive(plan)
    assert str(caught.value) == (
        f"{csv}: cannot be read: [Errno 2] No such file or directory: '{csv}'"
    )
    assert states(plan.root) == {}


@pytest.mark.slow
def test_an_interrupted_study_goes_on_and_ends_in_the_same_bits(tmp_path: Path):
    longer = ("updates: 4\n", "updates: 60\n"), ("every: 2", "every: 20")
    straight = planned(tmp_path / "straight", *longer)
    drive(straight, only="deep")
    plan = planned(tmp_path / "interrupted", *longer)
    first, second = (run.key for run in select(plan, "deep"))
    with pressing_ctrl_c_once_there_is(plan.root / first / "checkpoints" / "last.pt"):
        drive(plan, only="deep")
    assert states(plan.root) == {first: "cancelled"}
    status = statuses(plan.root)[first]
    assert 20 <= status["update"] < 60
    assert status["error"] == {"type": "KeyboardInterrupt", "message": ""}
    assert [t.state for t in trials(plan.root)] == [TrialState.RUNNING] * 2

    assert drive(plan, only="deep") == Counter({State.COMPLETED: 2})
    assert {k: s["attempt"] for k, s in statuses(plan.root).items()} == {first: 2, second: 1}
    assert results(plan.root) == results(straight.root)
    assert [t.state for t in trials(plan.root)] == [TrialState.COMPLETE] * 2
    assert [list(t.intermediate_values) for t in trials(plan.root)] == [[20, 40, 60]] * 2


@contextmanager
def pressing_ctrl_c_once_there_is(file: Path) -> Iterator[None]:
    """Interrupt the body, which must not end on its own."""

    def press() -> None:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_between_runs_loses_nothing(undisturbed: Plan, tmp_path: Path):
    plan = planned(tmp_path / "interrupted")

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(plan, listen=interrupt)
    assert states(plan.root) == {ORDER[0]: "completed"}
    events = Events()
    assert drive(plan, listen=events) == Counter({State.COMPLETED: 4})
    assert [key for key, state in events.told if state == "completed"] == list(ORDER[1:])
    assert results(plan.root) == results(undisturbed.root)
    assert [t.state for t in trials(plan.root)] == [TrialState.COMPLETE] * 4
    assert all(list(t.intermediate_values) == [2, 4] for t in trials(plan.root))


def test_a_torn_last_line_of_the_journal_is_cut_off(finished: Plan):
    path = finished.root / "optuna.journal"
    path.write_bytes(path.read_bytes()[:-9])  # as a killed driver leaves it
    shutil.rmtree(finished.root / DEEP / "seed-1")
    assert drive(finished) == Counter({State.COMPLETED: 4})
    newest = {t.user_attrs["run"]: t.state for t in trials(finished.root)}
    assert newest == dict.fromkeys(ORDER, TrialState.COMPLETE)


def test_the_journal_lock_of_a_killed_driver_does_not_stop_the_next_one(finished: Plan):
    journal = finished.root / "optuna.journal"
    (finished.root / "optuna.journal.lock").symlink_to(journal)  # as Optuna does while it writes
    began = time.monotonic()
    assert drive(finished) == Counter({State.COMPLETED: 4})
    assert time.monotonic() - began < 10  # Optuna on its own waits 30 s
    assert not (finished.root / "optuna.journal.lock").is_symlink()


def test_a_trial_that_was_queued_is_closed_if_its_run_is_done_meanwhile(tmp_path: Path):
    plan = planned(tmp_path)
    plan.root.mkdir()
    with opened(None, plan.root) as storage:  # and killed before anything left the queue
        Journal(storage, "tiny").enqueue(plan.runs())
    run = runs_by_key(plan)[ORDER[3]]
    train(run.recipe, run.folder.path, execution=EXECUTION, labels=run.labels)
    events = Events()
    assert drive(plan, listen=events) == Counter({State.COMPLETED: 4})
    assert run.key not in dict(events.told)
    found = trials(plan.root)
    assert [t.state for t in found] == [TrialState.COMPLETE] * 4
    assert all(list(t.intermediate_values) == [2, 4] for t in found)


def test_a_queued_trial_of_a_run_that_is_planned_no_more_is_closed(tmp_path: Path):
    plan = planned(tmp_path)
    plan.root.mkdir()
    with opened(None, plan.root) as storage:
        Journal(storage, "tiny").enqueue(plan.runs())
    fewer = planned(tmp_path, sweep=HERE.model_copy(update={"seeds": 1}))
    assert drive(fewer) == Counter({State.COMPLETED: 2})
    told = {t.user_attrs["run"]: (t.state, t.user_attrs.get("reason")) for t in trials(plan.root)}
    assert told[f"{DEEP}/seed-0"] == (TrialState.COMPLETE, None)
    assert told[f"{DEEP}/seed-1"] == (TrialState.FAIL, "not in this plan")


@pytest.mark.slow
def test_a_run_of_another_process_is_waited_for_before_others_start(tmp_path: Path):
    # It takes the place of a worker, though its run would come last.
    plan, events = planned(tmp_path), Events()
    last = runs_by_key(plan)[ORDER[3]]
    with working_on(last):
        assert drive(plan, listen=events) == Counter({State.COMPLETED: 4})
    assert events.told[:2] == [(last.key, "running"), (last.key, "completed")]
    assert statuses(plan.root)[last.key]["attempt"] == 1
    assert list(trials(plan.root)[1].intermediate_values) == [2, 4]


@contextmanager
def working_on(run: Run, seconds: float = 0.3) -> Iterator[None]:
    """Train a run beside the driver, slowly; flock tells two openers of a file apart by opening."""
    thread = threading.Thread(
        target=train,
        args=(run.recipe, run.folder.path),
        kwargs={
            "execution": EXECUTION,
            "labels": run.labels,
            "progress": lambda _: time.sleep(seconds),
        },
    )
    thread.start()
    while not run.folder.metrics_file.exists():
        time.sleep(0.01)
    yield
    thread.join()


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_the_run_of_another_process(tmp_path: Path):
    plan = planned(tmp_path)
    last = runs_by_key(plan)[ORDER[3]]

    def interrupt(event: Event) -> None:
        assert event.run.key == last.key
        raise KeyboardInterrupt

    with working_on(last):
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            drive(plan, listen=interrupt)
        assert time.monotonic() - began < 1
    assert states(plan.root) == {last.key: "completed"}


def test_as_many_workers_as_the_cores_have_room_for_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from trm_lab.study import executors, machine

    def capacity(workers: int | None, **execution: Any) -> int:
        setting = EXECUTION.model_copy(update=execution)
        return executors.build_executor(Local(workers=workers), setting, tmp_path, "x").room([])

    monkeypatch.setattr(machine, "cores", lambda: 12)
    assert [capacity(None, threads=n) for n in (1, 4, 5, None)] == [12, 3, 2, 1]
    assert capacity(3) == 3
    # One run per GPU where runs may take one: many processes on one GPU are asked for by number.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert [capacity(None, device=d) for d in ("cpu", "cuda", "auto")] == [12, 2, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert capacity(None, device="auto") == 12


def test_a_driver_that_carries_on_takes_up_what_is_asked_for_again_meanwhile(tmp_path: Path):
    plan, asked = planned(tmp_path), []
    failed = runs_by_key(plan)[ORDER[0]].folder
    failed.mark(State.FAILED, "by itself")

    def ask(event: Event) -> None:
        if event.state is State.COMPLETED and not asked:
            asked.extend(row for row in overview(plan.root) if row.state is State.FAILED)
            retry(asked)

    assert drive(plan, again=False, listen=ask) == Counter({State.COMPLETED: 4})
    assert [row.key for row in asked] == [ORDER[0]]
    newest = {t.user_attrs["run"]: t for t in trials(plan.root)}[ORDER[0]]
    assert newest.state is TrialState.COMPLETE


def test_a_driver_that_carries_on_leaves_what_failed_and_what_was_deleted(tmp_path: Path):
    plan = planned(tmp_path)
    assert drive(plan) == Counter({State.COMPLETED: 4})
    runs_by_key(plan)[ORDER[0]].folder.mark(State.FAILED, "by itself")
    assert drive(plan, again=False) == Counter({State.COMPLETED: 3, State.FAILED: 1})


def test_the_trial_of_a_run_that_the_study_has_lost_is_closed(tmp_path: Path):
    plan = planned(tmp_path)

    def stop(event: Event) -> None:
        if event.state is State.COMPLETED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(plan, listen=stop)
    left = [t.user_attrs["run"] for t in trials(plan.root) if t.state is TrialState.RUNNING]
    assert ORDER[1] in left
    drive(plan, only="shallow")  # of a part of the plan, which the others are still in
    assert ORDER[1] in [t.user_attrs["run"] for t in trials(plan.root) if not t.state.is_finished()]
    drive(planned(tmp_path, *LESS))
    found = {t.user_attrs["run"]: t for t in trials(plan.root)}
    assert found[ORDER[1]].state is TrialState.FAIL
    assert found[ORDER[1]].user_attrs["reason"] == "not in this plan"
    assert drive(plan) == Counter({State.COMPLETED: 4})
    assert all(t.state.is_finished() for t in trials(plan.root))


def test_the_journal_of_a_relative_folder_is_opened_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    opened_as = []

    class Backend(JournalFileBackend):
        def __init__(self, path: str) -> None:
            opened_as.append(path)
            super().__init__(path)

    monkeypatch.setattr("trm_lab.study.storage.JournalFileBackend", Backend)
    # With a relative path Optuna's lock is a dangling link, which keeps nobody out.
    plan = planned(Path("runs"))
    assert drive(plan, only="shallow") == Counter({State.COMPLETED: 2})
    assert opened_as == [str(tmp_path / "runs" / "tiny" / "optuna.journal")]
