"""What is said of a study that is being driven, where there is no terminal."""

import shutil
from pathlib import Path

import pytest

from tests.study.search_study import scripted, searching
from tests.study.tiny import planned
from trm_lab.cli import live
from trm_lab.runs import RunFolder, State
from trm_lab.study.driver import Event, drive


def test_runs_that_have_not_begun_are_counted_as_queued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    plan = planned(tmp_path)
    runs = list(plan.runs())
    shown = live.Live(plan, runs)
    for run in runs:
        shown.changed(Event(run, State.RUNNING))
    monkeypatch.setattr(live, "SPEAK_SECONDS", 0.0)
    monkeypatch.delattr(RunFolder, "records")  # all of a long run's, at every look
    shown.tick()
    assert capsys.readouterr().out.splitlines()[-1] == "4 queued"
    first, second, third, _ = runs
    first.folder.path.mkdir(parents=True)
    first.folder.write_status({"state": "running", "update": 1, "best": {"puzzle_accuracy": 0.5}})
    second.folder.path.mkdir(parents=True)
    second.folder.write_status({"state": "running", "update": 4, "best": None})
    third.folder.mark(State.LOST, "killed")
    shown.tick()
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith(
        f"running: {first.cell.variant} seed 0 25%, {second.cell.variant} seed 1 trained, "
        "evaluating; 2 queued"
    )


def test_an_error_is_told_with_its_type_unless_it_is_for_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plan = planned(tmp_path)
    runs = list(plan.runs())
    shown = live.Live(plan, runs)
    for run, (kind, words, said) in zip(
        runs,
        (
            ("KeyError", "'men'", "failed, KeyError: 'men'"),
            ("AssertionError", "", "failed, AssertionError"),
            ("ConfigError", "no such file", "failed, no such file"),
            ("Failed", "out of memory", "failed, out of memory"),
        ),
        strict=True,
    ):
        run.folder.path.mkdir(parents=True)
        error = {"type": kind, "message": words}
        run.folder.write_status({"state": "failed", "error": error})
        shown.changed(Event(run, State.FAILED, words))
        assert capsys.readouterr().out.rstrip("\n").endswith(f": {said}")
    runs[0].folder.mark(State.CANCELLED, "cancelled before it began")
    shown.changed(Event(runs[0], State.CANCELLED))
    assert capsys.readouterr().out.endswith(": cancelled\n")


def test_runs_of_a_search_are_counted_up_to_the_most_there_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch)
    plan = searching(
        tmp_path, ("trials: 6", "trials: 2"), ("{seeds: [10, 11]}", "{top: 3, seeds: [10]}")
    )
    for only, arms, most in ((None, "2 arms", 8), ("deep", "1 arm", 4)):
        with live.Live(plan, [], only) as shown:
            drive(plan, only, shown.changed)
        first, *ended = capsys.readouterr().out.splitlines()
        assert first == f"tiny: a search in {arms}, at most 2 trials each, then their winners"
        assert [line.split("]")[0] for line in ended] == [
            f"[{n} of at most {most}" for n in range(1, most + 1)
        ]
        shutil.rmtree(plan.root)
