"""What the verbs print and write."""

import json
import os
import re
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from tests.cli.conftest import Done, TrmLab, in_a_process
from tests.study.tiny import DEEP, HERE, SHALLOW, planned, statuses, trials, written
from trm_lab import preset
from trm_lab.accounting import account
from trm_lab.config import PRESETS
from trm_lab.config.presets import load_recipe
from trm_lab.config.tables import TABLE_ROWS
from trm_lab.runs import RunFolder
from trm_lab.tasks.build import BUNDLED
from trm_lab.tasks.describe import describe
from trm_lab.tasks.sudoku_csv import read
from trm_lab.training import train
from trm_lab.training.session import Session

DONE = r"completed, best validation puzzle accuracy 0\.\d{3}, \d+ s of training"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the tiny study, its recipe and a sweep."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(written())
    (tmp_path / "recipe.yaml").write_text(recipe())
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(HERE.model_dump(mode="json")))
    return tmp_path


@pytest.fixture
def driven(folder: Path, undisturbed_runs: Path) -> Path:
    """The working folder with the study driven to its end."""
    shutil.copytree(undisturbed_runs, folder / "runs")
    return folder


def recipe(*replacements: tuple[str, str]) -> str:
    """Give the study's base as a recipe file."""
    text = written(*replacements)
    base = text[text.index("base:\n") + 6 : text.index("variants:")]
    return "\n".join(line.removeprefix("  ") for line in base.splitlines()) + "\n"


def collected(file: str) -> dict[tuple[str, int], str]:
    """Read the state of every run by cell and seed."""
    with xr.open_datatree(file) as tree:
        runs = tree["runs"].to_dataset().load()
    names = runs["state"].attrs["flag_meanings"].split()
    keys = zip(runs["cell"].values.tolist(), runs["seed"].values.tolist(), strict=True)
    return dict(zip(keys, [names[code] for code in runs["state"].values], strict=True))


def listed(text: str) -> list[list[str]]:
    """Split a printed table into its fields, without its title."""
    return [re.split(r" {2,}", line) for line in text.splitlines()[1:]]


def test_a_run_says_what_it_did_and_a_second_one_does_nothing(folder: Path, trm_lab: TrmLab):
    done = trm_lab("run", "tiny.yaml", "--on", "here.yaml")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[0] == "tiny: 4 runs; about 20 s of one core, 0 s of it evaluation"
    names = ["deep, seed 0", "deep, seed 1", "shallow, seed 0", "shallow, seed 1"]
    for number, (line, name) in enumerate(zip(lines[1:5], names, strict=True), start=1):
        assert re.fullmatch(rf"\[{number}/4\] {name}: {DONE}", line)
    assert lines[5:] == ["runs/tiny: 4 completed", "results: runs/tiny/results.nc"]
    assert list(collected("runs/tiny/results.nc").values()) == ["completed"] * 4
    before = statuses(folder / "runs" / "tiny")
    assert trm_lab("run", "tiny.yaml", "--on", "here.yaml") == Done(
        0,
        "tiny: 4 runs, 4 already done\nruns/tiny: 4 completed\nresults: runs/tiny/results.nc\n",
        "",
    )
    assert statuses(folder / "runs" / "tiny") == before


def test_one_cell_can_be_run_into_another_folder(folder: Path, trm_lab: TrmLab):
    done = trm_lab("run", "tiny.yaml", "--on", "here.yaml", "--only", "deep", "--runs", "else")
    assert done.code == 0
    assert done.out.splitlines()[-2:] == ["else/tiny: 2 completed", "results: else/tiny/results.nc"]
    assert not (folder / "runs").exists()
    assert collected("else/tiny/results.nc") == {
        (SHALLOW, 0): "waiting", (SHALLOW, 1): "waiting",
        (DEEP, 0): "completed", (DEEP, 1): "completed",
    }  # fmt: skip


