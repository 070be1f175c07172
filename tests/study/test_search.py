"""Searches: budgets, pruning, winners, and what a killed driver leaves."""

import json
import math
import re
import shutil
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tests.study.search_study import (
    FIRST_LR,
    arms,
    best_at_a_hundredth,
    cells,
    confirmed,
    scripted,
    searching,
)
from tests.study.tiny import local
from trm_lab.cli.outcomes import status
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.study import checkup
from trm_lab.study.driver import Event, drive
from trm_lab.study.overview import overview
from trm_lab.study.plan import Plan, Run
from trm_lab.study.search_ahead import runs_ahead, unpruned
from trm_lab.study.trials import spent_text

FEWER = ("trials: 6", "trials: 3")
LONGER = (("updates: 4\n", "updates: 20\n"),)
"""Ten evaluations a run."""


def outline(trials: list[FrozenTrial]) -> list[Any]:
    """Say of trials what does not depend on when and how often a driver was started."""
    return [
        (t.params, t.state, t.values, t.intermediate_values, t.user_attrs["run"])
        for t in trials
        if "void" not in t.user_attrs
    ]


def folders(plan: Plan) -> dict[str, str]:
    """Give the state of every run folder, by its path below the study's."""
    paths = [path.parent for path in plan.root.rglob("status.json")]
    return {str(p.relative_to(plan.root)): RunFolder(p).state().value for p in paths}


def test_every_arm_has_the_same_budget_and_its_winner_is_run_with_fresh_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    plan = searching(tmp_path)
    assert drive(plan) == Counter({State.COMPLETED: 2 * 6 + 2 * 2})
    found = arms(plan)
    assert {name: len(trials) for name, trials in found.items()} == {"shallow": 6, "deep": 6}
    suggested = [[t.params for t in trials] for trials in found.values()]
    assert suggested[0] == suggested[1]  # one curve, one sampler seed: the arms are paired
    assert suggested[0][0] == {"train.optimizer.lr": FIRST_LR, "model.ffn": "swiglu"}
    assert len({trial["train.optimizer.lr"] for trial in suggested[0]}) == 6
    assert len(executor.sent) == len(set(executor.sent)) == 16
    assert [key.split("-")[0] for key in executor.sent[:6]] == [
        "trials/shallow", "trials/deep", "trials/shallow", "trials/deep", "trials/shallow",
        "trials/deep",
    ]  # fmt: skip
    for trials, cell in zip(found.values(), cells(plan), strict=True):
        best = max(trials, key=lambda trial: trial.value or 0)
        recipe = cell["recipe"]
        assert recipe["train"]["optimizer"]["lr"] == best.params["train.optimizer.lr"]
        assert recipe["model"]["ffn"]["kind"] == best.params["model.ffn"]
        assert cell["variant"] in ("shallow", "deep")
        assert cell["recipe_id"] == best.user_attrs["recipe_id"]
        for trial in trials:
            assert trial.user_attrs["seed"] == 0
            assert trial.state is TrialState.COMPLETE
            assert list(trial.intermediate_values) == [2, 4]
            assert trial.value == trial.intermediate_values[4]
    assert [cell["variant"] for cell in cells(plan)] == ["shallow", "deep"]
    assert sorted(t.user_attrs["seed"] for t in confirmed(plan)) == [10, 10, 11, 11]
    assert {t.user_attrs["variant"] for t in confirmed(plan)} == {"shallow", "deep"}
    assert set(executor.sent[-2:]) < {
        f"{cell['cell']}/seed-{seed}" for cell in cells(plan) for seed in (10, 11)
    }


