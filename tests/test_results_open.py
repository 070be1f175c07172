import gc
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from factories import DEPTHS, Cell, make_study

from trm_lab.errors import ConfigError
from trm_lab.fit import fit_study, save_fit
from trm_lab.results import (
    at_step,
    check,
    collect,
    data_hash,
    equal_compute,
    frame,
    gather,
    open_results,
    outcomes,
)
from trm_lab.results.checks import check as check_tree
from trm_lab.results.files import read_netcdf, write_netcdf
from trm_lab.results.groups import NOT_EVALUATED

SPEC = {"name": "depth", "law": "saturating", "x": "effective_depth", "y": "puzzle_accuracy"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    states = {("n1T1", 0): "diverged", ("n2T2", 1): "waiting"}
    study = make_study(tmp_path_factory.mktemp("runs"), states=states)
    collect(study)
    return study


@pytest.fixture(scope="module")
def tree(study: Path) -> xr.DataTree:
    return open_results(study)


def changed(tree: xr.DataTree, group: str, data: xr.Dataset) -> xr.DataTree:
    groups = {f"/{name}": node.to_dataset() for name, node in tree.children.items()}
    root = xr.Dataset(attrs=tree.attrs)
    return xr.DataTree.from_dict({"/": root, **groups, f"/{group}": data})


def test_folder_and_file_open_the_same_tree_and_the_file_is_closed(study: Path, tree: xr.DataTree):
    assert open_results(str(study / "results.nc")).identical(tree)
    (study / "results.nc").rename(study / "moved.nc")
    again = open_results(study / "moved.nc")
    (study / "moved.nc").rename(study / "results.nc")
    assert data_hash(again) == data_hash(tree)  # reads all there is, though its file is gone


def test_no_file_of_results_stays_open(study: Path):
    tree = open_results(study)
    write_netcdf(tree, study / "copy.nc")
    assert data_hash(read_netcdf(study / "copy.nc")) == data_hash(tree)
    (study / "copy.nc").unlink()
    # Not isinstance, which asks an object for its class: one of torch's warns of that.
    held = [each for each in gc.get_objects() if issubclass(type(each), netCDF4.Dataset)]
    assert [file.filepath() for file in held if file.isopen()] == []


def test_what_cannot_be_opened_says_which_command_makes_it(study: Path, tmp_path: Path):
    with pytest.raises(
        ConfigError,
        match=r"dep: no such folder or file of results; `trm-lab run STUDY` .*did you mean .*depth",
    ):
        open_results(study.parent / "dep")
    fresh = make_study(tmp_path)
    with pytest.raises(ConfigError, match=rf"no such file; `trm-lab collect {fresh}` makes it"):
        open_results(fresh)
    (fresh / "results.nc").write_text("no netCDF")
    with pytest.raises(
        ConfigError, match=r"not a readable netCDF file .*; `trm-lab collect .*depth`"
    ):
        open_results(fresh)
    xr.Dataset().to_netcdf(fresh / "results.nc", engine="netcdf4")
    with pytest.raises(ConfigError, match=r"not a results file of trm_lab: no /runs, /curves"):
        open_results(fresh)


def test_fits_stand_under_their_names_and_go_stale_with_the_data(tmp_path: Path):
    study = make_study(tmp_path)
    tree = collect(study)
    save_fit(fit_study(tree, SPEC, draws=20), study)
    opened = open_results(study)
    assert opened["fits/depth"].attrs["stale"] == 0
    assert opened["fits/depth"].attrs["data_hash"] == data_hash(opened)
    save_fit(fit_study(opened, SPEC, draws=20), study)
    assert open_results(study)["fits/depth"].attrs["stale"] == 0
    status = study / DEPTHS[0].name / "seed-0" / "status.json"
    status.write_text(status.read_text().replace("completed", "cancelled"))
    collect(study)
    assert open_results(study)["fits/depth"].attrs["stale"] == 1
    (study / "fits" / "torn.nc").write_bytes(b"torn")
    opened = open_results(study)
    assert "fits/torn.nc: unreadable" in opened.attrs["problems"]
    assert list(opened["fits"].children) == ["depth"]


def test_the_hash_follows_values_and_nothing_else(study: Path, tree: xr.DataTree):
    again = gather(study)
    again.attrs["created_utc"] = "another day"
    assert data_hash(again) == data_hash(tree)
    runs = tree["runs"].to_dataset(inherit=False).copy(deep=True)
    runs["loss"].values[6] += 1e-12
    assert data_hash(changed(tree, "runs", runs)) != data_hash(tree)


def test_frame_has_one_row_per_run_with_the_state_as_text(tree: xr.DataTree):
    table = frame(tree)
    assert len(table) == 15
    assert table["state"].tolist().count("completed") == 13
    assert table.loc[table["state"] == "diverged", "puzzle_accuracy"].isna().all()
    assert table["run"].tolist() == tree["runs"]["run"].values.tolist()
    assert {"variant", "model.T", "flops"} <= set(table)


def test_at_step_selects_and_names_the_runs(tree: xr.DataTree):
    found = at_step(tree, 2)
    np.testing.assert_array_equal(
        found["puzzle_accuracy"], tree["eval"]["puzzle_accuracy"].values[:, :, 1]
    )
    assert found["state"].values[0] == "diverged"
    assert found["variant"].values[-1] == "n8T3"
    with pytest.raises(ConfigError, match=r"step 3 was not evaluated on the test puzzles, only: 1"):
        at_step(tree, 3)


def test_outcomes_are_nan_where_nothing_was_evaluated(tree: xr.DataTree):
    found = outcomes(tree)
    assert np.isnan(found.values[0]).all()
    mean = found.isel(run=-1).mean("puzzle")
    np.testing.assert_allclose(mean, tree["eval"]["puzzle_accuracy"].values[-1, 0], rtol=1e-6)
    assert (tree["puzzles"]["solved"].values[0] == NOT_EVALUATED).all()


def test_equal_compute_interpolates_on_each_runs_own_curve(tmp_path: Path):
    cells = (Cell("shallow", n=1, T=1, accuracy=0.4), Cell("deep", n=4, T=3, accuracy=0.8))
    study = make_study(tmp_path, cells, (0,), noise=0.0)
    tree = gather(study)
    # accuracy rises linearly in update: at budget b it is accuracy * b / (400 * per update)
    shallow, deep = 400e6 * cells[0].effective_depth, 400e6 * cells[1].effective_depth
    found = equal_compute(tree)
    assert float(found["flops"]) == shallow
    expected = [0.4, np.nan]  # the deep run's first evaluation comes after this budget
    np.testing.assert_allclose(found["puzzle_accuracy"], expected, rtol=1e-12)
    found = equal_compute(tree, flops=0.4 * deep)
    np.testing.assert_allclose(found["puzzle_accuracy"], [np.nan, 0.8 * 0.4], rtol=1e-12)
    np.testing.assert_allclose(found["cell_accuracy"], [np.nan, 0.5 + 0.4 * 0.4], rtol=1e-12)
    assert found["variant"].values.tolist() == ["shallow", "deep"]
    half = equal_compute(tree, flops=0.4 * deep, step=1)
    np.testing.assert_allclose(half["puzzle_accuracy"], [np.nan, 0.4 * 0.4], rtol=1e-12)


def test_equal_compute_takes_the_smallest_budget_of_completed_runs_only(tree: xr.DataTree):
    found = equal_compute(tree)
    shallowest = next(cell for cell in DEPTHS if cell.variant == "n1T1")
    assert float(found["flops"]) == 400e6 * shallowest.effective_depth
    assert np.isnan(found["puzzle_accuracy"].values[0])  # diverged half-way there
    with pytest.raises(ConfigError, match=r"no completed run has .* at step 3; evaluated steps: 1"):
        equal_compute(tree, step=3)


def breaches(tree: xr.DataTree, group: str, data: xr.Dataset) -> str:
    return "\n".join(check(changed(tree, group, data)))


def test_check_finds_each_way_to_break_a_tree(tree: xr.DataTree):
    assert check is check_tree
    assert check(tree) == []
    runs, evaluation = tree["runs"].to_dataset(), tree["eval"].to_dataset()
    assert "/runs/loss: variable is missing" in breaches(tree, "runs", runs.drop_vars("loss"))
    assert "/runs/extra: not in the schema" in breaches(tree, "runs", runs.assign(extra=1))
    text = runs.assign(flops=runs["flops"].astype(str).assign_attrs(runs["flops"].attrs))
    assert "/runs/flops: type <U" in breaches(tree, "runs", text)
    bare = runs.copy()
    bare["loss"] = runs["loss"].drop_attrs()
    assert "/runs/loss: attribute units is missing" in breaches(tree, "runs", bare)
    wrong = evaluation.assign(puzzle_accuracy=evaluation["puzzle_accuracy"] * 100)
    wrong["puzzle_accuracy"].attrs = evaluation["puzzle_accuracy"].attrs
    assert "/eval/puzzle_accuracy: a fraction outside [0, 1]" in breaches(tree, "eval", wrong)
    turned = evaluation.transpose("weights", "run", "step")
    assert "/eval/puzzles: dims ('weights', 'run', 'step')" in breaches(tree, "eval", turned)
    fewer = evaluation.isel(run=slice(1, None))
    assert "/eval/run: differs from /runs/run" in breaches(tree, "eval", fewer)
    strange = runs.copy(deep=True)
    strange["state"].values[3] = 8
    assert "/runs/state: value 8 has no meaning" in breaches(tree, "runs", strange)
    assert "/runs/variant: should be a coordinate" in breaches(
        tree, "runs", runs.reset_coords("variant")
    )


def test_check_finds_what_is_wrong_with_the_root(tree: xr.DataTree):
    broken = tree.copy()
    del broken.attrs["study"], broken["puzzles"]
    broken.attrs["hosts"] = ["a", "b"]
    found = check(broken)
    assert "/: attribute study is missing" in found
    assert "/: attribute hosts is list, not text or a number" in found
    assert "/puzzles: group is missing" in found