def test_a_diverged_run_is_a_result_with_exit_code_0(folder: Path, trm_lab: TrmLab):
    explodes = ("set: {model.n: 2}", "set: {model.n: 2, train.optimizer.lr: 1e+37}")
    (folder / "tiny.yaml").write_text(written(explodes))
    done = trm_lab("run", "tiny.yaml", "--on", "here.yaml")
    assert (done.code, done.err) == (0, "")
    assert "runs/tiny: 2 completed, 2 diverged" in done.out.splitlines()
    assert re.search(r"deep, seed 0: diverged, .*loss is nan by update 2\n", done.out)
    status = trm_lab("status", "tiny.yaml")
    assert status.code == 0
    assert status.out.splitlines()[-1] == "2 completed, 2 diverged"
    assert "loss is nan by update 2" in status.out


@pytest.mark.slow
def test_a_failed_run_is_named_with_exit_code_1(folder: Path, trm_lab: TrmLab):
    checkpoint = folder / "runs" / "tiny" / DEEP / "seed-0" / "checkpoints" / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"recipe_id": "another"}, checkpoint)  # whole, and refused
    done = trm_lab("run", "tiny.yaml", "--on", "here.yaml")
    assert (done.code, done.err) == (1, "")
    assert "[1/4] deep, seed 0: failed, " in done.out
    assert "runs/tiny: 3 completed, 1 failed" in done.out.splitlines()
    assert (folder / "runs" / "tiny" / "results.nc").exists()
    (row,) = [r for r in json.loads(trm_lab("status", "runs/tiny", "--json").out)
              if r["state"] == "failed"]  # fmt: skip
    assert (row["cell"], row["seed"], row["update"]) == ("deep", 0, 0)
    assert row["error"] == statuses(folder / "runs/tiny")[f"{DEEP}/seed-0"]["error"]["message"]
    checkpoint.unlink()
    again = trm_lab("run", "tiny.yaml", "--on", "here.yaml")
    assert again.code == 0
    assert again.out.splitlines()[0] == (
        "tiny: 4 runs, 3 already done; about 5 s of one core, 0 s of it evaluation"
    )