def test_driving_again_sends_nothing_and_a_larger_budget_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    drive(searching(tmp_path))
    before, executor.sent = outline(arms(searching(tmp_path))["deep"]), []
    assert drive(searching(tmp_path)) == Counter({State.COMPLETED: 16})
    assert executor.sent == []
    more = searching(tmp_path, ("trials: 6", "trials: 8"))
    drive(more)
    assert outline(arms(more)["deep"])[:6] == before
    assert [len(trials) for trials in arms(more).values()] == [8, 8]
    assert sum(key.startswith("trials/") for key in executor.sent) == 4


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband", "median"])
def test_nothing_is_pruned_before_the_warm_up(
    pruner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, capacity=2)
    changes = ("trials: 6", f"trials: 12\n  pruner: {pruner}\n  warmup: 14")
    plan = searching(tmp_path / "late", changes, study=LONGER)
    drive(plan)
    trials = [trial for found in arms(plan).values() for trial in found]
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert 2 <= len(pruned) < len(trials)
    for trial in pruned:
        assert trial.user_attrs["pruned_at"] == 14
        folder = RunFolder(plan.root / trial.user_attrs["run"])
        assert folder.state() is State.PRUNED
        # At most one further evaluation is written before the word arrives.
        assert folder.records()[-1]["update"] in (14, 16)
    winners = {cell["recipe"]["train"]["optimizer"]["lr"] for cell in cells(plan)}
    assert winners.isdisjoint(trial.params["train.optimizer.lr"] for trial in pruned)
    # Guard: with an early warm-up the same search prunes early.
    early = searching(tmp_path / "early", (changes[0], changes[1].replace("14", "2")), study=LONGER)
    drive(early)
    at = [t.user_attrs.get("pruned_at", 99) for found in arms(early).values() for t in found]
    assert min(at) < 14


