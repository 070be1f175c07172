"""What `status`, `collect`, `fit` and `report` say of a study of which a sweep took two seeds."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Done, TrmLab
from tests.cli.test_cli_verbs import collected, listed
from tests.study.tiny import DEEP, HERE, SHALLOW, written

STUDY = written(
    ("seeds: [0, 1]", "seeds: [0, 1, 2]"),
    ("metric:", "fits: [{name: depth, law: saturating, series: TRM}]\nmetric:"),
)
TWO = HERE.model_copy(update={"seeds": 2})


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study's results; not to be written to."""
    from trm_lab.config.source import parse_yaml
    from trm_lab.results import collect
    from trm_lab.runs import State
    from trm_lab.study.driver import drive
    from trm_lab.study.plan import make_plan

    runs = tmp_path_factory.mktemp("sliced")
    plan = make_plan(parse_yaml(STUDY, "tiny.yaml"), sweep=TWO, runs=runs)
    assert drive(plan) == {State.COMPLETED: 4}
    collect(plan.root)
    return runs


@pytest.fixture
def folder(sliced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with study, sweep and results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(TWO.model_dump(mode="json")))
    shutil.copytree(sliced, tmp_path / "runs")
    return tmp_path


def all_zero(folder: Path) -> None:
    """Write results in which no puzzle was solved."""
    from trm_lab.results import open_results
    from trm_lab.results.files import write_netcdf

    tree = open_results(folder / "runs" / "tiny")
    tree["runs"]["puzzle_accuracy"][:] = 0.0
    tree["curves"]["validation_puzzle_accuracy"][:] = 0.0
    write_netcdf(tree, folder / "runs" / "tiny" / "results.nc")


def test_the_plan_says_how_many_of_the_seeds_it_takes(folder: Path, trm_lab: TrmLab):
    line = trm_lab("plan", "tiny.yaml", "--on", "two.yaml").out.splitlines()[-1]
    assert line.startswith("2 cells x 2 of 3 seeds in runs/tiny; ")


def test_the_status_names_runs_that_the_sweep_leaves_out(folder: Path, trm_lab: TrmLab):
    told = trm_lab("status", "tiny.yaml")
    assert [row[:3] for row in listed(told.out)[1:7]] == [
        [cell, seed, state]
        for cell in ("shallow", "deep")
        for seed, state in (("0", "completed"), ("1", "completed"), ("2", "not in this sweep"))
    ]
    assert told.out.splitlines()[-1] == "4 completed; 2 not in this sweep"
    rows = json.loads(trm_lab("status", "tiny.yaml", "--json").out)
    assert [(row["state"], row["in_sweep"]) for row in rows[:3]] == [
        ("completed", True), ("completed", True), ("waiting", False),
    ]  # fmt: skip


def test_cells_that_the_sweep_leaves_out_are_named_like_its_seeds(folder: Path, trm_lab: TrmLab):
    plan = json.loads(Path("runs/tiny/plan.json").read_text())
    assert plan["sweep_cells"] == [SHALLOW, DEEP]
    Path("runs/tiny/plan.json").write_text(json.dumps(plan | {"sweep_cells": [DEEP]}))
    shutil.rmtree(f"runs/tiny/{SHALLOW}")
    assert trm_lab("status", "tiny.yaml").out.splitlines()[-1] == "2 completed; 4 not in this sweep"
    told = trm_lab("collect", "tiny.yaml").out
    assert told == "runs/tiny/results.nc: 2 of 2 runs completed, 4 more not in this sweep\n"


def test_runs_of_an_older_plan_are_not_counted_as_planned(folder: Path, trm_lab: TrmLab):
    plan = json.loads(Path("runs/tiny/plan.json").read_text())
    narrowed = {"cells": [cell for cell in plan["cells"] if cell["cell"] == DEEP], "seeds": [0, 2],
                "sweep_seeds": [0], "sweep_cells": [DEEP]}  # fmt: skip
    Path("runs/tiny/plan.json").write_text(json.dumps(plan | narrowed))
    line = ("runs/tiny/results.nc: 1 of 1 runs completed, 1 more not in this sweep, 3 more of an "
            "older plan\n")  # fmt: skip
    assert trm_lab("collect", "runs/tiny").out == line
    assert trm_lab("report", "runs/tiny").out.startswith(line)
    page = Path("runs/tiny/report/report.html").read_text()
    assert "<li>All 1 planned runs completed.</li>" in page
    assert "3 runs belong to an older plan" in page