def test_a_plan_is_printed_and_nothing_written(folder: Path, trm_lab: TrmLab):
    before = sorted(folder.rglob("*"))
    done = trm_lab("plan", "tiny.yaml", "--on", "here.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "tiny on here"
    header, shallow, deep = listed(done.out)[:3]
    assert header == ["cell", "id", "depth", "max depth", "graph updates", "params", "updates",
                      "FLOPs a run", "one core", "evaluation", "seeds", "to run"]  # fmt: skip
    assert shallow[:7] == ["shallow", "94dcb425", "2", "4", "2", "4834", "4"]
    assert deep[:7] == ["deep", "99e168d3", "3", "6", "3", "4834", "4"]
    assert deep[-2:] == ["2", "2"]
    assert done.out.splitlines()[4].startswith("2 cells x 2 seeds in runs/tiny; about ")
    assert sorted(folder.rglob("*")) == before
    long = trm_lab("plan", "tiny.yaml", "--set", "task.test=1000000").out
    assert listed(long)[1][8:10] == ["25 s", "20 s"]
    assert long.endswith("; about 2 min of one core to run, 99 s of it evaluation\n")


def test_a_plan_counts_what_is_left(driven: Path, trm_lab: TrmLab):
    shutil.rmtree(driven / "runs" / "tiny" / DEEP / "seed-1")
    rows = listed(trm_lab("plan", "tiny.yaml").out)
    assert [row[-1] for row in rows[1:3]] == ["0", "1"]


def test_a_plan_names_confounds(folder: Path, trm_lab: TrmLab):
    both = ("set: {model.n: 2}", "set: {model.n: 2, train.ema: null}")
    (folder / "tiny.yaml").write_text(written(both))
    assert trm_lab("plan", "tiny.yaml").out.splitlines()[-1] == (
        "confounded: deep against shallow: 2 settings change at once: model.n, train.ema"
    )


def test_a_plan_says_where_its_costs_are_bounds(folder: Path, trm_lab: TrmLab):
    bound = "depth, FLOPs and time of an implicit gradient are the most that it can take"
    assert bound not in trm_lab("plan", "tiny.yaml").out
    solved = ("set: {model.n: 2}", "set: {model.gradient: implicit}")
    (folder / "tiny.yaml").write_text(written(solved))
    assert trm_lab("plan", "tiny.yaml").out.splitlines()[-1] == bound


def test_a_plan_names_cells_that_are_the_same_computation(folder: Path, trm_lab: TrmLab):
    base, deep = "n: 1,\n          T: 1}", "set: {model.n: 2}"
    (folder / "tiny.yaml").write_text(
        written(
            (base, "n: 1, T: 2, gradient: {kind: last_cycles, c: 5}}"),
            (deep, "set: {model.gradient: whole_program}"),
        )
    )
    twins = "shallow and deep are the same computation under 2 ids"
    longer = (
        "shallow: model.gradient: last_cycles c: 5 is more than the 2 cycles (T): it is "
        "whole_program"
    )
    assert trm_lab("plan", "tiny.yaml").out.splitlines()[-2:] == [
        f"confounded: {twins}", f"remark: {longer}"
    ]  # fmt: skip
    made = json.loads(trm_lab("plan", "tiny.yaml", "--json").out)
    assert (made["confounds"], made["remarks"]) == ([twins], [longer])
    done = trm_lab("validate", "tiny.yaml")
    assert (done.code, done.out.splitlines()) == (0, [
        "tiny.yaml: a study of 2 cells, valid",
        f"tiny.yaml: warning: {longer}",
        f"tiny.yaml: warning: {twins}",
    ])  # fmt: skip


def test_validate_warns_of_a_recipe_whose_gradient_is_longer_than_its_program(
    folder: Path, trm_lab: TrmLab
):
    (folder / "recipe.yaml").write_text(
        "preset: trm_mlp\nmodel: {n: 2, gradient: {kind: last_updates, k: 10}}\n"
    )
    done = trm_lab("validate", "recipe.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1:] == [
        "recipe.yaml: warning: model.gradient: last_updates k: 10 is more than the 9 updates of "
        "the program: it is whole_program"
    ]


def test_a_plan_as_json_holds_the_plan_its_states_and_its_folder(driven: Path, trm_lab: TrmLab):
    shutil.rmtree(driven / "runs" / "tiny" / DEEP / "seed-1")
    made = json.loads(trm_lab("plan", "tiny.yaml", "--on", "here.yaml", "--json").out)
    plan = planned(Path("runs")).as_dict() | {"sweep_yaml": (driven / "here.yaml").read_text()}
    assert {key: made[key] for key in plan} == json.loads(json.dumps(plan))
    assert (made["to_run"], made["jobs"]) == (1, None)
    assert set(made) - set(plan) == {
        "states", "root", "confounds", "remarks", "to_run", "seconds", "evaluation_seconds", "jobs",
    }  # fmt: skip
    assert (made["confounds"], made["remarks"]) == ([], [])
    assert made["root"] == "runs/tiny"
    assert made["states"] == {
        f"{SHALLOW}/seed-0": "completed", f"{SHALLOW}/seed-1": "completed",
        f"{DEEP}/seed-0": "completed", f"{DEEP}/seed-1": "waiting",
    }  # fmt: skip


def test_a_plan_as_json_says_what_it_would_cost_and_send(folder: Path, trm_lab: TrmLab):
    (folder / "far.yaml").write_text("name: far\nexecutor: {kind: slurm, pack: 3, max_array: 1}\n")
    made = json.loads(trm_lab("plan", "tiny.yaml", "--on", "far.yaml", "--json").out)
    assert made["to_run"] == 4
    # Four starts of 5 s each, and next to nothing after them.
    assert 20 <= made["seconds"] < 21
    assert 0 < made["evaluation_seconds"] < made["seconds"] - 20
    assert (made["jobs"]["count"], made["jobs"]["array"]) == (2, 1)
    assert "#SBATCH --time=60\n" in made["jobs"]["sbatch"]
    assert made["jobs"]["sbatch"] in trm_lab("plan", "tiny.yaml", "--on", "far.yaml").out


def test_a_job_with_fewer_cpus_than_threads_is_remarked(folder: Path, trm_lab: TrmLab):
    text = (
        "executor.cpus 8 is less than execution.threads 4 x executor.pack 4: the runs of a job "
        "take turns; without cpus a job asks for 16"
    )
    sweep = "name: far\nexecutor: {{kind: slurm, pack: {}, cpus: 8}}\nexecution: {{threads: 4}}\n"
    for pack, remarks in ((2, []), (4, [text])):
        (folder / "far.yaml").write_text(sweep.format(pack))
        made = json.loads(trm_lab("plan", "tiny.yaml", "--on", "far.yaml", "--json").out)
        assert made["remarks"] == remarks
        told = json.loads(trm_lab("validate", "far.yaml", "--json").out)
        assert told[0]["warnings"] == remarks


def test_the_status_lists_every_planned_run(driven: Path, trm_lab: TrmLab):
    shutil.rmtree(driven / "runs" / "tiny" / DEEP / "seed-1")
    told = trm_lab("status", "tiny.yaml", "--on", "here.yaml")
    assert told == trm_lab("status", "runs/tiny")
    rows = listed(told.out)
    assert rows[0] == ["cell", "seed", "state", "update", "of",
                       "best validation puzzle accuracy", "seconds",
                       "attempt", "job", "why"]  # fmt: skip
    assert [row[:5] for row in rows[1:5]] == [
        ["shallow", "0", "completed", "4", "4"],
        ["shallow", "1", "completed", "4", "4"],
        ["deep", "0", "completed", "4", "4"],
        ["deep", "1", "waiting", "0", "4"],
    ]
    assert told.out.splitlines()[-1] == "1 waiting, 3 completed"


def test_solves_that_did_not_converge_are_told_by_the_status(driven: Path, trm_lab: TrmLab):
    for seed, missed in ((0, 0.0), (1, 0.0625)):
        run = RunFolder(driven / "runs" / "tiny" / DEEP / f"seed-{seed}")
        run.write_status({**(run.status() or {}), "solver": {"unconverged": missed}})
    assert trm_lab("status", "tiny.yaml").out.splitlines()[-2:] == [
        "4 completed", "deep, seed 1: 6.25 % of its latest solves did not converge",
    ]  # fmt: skip
    rows = json.loads(trm_lab("status", "tiny.yaml", "--json").out)
    assert [row.get("unconverged") for row in rows] == [None, None, 0.0, 0.0625]


def test_a_run_that_nobody_works_on_any_more_is_called_lost(driven: Path, trm_lab: TrmLab):
    run = RunFolder(driven / "runs" / "tiny" / DEEP / "seed-1")
    run.write_status({**(run.status() or {}), "state": "running"})
    assert trm_lab("status", "tiny.yaml").out.splitlines()[-1] == "3 completed, 1 lost"
    lock = run.lock()
    assert trm_lab("status", "tiny.yaml").out.splitlines()[-1] == "1 running, 3 completed"
    lock.release()


def test_the_status_as_json_has_one_entry_a_run(driven: Path, trm_lab: TrmLab):
    rows = json.loads(trm_lab("status", "tiny.yaml", "--json").out)
    found = statuses(driven / "runs" / "tiny")
    assert len(rows) == 4
    for row in rows:
        cell = {"shallow": SHALLOW, "deep": DEEP}[row["cell"]]
        status = found[f"{cell}/seed-{row['seed']}"]
        assert row == {
            "cell": status["variant"],
            "seed": status["seed"],
            "state": "completed",
            "update": 4,
            "of": 4,
            "best validation puzzle accuracy": status["best"]["puzzle_accuracy"],
            "seconds": status["seconds"],
            "attempt": 1,
            "job": "",
            "reason": "",
            "error": "",
            "in_sweep": True,
        }


def test_valid_files_are_named_as_what_they_are(folder: Path, trm_lab: TrmLab):
    assert trm_lab("validate", "tiny.yaml", "here.yaml", "recipe.yaml") == Done(
        0,
        "tiny.yaml: a study of 2 cells, valid\n"
        "here.yaml: a sweep, valid\n"
        "recipe.yaml: recipe 94dcb425, valid\n",
        "",
    )


def test_collect_says_what_it_wrote_and_what_is_damaged(driven: Path, trm_lab: TrmLab):
    assert trm_lab("collect", "tiny.yaml") == Done(
        0, "runs/tiny/results.nc: 4 of 4 runs completed\n", ""
    )
    (driven / "runs" / "tiny" / DEEP / "seed-1" / "status.json").write_text("{")
    done = trm_lab("collect", "runs/tiny")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first == "runs/tiny/results.nc: 3 of 4 runs completed"
    assert second.startswith(f"problem: {DEEP}/seed-1/status.json: unreadable: ")


def test_a_full_disk_under_the_results_is_no_error_of_usage(driven: Path, trm_lab: TrmLab):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, before[1]))
    try:
        done = trm_lab("collect", "tiny.yaml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: runs/tiny/results.nc: cannot be written: File too large; ")
    assert not (driven / "runs/tiny/results.nc").exists()


