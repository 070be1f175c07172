"""Values of runs whose test outcomes are damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.study.tiny import ORDER, runs_by_key, states, trials
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.study.driver import drive
from trm_lab.study.plan import Plan
from trm_lab.study.values import final_value
from trm_lab.training.recovery import finished as results_of


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    """Spoil the deflated numbers of the first array, whose file stays a whole archive."""
    content = bytearray(path.read_bytes())
    start = 30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")
    content[start : start + 4] = b"\xff" * 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def outline(root: Path) -> list[object]:
    return [(t.number, t.state, t.value, t.user_attrs["run"]) for t in trials(root)]


@pytest.mark.parametrize("spoil", [cut, flip, empty, Path.unlink])
def test_damaged_outcomes_are_named_and_taken_for_no_result(
    finished: Plan, spoil: Callable[[Path], None]
):
    run = next(finished.runs())
    path = run.folder.evaluation("last")
    for which in path.parent.glob("*.npz"):
        spoil(which)
    with pytest.raises(ConfigError) as caught:
        final_value(run, finished.study)
    assert str(caught.value).startswith(f"{path}: cannot be read: ")
    assert results_of(run.folder, run.recipe) is None


def test_a_run_with_damaged_outcomes_is_evaluated_again_and_the_study_goes_on(finished: Plan):
    run = runs_by_key(finished)[ORDER[0]]
    path = run.folder.evaluation("last")
    before, records = path.read_bytes(), run.folder.metrics_file.read_bytes()
    value = final_value(run, finished.study)
    cut(path)
    (finished.root / "optuna.journal").unlink()
    assert drive(finished) == {State.COMPLETED: 4}
    assert path.read_bytes() == before
    assert run.folder.metrics_file.read_bytes() == records  # not trained again
    told = [(t.value, t.user_attrs.get("reason")) for t in trials(finished.root)
            if t.user_attrs["run"] == run.key]  # fmt: skip
    assert told == [(None, "lost"), (value, None)]


@pytest.mark.parametrize("spoil", [cut, Path.unlink])
def test_outcomes_damaged_after_the_end_are_made_again_by_the_next_run(
    finished: Plan, spoil: Callable[[Path], None]
):
    run = runs_by_key(finished)[ORDER[0]]
    path = run.folder.evaluation("last")
    before, told = path.read_bytes(), outline(finished.root)
    spoil(path)
    assert drive(finished) == {State.COMPLETED: 4}
    assert path.read_bytes() == before
    assert outline(finished.root) == told  # its trial has its value already


def test_outcomes_damaged_while_the_study_runs_lose_that_run_only(
    finished: Plan, monkeypatch: pytest.MonkeyPatch
):
    spoilt = runs_by_key(finished)[ORDER[0]].folder
    spoilt.mark(State.LOST, "")
    (finished.root / "optuna.journal").unlink()
    path, mark = spoilt.evaluation("last"), RunFolder.asked_to_cancel

    def damage(folder: RunFolder, *, clear: bool = False) -> bool:
        if folder.path == spoilt.path and folder.state() is State.COMPLETED:
            cut(path)
        return mark(folder, clear=clear)

    monkeypatch.setattr(RunFolder, "asked_to_cancel", damage)
    assert drive(finished) == {State.COMPLETED: 3, State.LOST: 1}
    assert str(path) in (spoilt.status() or {})["error"]["message"]
    monkeypatch.undo()
    assert drive(finished) == {State.COMPLETED: 4}
    assert set(states(finished.root).values()) == {"completed"}