def test_a_late_take_off_survives_the_default_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The best run is worst until 0.4 of its updates; half of them are the warm-up."""

    def late(run: Run, update: int) -> float:
        final = best_at_a_hundredth(run, 20)
        return final if update >= 8 else 1 - final

    scripted(monkeypatch, late)
    plan = searching(
        tmp_path, ("trials: 6", "trials: 10\n  pruner: successive_halving"), study=LONGER
    )
    drive(plan)
    for trials in arms(plan).values():
        heights = {t.number: t.intermediate_values[10] for t in trials}
        best = max(heights, key=lambda number: heights[number])
        assert trials[best].state is TrialState.COMPLETE
        assert all(t.user_attrs.get("pruned_at", 10) == 10 for t in trials)


def test_a_pruning_that_was_decided_holds_though_the_driver_died_before_it_acted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    change = ("trials: 6", "trials: 6\n  pruner: successive_halving\n  warmup: 10")
    plan = searching(tmp_path, change, study=LONGER)
    from trm_lab.study.driver import _Driver

    def die(self: _Driver, active: object, state: State) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_Driver, "stop", die)
        with pytest.raises(KeyboardInterrupt):
            drive(plan)
    decided = [t for found in arms(plan).values() for t in found if "pruned_at" in t.user_attrs]
    assert [t.state for t in decided] == [TrialState.RUNNING]
    key = decided[0].user_attrs["run"]
    executor.jobs, executor.sent = [], []
    drive(plan)
    assert RunFolder(plan.root / key).state() is State.PRUNED
    assert key not in executor.sent
    states = [t.state for found in arms(plan).values() for t in found if t.user_attrs["run"] == key]
    assert states == [TrialState.PRUNED]


@pytest.mark.slow
def test_a_driver_killed_at_any_event_goes_on_to_the_same_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch)
    straight = searching(tmp_path / "straight")
    drive(straight)
    for last in range(0, 32, 3):
        executor = scripted(monkeypatch)
        plan, told = searching(tmp_path / f"killed-{last}"), []

        def killed(event: Event, told: list[Event] = told, last: int = last) -> None:
            told.append(event)
            if len(told) > last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            drive(plan, listen=killed)
        executor.jobs = []
        assert drive(plan) == Counter({State.COMPLETED: 16})
        for name, trials in arms(straight).items():
            assert outline(arms(plan)[name]) == outline(trials), last
        assert folders(plan) == folders(straight)


@pytest.mark.slow
def test_a_driver_killed_at_any_write_of_the_journal_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before and after a record is written, all through the search."""
    straight = searching(tmp_path / "straight", FEWER)
    writes = Counter[str]()
    real = JournalFileBackend.append_logs

    def counting(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        writes["all"] += 1
        real(self, logs)

    scripted(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", counting)
        drive(straight)
    for number in range(1, writes["all"], 3):
        executor = scripted(monkeypatch)
        plan = searching(tmp_path / f"killed-{number}", FEWER)
        seen = Counter[str]()

        def dying(
            self: JournalFileBackend,
            logs: list[dict[str, Any]],
            number: int = number,
            seen: Counter[str] = seen,
        ) -> None:
            seen["all"] += 1
            if seen["all"] == number and number % 2:
                raise KeyboardInterrupt
            real(self, logs)
            if seen["all"] == number:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(JournalFileBackend, "append_logs", dying)
            with pytest.raises(KeyboardInterrupt):
                drive(plan)
        executor.jobs = []
        assert drive(plan) == Counter({State.COMPLETED: 10})
        for name, trials in arms(straight).items():
            assert outline(arms(plan)[name]) == outline(trials), number
        assert folders(plan) == folders(straight)
        assert max(Counter(executor.sent).values()) <= 2


def test_a_suggestion_that_was_had_before_takes_the_known_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    few = ("train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}\n    ", "")
    plan = searching(tmp_path, few, ("trials: 6", "trials: 5"))
    assert drive(plan) == Counter({State.COMPLETED: 2 * 2 + 4})
    assert sum(key.startswith("trials/") for key in executor.sent) == 4
    for trials in arms(plan).values():
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 5
        assert len({t.user_attrs["run"] for t in trials}) == 2
        assert {t.value for t in trials} == {best_at_a_hundredth(_any_run(plan), 4)}
        assert all(list(t.intermediate_values) == [2, 4] for t in trials)


def _any_run(plan: Plan) -> Run:
    from trm_lab.runs import Labels

    cell = plan.arms[0]
    return Run(cell, cell.recipe, RunFolder(plan.root), Labels())


def test_trials_of_one_recipe_that_run_at_a_time_share_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch, capacity=8)
    few = ("train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}\n    ", "")
    plan = searching(tmp_path, few, ("trials: 6", "trials: 5"))
    drive(plan)
    assert sum(key.startswith("trials/") for key in executor.sent) == 4
    assert all(len(trials) == 5 for trials in arms(plan).values())
    assert all(t.value == trials[0].value for trials in arms(plan).values() for t in trials)


def test_an_impossible_combination_is_told_with_its_reason_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch)
    both = (
        "model.ffn: {choices: [swiglu, norm_gate_swiglu]}",
        "model.mixer: {choices: [{kind: attention, heads: 2}, {kind: attention, heads: 3}]}\n"
        "    model.width: {choices: [16, 24]}",
    )
    plan = searching(tmp_path, both, ("trials: 6", "trials: 8"))
    drive(plan)
    for trials in arms(plan).values():
        assert len(trials) == 8
        bad = [t for t in trials if t.state is TrialState.FAIL]
        assert bad
        for trial in bad:
            assert '"heads": 3' in trial.params["model.mixer"]
            assert trial.params["model.width"] == 16
            assert (
                "model.mixer" in trial.user_attrs["reason"]
                or "heads" in (trial.user_attrs["reason"])
            )
            assert "run" not in trial.user_attrs
        assert all(t.state is TrialState.COMPLETE for t in trials if t not in bad)


def test_values_that_are_no_numbers_fail_and_never_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(run: Run, update: int) -> float | None:
        lr = run.recipe.train.optimizer.lr
        return None if lr == FIRST_LR else best_at_a_hundredth(run, update)

    scripted(monkeypatch, broken)
    plan = searching(tmp_path)
    drive(plan)
    for trials in arms(plan).values():
        assert [t.state for t in trials] == [TrialState.FAIL] + [TrialState.COMPLETE] * 5
        assert trials[0].user_attrs["reason"] == "objectives are [nan]"