@pytest.mark.slow
def test_a_study_without_fits_fits_nothing(driven: Path, trm_lab: TrmLab):
    trm_lab("collect", "tiny.yaml")
    assert trm_lab("fit", "tiny.yaml") == Done(
        0, "runs/tiny: the study asks for no fit; `--law` and `--y` fit one\n", ""
    )
    assert json.loads(trm_lab("fit", "tiny.yaml", "--json").out) == []


def test_the_presets_are_listed_with_sizes_and_depths(trm_lab: TrmLab):
    rows = listed(trm_lab("presets").out)
    assert [row[0] for row in rows] == ["preset", *PRESETS]
    changes = {row[0]: row[-1] for row in rows}
    assert changes["preset"] == "differs, beside the columns"
    assert changes["trm_att"] == "-"
    assert changes["trm_mlp"] == ("from trm_att: model.mixer=token_mlp, model.positions=none")
    assert changes["singlez"] == "from trm_mlp: model.layout=one_latent"
    assert changes["multiz"] == "from trm_mlp: model.layout=many_latents"
    assert changes["direct_12_heads"] == (
        "from direct: model.mixer.heads=12, model.mixer.head_dim=42"
    )
    assert changes["eqr"] == "from trm_mlp: model.initial=random, model.puzzle=null"
    assert changes["hrm"] == (
        "from trm_att: model.layout.nets=2, model.puzzle.slots=1, model.gradient=last_updates, "
        "supervision.halting=q_learning, train.updates=26040, train.ema=null"
    )
    assert rows[2][1:8] == ["5028866", "2", "512", "6", "3", "16", "42"]
    made = json.loads(trm_lab("presets", "--json").out)
    assert [entry["preset"] for entry in made] == list(PRESETS)
    for entry in made:
        chosen = preset(entry["preset"])
        assert entry["recipe"] == json.loads(json.dumps(chosen.as_dict()))
        assert entry["accounting"] == account(chosen)._asdict()
    by_name = {entry["preset"]: entry for entry in made}
    assert by_name["trm_att"]["changes"] is None
    assert (by_name["singlez"]["base"], by_name["singlez"]["changes"]) == (
        "trm_mlp", {"model.layout": "one_latent"}
    )  # fmt: skip


