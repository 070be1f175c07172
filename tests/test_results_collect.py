import json
import resource
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from factories import DEPTHS, FULL, Cell, make_study, one_run, run_of, value, write_json

from trm_lab.errors import ConfigError, DiskFullError
from trm_lab.results import STATES, check, collect, data_hash, gather, states
from trm_lab.results.files import write_netcdf

MIXED = {
    ("n1T1", 0): "diverged",
    ("n1T1", 1): "failed",
    ("n2T2", 0): "running",
    ("n2T2", 2): "waiting",
    ("n2T3", 1): "cancelled",
    ("n2T3", 2): "pruned",
    ("n5T3", 0): "lost",
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("runs"), states=MIXED)


@pytest.fixture(scope="module")
def tree(mixed: Path) -> xr.DataTree:
    return gather(mixed)


def test_every_planned_run_is_a_row_in_plan_order(tree: xr.DataTree):
    expected = [f"{cell.name}/seed-{seed}" for cell in DEPTHS for seed in (0, 1, 2)]
    assert tree["runs"]["run"].values.tolist() == expected
    planned = [MIXED.get((cell.variant, seed), "completed") for cell in DEPTHS for seed in range(3)]
    assert states(tree).tolist() == planned
    assert check(tree) == []
    assert tree.attrs["problems"] == ""


def test_the_file_opens_with_xarray_alone_and_is_identical(mixed: Path):
    tree = collect(mixed)
    with xr.open_datatree(mixed / "results.nc") as opened:
        opened.load()
    assert opened.identical(tree)
    assert data_hash(opened) == data_hash(tree)
    for node in tree.subtree:
        for name, variable in node.to_dataset().variables.items():
            assert opened[node.path].to_dataset()[name].dtype.kind == variable.dtype.kind, name
    assert check(opened) == []
    assert list(mixed.glob("*.tmp-*")) == []


def test_a_diverged_run_stays_as_a_row_with_its_curve_and_no_accuracy(tree: xr.DataTree):
    assert states(tree)[0] == "diverged"
    assert np.isnan(value(tree, "puzzle_accuracy"))
    assert np.isnan(value(tree, "loss"))
    assert value(tree, "updates") == 200
    assert value(tree, "error") == "FloatingPointError: loss is nan"
    assert np.isfinite(tree["curves"]["loss"].values[0]).sum() == 3
    assert value(tree, "best_validation_update") == 200


def test_a_run_without_evaluation_has_no_zero_in_place_of_a_number(tree: xr.DataTree):
    for run in (0, 1, 3, 5):
        assert np.isnan(tree["eval"]["puzzle_accuracy"].values[run]).all()
        assert (tree["eval"]["puzzles"].values[run] == 0).all()
        assert (tree["puzzles"]["evaluated"].values[run] == 0).all()
        assert (tree["puzzles"]["solved"].values[run] == 2).all()
        assert tree["puzzles"]["test_set"].values[run] == -1
    waiting = tree["runs"].to_dataset().isel(run=5)
    assert states(tree)[5] == "waiting"
    for name in ("updates", "flops", "seconds", "loss", "puzzle_accuracy"):
        assert np.isnan(waiting[name])
    assert waiting["model.n"] == 2
    assert json.loads(str(waiting["recipe"].values))["seed"] == 2


