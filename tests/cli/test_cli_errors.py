"""Bad input: one clear text on stderr, exit code 2, nothing written."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Done, TrmLab, in_a_process
from tests.study.tiny import SHALLOW, written
from trm_lab.config.source import read_yaml
from trm_lab.study.plan import make_plan

HERE = "name: here\nexecutor: in_process\nexecution: {device: cpu, threads: 1}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a valid study and a valid sweep."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(written())
    (tmp_path / "here.yaml").write_text(HERE)
    return tmp_path


def refused(trm_lab: TrmLab, *arguments: str) -> str:
    """Give what stderr says, after making sure of the rest."""
    before = sorted(Path().rglob("*"))
    done = trm_lab(*arguments)
    assert (done.code, done.out) == (2, "")
    assert sorted(Path().rglob("*")) == before
    assert "Traceback" not in done.err
    return done.err


def test_a_misspelt_key_is_named_at_its_place_with_the_near_miss(folder: Path, trm_lab: TrmLab):
    (folder / "bad.yaml").write_text(written(("layers: 1", "layer: 1")))
    expected = "error: bad.yaml:6:11: model.layer: unknown setting; did you mean layers?\n"
    for verb in ("run", "plan", "status", "collect", "fit", "report", "validate"):
        assert refused(trm_lab, verb, "bad.yaml") == expected


def test_all_errors_of_a_file_come_at_once(folder: Path, trm_lab: TrmLab):
    changes = ("layers: 1", "layers: one"), ("ema: 0.5", "ema: 1.5"), ("batch: 8", "bach: 8")
    (folder / "bad.yaml").write_text(written(*changes))
    assert refused(trm_lab, "run", "bad.yaml") == (
        "errors:\n"
        "bad.yaml:6:11: model.layers: input should be a valid integer, not 'one'\n"
        "bad.yaml:14:5: train.ema: input should be less than 1, not 1.5\n"
        "bad.yaml:11:5: train.bach: unknown setting; did you mean batch?\n"
    )


def test_a_study_of_one_cell_is_said_to_have_one(folder: Path, trm_lab: TrmLab):
    text = written(("  - {name: deep, series: TRM, set: {model.n: 2}}\n", ""))
    (folder / "one.yaml").write_text(text[: text.index("contrasts:")])
    assert trm_lab("validate", "one.yaml") == Done(0, "one.yaml: a study of 1 cell, valid\n", "")


def test_all_errors_of_all_files_come_at_once(folder: Path, trm_lab: TrmLab):
    (folder / "a.yaml").write_text(written(("layers: 1", "layers: 0")))
    (folder / "b.yaml").write_text("name: b\nexecutor: cluster9\n")
    (folder / "c.yaml").write_text("preset: trm_mlp\nseed: -1\n")
    done = trm_lab("validate", "a.yaml", "tiny.yaml", "b.yaml", "here.yaml", "c.yaml")
    assert done == Done(
        2,
        "tiny.yaml: a study of 2 cells, valid\nhere.yaml: a sweep, valid\n",
        "errors:\n"
        "a.yaml:6:11: model.layers: input should be greater than or equal to 1, not 0\n"
        "b.yaml:2:1: executor: no such kind 'cluster9'; known: in_process, local, slurm\n"
        "c.yaml:2:1: seed: input should be greater than or equal to 0, not -1\n",
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("width: 16", "width: wide"), "6:22: model.width: input should be a valid integer, not "
         "'wide'"),
        (("mixer: token_mlp, positions: none", "mixer: {kind: attention, heads: 3}"),
         "6:22: model: width 16 does not split into 3 heads of even width; heads: 2 does, or give "
         "mixer.head_dim"),
        (("positions: none", "positions: rope"), "6:64: model: positions: rope acts inside "
         "attention only and would be ignored by mixer: token_mlp; use positions: none or learned"),
        (("clues: 8", "clues: 3"), "5:33: task: clues must be 4 to 15 for 4x4, not 3"),
        (("warmup: 1", "warmup: 4"), "13:32: train: schedule.warmup 4 leaves nothing of 4 updates"),
        (("base:\n", "base:\n  preset: trm_mpl\n"), "5:3: preset: no preset 'trm_mpl'; did you "
         "mean trm_mlp?"),
        (("mixer: token_mlp", "mixer: lstm"), "6:46: model.mixer: no such kind "
         "'lstm'; known: attention, token_mlp, conv"),
        (("final_steps: [1, 2]", "final_steps: [2, 1]"), "16:32: eval: final_steps must rise, not "
         "[2, 1]"),
        (("seeds: [0, 1]", "seeds: 3"), "20:1: seeds: input should be a list, not 3"),
        (("seeds: [0, 1]", "seeds: [0, 1"), "21:7: expected ',' or ']', but got ':'"),
        (("  eval:", "  train: {}\n  eval:"), "16:3: found duplicate key train"),
    ],
    ids=lambda value: value[1].split()[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_broken_study_is_refused(
    folder: Path, trm_lab: TrmLab, change: tuple[str, str], error: str
):
    (folder / "bad.yaml").write_text(written(change))
    assert refused(trm_lab, "run", "bad.yaml") == f"error: bad.yaml:{error}\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("name: s\nexecutor: {kind: slrum}\n", "2:1: executor: no such kind 'slrum'; did "
         "you mean slurm?"),
        ("name: s\nexecutor: {kind: local, workers: many}\n", "2:25: executor.workers: input "
         "should be a valid integer, not 'many'"),
        ("name: s\nset: {train.updates: 0}\n", "2:7: train.updates: input should be greater than "
         "or equal to 1, not 0"),
    ],
)  # fmt: skip
def test_a_broken_sweep_is_refused(folder: Path, trm_lab: TrmLab, text: str, error: str):
    (folder / "bad.yaml").write_text(text)
    told = refused(trm_lab, "run", "tiny.yaml", "--on", "bad.yaml")
    assert told.removesuffix("\n").split("\n")[-1].removeprefix("error: ") == f"bad.yaml:{error}"


def test_a_missing_file_is_named_with_the_near_miss(folder: Path, trm_lab: TrmLab):
    assert refused(trm_lab, "run", "tinny.yaml") == (
        "error: tinny.yaml: no such file; did you mean tiny.yaml?\n"
    )
    assert refused(trm_lab, "run", "tiny.yaml", "--on", "hree.yaml") == (
        "error: hree.yaml: no such file; did you mean here.yaml?\n"
    )
    assert refused(trm_lab, "train", "qqq", "--out", "x") == "error: qqq: no such file\n"
    assert refused(trm_lab, "plan", ".") == (
        "error: .: is a folder, not a study; nothing in it is known to trm-lab\n"
    )
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert refused(trm_lab, "plan", "binary.yaml") == (
        "error: binary.yaml:1:1: byte 0xff is not text in UTF-8\n"
    )


def test_a_bad_argument_is_named(folder: Path, trm_lab: TrmLab):
    for argument, error in (
        ("model.T", "--set model.T: expected a dotted name, '=' and a value: model.T=3"),
        ("modle.T=2", "--set modle.T=2: modle: unknown setting; did you mean model?"),
        ("train.updates=0", "--set train.updates=0: train.updates: input should be greater than or "
         "equal to 1, not 0"),
        ("model.gradient=all", "--set model.gradient=all: model.gradient: no such kind 'all'; "
         "known: last_updates, last_cycles, whole_program, random_truncation, phantom, implicit"),
    ):  # fmt: skip
        assert refused(trm_lab, "run", "tiny.yaml", "--set", argument) == f"error: {error}\n"


def test_an_unknown_cell_is_named_with_the_near_miss(folder: Path, trm_lab: TrmLab):
    assert refused(trm_lab, "run", "tiny.yaml", "--only", "deap") == (
        "error: --only deap: no such cell; did you mean deep?\n"
    )
    assert refused(trm_lab, "run", "tiny.yaml", "--only", SHALLOW[:-1]) == (
        "error: --only shallow-94dcb42: no such cell; did you mean shallow?\n"
    )


def test_a_variant_of_several_cells_is_named_with_all_of_them(folder: Path, trm_lab: TrmLab):
    (folder / "many.yaml").write_text(written(("seeds:", "factors: {model.T: [1, 2]}\nseeds:")))
    for arguments in (("run", "many.yaml", "--only"), ("explain", "many.yaml", "--cell")):
        assert refused(trm_lab, *arguments, "deep") == (
            f"error: {arguments[-1]} deep: a variant of 2 cells; give one: deep, model.T=1; deep, "
            "model.T=2\n"
        )


def test_an_unknown_verb_or_option_is_named(folder: Path, trm_lab: TrmLab):
    assert "No such command 'rnu'. Did you mean 'run'?" in refused(trm_lab, "rnu", "tiny.yaml")
    assert "No such option: --onn" in refused(trm_lab, "run", "tiny.yaml", "--onn", "here.yaml")
    assert "Missing argument" in refused(trm_lab, "run")
    assert "Invalid value for '--workers'" in refused(trm_lab, "demo", "--workers", "0")


def test_a_folder_without_a_plan_or_results_is_refused(folder: Path, trm_lab: TrmLab):
    (folder / "empty").mkdir()
    for verb, error in (
        ("status", "runs/cut/plan.json: no such file; `trm-lab collect runs/cut` gathers runs made "
         "by hand"),
        ("collect", "runs/cut/results.nc"),
        ("fit", "runs/cut/results.nc: no such file; `trm-lab collect runs/cut` makes it"),
        ("report", "runs/cut/results.nc: no such file; `trm-lab collect runs/cut` makes it"),
    ):  # fmt: skip
        assert refused(trm_lab, verb, "empty") == (
            "error: empty: is a folder, not a study's folder of results; nothing in it is known to "
            "trm-lab\n"
        )
        (folder / "runs" / "cut" / "cell" / "seed-0").mkdir(parents=True, exist_ok=True)
        if verb != "collect":
            assert refused(trm_lab, verb, "runs/cut") == f"error: {error}\n"
    (folder / "empty" / "plan.json").write_text("{")
    assert refused(trm_lab, "status", "empty").startswith(
        "error: empty/plan.json: cannot be read: Expecting property name"
    )
    (folder / "empty" / "plan.json").write_text("{}")
    assert refused(trm_lab, "status", "empty") == (
        "error: empty/plan.json: cannot be read: it has no list of cells; `trm-lab run STUDY` "
        "writes it anew\n"
    )


def test_a_folder_of_results_takes_no_sweep_and_no_settings(folder: Path, trm_lab: TrmLab):
    (folder / "empty" / "cell" / "seed-0").mkdir(parents=True)
    for argument in (("--on", "here.yaml"), ("--set", "model.T=2")):
        assert refused(trm_lab, "status", "empty", *argument) == (
            "error: empty: is a folder of results; --on and --set go with a study\n"
        )


def test_results_that_cannot_be_written_are_refused(folder: Path, trm_lab: TrmLab):
    told = refused(trm_lab, "run", "tiny.yaml", "--on", "here.yaml", "--runs", "here.yaml")
    assert told.startswith("error: here.yaml/tiny")
    assert told.endswith(": Not a directory\n")
    (folder / "recipe.yaml").write_text("preset: trm_mlp\n")
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "here.yaml/x") == (
        "error: here.yaml/x: Not a directory\n"
    )


def test_a_study_that_was_not_run_yet_is_refused(folder: Path, trm_lab: TrmLab):
    for verb in ("status", "collect", "fit", "report"):
        assert refused(trm_lab, verb, "tiny.yaml", "--runs", "else") == (
            "error: else/tiny: no results yet; `trm-lab run tiny.yaml --runs else` makes them\n"
        )
        assert refused(trm_lab, verb, "tiny.yaml", "--set", "model.T=2", "--on", "here.yaml") == (
            "error: runs/tiny-set-1ed6c6: no results yet; `trm-lab run tiny.yaml --on here.yaml "
            "--set model.T=2` makes them\n"
        )
        assert refused(trm_lab, verb, "runs/tiny") == (
            "error: runs/tiny: no such study file or folder of results; `trm-lab run STUDY` makes "
            "the folder\n"
        )
    (folder / "runs" / "width").mkdir(parents=True)
    assert refused(trm_lab, "fit", "widht") == (
        "error: widht: no such study file or folder of results; `trm-lab run STUDY` makes the "
        "folder; did you mean runs/width?\n"
    )


def test_results_of_a_study_with_other_settings_are_named(folder: Path, trm_lab: TrmLab):
    source = read_yaml(folder / "tiny.yaml")
    make_plan(source, settings=("model.T=2",)).write()
    make_plan(replace(source, data=source.data | {"name": "tiny_too"})).write()  # another study's
    (folder / "runs" / "tiny-empty").mkdir()
    made = "runs/tiny: no results yet; `trm-lab run tiny.yaml` makes them"
    for verb in ("status", "fit"):
        assert refused(trm_lab, verb, "tiny.yaml") == (
            f"error: {made}; there are results with another --on or --set: runs/tiny-set-1ed6c6\n"
        )


STUDY_TAKEN = "`trm-lab plan`, `run`, `status`, `collect`, `fit` and `report` take it"
RECIPE_TAKEN = "`trm-lab train recipe.yaml --out FOLDER` and `trm-lab explain recipe.yaml` take it"
SWEEP_TAKEN = "it goes with a study, as `--on here.yaml`"
RUN_TAKEN = "`trm-lab eval hand`, `diagnose` and `explain` take it"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        *(((verb, "recipe.yaml"), f"recipe.yaml: is a recipe, not a study; {RECIPE_TAKEN}")
          for verb in ("plan", "run", "status", "collect", "fit", "report")),
        (("run", "here.yaml"), f"here.yaml: is a sweep, not a study; {SWEEP_TAKEN}"),
        (("plan", "hand"), f"hand: is one run, not a study; {RUN_TAKEN}"),
        (("plan", "tiny.yaml", "--on", "recipe.yaml"),
         f"recipe.yaml: is a recipe, not a sweep; {RECIPE_TAKEN}"),
        (("run", "tiny.yaml", "--on", "tiny.yaml"),
         f"tiny.yaml: is a study, not a sweep; {STUDY_TAKEN}"),
        *(((verb, "hand"), f"hand: is one run, not a study's folder of results; {RUN_TAKEN}")
          for verb in ("status", "collect", "fit", "report")),
        (("collect", "hands"), "hands: is a folder, not a study's folder of results: hands/a is "
         "one run, and results are gathered from CELL/seed-K; `trm-lab train RECIPE --out "
         "hands/CELL/seed-0` makes such a run"),
        *(((verb, "recipe.yaml"), f"recipe.yaml: is a recipe, not one run; {RECIPE_TAKEN}")
          for verb in ("eval", "diagnose")),
        (("eval", "study"), "study: is a study's folder of results, not one run; its runs lie "
         "below, as study/cell/seed-0"),
        *(((verb, "study/cell"), "study/cell: is a folder, not one run; its runs lie below, as "
           "study/cell/seed-0") for verb in ("eval", "diagnose")),
        (("diagnose", "hnad"), "hnad: no such run folder; `trm-lab run STUDY` and `trm-lab train "
         "RECIPE --out hnad` make one; did you mean hand?"),
        (("explain", "here.yaml"),
         f"here.yaml: is a sweep, not a recipe or a study or one run; {SWEEP_TAKEN}"),
        (("train", "tiny.yaml", "--out", "x"),
         f"tiny.yaml: is a study, not a recipe; {STUDY_TAKEN}"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_path_of_another_kind_is_named_with_the_verb_that_takes_it(
    folder: Path, trm_lab: TrmLab, arguments: tuple[str, ...], error: str
):
    (folder / "recipe.yaml").write_text("preset: trm_mlp\n")
    (folder / "hand").mkdir()
    (folder / "hand" / "recipe.yaml").write_text("preset: trm_mlp\n")
    (folder / "hands" / "a").mkdir(parents=True)
    (folder / "hands" / "a" / "recipe.yaml").write_text("preset: trm_mlp\n")
    (folder / "study" / "cell" / "seed-0").mkdir(parents=True)
    (folder / "study" / "cell" / "seed-0" / "recipe.yaml").write_text("preset: trm_mlp\n")
    assert refused(trm_lab, *arguments) == f"error: {error}\n"


def test_a_bare_name_is_looked_for_where_such_files_lie(folder: Path, trm_lab: TrmLab):
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "smoke.yaml").write_text(HERE)
    assert refused(trm_lab, "plan", "tiny.yaml", "--on", "smoke") == (
        "error: smoke: no such file; did you mean sweeps/smoke.yaml?\n"
    )
    assert refused(trm_lab, "plan", "nope.yaml") == "error: nope.yaml: no such file\n"


def test_bad_input_of_a_single_training_is_refused(folder: Path, trm_lab: TrmLab):
    (folder / "recipe.yaml").write_text("preset: trm_mlp\nsede: 3\n")
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "x") == (
        "error: recipe.yaml:2:1: sede: unknown setting; did you mean seed?\n"
    )
    (folder / "recipe.yaml").write_text("preset: trm_mlp\n")
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "x", "--device", "gpu") == (
        "error: --device gpu: device: 'gpu' is not one of auto, cpu, cuda; did you mean cuda?\n"
    )
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "x", "--checkpointing", "updates") == (
        "error: --checkpointing updates: checkpointing: 'updates' is not one of update, cycle; did "
        "you mean update?\n"
    )
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "x", "--set", "model.TT=2") == (
        "error: --set model.TT=2: model.TT: unknown setting; did you mean T?\n"
    )
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "x", "--set", "train.updates=9") == (
        "error: --set train.updates=9: train: schedule.warmup 2000 leaves nothing of 9 updates\n"
    )
    assert refused(trm_lab, "train", "trm_mlp", "--out", "x") == (
        "error: trm_mlp: is a preset, not a recipe file; write a file with the line "
        "`preset: trm_mlp` and give that\n"
    )
    assert not (folder / "x").exists()
    assert "Missing option '--out'" in refused(trm_lab, "train", "recipe.yaml")


def test_a_training_in_the_folder_of_another_recipe_is_refused(folder: Path, trm_lab: TrmLab):
    text = written()
    base = text[text.index("base:\n") + 6 : text.index("variants:")]
    recipe = "\n".join(line.removeprefix("  ") for line in base.splitlines())
    (folder / "recipe.yaml").write_text(recipe)
    assert trm_lab("train", "recipe.yaml", "--out", "x").code == 0
    (folder / "recipe.yaml").write_text(recipe + "\nseed: 1\n")
    assert refused(trm_lab, "train", "recipe.yaml", "--out", "x") == (
        "error: x: holds recipe 94dcb425 seed 0, not 94dcb425 seed 1; give another folder\n"
    )


def test_bad_data_are_refused(folder: Path, trm_lab: TrmLab):
    assert refused(trm_lab, "data", "inspect", "no.csv") == (
        "error: no.csv: cannot be read: [Errno 2] No such file or directory: 'no.csv'\n"
    )
    (folder / "bad.csv").write_text("source,question,answer,rating\na,b,c\n")
    assert refused(trm_lab, "data", "inspect", "bad.csv") == (
        "error: bad.csv:2: expected 4 fields (source,question,answer,rating), found 3\n"
    )
    assert refused(trm_lab, "data", "build", "out", "--clues", "16") == (
        "error: data build: clues must be 17 to 80 for 9x9, not 16\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["run", "bad.yaml"], ["rnu", "bad.yaml"], ["run", "none"]])
def test_the_exit_code_of_a_process_is_2(folder: Path, arguments: list[str], trm_lab: TrmLab):
    (folder / "bad.yaml").write_text(written(("layers: 1", "layer: 1")))
    done = in_a_process(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.split("Usage")[0] == trm_lab(*arguments).err.split("Usage")[0]
    assert ("No such command 'rnu'" in done.err) == (arguments[0] == "rnu")
    assert sorted(p.name for p in folder.iterdir()) == ["bad.yaml", "here.yaml", "tiny.yaml"]


@pytest.mark.parametrize("verb", ["run", "status", "watch"])
def test_an_option_given_twice_is_refused(folder: Path, trm_lab: TrmLab, verb: str):
    """Of two the last one would count without a word."""
    assert refused(trm_lab, verb, "tiny.yaml", "--on", "a.yaml", "--on", "b.yaml") == (
        "error: --on: given 2 times; give it once\n"
    )


def test_a_list_of_settings_is_given_one_by_one(folder: Path, trm_lab: TrmLab):
    settings = ("--set", "train.updates=2", "--set", "train.batch=4")
    assert "2 cells x 2 seeds" in trm_lab("plan", "tiny.yaml", *settings).out