def test_no_two_presets_are_listed_alike(trm_lab: TrmLab):
    for arguments, same in (((), 0), (("--tables",), 3)):
        rows = listed(trm_lab("presets", *arguments).out)[1:]
        # table_1/trm, table_2/two_latents and table_3/trm_k3_T3 are one recipe, as are two of HRM.
        assert len(rows) - len({tuple(row[1:]) for row in rows}) == same


def test_the_rows_of_the_published_tables_are_listed_beside_their_numbers(trm_lab: TrmLab):
    rows = listed(trm_lab("presets", "--tables").out)
    assert [row[0] for row in rows] == ["preset", *TABLE_ROWS]
    found = {row[0]: row[1:] for row in rows}
    assert found["table_1/two_nets"][:2] == ["10045442", "2"]
    assert found["table_1/two_nets"][-2:] == ["82.4", "from trm_mlp: model.layout.nets=2"]
    assert found["table_3/trm_k6_T6"][-2:] == ["-", "as trm_mlp"]
    made = json.loads(trm_lab("presets", "--tables", "--json").out)
    assert [entry["preset"] for entry in made] == list(TABLE_ROWS)
    by_name = {entry["preset"]: entry for entry in made}
    assert by_name["table_2/one_latent"]["published_percent"] == 71.9
    assert by_name["table_3/trm_k6_T3"]["published_percent"] is None
    chosen = preset("table_1/one_step")
    assert by_name["table_1/one_step"]["accounting"] == account(chosen)._asdict()


