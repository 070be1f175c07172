import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.study.tiny import DEEP, EXECUTION, HERE, SHALLOW, planned, snapshot, study, written
from trm_lab.config.execution import InProcess, Sweep
from trm_lab.errors import ConfigError
from trm_lab.runs import Labels
from trm_lab.study.plan import DEFAULT_SWEEP, load_sweep, make_plan


def test_a_plan_lists_cells_times_seeds_cell_by_cell(tmp_path: Path):
    plan = planned(tmp_path)
    assert plan.root == tmp_path / "tiny"
    runs = list(plan.runs())
    assert [run.key for run in runs] == [
        f"{SHALLOW}/seed-0", f"{SHALLOW}/seed-1", f"{DEEP}/seed-0", f"{DEEP}/seed-1",
    ]  # fmt: skip
    assert [run.folder.path for run in runs] == [plan.root / run.key for run in runs]
    assert [run.recipe.seed for run in runs] == [0, 1, 0, 1]
    assert runs[2].labels == Labels(study="tiny", variant="deep", series="TRM", cell=DEEP)


def test_a_plan_writes_and_runs_nothing(tmp_path: Path):
    plan = planned(tmp_path / "runs")
    plan.as_dict()
    plan.confounds()
    assert set(plan.states().values()) == {"waiting"}
    assert list(tmp_path.iterdir()) == []


def test_plan_json_holds_what_the_results_and_the_report_read(tmp_path: Path):
    plan = planned(tmp_path)
    plan.write()
    assert sorted(p.name for p in plan.root.iterdir()) == ["plan.json", "study.yaml", "sweep.yaml"]
    made = json.loads((plan.root / "plan.json").read_text())
    assert list(made) == [
        "study", "question", "hypothesis", "sweep", "metric", "seeds", "sweep_seeds",
        "sweep_cells",
        "cells", "fits", "contrasts", "study_yaml", "sweep_yaml", "settings",
    ]  # fmt: skip
    assert made["study"] == "tiny"
    assert made["question"] == "Does a second latent update help?"
    assert made["hypothesis"] == "It does."
    assert made["sweep"] == "here"
    assert made["metric"] == {"name": "puzzle_accuracy", "steps": 2}
    assert made["seeds"] == [0, 1]
    assert made["fits"] == []
    assert made["contrasts"] == [
        {"name": "depth", "title": "Latent updates", "baseline": "shallow", "against": ["deep"]}
    ]
    assert made["study_yaml"] == written() == (plan.root / "study.yaml").read_text()
    assert made["sweep_yaml"] == (plan.root / "sweep.yaml").read_text()
    assert made["settings"] == []
    changed = make_plan(study(), settings=("model.T=2", "train.ema=null"), runs=tmp_path)
    assert changed.as_dict()["settings"] == ["model.T=2", "train.ema=null"]


def test_plan_json_describes_every_cell(tmp_path: Path):
    shallow, deep = planned(tmp_path).as_dict()["cells"]
    assert {k: v for k, v in deep.items() if k not in ("accounting", "recipe")} == {
        "cell": DEEP,
        "recipe_id": "99e168d3" + deep["recipe_id"][8:],
        "variant": "deep",
        "arm": "deep",
        "factors": {},
        "series": "TRM",
        "baseline": False,
    }
    assert shallow["baseline"]
    # 16 cells, width 16, SwiGLU of inner width round(64 * 2 / 3) = 43, rounded up to 48, both over
    # the 16 cells and over the 16 channels: 3 * 16 * 48 each; heads and embedding: 16 * 6 tokens
    # twice and 2 * 16 + 2 for halting.
    assert deep["accounting"] == {
        "params": 2 * 3 * 16 * 48 + 2 * 6 * 16 + 34,
        "table_params": 0,
        "recurring_params": 2 * 3 * 16 * 48,
        "once_params": 2 * 6 * 16 + 34,
        "effective_depth": 3,
        "max_depth": 6,
        "graph_updates": 3,
        "flops_per_update": deep["accounting"]["flops_per_update"],
        "eval_flops": 3 * 2 * (2 * 3 * 16 * 48 * 16) + 2 * 16 * 16 * 6 + 2 * 16 * 2,
    }
    assert shallow["accounting"]["effective_depth"] == 2
    assert shallow["accounting"]["flops_per_update"] < deep["accounting"]["flops_per_update"]
    assert deep["recipe"]["model"]["n"] == 2
    assert deep["recipe"]["train"]["optimizer"] == {
        "kind": "adam_atan2", "lr": 1e-2, "betas": [0.9, 0.95], "weight_decay": 0.1,
    }  # fmt: skip


