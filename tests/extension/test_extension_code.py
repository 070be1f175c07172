"""Changed code of one's own is never mixed into a run, its results or a study without a word."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.extension.example import edit
from tests.extension.test_extension import EXECUTION, recipe
from tests.training.tiny_run import records
from trm_lab import Rollouts, evaluate_run
from trm_lab.config.extension import sources
from trm_lab.config.test_time import Subject
from trm_lab.errors import ConfigError
from trm_lab.results.collect import gather
from trm_lab.runs import RunFolder, State
from trm_lab.training import train
from trm_lab.training.diagnose import diagnose_run
from trm_lab.training.stop import Stop

MEAN, OTHER = "h.mean(-2, keepdim=True)", "h.amax(-2, keepdim=True)"
OFTEN = EXECUTION.model_copy(update={"log_every": 1})


def digest() -> str:
    return str(sources(recipe())["my_parts:Mean"]["source"])


def until(update: int, path: Path) -> State:
    """Train the example up to an update."""
    stop = Stop()

    def progress(record: dict[str, Any]) -> None:
        if record["update"] == update:
            stop.request(State.WAITING, "for the test")

    return train(recipe(), path, execution=OFTEN, progress=progress, stop=stop)


def test_a_run_does_not_go_on_with_changed_code(folder: Path) -> None:
    path, checkpoint = folder / "run", RunFolder(folder / "run").checkpoint
    assert train(recipe(), folder / "whole", execution=OFTEN) is State.COMPLETED
    assert until(5, path) is State.WAITING
    before, kept = digest(), checkpoint.read_bytes()
    edit(folder, MEAN, OTHER)
    assert digest() != before
    for _ in range(2):  # the refusal itself leaves nothing that a second attempt would believe
        with pytest.raises(ConfigError) as error:
            train(recipe(), path, execution=OFTEN)
        assert str(error.value) == (
            f"{checkpoint}: the module of my_parts:Sorting has changed (hash {before} when it "
            f"trained, {digest()} now); put its text back, give the part another `version` "
            "(docs/extend.md), or train in an empty folder"
        )
        assert RunFolder(path).state() is State.FAILED
        assert checkpoint.read_bytes() == kept
    edit(folder, OTHER, MEAN)
    assert train(recipe(), path, execution=OFTEN) is State.COMPLETED
    assert records(path) == records(folder / "whole")


def test_code_may_change_until_there_is_a_checkpoint(folder: Path) -> None:
    edit(folder, MEAN, "h.maen(-2)")
    with pytest.raises(AttributeError, match="maen"):
        train(recipe(), folder / "run", execution=OFTEN)
    edit(folder, "h.maen(-2)", MEAN)
    assert train(recipe(), folder / "run", execution=OFTEN) is State.COMPLETED
    status = RunFolder(folder / "run").status()
    assert status is not None
    assert status["environment"]["own"]["my_parts:Mean"]["source"] == digest()


def test_a_finished_run_is_looked_at_with_the_code_that_trained_it(folder: Path) -> None:
    path, subject = folder / "run", Subject(limit=2)
    train(recipe(), path, execution=EXECUTION)
    own = sources(recipe())
    found = evaluate_run(path, Rollouts(steps=(1,)), subject, execution=EXECUTION)
    data, _ = diagnose_run(path, subject, steps=1, iterations=2, execution=EXECUTION)
    for attrs in (found.grid.attrs, data.attrs):
        assert json.loads(attrs["own"]) == own
    edit(folder, MEAN, OTHER)
    told = (
        rf"^{path}: the module of my_parts:\w+ has changed \(hash {own['my_parts:Mean']['source']}"
    )
    kept = found.path.read_bytes()
    with pytest.raises(ConfigError, match=told):
        evaluate_run(path, Rollouts(steps=(1,)), subject, execution=EXECUTION)
    with pytest.raises(ConfigError, match=told):
        diagnose_run(path, subject, steps=1, iterations=2, execution=EXECUTION)
    assert found.path.read_bytes() == kept


def test_runs_of_a_study_with_different_code_are_told_of(folder: Path) -> None:
    study, seen = folder / "study", []
    for seed in range(3):
        train(recipe().with_seed(seed), study / "ring-0" / f"seed-{seed}", execution=EXECUTION)
        seen.append(digest())
        if seed == 1:
            edit(folder, MEAN, OTHER)
    assert len(set(seen)) == 2
    lines = gather(study).attrs["problems"].splitlines()
    kinds = ("Mean", "Ring", "Sorting", "Sure")
    assert [line for line in lines if "code" in line] == [
        f"my_parts:{kind}: runs with different code: {seen[0]} in 2 as ring-0/seed-0, "
        f"{seen[2]} in 1 as ring-0/seed-2"
        for kind in kinds
    ]


def test_what_was_imported_counts_and_not_what_was_written_since(folder: Path) -> None:
    found, before = recipe(), digest()
    file = folder / "my_parts.py"
    file.write_text(file.read_text() + "\n")
    assert sources(found)["my_parts:Mean"]["source"] == before