def test_a_recipe_is_trained_by_hand(folder: Path, trm_lab: TrmLab):
    done = trm_lab("train", "recipe.yaml", "--out", "x", "--device", "cpu", "--threads", "1")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert re.fullmatch(r"update 2: loss \d+\.\d{4}", lines[0])
    assert re.fullmatch(r"update 2: validation puzzle accuracy 0\.\d{3} after 2 steps", lines[1])
    assert [line.split(":")[0] for line in lines] == ["update 2"] * 2 + ["update 4"] * 2 + ["x"]
    assert lines[-1] == "x: completed"
    assert trm_lab("train", "recipe.yaml", "--out", "x") == Done(0, "x: completed\n", "")
    assert json.loads((folder / "x" / "status.json").read_text())["attempt"] == 1


def test_a_training_by_hand_takes_one_thread_unless_told(folder: Path, trm_lab: TrmLab):
    before = torch.get_num_threads()
    try:
        for more, threads in (((), 1), (("--threads", "2"), 2)):
            torch.set_num_threads(3)
            out = folder / f"x{threads}"
            assert trm_lab("train", "recipe.yaml", "--out", out, *more).code == 0
            status = json.loads((out / "status.json").read_text())
            assert status["environment"]["threads"] == threads
    finally:
        torch.set_num_threads(before)


def test_settings_are_laid_over_a_recipe_trained_by_hand(folder: Path, trm_lab: TrmLab):
    settings = ("--set", "model.T=2", "--set", "train.updates=2")
    assert trm_lab("train", "recipe.yaml", "--out", "x", *settings).code == 0
    trained = RunFolder(folder / "x").recipe()
    assert trained == load_recipe(recipe(("T: 1", "T: 2"), ("updates: 4", "updates: 2")), "r")
    assert trained.id != load_recipe(recipe(), "r").id


@pytest.mark.slow
def test_a_recipe_trained_with_less_memory_gives_the_same(folder: Path, trm_lab: TrmLab):
    whole = ("--set", "model.gradient=whole_program", "--threads", "1")
    for out, more in (("x", ()), ("y", ("--checkpointing", "update"))):
        assert trm_lab("train", "recipe.yaml", "--out", out, *whole, *more).code == 0
    one, other = ((folder / out / "weights.safetensors").read_bytes() for out in ("x", "y"))
    assert one == other
    losses = [[r.get("loss") for r in RunFolder(folder / out).records()] for out in ("x", "y")]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_activation_checkpointing_reaches_the_session(
    folder: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    fresh = Session.fresh

    def spy(*arguments: Any) -> Session:
        seen.append(arguments[-1])
        return fresh(*arguments)

    monkeypatch.setattr(Session, "fresh", spy)
    for more in ((), ("--checkpointing", "cycle")):
        assert trm_lab("train", "recipe.yaml", "--out", f"x{len(more)}", *more).code == 0
    assert seen == [None, "cycle"]


def test_a_training_that_was_cut_off_goes_on(folder: Path, trm_lab: TrmLab):
    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load_recipe(recipe(), "recipe"), folder / "x", progress=stop)
    assert json.loads((folder / "x" / "status.json").read_text())["state"] == "cancelled"
    done = trm_lab("train", "recipe.yaml", "--out", "x")
    assert (done.code, done.err) == (0, "")
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["update 4"] * 2 + ["x"]
    assert json.loads((folder / "x" / "status.json").read_text())["attempt"] == 2


def test_a_training_that_diverges_has_exit_code_1(folder: Path, trm_lab: TrmLab):
    (folder / "recipe.yaml").write_text(recipe(("lr: 1e-2", "lr: 1e+37")))
    done = trm_lab("train", "recipe.yaml", "--out", "x")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[-1] == "x: diverged"
    assert trm_lab("train", "recipe.yaml", "--out", "x") == Done(1, "x: diverged\n", "")


