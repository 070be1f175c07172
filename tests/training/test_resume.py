"""An interrupted and resumed run ends in the same bits as an uninterrupted one."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny_run import EXECUTION, HRM, TOKEN_MLP, records, results, tiny_recipe
from trm_lab.config import Recipe
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.training import Execution, train
from trm_lab.training.session import Session

pytestmark = pytest.mark.slow

RARELY = EXECUTION.model_copy(update={"checkpoint_seconds": 1e9})
"""Checkpoints at evaluations only."""
RECIPES = {
    "attention": tiny_recipe(),
    "token_mlp": tiny_recipe(TOKEN_MLP, train={"optimizer": {"kind": "adamw", "lr": 1e-2}}),
    "hrm": tiny_recipe(HRM),
    "bfloat16": tiny_recipe(train={"dtype": "bfloat16"}),
    "float64": tiny_recipe(train={"dtype": "float64"}),
    "muon": tiny_recipe(train={"optimizer": {"kind": "muon", "rest": {"kind": "adamw"}}}),
    "scaled atan2": tiny_recipe(train={"optimizer": {"kind": "adam_atan2_scaled", "lr": 1e-2}}),
    "averaged table": tiny_recipe(train={"ema_table": True}),
    "hypotheses": tiny_recipe(supervision={"hypotheses": 3}),
    "random hypotheses": tiny_recipe(
        model={"initial": "random"}, supervision={"hypotheses": 2}, train={"ema": None}
    ),
    "without table": tiny_recipe(model={"puzzle": None}),
    "random start": tiny_recipe(model={"initial": "random", "norm": "pre", "head": "tied"}),
    "learned start": tiny_recipe(
        model={"initial": "learned", "gradient": "whole_program", "layout": "looped"}
    ),
}


class Interrupted(KeyboardInterrupt):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], dict[str, Any]]:
    """Train a recipe once without a break, and remember what it found."""
    known: dict[Recipe, dict[str, Any]] = {}

    def run(recipe: Recipe) -> dict[str, Any]:
        if recipe not in known:
            path = tmp_path_factory.mktemp("uninterrupted")
            assert train(recipe, path, execution=EXECUTION) is State.COMPLETED
            known[recipe] = results(path)
        return known[recipe]

    return run


@pytest.fixture
def break_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Train until update k is done in memory, then break off as a signal would."""
    advance = Session.advance

    def run(recipe: Recipe, path: Path, k: int, execution: Execution = EXECUTION) -> None:
        def stopping(session: Session) -> None:
            advance(session)
            if session.counters.update == k:
                raise Interrupted

        with monkeypatch.context() as patch:
            patch.setattr(Session, "advance", stopping)
            with pytest.raises(Interrupted):
                train(recipe, path, execution=execution)

    return run


@pytest.mark.parametrize("k", range(1, 13))
def test_a_run_interrupted_at_any_update_ends_in_the_same_bits(
    uninterrupted, break_off, tmp_path: Path, k: int
) -> None:
    recipe, path = RECIPES["attention"], tmp_path / "run"
    break_off(recipe, path, k)
    folder = RunFolder(path)
    assert folder.state() is State.CANCELLED
    assert not folder.weights.exists()
    assert train(recipe, path, execution=EXECUTION) is State.COMPLETED
    assert results(path) == uninterrupted(recipe)
    assert folder.status()["attempt"] == 2


@pytest.mark.parametrize("k", [3, 7, 12])
def test_a_run_falls_back_to_its_last_checkpoint(
    uninterrupted, break_off, tmp_path: Path, k: int
) -> None:
    recipe, path = RECIPES["attention"], tmp_path / "run"
    break_off(recipe, path, k, RARELY)
    assert RunFolder(path).checkpoint.exists() == (k > 5)
    assert train(recipe, path, execution=RARELY) is State.COMPLETED
    assert results(path) == uninterrupted(recipe)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "attention"])
def test_every_kind_of_run_resumes(uninterrupted, break_off, tmp_path: Path, name: str) -> None:
    recipe, path = RECIPES[name], tmp_path / "run"
    break_off(recipe, path, 4)
    break_off(recipe, path, 9)
    assert train(recipe, path, execution=EXECUTION) is State.COMPLETED
    assert results(path) == uninterrupted(recipe)
    assert RunFolder(path).status()["attempt"] == 3


def test_a_run_interrupted_while_it_records_ends_in_the_same_bits(
    uninterrupted, tmp_path: Path
) -> None:
    """At every record in turn, evaluations included: 10 breaks in one run."""
    recipe, path, seen = RECIPES["attention"], tmp_path / "run", set()

    def progress(record: dict[str, Any]) -> None:
        key = (record["kind"], record["update"])
        if key not in seen:
            seen.add(key)
            raise Interrupted

    for _ in range(20):
        try:
            state = train(recipe, path, execution=EXECUTION, progress=progress)
        except Interrupted:
            continue
        break
    assert state is State.COMPLETED
    assert len(seen) == 10
    assert RunFolder(path).status()["attempt"] == 11
    assert results(path) == uninterrupted(recipe)


