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