def test_a_run_of_an_earlier_sweep_is_shown_as_it_is(folder: Path, trm_lab: TrmLab):
    shutil.copytree(f"runs/tiny/{DEEP}/seed-1", f"runs/tiny/{DEEP}/seed-2")
    assert trm_lab("status", "tiny.yaml").out.splitlines()[-1] == "5 completed; 1 not in this sweep"


@pytest.mark.slow
def test_they_are_rows_of_the_results_and_are_not_missing(folder: Path, trm_lab: TrmLab):
    assert trm_lab("collect", "tiny.yaml") == Done(
        0, "runs/tiny/results.nc: 4 of 4 runs completed, 2 more not in this sweep\n", ""
    )
    assert collected("runs/tiny/results.nc") == {
        **{(cell, seed): "completed" for cell in (SHALLOW, DEEP) for seed in (0, 1)},
        **{(cell, 2): "waiting" for cell in (SHALLOW, DEEP)},
    }
    told = trm_lab("report", "tiny.yaml").out
    assert told == (
        "runs/tiny/results.nc: 4 of 4 runs completed, 2 more not in this sweep\n"
        "report: runs/tiny/report/report.html\n"
    )
    page = (folder / "runs/tiny/report/report.html").read_text()
    assert "<li>All 4 planned runs completed.</li>" in page
    assert "<li>2 more runs of the study are not in this sweep.</li>" in page
    assert "<td>2 of 2</td>" in page
    assert "older plan" not in page


def test_a_wider_sweep_takes_them_back(folder: Path, trm_lab: TrmLab):
    plan = json.loads(Path("runs/tiny/plan.json").read_text())
    Path("runs/tiny/plan.json").write_text(json.dumps(plan | {"sweep_seeds": [0, 1, 2]}))
    assert trm_lab("status", "tiny.yaml").out.splitlines()[-1] == "2 waiting, 4 completed"
    assert trm_lab("collect", "tiny.yaml").out == "runs/tiny/results.nc: 4 of 6 runs completed\n"


@pytest.mark.slow
def test_accuracies_that_are_all_zero_are_not_fitted(folder: Path, trm_lab: TrmLab):
    all_zero(folder)
    done = trm_lab("fit", "tiny.yaml")
    assert (done.code, done.err) == (0, "")
    rows = listed(done.out)
    assert rows[0] == ["parameter", "estimate", "95 % interval"]
    assert rows[1:4] == [[name, "-", "no interval"] for name in ("c", "a", "tau")]
    assert done.out.splitlines()[5:] == [
        "depth: all zero; 4 runs in 2 clusters (seed); no interval; descriptive",
        "  nothing to fit: every puzzle accuracy is 0; train longer, or take a softer y, as "
        "`--law 'Saturating(effective_depth)' --y cell_accuracy --cluster seed --where "
        "series=TRM`; 2 more not in this sweep",
    ]
    call = done.out.partition("as `")[2].partition("`")[0]
    softer = trm_lab("fit", "tiny.yaml", *shlex.split(call))
    assert "2 distinct x for 3 parameters: no estimates" in softer.err  # it has a y to fit
    assert "nan" not in done.out
    trm_lab("report", "tiny.yaml")
    page = (folder / "runs/tiny/report/report.html").read_text()
    assert "every puzzle accuracy is 0: nothing was learned yet, so nothing is compared." in page


def test_runs_made_by_hand_are_gathered_where_collect_looks_for_them(folder: Path, trm_lab: TrmLab):
    shutil.copytree(f"runs/tiny/{DEEP}/seed-0", "runs/hand/mine/seed-0")
    assert trm_lab("collect", "runs/hand") == Done(
        0, "runs/hand/results.nc: 1 of 1 runs completed\n", ""
    )
    assert collected("runs/hand/results.nc") == {("mine", 0): "completed"}


def test_the_file_of_results_stands_for_its_folder(folder: Path, trm_lab: TrmLab):
    assert trm_lab("fit", "runs/tiny/results.nc") == trm_lab("fit", "runs/tiny")
    assert Path("runs/tiny/fits/depth.nc").exists()
