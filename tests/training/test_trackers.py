"""Trackers get every record once, also of a run that was stopped or killed."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.tiny_run import EXECUTION, records, results, tiny_recipe
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.training import Execution, train
from trm_lab.training.stop import Stop

RECIPE = tiny_recipe()
RARELY = EXECUTION.model_copy(update={"checkpoint_seconds": 1e9})


class Killed(KeyboardInterrupt):
    pass


def broken_off(path: Path, tracker: str) -> None:
    """Train with a stop after update 4, a kill after 8 with the last checkpoint at 5."""
    execution = RARELY.model_copy(update={"trackers": (tracker,)})
    stop = Stop()

    def stops(record: dict[str, Any]) -> None:
        if record["update"] == 4:
            stop.request(State.WAITING, "preempted")

    def kills(record: dict[str, Any]) -> None:
        if record["update"] == 10:
            raise Killed

    assert train(RECIPE, path, execution=execution, progress=stops, stop=stop) is State.WAITING
    with pytest.raises(Killed):
        train(RECIPE, path, execution=execution, progress=kills)
    assert train(RECIPE, path, execution=execution) is State.COMPLETED


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def init(**settings: Any) -> Any:
        seen.append(("init", settings))
        return SimpleNamespace(
            log=lambda values: seen.append(("log", values)),
            finish=lambda: seen.append(("finish", None)),
            define_metric=lambda *_, **__: None,
        )

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return seen


def test_wandb_gets_every_record_once(tmp_path: Path, fake_wandb: list[tuple[str, Any]]) -> None:
    broken_off(tmp_path / "run", "wandb")
    logged = [values for what, values in fake_wandb if what == "log"]
    expected = records(tmp_path / "run")
    assert [(v["update"], "evaluation/puzzles" in v) for v in logged] == [
        (r["update"], r["kind"] == "evaluation") for r in expected
    ]
    for values, record in zip(logged, expected, strict=True):
        if record["kind"] == "train":
            assert values["train/loss"] == record["loss"]
        else:
            assert values["evaluation/puzzle_accuracy/3"] == record["puzzle_accuracy"][1]
    starts = [settings for what, settings in fake_wandb if what == "init"]
    assert len(starts) == 3 == sum(what == "finish" for what, _ in fake_wandb)
    assert {s["id"] for s in starts} == {f"{RECIPE.id[:16]}-0"}
    assert {s["mode"] for s in starts} == {"offline"}


@pytest.mark.slow
def test_a_tracker_changes_no_result(tmp_path: Path, fake_wandb: list[Any]) -> None:
    broken_off(tmp_path / "tracked", "wandb")
    train(RECIPE, tmp_path / "plain", execution=EXECUTION)
    assert results(tmp_path / "tracked") == results(tmp_path / "plain")


def test_tensorboard_gets_every_record_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    broken_off(tmp_path / "run", "tensorboard")
    found = EventAccumulator(str(tmp_path / "run" / "trackers" / "tensorboard"))
    found.Reload()
    expected = records(tmp_path / "run")
    losses = [(r["update"], r["loss"]) for r in expected if r["kind"] == "train"]
    events = found.Scalars("train/loss")
    assert [e.step for e in events] == [update for update, _ in losses]
    assert [e.value for e in events] == pytest.approx([loss for _, loss in losses], rel=1e-6)
    assert [e.step for e in found.Scalars("evaluation/puzzle_accuracy/3")] == [5, 10, 12]


@pytest.mark.parametrize(
    ("tracker", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    execution = EXECUTION.model_copy(update={"trackers": (tracker,)})
    with pytest.raises(ConfigError) as told:
        train(RECIPE, tmp_path, execution=execution)
    assert f"pip install 'trm-lab[{tracker}]', or leave {tracker} out" in str(told.value)
    assert RunFolder(tmp_path).state() is State.FAILED


def test_trackers_are_given_as_a_list() -> None:
    given = Execution.model_validate({"trackers": ["wandb", "tensorboard"]})
    assert given.trackers == ("wandb", "tensorboard")
    with pytest.raises(ValidationError, match="'tensorboard' or 'wandb'"):
        Execution.model_validate({"trackers": ["mlflow"]})