def test_an_arm_without_a_complete_trial_has_no_winner_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, lambda run, _: None if run.recipe.model.n == 2 else 0.5)
    said: list[str] = []
    plan = searching(tmp_path)
    drive(plan, say=said.append)
    assert said == [
        "shallow: 6 suggestions: 6 completed; best lr=0.00443, ffn=swiglu: "
        "validation puzzle accuracy 0.500",
        "deep: 6 suggestions: 6 without a value",
        "deep: no trial was completed, so there is no winner to confirm",
    ]
    assert [cell["variant"] for cell in cells(plan)] == ["shallow"]


def test_a_failed_run_is_tried_again_on_the_same_suggestion_and_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    plan = searching(tmp_path)
    drive(plan)
    key = executor.sent[0]
    other = searching(tmp_path / "failing")
    executor = scripted(monkeypatch)
    executor.fails[key] = 1
    assert drive(other) == Counter({State.COMPLETED: 15, State.FAILED: 1})
    assert arms(other)["shallow"][0].state is TrialState.FAIL
    assert arms(other)["shallow"][0].user_attrs["reason"] == "failed"
    executor.sent, executor.jobs = [], []
    counts = drive(other)
    assert counts[State.FAILED] == 0
    assert executor.sent[0] == key
    trials = arms(other)["shallow"]
    assert len(trials) == 7
    assert trials[6].params == trials[0].params
    assert (trials[6].state, trials[6].user_attrs["again"]) == (TrialState.COMPLETE, 0)
    executor.sent = []
    drive(other)
    assert executor.sent == []


def test_no_more_trials_at_a_time_than_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    executor = scripted(monkeypatch, capacity=5)
    drive(searching(tmp_path / "a"))
    assert executor.most == 5
    executor = scripted(monkeypatch, capacity=5)
    drive(searching(tmp_path / "b", ("trials: 6", "trials: 6\n  parallel: 2")))
    assert executor.most == 4  # the runs that confirm are no trials
    executor = scripted(monkeypatch, capacity=500)
    one_arm = ("trials: 6", "trials: 6\n  parallel: 3")
    drive(searching(tmp_path / "c", one_arm, ("[10, 11]", "[10]")), only="deep")
    assert executor.most == 3


def at_a_time(trials: list[FrozenTrial]) -> int:
    """Count the most trials that were under way at one time."""
    ends = [(t.datetime_start, 1) for t in trials] + [(t.datetime_complete, -1) for t in trials]
    return max(accumulate(change for _, change in sorted(ends)))


def test_where_there_is_room_for_all_trials_a_sampler_that_learns_still_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = {}
    for sampler in ("random", "tpe"):
        executor = scripted(monkeypatch, capacity=500)
        plan = searching(tmp_path / sampler, ("trials: 6", f"trials: 30\n  sampler: {sampler}"))
        assert drive(plan)[State.COMPLETED] == 2 * 30 + 2 * 2
        found[sampler] = arms(plan)
        assert executor.most == {"random": 2 * 30, "tpe": 2 * 4}[sampler]
        assert len(confirmed(plan)) == 2 * 2
    for arm in ("shallow", "deep"):
        blind, learnt = ([t.params for t in found[s][arm]] for s in ("random", "tpe"))
        assert learnt[:12] == blind[:12]  # 8 have a value when the last of them are asked for
        assert not [i for i in range(12, 30) if learnt[i] == blind[i]]
        assert at_a_time(found["random"][arm]) == 30
        assert at_a_time(found["tpe"][arm]) == 4


@pytest.mark.slow
def test_a_search_with_room_for_all_that_is_killed_goes_on_to_the_same_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    change = ("trials: 6", "trials: 18")
    scripted(monkeypatch, capacity=500)
    straight = searching(tmp_path / "straight", change)
    drive(straight)
    for last in range(0, 88, 11):
        executor = scripted(monkeypatch, capacity=500)
        plan, told = searching(tmp_path / f"killed-{last}", change), []

        def killed(event: Event, told: list[Event] = told, last: int = last) -> None:
            told.append(event)
            if len(told) > last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            drive(plan, listen=killed)
        executor.jobs = []
        drive(plan)
        for name, trials in arms(straight).items():
            assert outline(arms(plan)[name]) == outline(trials), last
        assert folders(plan) == folders(straight)
        assert cells(plan) == cells(straight)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "random"])