def test_the_numbers_of_a_completed_run_are_those_of_its_files(tree: xr.DataTree, mixed: Path):
    cell = DEPTHS[4]
    at = tree["runs"]["run"].values.tolist().index(f"{cell.name}/seed-0")
    with np.load(run_of(mixed, cell) / "evaluation" / "last.npz") as file:
        assert value(tree, "puzzle_accuracy", at) == file["solved"][:, -1].mean()
        np.testing.assert_array_equal(
            tree["eval"]["puzzle_accuracy"].values[at, 0], file["solved"].mean(axis=0)
        )
        np.testing.assert_array_equal(tree["puzzles"]["solved"].values[at, 0], file["solved"])
        assert value(tree, "cell_accuracy", at) == file["cell_accuracy"][:, -1].mean(
            dtype=np.float64
        )
    lines = (run_of(mixed, cell) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    last = [r for r in records if r["kind"] == "evaluation"][-1]
    assert value(tree, "last_validation_puzzle_accuracy", at) == last["puzzle_accuracy"][-1]
    np.testing.assert_array_equal(
        tree["curves"]["flops"].values[at], [r["flops"] for r in records if r["kind"] == "train"]
    )
    assert value(tree, "effective_depth", at) == cell.effective_depth
    assert value(tree, "host", at) == "node0"
    assert tree.attrs["hosts"] == "node0, node1"
    assert tree.attrs["git_dirty"] == 1


def test_signatures_survive_as_exact_64_bit_numbers(tmp_path: Path):
    collect(one_run(tmp_path))
    with xr.open_datatree(tmp_path / "depth" / "results.nc") as opened:
        signature = opened["puzzles"]["signature"].values
    assert signature.dtype == np.uint64
    assert signature[0, :3].tolist() == [FULL, FULL - 1, FULL - 2]


def test_test_sets_are_told_apart_by_their_puzzles(tmp_path: Path):
    cells = (Cell("a", task_seed=0), Cell("b", task_seed=1))
    study = make_study(tmp_path, cells, (0, 1))
    shutil.rmtree(run_of(study, cells[1], 0))
    shutil.copytree(
        run_of(make_study(tmp_path, cells, (0, 1), name="small", puzzles=20), cells[1], 0),
        run_of(study, cells[1], 0),
    )
    puzzles = collect(study)["puzzles"].to_dataset()
    assert puzzles["test_set"].values.tolist() == [0, 0, 1, 2]
    assert puzzles["test_set_size"].values.tolist() == [50, 20, 50]
    assert (puzzles["solved"].values[2, 0, 20:] == 2).all()
    assert np.isnan(puzzles["clues"].values[1, 20:]).all()


def test_the_best_weights_are_evaluated_beside_the_last(tmp_path: Path):
    study = one_run(tmp_path)
    folder = run_of(study) / "evaluation"
    with np.load(folder / "last.npz") as file:
        best = {**dict(file), "update": np.int64(300), "solved": np.zeros_like(file["solved"])}
    np.savez(folder / "best.npz", **best)
    tree = gather(study)
    assert tree["eval"]["update"].values.tolist() == [[400, 300]]
    assert tree["eval"]["puzzle_accuracy"].values[0, 1].tolist() == [0, 0, 0]
    assert tree["eval"]["averaging"].values.tolist() == [["ema", "ema"]]
    np.savez(folder / "best.npz", **{**best, "signature": best["signature"][::-1]})
    tree = gather(study)
    assert "best.npz: not the test puzzles of last.npz" in tree.attrs["problems"]
    assert tree["puzzles"]["evaluated"].values.tolist() == [[1, 0]]


def test_a_study_is_collected_from_its_folders_alone(tmp_path: Path, mixed: Path):
    study = make_study(tmp_path, states=MIXED, plan=False)
    tree = collect(study)
    assert check(tree) == []
    assert tree["runs"].sizes["run"] == 14  # the waiting run has no folder
    assert tree["runs"]["planned"].values.all()
    assert set(tree["runs"]["variant"].values) == {cell.variant for cell in DEPTHS}
    assert tree.attrs["plan_json"] == ""
    (study / "plan.json").write_text('{"cells": [')
    assert (
        "plan.json: unreadable, so taken from the folders alone" in gather(study).attrs["problems"]
    )


def test_folders_outside_the_plan_follow_it(tmp_path: Path):
    study = make_study(tmp_path, DEPTHS[:2], (0, 1))
    plan = json.loads((study / "plan.json").read_text())
    write_json(study / "plan.json", {**plan, "cells": plan["cells"][1:], "seeds": [1]})
    tree = gather(study)
    assert tree["runs"]["run"].values.tolist()[0] == f"{DEPTHS[1].name}/seed-1"
    assert tree["runs"]["planned"].values.tolist() == [1, 0, 0, 0]
    assert tree["runs"]["variant"].values.tolist() == ["n2T2", "n1T1", "n1T1", "n2T2"]


def test_a_study_in_which_nothing_has_run_is_a_file_too(tmp_path: Path):
    waiting = {(cell.variant, seed): "waiting" for cell in DEPTHS for seed in (0, 1, 2)}
    study = make_study(tmp_path, states=waiting)
    tree = collect(study)
    with xr.open_datatree(study / "results.nc") as opened:
        assert opened.load().identical(tree)
    assert check(opened) == []
    assert set(states(opened)) == {"waiting"}


def test_recipe_settings_are_columns_of_their_own_type(tmp_path: Path):
    cells = (Cell("a"), Cell("b", series="HRM", n=3))
    runs = collect(make_study(tmp_path, cells, (0,)))["runs"].to_dataset()
    assert runs["model.n"].dtype == np.int64
    assert runs["model.n"].values.tolist() == [2, 3]
    assert runs["model.gradient.kind"].values.tolist() == ["last_cycles", "last_updates"]
    np.testing.assert_array_equal(runs["model.gradient.c"], [1, np.nan])
    np.testing.assert_array_equal(runs["model.puzzle.dim"], [16, np.nan])
    assert runs["task.augment"].values.tolist() == [True, True]
    assert runs["train.optimizer.betas"].values.tolist() == ["[0.9, 0.95]"] * 2
    assert runs["train.optimizer.lr"].values.tolist() == [1e-4, 1e-4]
    assert runs["model.n"].attrs["source"] == "recipe"


def test_what_is_a_bound_says_so_in_its_attributes(tmp_path: Path):
    runs = collect(make_study(tmp_path, DEPTHS[:1], (0,)))["runs"].to_dataset()
    most = "of an implicit gradient the most that it can take"
    assert runs["effective_depth"].attrs["comment"] == most
    assert runs["max_depth"].attrs["comment"] == most
    planned = f"before the run: the mean over what is drawn, {most}"
    assert runs["flops_per_update"].attrs["comment"] == planned
    assert "comment" not in runs["flops"].attrs


def test_settings_of_mixed_type_become_text(tmp_path: Path):
    study = make_study(tmp_path, DEPTHS[:1], (0, 1))
    path = run_of(study) / "recipe.yaml"
    path.write_text(path.read_text().replace("N_sup: 4", "N_sup: 'four'"))
    runs = gather(study)["runs"].to_dataset()
    assert runs["supervision.N_sup"].values.tolist() == ["four", "4"]


def test_the_metric_is_read_at_its_step(tmp_path: Path):
    own = gather(make_study(tmp_path, DEPTHS[:1], (0,), name="own"))
    first = gather(make_study(tmp_path, DEPTHS[:1], (0,), name="first", metric_steps=1))
    never = gather(make_study(tmp_path, DEPTHS[:1], (0,), name="never", metric_steps=3))
    final = own["eval"]["puzzle_accuracy"].values[0, 0]
    assert value(own, "puzzle_accuracy") == final[2]
    assert value(first, "puzzle_accuracy") == final[0]
    assert first.attrs["metric_steps"] == 1
    assert np.isnan(value(never, "puzzle_accuracy"))
    assert "test accuracy at step 3 was not evaluated, only 1, 2, 4" in never.attrs["problems"]


def test_disagreements_between_folder_and_plan_are_listed(tmp_path: Path):
    study = one_run(tmp_path)
    path = run_of(study) / "recipe.yaml"
    path.write_text(path.read_text().replace("seed: 0\n", "seed: 7\n").replace("data_7", "data_0"))
    status = json.loads((run_of(study) / "status.json").read_text())
    write_json(run_of(study) / "status.json", {**status, "recipe_id": "f00d"})
    problems = gather(study).attrs["problems"]
    assert "recipe.yaml has seed 7" in problems
    assert "ran recipe f00d, but the plan has" in problems


def test_none_is_never_written(mixed: Path):
    collect(mixed)
    with netCDF4.Dataset(mixed / "results.nc") as file:
        for group in (file, *file.groups.values()):
            for name in group.ncattrs():
                assert group.getncattr(name) not in (None, "None")
            for variable in group.variables.values():
                if variable.dtype is str and variable.size:
                    assert "None" not in set(variable[:].ravel())


def test_collecting_again_adds_a_line_of_history(mixed: Path):
    (mixed / "results.nc").unlink(missing_ok=True)
    collect(mixed)
    tree = collect(mixed)
    lines = tree.attrs["history"].splitlines()
    assert len(lines) == 2
    assert "collect: 15 runs (1 waiting, 1 running, 8 completed, 1 diverged" in lines[1]
    (mixed / "results.nc").write_bytes(b"no netCDF")
    assert len(collect(mixed).attrs["history"].splitlines()) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "some.nc"
    write_netcdf(xr.Dataset(attrs={"a": "old"}), path)
    with pytest.raises(TypeError):
        write_netcdf(xr.Dataset(attrs={"a": None}), path)
    assert xr.load_dataset(path).attrs["a"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["some.nc"]


def test_a_full_disk_is_called_so_and_the_old_file_left(tmp_path: Path):
    """netCDF itself says "Permission denied"."""
    path, old = tmp_path / "some.nc", xr.Dataset({"a": ("x", np.arange(3))})
    write_netcdf(old, path)
    large = xr.Dataset({"a": ("x", np.random.default_rng(0).random(10_000))})
    told = rf"^{path}: cannot be written: File too large; .* make room or raise the quota"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for data in (large, xr.DataTree.from_dict({"/runs": large})):
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
        try:
            with pytest.raises(DiskFullError, match=told):
                write_netcdf(data, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert xr.load_dataset(path).identical(old)
    assert [p.name for p in tmp_path.iterdir()] == ["some.nc"]


def test_what_is_no_study_is_refused_with_a_hint(tmp_path: Path):
    one_run(tmp_path)
    hint = r"dept: no such folder of results; `trm-lab run STUDY` makes it; did you mean .*depth\?"
    with pytest.raises(ConfigError, match=hint):
        collect(tmp_path / "dept")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"is a folder, not a study's folder of results"):
        collect(tmp_path / "empty")


def test_a_hundred_runs_are_collected(tmp_path: Path):
    cells = [Cell(f"v{i}", n=i + 1) for i in range(20)]
    tree = collect(make_study(tmp_path, cells, range(5), records=20))
    assert tree["runs"].sizes["run"] == 100
    assert (tree["runs"]["state"].values == STATES.index("completed")).all()
    assert check(tree) == []