def test_plan_json_has_the_values_of_the_factors_whole(tmp_path: Path):
    values = "[{kind: last_updates, k: 1}, whole_program]"
    factors = f"factors: {{model.gradient: {values}, model.T: [2]}}\nseeds:"
    made = json.loads(json.dumps(planned(tmp_path, ("seeds:", factors)).as_dict()))
    assert [cell["factors"] for cell in made["cells"][:2]] == [
        {"model.gradient": {"kind": "last_updates", "k": 1}, "model.T": 2},
        {"model.gradient": "whole_program", "model.T": 2},
    ]


def test_the_defaults_of_a_plan_are_one_single_threaded_process_per_core():
    plan = make_plan(study())
    assert plan.root == Path("runs/tiny")
    assert plan.sweep == DEFAULT_SWEEP
    assert plan.sweep.executor.model_dump() == {
        "kind": "local", "workers": None, "max_attempts": 3, "poll_seconds": 0.5,
    }  # fmt: skip
    assert plan.sweep.execution.threads == 1


def test_a_sweep_may_take_fewer_seeds_and_the_study_keeps_all(tmp_path: Path):
    plan = planned(tmp_path, sweep=HERE.model_copy(update={"seeds": 1}))
    assert plan.root == tmp_path / "tiny"
    assert [run.key for run in plan.runs()] == [f"{SHALLOW}/seed-0", f"{DEEP}/seed-0"]
    assert plan.as_dict()["seeds"] == [0, 1]
    assert plan.as_dict()["sweep_seeds"] == [0]


def test_a_renamed_variant_keeps_the_folder_of_its_recipe(tmp_path: Path):
    (tmp_path / "tiny" / DEEP).mkdir(parents=True)
    plan = planned(tmp_path, ("name: deep", "name: deeper"), ("[deep]", "[deeper]"))
    assert [c.name for c in plan.matrix.cells] == [SHALLOW, DEEP]
    assert [c.variant for c in plan.matrix.cells] == ["shallow", "deeper"]


def test_a_fit_of_a_variant_takes_its_cells_of_every_factor(tmp_path: Path):
    fits = "fits:\n  - {name: f, law: power_error, series: TRM, variants: [deep]}\ncontrasts:"
    factors = "factors: {model.T: [1, 2]}\nseeds:"
    plan = planned(tmp_path, ("contrasts:", fits), ("seeds:", factors))
    (fit,) = plan.as_dict()["fits"]
    assert fit["variants"] == ["deep, model.T=1", "deep, model.T=2"]


def test_changed_recipes_get_another_results_folder(tmp_path: Path):
    short = Sweep(name="short", executor=InProcess(), execution=EXECUTION, set={"train.ema": None})
    plan = planned(tmp_path, sweep=short)
    assert plan.root == tmp_path / "tiny-short"
    assert all(run.recipe.train.ema is None for run in plan.runs())
    assert {c.name for c in plan.matrix.cells}.isdisjoint({SHALLOW, DEEP})

    def root(*settings: str, sweep: Sweep = HERE) -> str:
        return make_plan(study(), sweep=sweep, settings=settings, runs=tmp_path).root.name

    assert root("train.ema=null") == "tiny-set-cbef9d"
    assert root("train.ema=0.7") != root("train.ema=null")
    assert root("train.ema=null", "model.T=2") == root("model.T=2", "train.ema=null")
    assert root("model.T=2", sweep=short).startswith("tiny-short-set-")


def test_an_argument_wins_over_the_sweep(tmp_path: Path):
    sweep = Sweep(name="short", executor=InProcess(), set={"model.T": 2, "model.layers": 2})
    plan = make_plan(study(), sweep=sweep, settings=("model.T=3",), runs=tmp_path)
    model = plan.matrix.cells[0].recipe.model
    assert (model.T, model.layers) == (3, 2)


