"""Runs that evaluate each puzzle up to its halting step."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny_run import EXECUTION, records, tiny_recipe
from trm_lab.config.halting import AsTrained
from trm_lab.config.test_time import Rollouts
from trm_lab.core.compaction import evaluate_when_halted
from trm_lab.core.core import Core
from trm_lab.core.reasoner import Reasoner
from trm_lab.parameters import Geometry
from trm_lab.results import collect
from trm_lab.results.grid import rows
from trm_lab.runs import RunFolder, State
from trm_lab.tasks.build import build
from trm_lab.training import train
from trm_lab.training.stored import stored_weights
from trm_lab.training.test_time import evaluate_run


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("rule", ["own", {"kind": "residual", "threshold": 0.5}, "oracle"], ids=str)
def test_a_run_evaluates_up_to_the_halting_step(tmp_path: Path, rule: Any, carried: bool) -> None:
    recipe = tiny_recipe(
        supervision={"loop": "slot_carry" if carried else "no_carry"},
        eval={"policy": {"kind": "when_halted", "rule": rule}},
    )
    assert train(recipe, tmp_path, execution=EXECUTION) is State.COMPLETED
    folder, test = RunFolder(tmp_path), build(recipe.task).test
    core = Core(recipe.model, Geometry.of(recipe.task))
    weights = stored_weights(folder, core, "last")
    named = recipe.eval.policy.rule
    found = evaluate_when_halted(
        Reasoner(core, weights, carried), test.inputs, test.labels,
        rule=recipe.supervision.halting if isinstance(named, AsTrained) else named,
        steps=recipe.eval.final_steps, batch=100,
    )  # fmt: skip
    with np.load(folder.evaluation("last")) as stored:
        assert np.array_equal(stored["halting_step"], found.halting_step)
        assert np.array_equal(stored["halt_logit"], found.halt_logit)
    mean = [r["mean_steps"] for r in records(tmp_path) if r["kind"] == "evaluation"]
    assert len(mean) == 3
    assert all(1 <= m <= 3 for m in mean)


def test_with_all_steps_every_puzzle_has_all(tmp_path: Path) -> None:
    train(tiny_recipe(), tmp_path, execution=EXECUTION)
    with np.load(RunFolder(tmp_path).evaluation("last")) as stored:
        assert stored["halting_step"].tolist() == [3] * 10
    evaluations = [r for r in records(tmp_path) if r["kind"] == "evaluation"]
    assert {r["mean_steps"] for r in evaluations} == {3.0}


def test_the_rule_of_evaluation_is_the_one_named(tmp_path: Path) -> None:
    """An endless patience has all steps, none has one."""
    found = []
    for threshold in (1e9, -1e9):
        rule = {"kind": "confidence", "threshold": threshold}
        recipe = tiny_recipe(eval={"policy": {"kind": "when_halted", "rule": rule}})
        path = tmp_path / str(threshold)
        train(recipe, path, execution=EXECUTION)
        with np.load(RunFolder(path).evaluation("last")) as stored:
            found.append(set(stored["halting_step"].tolist()))
    assert found == [{3}, {1}]


@pytest.mark.slow
def test_halting_steps_and_unconverged_solves_reach_the_results(tmp_path: Path) -> None:
    cells = {
        "solved": {"kind": "implicit", "tolerance": 1e9},
        "unsolved": {"kind": "implicit", "tolerance": 0.0, "backward_iterations": 1},
        "unrolled": "whole_program",
    }
    for cell, gradient in cells.items():
        recipe = tiny_recipe(
            model={"gradient": gradient},
            eval={"best": False, "policy": {"kind": "when_halted", "rule": "oracle"}},
        )
        train(recipe, tmp_path / cell / "seed-0", execution=EXECUTION)
    old = tmp_path / "old" / "seed-0"
    shutil.copytree(tmp_path / "solved" / "seed-0", old)
    with np.load(RunFolder(old).evaluation("last")) as stored:
        kept = {k: stored[k] for k in stored.files if k not in ("halting_step", "unconverged")}
    np.savez(RunFolder(old).evaluation("last"), **kept)
    tree = collect(tmp_path)
    assert not tree.attrs["problems"]
    places = {str(run).split("/")[0]: i for i, run in enumerate(tree["runs"]["run"].values)}
    share = tree["eval"]["unconverged"].sel(weights="last").values
    for cell, expected in (("solved", 0.0), ("unsolved", 1.0), ("unrolled", 0.0)):
        assert share[places[cell]].tolist() == [expected] * 3
    assert np.isnan(share[places["old"]]).all()
    grids = {
        cell: evaluate_run(tmp_path / cell / "seed-0", Rollouts(steps=(1, 3)), execution=EXECUTION)
        for cell in cells
    }
    for cell, expected in (("solved", 0.0), ("unsolved", 1.0), ("unrolled", 0.0)):
        assert set(grids[cell].grid["unconverged"].values.flat) == {expected}
        assert [row["unconverged"] for row in rows(grids[cell].grid)] == [expected] * 2
    halting = tree["puzzles"]["halting_step"]
    assert halting.dtype == np.int16
    for cell in cells:
        with np.load(RunFolder(tmp_path / cell / "seed-0").evaluation("last")) as stored:
            steps = stored["halting_step"].tolist()
        assert halting.sel(weights="last").values[places[cell]].tolist() == steps
        mean = float(tree["eval"]["mean_steps"].sel(weights="last").values[places[cell]])
        assert mean == pytest.approx(np.mean(steps))
    assert halting.sel(weights="last").values[places["old"]].tolist() == [3] * 10
    assert (halting.sel(weights="best").values == -1).all()


def test_an_evaluation_whose_halting_steps_do_not_fit_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a" / "seed-0"
    train(tiny_recipe(eval={"best": False}), path, execution=EXECUTION)
    with np.load(RunFolder(path).evaluation("last")) as stored:
        kept = {k: stored[k] for k in stored.files}
    np.savez(RunFolder(path).evaluation("last"), **kept | {"halting_step": np.ones(7, np.int32)})
    tree = collect(tmp_path)
    assert "halting_step (7,) and unconverged (3,) do not fit (10, 3)" in tree.attrs["problems"]
    assert int(tree["puzzles"]["evaluated"].sum()) == 0
