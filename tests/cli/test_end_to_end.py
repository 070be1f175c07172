"""From a question to its report: the demonstration study with a few updates a run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.cli.conftest import Done, in_a_process
from trm_lab.config.source import read_yaml
from trm_lab.study.plan import load_sweep, make_plan

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "trm_lab" / "demo" / "study.yaml"
FEWER = ("task.train=64", "task.validation=10", "task.test=20")
"""The smoke sweep leaves the puzzles as they are, and testing 14 runs on 1,000 takes minutes."""

# One process: what the module's fixtures make is made once.
pytestmark = pytest.mark.slow

READ = """
import sys
import xarray as xr
with xr.open_datatree(sys.argv[1]) as tree:
    print(tree["runs"].sizes["run"], tree["eval"].sizes["step"], tree.attrs["study"])
    print(float(tree["eval"]["puzzle_accuracy"].sum()) >= 0)
print([name for name in ("torch", "trm_lab") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Done]]:
    """The folder of the results, and what each command said."""
    place = tmp_path_factory.mktemp("demo")
    settings = [word for setting in FEWER for word in ("--set", setting)]
    sweep = ROOT / "sweeps" / "smoke.yaml"
    plan = make_plan(read_yaml(STUDY), sweep=load_sweep(sweep), settings=FEWER, runs=place / "runs")
    said = {"run": in_a_process("run", STUDY, "--on", sweep, *settings, cwd=place)}
    folder = place / "runs" / plan.root.name
    for verb in ("collect", "fit", "report", "status"):
        said[verb] = in_a_process(verb, folder.relative_to(place), cwd=place)
    return folder, said


def test_every_command_succeeds_quietly(done: tuple[Path, dict[str, Done]]):
    folder, said = done
    assert {verb: (d.code, d.err) for verb, d in said.items()} == dict.fromkeys(said, (0, ""))
    assert folder.name.startswith("demo-smoke-set-")
    assert said["run"].out.splitlines()[-2:] == [
        f"runs/{folder.name}: 14 completed",
        f"results: runs/{folder.name}/results.nc",
    ]
    assert (
        said["collect"].out
        == f"runs/{folder.name}/results.nc: 14 of 14 runs completed, 7 more not in this sweep\n"
    )
    assert said["report"].out == (
        said["collect"].out + f"report: runs/{folder.name}/report/report.html\n"
    )
    assert said["status"].out.splitlines()[-1] == "14 completed; 7 not in this sweep"


def test_the_results_open_with_xarray_alone(done: tuple[Path, dict[str, Done]]):
    folder, _ = done
    read = subprocess.run(
        [sys.executable, "-c", READ, str(folder / "results.nc")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.splitlines() == ["21 16 demo", "True", "[]"]


def test_the_results_say_what_was_run(done: tuple[Path, dict[str, Done]]):
    folder, _ = done
    plan = json.loads((folder / "plan.json").read_text())
    with xr.open_datatree(folder / "results.nc") as tree:
        runs = tree["runs"].to_dataset().load()
        assert tree.attrs["problems"] == ""
        assert tree.attrs["study_yaml"] == STUDY.read_text()
    depths = dict(zip(runs["variant"].values, runs["effective_depth"].values, strict=True))
    assert depths == {c["variant"]: c["accounting"]["effective_depth"] for c in plan["cells"]}
    assert np.isfinite(runs["params"].values).all()
    # The sweep takes two of the study's three seeds; the third is a row too.
    names = runs["state"].attrs["flag_meanings"].split()
    states = {
        (int(seed), names[code])
        for seed, code in zip(runs["seed"].values, runs["state"].values, strict=True)
    }
    assert states == {(0, "completed"), (1, "completed"), (2, "waiting")}


def test_no_law_is_fitted_to_runs_that_solve_nothing(done: tuple[Path, dict[str, Done]]):
    folder, said = done
    assert sorted(p.name for p in (folder / "fits").iterdir()) == [
        "trm_depth_power.nc",
        "trm_depth_saturating.nc",
    ]
    lines = said["fit"].out.splitlines()
    for name in ("trm_depth_power", "trm_depth_saturating"):
        (line,) = [line for line in lines if line.startswith(f"{name}: all zero")]
        assert "8 runs in 2 clusters (seed)" in line
        with xr.open_dataset(folder / "fits" / f"{name}.nc") as fit:
            assert fit.attrs["status"] == "all_zero"
            assert np.isnan(fit["coefficients"].values).all()


def test_the_report_is_one_file_with_figures_and_every_cell(done: tuple[Path, dict[str, Done]]):
    folder, _ = done
    html = (folder / "report" / "report.html").read_text()
    assert html.count("<svg") >= 3
    for cell in json.loads((folder / "plan.json").read_text())["cells"]:
        assert cell["variant"] in html
    assert "Does deeper recursion solve more 6x6 Sudoku" in " ".join(html.split())