def test_data_sets_are_inspected(folder: Path, trm_lab: TrmLab):
    file = BUNDLED / "sudoku9_test.csv.gz"
    assert trm_lab("data", "inspect", file) == Done(
        0, f"{file}: 1000 puzzles, all valid\n\n{describe(read(file))}\n", ""
    )
    told = trm_lab("data", "inspect", "recipe.yaml").out
    assert re.match(r"fingerprint [0-9a-f]{16,64}\n\ntrain: 32 puzzles\n\n", told)
    assert "\nvalidation: 8 puzzles\n" in told
    assert "\ntest: 12 puzzles\n" in told
    made = json.loads(trm_lab("data", "inspect", "recipe.yaml", "--json").out)
    assert made["fingerprint"] == told.split()[1]
    assert [row["puzzles"] for row in made["validation"]] == [8] * len(made["validation"])
    assert [row["median"] for row in made["test"] if row["measure"] == "clues"] == [8]
    (first, *_) = json.loads(trm_lab("data", "inspect", file, "--json").out)["puzzles"]
    assert (first["source"], first["puzzles"], first["measure"]) == ("all", 1000, "clues")


def test_data_sets_are_built(folder: Path, trm_lab: TrmLab):
    done = trm_lab("data", "build", "out", "--clues", "50", "--train", "3", "--test", "2")
    assert done == Done(0, "wrote out/train.csv\nwrote out/test.csv\n", "")
    made = read("out/train.csv")
    assert (len(made), len(read("out/test.csv"))) == (3, 2)
    assert set(made.clues) == {50}


def test_recorded_values_are_verified(shared: Path, trm_lab: TrmLab):
    file = shared / "parity" / "trm_mlp.npz"
    done = trm_lab("verify", file)
    assert (done.code, done.err) == (0, "")
    assert re.match(
        rf"{re.escape(str(file))}: holds: \d+ arrays compared, 0 beyond tolerance\n", done.out
    )
    (made,) = json.loads(trm_lab("verify", file, "--json").out)
    assert (made["file"], made["holds"], made["unchecked"]) == (str(file), True, [])
    assert len(made["checks"]) > 100
    for check in made["checks"]:
        assert set(check) == {"key", "difference", "tolerance", "holds"}
        assert check["holds"] is (check["difference"] <= check["tolerance"]) is True


def test_values_that_do_not_hold_are_named_with_exit_code_1(
    shared: Path, folder: Path, trm_lab: TrmLab
):
    good = shared / "parity" / "trm_mlp.npz"
    with np.load(good) as archive:
        arrays = dict(archive)
    arrays["eval/step1/logits"] = arrays["eval/step1/logits"] * 1.01
    np.savez(folder / "bad.npz", **arrays)
    done = trm_lab("verify", "bad.npz")
    assert (done.code, done.err) == (1, "")
    assert re.match(r"bad\.npz: DOES NOT HOLD: \d+ arrays compared, 1 beyond tolerance\n", done.out)
    assert "  FAILED eval/step1/logits: 9.90e-03 > 2e-05\n" in done.out
    both = trm_lab("verify", good, "bad.npz", "--json")
    assert both.code == 1
    assert [entry["holds"] for entry in json.loads(both.out)] == [True, False]
    failed = [c["key"] for c in json.loads(both.out)[1]["checks"] if not c["holds"]]
    assert failed == ["eval/step1/logits"]


def test_a_file_without_recorded_values_is_refused(folder: Path, trm_lab: TrmLab):
    (folder / "a.npz").write_text("no archive")
    done = trm_lab("verify", "a.npz")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: a.npz: not an .npz archive: no plain arrays in it\n"
    np.savez(folder / "b.npz", x=np.zeros(3))
    assert trm_lab("verify", "b.npz") == Done(
        2, "", "error: b.npz: holds no config/* and param/* arrays, so no recorded model\n"
    )
    assert trm_lab("verify", "c.npz") == Done(2, "", "error: c.npz: no such file\n")
    assert trm_lab("verify") == Done(
        2, "", "error: verify: no file given; docs/verify.md says what such files hold and how to "
        "record them\n"
    )  # fmt: skip


@pytest.mark.slow
def test_a_process_prints_no_control_characters_where_there_is_no_terminal(driven: Path):
    for arguments in (["plan", "tiny.yaml"], ["run", "tiny.yaml", "--on", "here.yaml"]):
        done = in_a_process(*arguments)  # checks the characters
        assert (done.code, done.err) == (0, "")
        assert done.out


def test_the_journal_of_a_run_is_optunas(driven: Path):
    assert len(trials(driven / "runs" / "tiny")) == 4
    assert os.listdir(driven / "runs") == ["tiny"]