def test_every_sampler_gives_different_suggestions_to_a_driver_started_again(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch)
    first = ("trials: 6", f"trials: 3\n  sampler: {sampler}\n  seed: 4")
    drive(searching(tmp_path, first), only="deep")
    plan = searching(tmp_path, (first[0], first[1].replace("3", "12", 1)))
    drive(plan, only="deep")
    trials = arms(plan)["deep"]
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 12
    assert len({t.params["train.optimizer.lr"] for t in trials}) == 12
    assert {t.params["model.ffn"] for t in trials} == {"swiglu", "norm_gate_swiglu"}
    assert all(1e-4 <= t.params["train.optimizer.lr"] <= 1e-1 for t in trials)
    assert arms(plan)["shallow"] == []


def test_several_objectives_confirm_the_pareto_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def deeper_is_better(run: Run, update: int) -> float:
        return run.recipe.model.T / 10

    scripted(monkeypatch, deeper_is_better)
    plan = searching(
        tmp_path,
        (
            "train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}\n"
            "    model.ffn: {choices: [swiglu, norm_gate_swiglu]}",
            "model.T: {low: 1, high: 4}",
        ),
        ("trials: 6", "trials: 12\n  sampler: nsga2\n  objectives: [puzzle_accuracy, flops]"),
        ("{seeds:", "{top: 2, seeds:"),
    )
    drive(plan)
    for trials in arms(plan).values():
        assert len(trials) == 12
        assert all(t.values[0] == t.params["model.T"] / 10 for t in trials)
        updates = cells(plan)[0]["recipe"]["train"]["updates"]
        # What the runs have counted, not what the recipes announce.
        assert all(t.values[1] == 1000 * t.params["model.T"] * updates for t in trials)
    found = {cell["variant"]: cell["recipe"]["model"]["T"] for cell in cells(plan)}
    tried = [t.params["model.T"] for t in arms(plan)["deep"]]
    assert list(found) == ["shallow", "shallow, rank 2", "deep", "deep, rank 2"]
    assert found["deep"] == max(tried)
    assert found["deep, rank 2"] == max({*tried} - {max(tried)})
    second = cells(plan)[3]
    assert (second["arm"], second["series"]) == ("deep, rank 2", "TRM, rank 2")


def test_a_lost_journal_is_made_again_from_the_run_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch, capacity=2)
    change = ("trials: 6", "trials: 8\n  pruner: median\n  warmup: 10")
    plan = searching(tmp_path, change, study=LONGER)
    drive(plan)
    before = {name: outline(trials) for name, trials in arms(plan).items()}
    assert {state for trials in before.values() for _, state, *_ in trials} == {
        TrialState.COMPLETE, TrialState.PRUNED,
    }  # fmt: skip
    had, winners = folders(plan), cells(plan)
    for _ in range(2):
        (plan.root / "optuna.journal").unlink()
        executor.sent, executor.jobs = [], []
        drive(plan)
        assert executor.sent == []
        for name, trials in arms(plan).items():
            key = lambda told: json.dumps(told[0], sort_keys=True)  # noqa: E731
            assert sorted(outline(trials), key=key) == sorted(before[name], key=key)
        assert folders(plan) == had
        assert cells(plan) == winners


def test_a_journal_that_lost_its_end_goes_on_from_the_run_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    plan = searching(tmp_path)
    drive(plan)
    before = {name: outline(trials) for name, trials in arms(plan).items()}
    journal = plan.root / "optuna.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]) + b'{"op_code": 5, "wor')
    executor.sent, executor.jobs = [], []
    said: list[str] = []
    drive(plan, say=said.append)
    assert "dropped a last line cut short" in said[0]
    assert executor.sent == []
    for name, trials in arms(plan).items():
        assert len(trials) == 6
        told = {json.dumps(one[0]): one[2] for one in outline(trials)}
        assert told == {json.dumps(one[0]): one[2] for one in before[name]}