def test_an_error_of_a_sweeps_settings_is_named_at_its_place_in_the_sweep(tmp_path: Path):
    path = tmp_path / "sweep.yaml"
    path.write_text("name: s\nset:\n  train.updatez: 2\n  model.T: 2\n")
    with pytest.raises(ConfigError) as caught:
        make_plan(study(), sweep=load_sweep(path))
    assert str(caught.value) == (
        f"{path}:3:3: train.updatez: unknown setting; did you mean updates?"
    )
    path.write_text("name: s\nset:\n  train.updates: 2\n  modle.T: 2\n")
    with pytest.raises(ConfigError) as caught:
        make_plan(study(), sweep=load_sweep(path))
    assert str(caught.value) == f"{path}:4:3: modle: unknown setting; did you mean model?"
    with pytest.raises(ConfigError) as caught:
        make_plan(study(), sweep=Sweep(name="s", set={"model.TT": 2}))
    assert str(caught.value) == "sweep s: model.TT: unknown setting; did you mean T?"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("executor: local\n", "1:1: name: is required"),
        (
            "name: s\nexecutor: slrum\n",
            "2:1: executor: no such kind 'slrum'; did you mean slurm?",
        ),
        (
            "name: s\nexecutor: {kind: local, worker: 2}\n",
            "2:25: executor.worker: unknown setting; did you mean workers?",
        ),
        (
            "name: s\nexecutor: {kind: local, workers: 0}\n",
            "2:25: executor.workers: input should be greater than or equal to 1, not 0",
        ),
        (
            "name: s\nexecution: {device: gpu}\n",
            "2:13: execution.device: 'gpu' is not one of auto, cpu, cuda; did you mean cuda?",
        ),
        ("name: s\nseeds: [0, 1]\n", "2:1: seeds: input should be a valid integer, not [0, 1]"),
        ("- name: s\n", "1:1: expected a mapping of settings, found [{'name': 's'}]"),
        ("", "1:1: expected a mapping of settings, found nothing"),
    ],
)
def test_a_broken_sweep_is_refused_at_the_place(tmp_path: Path, text: str, error: str):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert str(caught.value) == f"{path}:{error}"


def test_confounds_list_the_settings_that_differ_when_more_than_one_does(tmp_path: Path):
    assert planned(tmp_path).confounds() == []
    deep = "{name: deep, series: TRM, set: {model.n: 2}}"
    both = "{name: deep, series: TRM, set: {model.n: 2, train.ema: null}}"
    assert planned(tmp_path, (deep, both)).confounds() == [
        "deep against shallow: 2 settings change at once: model.n, train.ema"
    ]


def test_a_changed_kind_counts_as_one_setting(tmp_path: Path):
    deep = "{name: deep, series: TRM, set: {model.n: 2}}"
    new = "{name: deep, series: TRM, set: {train.optimizer: {kind: adamw, eps: 1e-6}, model.T: 2}}"
    assert planned(tmp_path, (deep, new)).confounds() == [
        "deep against shallow: 2 settings change at once: model.T, train.optimizer.kind"
    ]
    alone = "{name: deep, series: TRM, set: {train.optimizer: {kind: adamw, eps: 1e-6}}}"
    assert planned(tmp_path, (deep, alone)).confounds() == []


def test_a_study_crossed_with_factors_names_no_confounds_between_combinations(tmp_path: Path):
    factors = ("seeds:", "factors: {model.T: [1, 2]}\nseeds:")
    assert planned(tmp_path, factors).confounds() == []


def test_planning_imports_neither_torch_nor_optuna_nor_xarray(tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(written())
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from trm_lab.config.source import read_yaml\nfrom trm_lab.study.plan import make_plan\n"
        f"make_plan(read_yaml(Path({str(tmp_path / 'tiny.yaml')!r}))).as_dict()\n"
        "print(sorted({'torch', 'optuna', 'xarray', 'submitit'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_writing_a_plan_again_writes_the_same(tmp_path: Path):
    plan = planned(tmp_path)
    plan.write()
    sizes = {name: size for name, (_, size) in snapshot(plan.root.iterdir()).items()}
    text = (plan.root / "plan.json").read_text()
    plan.write()
    assert (plan.root / "plan.json").read_text() == text
    assert {name: size for name, (_, size) in snapshot(plan.root.iterdir()).items()} == sizes