def test_explain_groups_the_points_by_side_and_hides_what_does_not_apply(trm_lab: TrmLab) -> None:
    done = trm_lab("explain", "trm_att")
    assert done.code == 0
    lines = done.out.splitlines()
    heads = [line for line in lines if line and not line.startswith(" ")]
    assert heads == [
        f"trm_att: recipe {preset('trm_att').id[:8]}",
        "as the paper, unlike the code: 0",
        "as the code, unlike the paper: 11",
        "as both: 6",
        "other: unlike both, or beyond them: 4",
        "not about this recipe: 12, shown with --all",
        "paper: TRM (arXiv 2510.04871) and HRM (arXiv 2506.21734); code: their released code",
        "D1 to D33: the points where paper and code differ or are silent; -: silent",
        "(in brackets): the setting that moves the recipe; without one it is a fact of this bench",
    ]
    at = lines.index("  D1 optimiser: adam_atan2 (train.optimizer)")
    assert lines.index(heads[2]) < at < lines.index(heads[3])
    assert lines[at + 1] == "      paper: AdamW (TRM), AdamATan2 (HRM)"
    both = lines.index("  D4 n on Maze and ARC: n = 6 (model.n)")
    assert lines[both + 1].startswith("  D")
    assert not [line for line in lines if line.startswith(("  D6 ", "  D12 ", "  D18 "))]
    told = trm_lab("explain", "trm_att", "--all").out.splitlines()
    assert "not about this recipe: 12" in told
    assert len([line for line in told if line.startswith("  D")]) == 33
    assert "  D6 augmentation of Maze: no Maze task (task.augment)" in told


def test_explain_takes_a_run_folder(driven: Path, trm_lab: TrmLab) -> None:
    run = f"runs/tiny/{DEEP}/seed-0"
    lines = trm_lab("explain", run).out.splitlines()
    assert lines[0] == f"{run}: recipe 99e168d3"
    assert (
        "  D16 row with the one-step gradient (56.5): 3 updates with a graph (model.gradient)"
        in (lines)
    )
    for arguments, said in (
        (
            ("runs/tiny",),
            "runs/tiny: is a study's folder of results, not a recipe or a study or one run; its "
            "runs lie below, as runs/tiny/",
        ),
        ((run, "--cell", "deep"), f"--cell deep: {run} is one recipe and has no cells"),
    ):
        wrong = trm_lab("explain", *arguments)
        assert wrong.code == 2
        assert said in wrong.err


def test_explain_takes_a_preset_a_recipe_and_a_cell(trm_lab: TrmLab, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("preset: trm_att\ntrain: {optimizer: {kind: adamw}}\n")
    told = json.loads(trm_lab("explain", file, "--json").out)
    assert len(told["points"]) == 33
    first = told["points"][0]
    assert (first["point"], first["side"], first["value"]) == ("D1", "paper", "adamw")
    assert [p["point"] for p in told["points"] if not p["applies"]] == [
        "D6", "D12", "D13", "D14", "D15", "D18", "D19", "D20", "D24", "D29", "D31", "D32",
    ]  # fmt: skip
    study = tmp_path / "s.yaml"
    study.write_text(
        "name: s\nquestion: q\nhypothesis: h\nbase: {preset: trm_att}\nseeds: [0]\nvariants:\n"
        "  - {name: a, series: s}\n  - {name: b, series: s, set: {model.n: 4}}\n"
    )
    told = trm_lab("explain", study, "--cell", "b").out
    assert "beyond them: 5\n  D4 n on Maze and ARC: n = 4 (model.n)\n      paper: 6; code:" in told
    for arguments, said in (
        ((study,), f"{study}: a study of 2 cells; --cell says which: a; b"),
        ((study, "--cell", "c"), "--cell c: no such cell; known: a; b"),
        (("trm_att", "--cell", "c"), "--cell c: trm_att is one recipe and has no cells"),
        (
            ("trm_atp",),
            "trm_atp: neither a preset nor a file nor a run folder; did you mean trm_att?",
        ),
    ):
        wrong = trm_lab("explain", *arguments)
        assert wrong.code == 2
        assert said in wrong.err