def test_a_search_begun_under_other_names_of_trials_goes_on_in_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Settings of choices were in names as JSON once."""
    executor = scripted(monkeypatch)
    mixers = (
        "model.ffn: {choices: [swiglu, norm_gate_swiglu]}",
        "model.mixer: {choices: [{kind: attention, heads: 1}, {kind: attention, heads: 2}]}",
    )
    plan = searching(tmp_path, mixers, ("trials: 6", "trials: 4"))
    drive(plan)
    assert all("-attention-heads-" in key for key in executor.sent if key.startswith("trials/"))
    journal = plan.root / "optuna.journal"
    for folder in (plan.root / "trials").iterdir():
        former = re.sub("attention-heads-(.)", r"heads-\1-kind-attention", folder.name)
        journal.write_text(journal.read_text().replace(folder.name, former))
        folder.rename(folder.with_name(former))
    had = {name: outline(trials) for name, trials in arms(plan).items()}
    winners, before, executor.sent = cells(plan), folders(plan), []
    assert all("-kind-attention-" in run for told in had.values() for *_, run in told)
    drive(plan)
    assert executor.sent == []
    assert (cells(plan), folders(plan)) == (winners, before)
    more = searching(tmp_path, mixers)
    drive(more)
    assert [key.split("-")[0] for key in executor.sent if key.startswith("trials/")] == [
        "trials/shallow", "trials/deep", "trials/shallow", "trials/deep",
    ]  # fmt: skip
    assert {name: outline(trials)[:4] for name, trials in arms(more).items()} == had


def test_another_space_is_another_search_that_knows_the_old_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    few = ("train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}\n    ", "")
    drive(searching(tmp_path, few))
    executor.sent, executor.jobs = [], []
    wider = (few[0] + "model.ffn: {choices: [swiglu, norm_gate_swiglu]}",
             "model.ffn: {choices: [swiglu, norm_gate_swiglu, {kind: conv_swiglu}]}")  # fmt: skip
    plan = searching(tmp_path, wider)
    drive(plan)
    trials = [key for key in executor.sent if key.startswith("trials/")]
    assert [key.split("ffn-")[1].split("-")[0] for key in trials] == ["conv", "conv"]
    assert [len(found) for found in arms(plan).values()] == [6, 6]


def test_a_deleted_trial_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    executor = scripted(monkeypatch)
    plan = searching(tmp_path)
    drive(plan)
    gone = executor.sent[3]
    shutil.rmtree(plan.root / gone)
    executor.sent, executor.jobs = [], []
    assert drive(plan) == Counter({State.COMPLETED: 16})
    assert executor.sent == [gone]


def test_the_value_is_of_validation_puzzles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the scripted runs write of the test puzzles is 0 throughout."""
    scripted(monkeypatch)
    plan = searching(tmp_path)
    drive(plan)
    assert all(0 < t.value < 1 for trials in arms(plan).values() for t in trials)
    assert all(t.value == 0 for t in confirmed(plan))


def test_status_shows_trials_with_their_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scripted(monkeypatch)
    plan = searching(tmp_path)
    drive(plan)
    rows = overview(plan.root)
    assert Counter(row.role for row in rows) == {"search": 12, "": 4}
    assert all(row.key.startswith("trials/") == (row.role == "search") for row in rows)
    assert {row.state for row in rows} == {State.COMPLETED}
    assert {(row.seed, row.of) for row in rows} == {(0, 4), (10, 4), (11, 4)}
    assert "shallow, lr=0.00443, ffn=swiglu" in {row.variant for row in rows}


def test_an_unknown_arm_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        drive(searching(tmp_path), only="shalow")
    assert str(caught.value) == "--only shalow: no such cell; did you mean shallow?"