def test_a_run_killed_between_its_last_checkpoint_and_its_end_only_finishes(
    uninterrupted, tmp_path: Path
) -> None:
    recipe, path = RECIPES["attention"], tmp_path / "run"
    train(recipe, path, execution=EXECUTION)
    folder = RunFolder(path)
    folder.weights.unlink()
    folder.evaluation("best").unlink()
    folder.write_status({**folder.status(), "state": "running"})
    before = folder.metrics_file.read_text()
    assert train(recipe, path, execution=EXECUTION) is State.COMPLETED
    assert results(path) == uninterrupted(recipe)
    assert folder.metrics_file.read_text() == before


def test_the_same_recipe_twice_gives_the_same_bits(uninterrupted, tmp_path: Path) -> None:
    recipe = RECIPES["attention"]
    train(recipe, tmp_path, execution=RARELY)
    assert results(tmp_path) == uninterrupted(recipe)


def test_another_seed_gives_other_bits(uninterrupted, tmp_path: Path) -> None:
    recipe = RECIPES["attention"].with_seed(1)
    train(recipe, tmp_path, execution=EXECUTION)
    found, base = results(tmp_path), uninterrupted(RECIPES["attention"])
    assert found["status"]["recipe_id"] == base["status"]["recipe_id"]
    assert found["records"] != base["records"]
    assert found["weights/raw/embed.tokens"] != base["weights/raw/embed.tokens"]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    recipe = RECIPES["attention"]
    train(recipe, tmp_path, execution=EXECUTION)
    files = [p for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    before = [(p, p.read_bytes(), p.stat().st_mtime_ns) for p in files]
    seen: list[Any] = []
    assert train(recipe, tmp_path, progress=seen.append) is State.COMPLETED
    assert seen == []
    after = [p for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    assert [(p, p.read_bytes(), p.stat().st_mtime_ns) for p in after] == before


def test_a_checkpoint_of_other_data_is_refused(break_off, tmp_path: Path) -> None:
    """As when the generator or a CSV file changed while the run was waiting."""
    recipe = RECIPES["attention"]
    break_off(recipe, tmp_path, 4)
    checkpoint = RunFolder(tmp_path).checkpoint
    content = torch.load(checkpoint, weights_only=True)
    ours = content["fingerprint"]
    torch.save({**content, "fingerprint": "0123456789abcdef"}, checkpoint)
    with pytest.raises(ConfigError) as error:
        train(recipe, tmp_path, execution=EXECUTION)
    assert str(error.value) == (
        f"{checkpoint}: checkpoint has fingerprint 0123456789abcdef, this run {ours}; "
        "the recipe or its data changed since; give another folder"
    )
    status = RunFolder(tmp_path).status()
    assert (status["state"], status["error"]["type"]) == ("failed", "ConfigError")


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_is_never_unpickled(break_off, tmp_path: Path) -> None:
    recipe, sprung = RECIPES["attention"], tmp_path / "sprung"
    path = tmp_path / "run"
    break_off(recipe, path, 4)
    content = torch.load(RunFolder(path).checkpoint, weights_only=True)
    torch.save({**content, "best": Trap(sprung)}, RunFolder(path).checkpoint)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        train(recipe, path, execution=EXECUTION)
    assert not sprung.exists()
    assert RunFolder(path).state() is State.FAILED
    # The trap itself works.
    torch.load(RunFolder(path).checkpoint, weights_only=False)
    assert sprung.exists()


def test_a_checkpoint_holds_all_of_a_session(break_off, tmp_path: Path) -> None:
    break_off(RECIPES["attention"], tmp_path, 9)
    content = torch.load(RunFolder(tmp_path).checkpoint, weights_only=True)
    assert set(content) == {
        "recipe_id", "seed", "fingerprint", "own", "params", "ema", "initial", "others", "table",
        "ema_table", "optimizer", "carry", "sums", "started", "since", "watched", "counters",
        "best", "validated",
    }  # fmt: skip
    assert content["counters"]["update"] == 8
    # No graph of past updates hangs on to what is kept.
    assert not content["sums"].requires_grad
    assert not any(z.requires_grad for z in content["carry"]["z"])
    assert content["best"] == {"update": 5, "puzzle_accuracy": 0.0}
    assert set(content["carry"]) == {"z", "steps", "halted", "batch"}
    assert [r["update"] for r in records(tmp_path)][-1] == 8
