"""A run evaluated on a grid: one file, every cell with its cost."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from tests.training.tiny_run import EXECUTION, TOKEN_MLP, tiny_recipe
from trm_lab import Rollouts, evaluate_run, train
from trm_lab.accounting import account
from trm_lab.config import Recipe
from trm_lab.config.source import Source
from trm_lab.config.test_time import SELECTORS, Subject
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError
from trm_lab.plots import rollouts as figure
from trm_lab.results.grid import perturbation, rows
from trm_lab.runs import RunFolder
from trm_lab.selectors import choose, pick

WIDE = {"model": {"width": 32}, "train": {"batch": 16, "ema_table": True}, "eval": {"every": 60}}


def able(**changes: Any) -> Recipe:
    """A recipe that learns to solve some of its puzzles, in seconds."""
    base = {"task": {"train": 200}, "train": {"updates": 120}}
    return tiny_recipe(TOKEN_MLP, WIDE, base, changes)


RECIPE = able()
GRID = Rollouts(steps=(1, 3, 6), rollouts=(1, 2, 8), noise=0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("test time") / "run"
    train(RECIPE, path, execution=EXECUTION.model_copy(update={"checkpoint_seconds": 60.0}))
    return path


@pytest.mark.slow
def test_the_file_holds_the_whole_grid(run: Path) -> None:
    found = evaluate_run(run, GRID, execution=EXECUTION)
    with xr.open_dataset(found.path) as stored:
        assert stored.identical(found.grid)
    grid = found.grid
    assert dict(grid.sizes) == {
        "selector": 4,
        "rollouts": 3,
        "steps": 3,
        "puzzle": 10,
        "rollout": 8,
    }
    assert grid["selector"].values.tolist() == list(SELECTORS)
    assert found.path.parent == run / "evaluation"
    for name, value in (("recipe_id", RECIPE.id), ("weights", "last"), ("noise", 0.5),
                        ("seed", 0), ("puzzles", 10), ("N_sup", 3)):  # fmt: skip
        assert grid.attrs[name] == value
    step = account(RECIPE).eval_flops
    assert grid["flops"].values.tolist() == [[step * K * s for s in (1, 3, 6)] for K in (1, 2, 8)]
    assert grid.attrs["total_flops"] == step * 8 * 6 * 10
    assert np.array_equal(grid["puzzle_accuracy"], grid["chosen_solved"].mean("puzzle"))
    assert len(rows(grid)) == 9
    assert rows(grid)[4]["flops"] == step * 3 * 2


def test_a_plain_rollout_is_what_training_recorded(run: Path) -> None:
    for which in ("last", "best"):
        found = evaluate_run(
            run, Rollouts(steps=(1, 2, 3)), Subject(weights=which), execution=EXECUTION
        )
        with np.load(run / "evaluation" / f"{which}.npz") as recorded:
            assert np.array_equal(found.grid["solved"][:, 0], recorded["solved"])
            np.testing.assert_allclose(
                found.grid["halt_logit"][:, 0], recorded["halt_logit"], rtol=1e-4
            )


@pytest.mark.parametrize("initial", ["learned", "zero", "random"])
def test_a_plain_rollout_starts_as_training_does(tmp_path: Path, initial: str) -> None:
    model = {"initial": initial, "gradient": "whole_program"}
    path = tmp_path / "run"
    train(tiny_recipe(model=model, seed=3), path, execution=EXECUTION)
    breadth = Rollouts(steps=(1, 2, 3), rollouts=(2,), restarts=initial != "random")
    found = evaluate_run(path, breadth, Subject(weights="last"), execution=EXECUTION).grid
    with np.load(path / "evaluation" / "last.npz") as recorded:
        halt = recorded["halt_logit"]
    np.testing.assert_allclose(found["halt_logit"][:, 0], halt, rtol=1e-4)
    assert not np.allclose(found["halt_logit"][:, 1], halt, rtol=1e-4)


@pytest.mark.slow
def test_noise_never_lowers_oracle_accuracy(run: Path) -> None:
    grid = evaluate_run(run, GRID, execution=EXECUTION).grid
    assert 0 < grid["solved"].mean() < 1
    oracle = grid["puzzle_accuracy"].sel(selector="oracle")
    assert (oracle.diff("rollouts") >= 0).all()
    assert (oracle.diff("rollouts") > 0).any()
    one = grid["puzzle_accuracy"].sel(rollouts=1)
    assert (one == one.isel(selector=0)).all()
    assert (grid["puzzle_accuracy"] <= oracle).all()


def test_subsets_weights_and_costs_follow_what_is_asked(run: Path) -> None:
    few = evaluate_run(
        run, Rollouts(steps=(2,), select=("vote",), T=1, n=1),
        Subject(split="validation", limit=3, weights="raw"), execution=EXECUTION,
    )  # fmt: skip
    assert dict(few.grid.sizes)["puzzle"] == 3
    shallow = able(model={"T": 1, "n": 1})
    assert few.grid["flops"].values.tolist() == [[2 * account(shallow).eval_flops]]
    assert few.path.name.startswith("rollouts-validation-raw-")
    last = evaluate_run(
        run, Rollouts(steps=(2,), T=1, n=1), Subject(split="validation", limit=3),
        execution=EXECUTION,
    )  # fmt: skip
    assert not np.allclose(few.grid["halt_logit"], last.grid["halt_logit"])


def test_equal_settings_give_equal_numbers(run: Path) -> None:
    first = evaluate_run(run, GRID, execution=EXECUTION)
    again = evaluate_run(run, GRID, execution=EXECUTION, batch=5)
    assert again.path == first.path
    assert np.array_equal(again.grid["same_answer"], first.grid["same_answer"])
    np.testing.assert_allclose(again.grid["halt_logit"], first.grid["halt_logit"], rtol=1e-3)


def test_selectors_that_the_run_has_nothing_to_tell_for_are_left_out(tmp_path: Path) -> None:
    recipe = tiny_recipe(supervision={"halting": "fixed"})
    train(recipe, tmp_path, execution=EXECUTION)
    grid = evaluate_run(tmp_path, Rollouts(steps=(3,)), execution=EXECUTION).grid
    assert grid["selector"].values.tolist() == ["residual", "vote", "oracle"]
    message = (
        r"select: head: the halting head .* \(supervision\.halting: fixed\); give select resid"
    )
    with pytest.raises(ConfigError, match=message):
        evaluate_run(tmp_path, Rollouts(select=("vote", "head")))


def test_a_default_is_all_selectors_under_the_same_name(run: Path) -> None:
    setting = Rollouts(steps=(2,))
    given = evaluate_run(run, setting.model_copy(update={"select": SELECTORS}), execution=EXECUTION)
    assert evaluate_run(run, setting, execution=EXECUTION).path == given.path


def test_with_a_random_start_the_first_rollout_alone_is_plain(tmp_path: Path) -> None:
    recipe = tiny_recipe(model={"initial": "random"}, supervision={"hypotheses": 3})
    train(recipe, tmp_path, execution=EXECUTION)
    quiet, noisy = (
        evaluate_run(
            tmp_path, Rollouts(steps=(2,), rollouts=(1, 3), noise=noise), execution=EXECUTION
        ).grid
        for noise in (0.0, 0.5)
    )
    assert [g.attrs["hypotheses"] for g in (quiet, noisy)] == [1, 1]
    assert [g.attrs["quiet"] for g in (quiet, noisy)] == [0, 1]
    assert len(np.unique(quiet["halt_logit"][0, :, 0])) == 3
    assert np.array_equal(quiet["halt_logit"][:, 0], noisy["halt_logit"][:, 0])
    assert not np.isclose(quiet["halt_logit"][:, 1:], noisy["halt_logit"][:, 1:]).any()
    with pytest.raises(ConfigError, match=r"restarts: every rollout .* starts at random already"):
        evaluate_run(tmp_path, Rollouts(rollouts=(1, 2), restarts=True))


def test_errors_say_what_to_do(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder, not one run"):
        evaluate_run(tmp_path, GRID)
    with pytest.raises(ConfigError, match="2 rollouts without noise or restarts are all the same"):
        evaluate_run(run, Rollouts(rollouts=(2,)), execution=EXECUTION)
    (tmp_path / "recipe.yaml").write_text((run / "recipe.yaml").read_text())
    with pytest.raises(ConfigError, match="no weights yet, the run is waiting"):
        evaluate_run(tmp_path, GRID)
    (tmp_path / "weights.safetensors").write_bytes(b"half a file")
    with pytest.raises(ConfigError, match=r"weights\.safetensors: damaged"):
        evaluate_run(tmp_path, GRID)
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    best = RunFolder(tmp_path).best
    with pytest.raises(ConfigError, match=r"best\.pt: no best weights; use last or raw"):
        evaluate_run(tmp_path, GRID, Subject(weights="best"))
    best.parent.mkdir()
    best.write_bytes(RunFolder(run).best.read_bytes()[:-100])
    with pytest.raises(ConfigError) as error:
        evaluate_run(tmp_path, GRID, Subject(weights="best"))
    assert str(error.value) == f"{best}: damaged; use last or raw"


def test_weights_of_other_names_or_shapes_are_refused(run: Path, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(run, tmp_path / "run"))
    whole = load_file(folder.weights)
    shape, width = tuple(whole["ema/embed.tokens"].shape), whole["initial/z"].shape[0]
    in_file: list[tuple[str, torch.Tensor | None, str]] = [
        ("ema/embed.tokens", None, f"embed.tokens is missing, and in the recipe has shape {shape}"),
        ("ema/embed.tokens", torch.zeros(2, 2),
         f"embed.tokens has shape (2, 2), and in the recipe has shape {shape}"),
        ("ema/more", torch.zeros(3), "more has shape (3,), and in the recipe has none"),
        ("initial/z", None, f"initial.z is missing, and in the recipe has shape ({width},)"),
    ]  # fmt: skip
    for name, other, told in in_file:
        changed = {k: v for k, v in whole.items() if k != name}
        save_file(changed if other is None else {**changed, name: other}, folder.weights)
        with pytest.raises(ConfigError) as error:
            evaluate_run(folder.path, GRID, execution=EXECUTION)
        assert str(error.value) == f"{folder.weights}: damaged: {told}"
    save_file({k: v for k, v in whole.items() if k != "table"}, folder.weights)
    with pytest.raises(
        ConfigError, match=r"table is missing, and in the recipe has shape \(1, 16\)"
    ):
        evaluate_run(folder.path, GRID, Subject(weights="raw"), execution=EXECUTION)
    content = torch.load(folder.best, weights_only=True)
    del content["params"]["embed.tokens"]
    torch.save(content, folder.best)
    with pytest.raises(ConfigError) as error:
        evaluate_run(folder.path, GRID, Subject(weights="best"), execution=EXECUTION)
    assert str(error.value).startswith(f"{folder.best}: damaged: embed.tokens is missing")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": [2, 1]}, r"steps must rise, not \[2, 1\]"),
        ({"rollouts": [1, 1]}, r"rollouts must rise, not \[1, 1\]"),
        ({"select": ["vote", "vote"]}, "select names a selector twice"),
        ({"relative": True}, "relative noise needs noise above 0"),
        ({"noise": 0.1}, "rollouts: noise and restarts act on the second .* give more than 1, as"),
        ({"restarts": True}, "rollouts: noise and restarts act on the second rollout"),
        ({"noise": -1.0}, "noise: input should be greater than or equal to 0"),
        ({"select": ["votes"]}, "did you mean vote"),
        ({"rolouts": [1]}, "did you mean rollouts"),
    ],
)
def test_a_grid_is_checked(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Rollouts, Source(given, "eval"))


def test_the_figure_draws_the_numbers_of_the_file(run: Path) -> None:
    grid = evaluate_run(run, GRID, execution=EXECUTION).grid
    fig = figure.panels(grid)
    axes = [ax for ax in fig.axes if ax.lines]
    assert [ax.get_title("left") for ax in axes] == ["1 step", "3 steps", "6 steps"]
    for ax, steps in zip(axes, (1, 3, 6), strict=True):
        for line, selector in zip(ax.lines, SELECTORS, strict=True):
            expected = 100 * grid["puzzle_accuracy"].sel(selector=selector, steps=steps)
            assert line.get_xdata().tolist() == [1, 2, 8]
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert "(noise 0.5 after the first rollout), by supervision" in figure.caption(grid)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "no noise"),
        ({"seed": 3}, "no noise, seed 3"),
        ({"restarts": 1}, "random restarts after the first rollout"),
        ({"noise": 0.25, "relative": 1, "restarts": 1, "seed": 3, "hypotheses": 2},
         "noise 0.25 of the rms and random restarts after the first 2 rollouts, seed 3"),
    ],
)  # fmt: skip
def test_what_tells_rollouts_apart_is_said_whole(changes: dict[str, Any], said: str) -> None:
    plain = {"noise": 0.0, "relative": 0, "restarts": 0, "seed": 0, "hypotheses": 1}
    assert perturbation(plain | changes) == said


def test_selection_of_the_file_can_be_redone_from_its_rollouts(run: Path) -> None:
    """What is stored per rollout is enough to choose again."""
    from trm_lab.selectors import Trials

    grid = evaluate_run(run, GRID, execution=EXECUTION).grid
    names = ("solved", "solved", "halt_logit", "residual", "same_answer")
    columns = [grid[name].values for name in names]
    assert grid.attrs["quiet"] == 1
    rest = {"solution": columns[0], "unconverged": columns[0], "quiet": grid.attrs["quiet"]}
    trials = Trials(grid["steps"].values, *columns, **rest)
    for K in (1, 2, 8):
        for selector in ("head", "residual", "vote"):
            picked = choose(selector, trials, K)
            stored = grid.sel(selector=selector, rollouts=K)
            assert np.array_equal(stored["chosen"], picked)
            assert np.array_equal(stored["chosen_solved"], pick(trials.solved, picked))
    right = grid.sel(selector="oracle", rollouts=8)
    assert np.array_equal(pick(trials.solved, right["chosen"].values), trials.solved.any(axis=1))
    # Both count: which rollout is taken, and which of them had no noise.
    assert len(np.unique(grid["chosen"].sel(rollouts=8))) == 8
    loud = choose("residual", replace(trials, quiet=0), 8)
    assert not np.array_equal(grid["chosen"].sel(selector="residual", rollouts=8), loud)


def test_rollouts_are_measured_against_the_exact_set() -> None:
    """Two puzzles of 2 and 3 solutions, four rollouts, by hand."""
    from trm_lab.results.grid import set_measures
    from trm_lab.selectors import Trials

    which = np.array([[0, 0, 1, -1], [-1, -1, 2, 2]])[:, :, None]
    solved = which >= 0
    trials = Trials(np.array([4]), solved, solved * 1.0, which * 1.0, which * 1.0, which * 0, which,
                    ~solved)  # fmt: skip
    four, two = (set_measures(trials, np.array([2, 3]), K) for K in (4, 2))
    assert four["coverage"].tolist() == [pytest.approx((2 / 2 + 1 / 3) / 2)]
    assert four["precision"].tolist() == [pytest.approx((3 / 4 + 2 / 4) / 2)]
    assert four["diversity"].tolist() == [pytest.approx((2 / 2 + 1 / 2) / 2)]
    assert two["coverage"].tolist() == [pytest.approx((1 / 2 + 0) / 2)]
    assert two["diversity"].tolist() == [pytest.approx(1 / 2)]
    wrong = Trials(*(getattr(trials, f) for f in ("steps", "solved", "cell_accuracy",
                   "halt_logit", "residual", "same")), solution=which * 0 - 1,
                   unconverged=~solved)  # fmt: skip
    assert np.isnan(set_measures(wrong, np.array([2, 3]), 4)["diversity"]).all()


@pytest.mark.slow
def test_a_task_of_several_solutions_reports_coverage(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        {"task": None}, TOKEN_MLP, WIDE,
        task={"kind": "sudoku_multi", "train": 100, "validation": 8, "test": 10},
        train={"updates": 200}, supervision={"hypotheses": 3},
    )  # fmt: skip
    train(recipe, tmp_path, execution=EXECUTION.model_copy(update={"checkpoint_seconds": 60.0}))
    grid = evaluate_run(tmp_path, GRID, execution=EXECUTION).grid
    assert grid["solutions"].min() >= 2
    assert 0 < grid["solved"].mean() < 1
    assert (grid["coverage"].diff("rollouts") >= 0).all()
    assert (grid["coverage"].diff("rollouts") > 0).any()
    assert grid["coverage"].max() > (1 / grid["solutions"]).mean(), (
        "more than one of a set is found"
    )
    assert np.array_equal(grid["solution"] >= 0, grid["solved"])
    assert set(rows(grid)[0]) >= {"coverage", "precision", "diversity"}
    precision = grid["solved"].mean(("puzzle", "rollout"))
    np.testing.assert_allclose(grid["precision"].sel(rollouts=8), precision)


def test_hypotheses_are_the_first_rollouts(tmp_path: Path) -> None:
    recipe = tiny_recipe(supervision={"hypotheses": 3}, train={"updates": 10})
    train(recipe, tmp_path, execution=EXECUTION)
    grid = evaluate_run(tmp_path, Rollouts(steps=(2,), rollouts=(1, 3)), execution=EXECUTION).grid
    assert grid.attrs["hypotheses"] == 3
    with np.load(tmp_path / "evaluation" / "last.npz") as recorded:  # the first alone
        np.testing.assert_allclose(
            grid["halt_logit"][:, 0, 0], recorded["halt_logit"][:, 1], rtol=1e-4
        )
    assert len(np.unique(grid["halt_logit"][0, :, 0])) == 3
    with pytest.raises(ConfigError, match=r"4 rollouts .* the same after the first 3 hypotheses"):
        evaluate_run(tmp_path, Rollouts(rollouts=(4,)), execution=EXECUTION)
    idle = r"act on the rollouts after the first 3, the hypotheses .* more than 3, not 3"
    for how in ({"noise": 0.5}, {"restarts": True}):
        with pytest.raises(ConfigError, match=idle):
            evaluate_run(tmp_path, Rollouts(rollouts=(1, 3), **how), execution=EXECUTION)
    noisy = evaluate_run(
        tmp_path, Rollouts(steps=(2,), rollouts=(6,), noise=0.5), execution=EXECUTION
    ).grid
    np.testing.assert_allclose(noisy["halt_logit"][:, :3], grid["halt_logit"], rtol=1e-4, atol=1e-5)
    assert len(np.unique(noisy["halt_logit"][0, :, 0])) == 6