def test_real_runs_of_a_search_enter_no_table(tmp_path: Path):
    from trm_lab.results import collect

    plan = searching(tmp_path, ("trials: 6", "trials: 2"), ("[10, 11]", "[10]"))
    assert drive(plan) == Counter({State.COMPLETED: 6})
    tree = collect(plan.root)
    runs = tree["runs"].to_dataset()
    assert [str(name).split("/")[1] for name in runs["run"].values] == ["seed-10", "seed-10"]
    assert runs["variant"].values.tolist() == ["shallow", "deep"]
    assert runs["planned"].values.tolist() == [1, 1]
    assert math.isfinite(runs["puzzle_accuracy"].values.sum())
    assert tree.attrs["problems"] == ""
    apart = collect(plan.root / "trials")["runs"].to_dataset()
    assert apart.sizes["run"] == 4
    assert set(apart["series"].values) == {"TRM, searched"}


def test_a_search_under_way_can_be_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from trm_lab.results import collect

    scripted(monkeypatch)
    plan = searching(tmp_path)

    def killed(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(plan, listen=killed)
    assert cells(plan) == []
    assert collect(plan.root)["runs"].sizes["run"] == 0


@pytest.mark.slow
def test_real_processes_are_pruned_while_they_work(tmp_path: Path):
    """The learning rate of two thirds of the trials is far too small to learn anything."""
    change = (
        ("trials: 6", "trials: 6\n  sampler: random\n  pruner: successive_halving\n  warmup: 20"),
        ("low: 1e-4, high: 1e-1", "low: 1e-9, high: 1e-1"),
        ("[10, 11]", "[10]"),
    )
    longer = (("updates: 4\n", "updates: 600\n"), ("every: 2", "every: 20"),
              ("name: puzzle_accuracy", "name: cell_accuracy"))  # fmt: skip
    plan = searching(tmp_path, *change, sweep=local(2), study=longer)
    counts = drive(plan, only="shallow")
    assert counts[State.PRUNED] >= 1
    assert sum(counts.values()) == 6 + 1
    pruned = [t for t in arms(plan)["shallow"] if t.state is TrialState.PRUNED]
    assert len(pruned) == counts[State.PRUNED]
    for trial in pruned:
        folder = RunFolder(plan.root / trial.user_attrs["run"])
        status = folder.status() or {}
        assert 20 <= trial.user_attrs["pruned_at"] <= status["update"] < 600
        assert status["error"]["message"] == "pruned as asked"
    assert [t.state for t in confirmed(plan)] == [TrialState.COMPLETE]


UNEVEN = (
    "model.ffn: {choices: [swiglu, norm_gate_swiglu]}",
    "model.mixer: {choices: [{kind: attention, heads: 2}, {kind: attention, heads: 3}]}",
)
TOKENS = "mixer: token_mlp, positions: none", "mixer: {kind: attention, heads: 2}, positions: none"


def test_what_became_of_a_budget_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two widths of three do not split into three heads, and suggestions come again."""
    scripted(monkeypatch)
    few = ("train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}",
           "model.width: {choices: [16, 32, 36]}")  # fmt: skip
    plan = searching(tmp_path, few, UNEVEN, ("trials: 6", "trials: 12"), study=(TOKENS,))
    said: list[str] = []
    drive(plan, say=said.append)
    told = json.loads((plan.root / "plan.json").read_text())["search"]
    for arm, trials in arms(plan).items():
        runs = {t.user_attrs["run"] for t in trials if "run" in t.user_attrs}
        bad = sum("run" not in t.user_attrs for t in trials)
        assert min(bad, len(runs), 12 - bad - len(runs)) > 0
        (found,) = [entry for entry in told if entry["variant"] == arm]
        counts = {"completed": len(runs), "impossible": bad, "repeated": 12 - bad - len(runs)}
        assert found["spent"] == counts
        (line,) = [line for line in said if line.startswith(f"{arm}: 12 suggestions: ")]
        assert f"{bad} impossible (tiny.yaml:" in line
        assert "does not split into 3 heads" in line
        for what in ("completed", "repeated"):
            assert f"{counts[what]} {what}" in line
        assert line == spent_text(arm, found)
    older = {"spent": {"completed": 6}, "impossible": ""}  # of a plan that names no best one
    assert spent_text("deep", older) == "deep: 6 suggestions: 6 completed"


@pytest.mark.parametrize(
    ("study", "objectives", "value"),
    [
        (("metric: {name: puzzle", "metric: {name: cell"), "",
         r"validation cell accuracy (0\.\d{3})"),
        (("name: tiny", "name: tiny"), "\n  objectives: [puzzle_accuracy, flops, params]",
         r"validation puzzle accuracy (0\.\d{3}), flops 4e\+03, params \d\.\d+e\+03"),
    ],
)  # fmt: skip
def test_the_best_suggestion_is_named_with_its_value(
    study: tuple[str, str], objectives: str, value: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    scripted(monkeypatch)
    plan = searching(tmp_path, ("trials: 6", f"trials: 6{objectives}"), study=(study,))
    said: list[str] = []
    drive(plan, say=said.append)
    capsys.readouterr()
    status(plan.root, None, [], tmp_path, json=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2:] == said
    for line, (arm, trials) in zip(said, arms(plan).items(), strict=True):
        best = max(trials, key=lambda t: t.values[0])
        lr, ffn = best.params["train.optimizer.lr"], best.params["model.ffn"]
        text = f"{arm}: 6 suggestions: 6 completed; best lr={lr:.3g}, ffn={ffn}: "
        assert line.startswith(text)
        found = re.fullmatch(value, line.removeprefix(text))
        assert found is not None, line
        assert float(found[1]) == round(best.values[0], 3)


def test_a_plan_counts_what_a_search_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """More winners than trials there cannot be."""
    changes = (("trials: 6", "trials: 2"), ("{seeds: [10, 11]}", "{top: 5, seeds: [10, 11]}"))
    plan = searching(tmp_path, *changes)
    assert list(runs_ahead(plan).values()) == [2 + 2 * 2] * 2
    executor = scripted(monkeypatch)

    def killed(event: Event) -> None:
        if event.state is State.COMPLETED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(plan, listen=killed)
    assert sorted(runs_ahead(plan).values()) == [5, 6]
    executor.jobs = []
    drive(plan)
    assert list(runs_ahead(plan).values()) == [0, 0]
    shutil.rmtree(plan.root / cells(plan)[0]["cell"] / "seed-11")
    assert sorted(runs_ahead(plan).values()) == [0, 1]
    assert list(runs_ahead(searching(tmp_path)).values()) == [6 + 2] * 2  # it is another one


def test_a_pruner_that_cannot_act_is_remarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scripted(monkeypatch)
    said: list[str] = []
    plan = searching(tmp_path, ("trials: 6", "trials: 1\n  pruner: median"))
    drive(plan, say=said.append)
    assert said[0] == (
        "remark: search.pruner median: prunes nothing where the sweep's executor is in_process, as "
        "a run is heard of when it is over"
    )
    assert unpruned(plan.study.search, local(1)) == []
    assert unpruned(searching(tmp_path).study.search, plan.sweep) == []


def test_a_trial_with_an_unreadable_status_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    executor = scripted(monkeypatch)
    plan = searching(tmp_path)
    drive(plan)
    spoilt = RunFolder(plan.root / executor.sent[3])
    spoilt.status_file.write_text("}")
    (row,) = [row for row in overview(plan.root) if row.state is not State.COMPLETED]
    assert (row.key, row.state, row.error) == (
        executor.sent[3], State.WAITING, "status.json is unreadable; running again mends it"
    )  # fmt: skip
    found = {f.what: (f.verdict, f.detail) for f in checkup.study(plan.root)}
    assert found["status"] == (
        "bad", f"{spoilt.status_file}: unreadable; running again mends it"
    )  # fmt: skip
    assert found["runs"] == ("ok", "16 folders, 1 unreadable, 0 without a worker")
