"""A table of bad files: each is refused at its place, with the value and the near miss.

`validate` and the verb that would start something say the same, exit with code 2 and start nothing.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Done, TrmLab, in_a_process
from tests.study.tiny import written

STUDY, SWEEP, RECIPE = "study", "sweep", "recipe"
TINY, DEEP = "tiny.yaml", "  - {name: deep, series: TRM, set: {model.n: 2}}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
"""Eight lines that are 2 million values."""


def factors(text: str, more: str = "") -> tuple[str, str]:
    """Give the replacement that puts factors on line 21, and what goes with them below."""
    return "seeds: [0, 1]", f"factors:\n  {text}\n{more}seeds: [0, 1]"


def variant(settings: str) -> tuple[str, str]:
    return DEEP, f"  - {{name: deep, series: TRM, set: {{{settings}}}}}\n"


def edited(*replacements: tuple[str, str]) -> tuple[str, str]:
    return STUDY, written(*replacements)


def slurm(settings: str) -> tuple[str, str]:
    return SWEEP, f"name: s\nexecutor: {{kind: slurm, {settings}}}\n"


ATTENTION = ("mixer: token_mlp", "mixer: {kind: attention, heads: 2}")
SEED = "seed: the seeds of a study are said by seeds:, and this would be ignored"
MLP, ATT = "preset: trm_mlp\n", "preset: trm_att\n"
THOUSAND = list(range(1, 1001))

# What it is: kind of file, text, line:column, what is said there.
TABLE: dict[str, tuple[tuple[str, str | bytes], str, str]] = {
    # No settings at all.
    "a tab": (edited(("  eval:", "\teval:")), "16:1", "found character '\\t' that cannot start"),
    "not closed": (edited(("[0, 1]", "[0, 1")), "21:7", "expected ',' or ']', but got ':'"),
    "a list": ((STUDY, "- name: tiny\n"), "1:1", "expected a mapping of settings, found [{'name'"),
    "one word": ((RECIPE, "trm_mlp\n"), "1:1", "expected a mapping of settings, found 'trm_mlp'"),
    "an empty file": ((STUDY, ""), "1:1", "expected a mapping of settings, found nothing"),
    "only comments": ((SWEEP, "# later\n"), "1:1", "expected a mapping of settings, found nothing"),
    "binary": ((STUDY, b"name: t\nbase: \x89HDF\r\n"), "2:7", "byte 0x89 is not text in UTF-8"),
    "UTF-16": ((RECIPE, MLP.encode("utf-16")), "1:1", "byte 0xff is not text in UTF-8"),
    "a control character": (
        (RECIPE, "seed: 1\nmodel: \x00\n"), "2:8", "special characters are not allowed",
    ),
    "two documents": ((RECIPE, MLP + "---\n" + MLP), "2:1", "but found another document"),
    "a tag that runs code": (
        (RECIPE, "seed: !!python/object/apply:os.getpid []\n"), "1:7",
        "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os",
    ),
    "an unknown alias": ((RECIPE, MLP + "seed: *s\n"), "2:7", "found undefined alias 's'"),
    "a cycle": ((RECIPE, "model: &a [*a]\n"), "1:12", "*a stands inside &a: nested without end"),
    "a longer cycle": (
        edited(("train:\n", "train: &t\n"), ("{kind: constant, warmup: 1}", "{warmup: {x: *t}}")),
        "13:28", "*t stands inside &t: nested without end",
    ),
    "aliases of aliases": ((RECIPE, BOMB), "6:4", "more than 300,000 values, those of aliases"),
    # Typos, at every level.
    "a key of a study": (
        edited(("metric:", "metrics:")), "21:1", "metrics: unknown setting; did you mean metric?",
    ),
    "a key of a variant": (
        edited(("deep, series", "deep, serie")), "19:18",
        "variants.1.serie: unknown setting; did you mean series?",
    ),
    "a key of a metric": (
        edited(("steps: 2}\n", "step: 2}\n")), "21:33",
        "metric.step: unknown setting; did you mean steps?",
    ),
    "a section of a base": (
        edited(("  supervision:", "  supervison:")), "8:3",
        "supervison: unknown setting; did you mean supervision?",
    ),
    "a setting of a base": (
        edited(("    batch:", "    bacth:")), "11:5",
        "train.bacth: unknown setting; did you mean batch?",
    ),
    "a setting deep in a base": (
        edited(("lr: 1e-2", "rl: 1e-2")), "12:35",
        "train.optimizer.rl: unknown setting; did you mean lr?",
    ),
    "a setting of a variant": (
        edited(variant("model.lyaers: 2")), "19:37",
        "model.lyaers: unknown setting; did you mean layers?",
    ),
    "a factor": (
        edited(factors("model.withd: [8, 16]")), "21:3",
        "model.withd: unknown setting; did you mean width?",
    ),
    "a key of a sweep": (
        (SWEEP, "name: s\nexecutr: in_process\n"), "2:1",
        "executr: unknown setting; did you mean executor?",
    ),
    "a key of an executor": (
        (SWEEP, "name: s\nexecutor: {kind: local, worker: 2}\n"), "2:25",
        "executor.worker: unknown setting; did you mean workers?",
    ),
    "a kind of executor": (
        (SWEEP, "name: s\nexecutor: locl\n"), "2:1",
        "executor: no such kind 'locl'; did you mean local?",
    ),
    "a choice of a sweep": (
        (SWEEP, "name: s\nexecution:\n  device: gpu\n"), "3:3",
        "execution.device: 'gpu' is not one of auto, cpu, cuda; did you mean cuda?",
    ),
    "a key of a recipe": (
        (RECIPE, MLP + "modle: {}\n"), "2:1", "modle: unknown setting; did you mean model?",
    ),
    "a preset": (
        (RECIPE, "preset: trm_mpl\n"), "1:1",
        "preset: no preset 'trm_mpl'; did you mean trm_mlp?",
    ),
    "a row of a table": (
        edited(("base:\n", "base:\n  preset: table_1/no_em\n")), "5:3",
        "preset: no preset 'table_1/no_em'; did you mean table_1/no_ema?",
    ),
    "the word preset": (
        (RECIPE, "presets: trm_mlp\n"), "1:1", "presets: unknown setting; did you mean preset?",
    ),
    "a kind": (
        edited(("mixer: token_mlp", "mixer: token_mpl")), "6:46",
        "model.mixer: no such kind 'token_mpl'; did you mean token_mlp?",
    ),
    "a choice": (
        edited(("name: puzzle_accuracy", "name: puzzle_acuracy")), "21:10",
        "metric.name: 'puzzle_acuracy' is not one of puzzle_accuracy, cell_accuracy; did you mean "
        "puzzle_accuracy?",
    ),
    # Wrong types.
    "text for a count": (
        edited(("width: 16", "width: wide")), "6:22",
        "model.width: input should be a valid integer, not 'wide'",
    ),
    "a number in quotes": (
        edited(("width: 16", 'width: "16"')), "6:22",
        "model.width: input should be a valid integer, not '16'; did you mean 16?",
    ),
    "1e-4 for a count": (
        edited(("updates: 4", "updates: 1e-4")), "10:5",
        "train.updates: input should be a valid integer, not 0.0001",
    ),
    "1e2 for a count": (
        edited(("updates: 4", "updates: 1e2")), "10:5",
        "train.updates: input should be a valid integer, not 100.0; did you mean 100?",
    ),
    "off for a truth value": (
        edited(("ema: 0.5", "ema: 0.5\n    ema_table: off")), "15:5",
        "train.ema_table: input should be a valid boolean, not 'off'; did you mean false?",
    ),
    "off for a number": (
        edited(("ema: 0.5", "ema: off")), "14:5",
        "train.ema: input should be a valid number, not 'off'",
    ),
    "true for a count": (
        edited(variant("model.n: true")), "19:37",
        "model.n: input should be a valid integer, not True",
    ),
    "a wrong value of a factor": (
        edited(factors("model.T: [1, two]")), "21:16",
        "model.T: input should be a valid integer, not 'two'",
    ),
    "one number for a list": (
        edited(("[0, 1]", "3")), "20:1", "seeds: input should be a list, not 3",
    ),
    "a key that is no text": (
        (RECIPE, MLP + "3: 4\n"), "2:1", "the name of a setting is text, not 3",
    ),
    "a setting below a number": (
        edited(variant("model.n.x: 2")), "19:37",
        "model.n: input should be a valid integer, not {'x': 2}",
    ),
    "a dot at the end": (
        edited(variant("model.n.: 2")), "19:37",
        "model.n: input should be a valid integer, not {'': 2}",
    ),
    "a list for an option of sbatch": (
        slurm("extra: {exclude: [n1]}"), "2:33",
        "executor.extra.exclude: input should be text, a whole number, true or false, not ['n1']",
    ),
    "text for an end of a range": (
        edited(("seeds: [0, 1]", "search: {trials: 2, parameters: {model.T: {low: one, high: 2}}, "
                "confirm: {seeds: [9]}}\nseeds: [0]")), "20:44",
        "search.parameters.model.T.low: input should be a number, not 'one'",
    ),
    "a bare list for a searched setting": (
        edited(("seeds: [0, 1]", "search: {trials: 2, parameters: {model.n: [1, 2]}, "
                "confirm: {seeds: [9]}}\nseeds: [0]")), "20:34",
        "search.parameters.model.n: needs {choices: [1, 2]} or {low: ..., high: ...}, not [1, 2]",
    ),
    "a bare value for a searched setting": (
        edited(("seeds: [0, 1]", "search: {trials: 2, parameters: {model.n: 3}, "
                "confirm: {seeds: [9]}}\nseeds: [0]")), "20:34",
        "search.parameters.model.n: needs {choices: [...]} or {low: ..., high: ...}, not 3",
    ),
    "a misspelt key of a searched setting": (
        edited(("seeds: [0, 1]", "search: {trials: 2, parameters: {model.n: {choice: [1, 2]}}, "
                "confirm: {seeds: [9]}}\nseeds: [0]")), "20:44",
        "search.parameters.model.n.choice: unknown setting; did you mean choices?",
    ),
    "a number for a group of settings": (
        edited(variant("model: 3")), "19:37", "model: needs settings, as {name: value}, not 3",
    ),
    # Given twice.
    "a key given twice": (
        edited(("  eval:", "  train: {}\n  eval:")), "16:3", "found duplicate key train",
    ),
    "a factor given twice": (
        edited(factors("model.T: [1]\n  model.T: [2]")), "22:3", "found duplicate key model.T",
    ),
    "a seed given twice": (edited(("[0, 1]", "[4, 4]")), "20:12", "seeds.1: 4 is given twice"),
    "a variant given twice": (
        edited(("name: deep", "name: shallow"), ("[deep]", "[shallow]")), "19:6",
        "variants.1.name: 'shallow' is given twice",
    ),
    "a variant twice in a contrast": (
        edited(("[deep]", "[deep, deep]")), "23:77", "contrasts.0.against.1: 'deep' is given twice",
    ),
    "a seed of a base": (edited(("base:\n", "base:\n  seed: 3\n")), "5:3", SEED),
    "a seed of a variant": (edited(variant("seed: 5")), "19:37", SEED),
    "seeds as a factor": (edited(factors("seed: [1, 2]")), "21:3", SEED),
    "a searched seed": (
        edited(("seeds: [0, 1]", "search: {trials: 2, parameters: {seed: {low: 1, high: 2}}, "
                "confirm: {seeds: [9]}}\nseeds: [0]")), "20:34", SEED,
    ),
    "a recipe given twice": (
        edited(variant("model.n: 1")), "19:5",
        "variants 'shallow' and 'deep' are the same recipe",
    ),
    # Names of what is not there.
    "an unknown variant of a contrast": (
        edited(("[deep]", "[dep]")), "23:71",
        "contrasts.0.against.0: no variant 'dep'; did you mean deep?",
    ),
    "an unknown baseline": (
        edited(("baseline: shallow", "baseline: shalow")), "23:42",
        "contrasts.0.baseline: no variant 'shalow'; did you mean shallow?",
    ),
    "an unknown series of a fit": (
        edited(("contrasts:", "fits: [{name: f, law: power_error, series: TMR}]\ncontrasts:")),
        "22:36",
        "fits.0.series: no series 'TMR'; did you mean TRM?",
    ),
    "an unknown law": (
        edited(("contrasts:", "fits: [{name: f, law: saturatin}]\ncontrasts:")), "22:18",
        "did you mean 'saturating'?",
    ),
    "a law of losses for an accuracy": (
        edited(("contrasts:", "fits: [{name: f, law: power}]\ncontrasts:")), "22:18",
        "fits.0: law: power is of a loss, which has no upper end, and puzzle_accuracy is at most "
        "1; take saturating, power_error, or of a curve that turns log_quadratic or bnsl",
    ),
    "an unknown factor of an exclusion": (
        edited(factors("model.T: [1, 2]", "exclude: [{model.TT: 2}]\n")), "22:12",
        "exclude.0: model.TT is not a factor of study tiny; did you mean model.T?",
    ),
    "an unknown value of an exclusion": (
        edited(factors("model.T: [1, 2]", "exclude: [{model.T: 3}]\n")), "22:12",
        "exclude.0: model.T has no value 3; it has 1, 2",
    ),
    "an unknown variant of an exclusion": (
        edited(factors("model.T: [1, 2]", "exclude: [{variant: deeep}]\n")), "22:12",
        "exclude.0: no variant 'deeep'; did you mean deep?",
    ),
    # Impossible geometry.
    "more clues than cells": (
        edited(("clues: 8", "clues: 17")), "5:33", "task: clues must be 4 to 15 for 4x4, not 17",
    ),
    "no boxes of that size": (
        edited(("size: 4", "size: 8")), "5:24", "task.size: 8 is not one of 4, 6, 9",
    ),
    "heads that do not divide the width": (
        (RECIPE, ATT + "model: {width: 100}\n"), "2:9",
        "model: width 100 does not split into 8 heads of even width; heads: 10 does",
    ),
    "heads of a variant that do not divide the base's width": (
        edited(variant("model.mixer: {kind: attention, heads: 3}")), "19:37",
        "model: width 16 does not split into 3 heads of even width; heads: 2 does, or give "
        "mixer.head_dim",
    ),
    "heads among the values of a factor": (
        edited(ATTENTION, factors("model.mixer.heads: [2, 3]")), "21:26",
        "model: width 16 does not split into 3 heads of even width",
    ),
    "a width of a variant and heads of a factor": (
        edited(ATTENTION, variant("model.width: 18"), factors("model.mixer.heads: [1, 4]")),
        "21:26", "into 4 heads of even width; heads: 3 does, or give mixer.head_dim (in deep, "
        "model.mixer.heads=4)",
    ),
    "a searched value that does not go with the base": (
        edited(("seeds: [0, 1]", "search: {trials: 2, parameters: {model.mixer: {choices: "
                "[token_mlp, {kind: attention, heads: 3}]}}, confirm: {seeds: [9]}}\nseeds: [0]")),
        "20:34", "model: width 16 does not split into 3 heads of even width",
    ),
    "more puzzles than there are": (
        edited(("clues: 8, train: 32", "clues: 15, train: 100000")), "5:3",
        "task: train, validation and test ask for 100,020 puzzles; 4x4 has no more than 4,608 with "
        "15 clues",
    ),
    "a grid that is no grid": (
        (RECIPE, ATT + "model: {positions: {kind: rope_2d, columns: 7}}\n"), "2:9",
        "model.positions: rope_2d: 81 cells do not fill rows of 7",
    ),
    "a warm-up as long as the run": (
        edited(("warmup: 1", "warmup: 4")), "13:32",
        "train: schedule.warmup 4 leaves nothing of 4 updates",
    ),
    "a metric that is not evaluated": (
        edited(("steps: 2}\n", "steps: 3}\n")), "16:20",
        "eval.steps: the metric is read after 3 steps, which is not among [2]",
    ),
    # Out of range.
    "n: 0": (
        edited(variant("model.n: 0")), "19:37",
        "model.n: input should be greater than or equal to 1, not 0",
    ),
    "a negative rate": (
        edited(("lr: 1e-2", "lr: -1e-2")), "12:35",
        "train.optimizer.lr: input should be greater than 0, not -0.01",
    ),
    "a rate that is no number": (
        edited(("lr: 1e-2", "lr: .nan")), "12:35",
        "train.optimizer.lr: input should be a finite number, not nan",
    ),
    "a seed of 41 bits": (
        edited(("[0, 1]", "[0, 1099511627776]")), "20:12",
        "seeds.1: input should be less than 4294967296, not 1099511627776",
    ),
    "no workers": (
        (SWEEP, "name: s\nexecutor: {kind: local, workers: 0}\n"), "2:25",
        "executor.workers: input should be greater than or equal to 1, not 0",
    ),
    "a width without measure": (
        edited(("width: 16", "width: 10000000000000000000000")), "6:22",
        "model.width: input should be less than or equal to 65536, not 10000000000000000000000",
    ),
    "a study's name too long for a folder": (
        edited(("name: tiny", "name: " + "x" * 300)), "1:1",
        "name: string should have at most 100 characters, not 'xxx",
    ),
    "a name of two lines": (
        edited(("name: deep", 'name: "de\\nep"'), ("[deep]", "[shallow]"),
               ("baseline: shallow", 'baseline: "de\\nep"')), "19:6",
        "variants.1.name: must be one line without control characters, not 'de\\nep'",
    ),
    "a name that colours the terminal": (
        edited(("series: TRM}", 'series: "\\e[31mTRM"}')), "18:21",
        "variants.0.series: must be one line without control characters, not '\\x1b[31mTRM'",
    ),
    # What sbatch gets.
    "an option that a field stands for": (
        slurm("extra: {time: 10}"), "2:25",
        "executor: extra: time would overrule what jobs are given; the field timeout_min says that",
    ),
    "an option that jobs have of their own": (
        slurm("extra: {output: x}"), "2:25",
        "executor: extra: output would overrule what jobs are given; every job has its own",
    ),
    "an option that a field says already": (
        slurm("account: mine, extra: {account: yours}"), "2:40",
        "executor: extra: account would overrule what jobs are given; the field account says that",
    ),
    "a second number of GPUs": (
        slurm("gpus: 1, extra: {gpus-per-node: 2}"), "2:34",
        "executor: extra: gpus-per-node would overrule what jobs are given; the field gpus says",
    ),
    "an option with a blank": (
        slurm('extra: {"bad key": x}'), "2:25",
        "executor: extra: 'bad key' is no long name of an option of sbatch",
    ),
    "a partition of two lines": (
        slurm('partition: "a\\n#SBATCH --x"'), "2:25",
        "executor.partition: must be one line without control characters, not 'a\\n#SBATCH --x'",
    ),
    "an option's value of two lines": (
        slurm('extra: {comment: "a\\nb"}'), "2:33",
        "executor.extra.comment: must be one line without control characters, not 'a\\nb'",
    ),
    "no such profile": (
        slurm("profile: nowhere"), "2:25",
        "executor.profile: no profile 'nowhere' in . and ",
    ),
    "a misspelt setting of a sweep's set": (
        (SWEEP, "name: s\nset:\n  model.widht: 8\n"), "3:3",
        "model.widht: unknown setting; did you mean width?",
    ),
    # Matrices.
    "no variants": (
        edited((DEEP, ""), ("variants:\n  - {name: shallow, series: TRM}\n", "variants: []\n")),
        "17:1", "variants: needs 1 or more, and is []",
    ),
    "no seeds": (edited(("[0, 1]", "[]")), "20:1", "seeds: needs 1 or more, and is []"),
    "a factor without values": (
        edited(factors("model.T: []")), "21:3", "factors.model.T: needs 1 or more, and is []",
    ),
    "a zip of unequal lengths": (
        edited(factors("model.T: [1, 2, 3]\n  model.layers: [1, 2]", "mode: zip\n")), "20:1",
        "factors: mode: zip pairs values one by one, and model.T has 3 where model.layers has 2",
    ),
    "a mode without factors": (
        edited(("seeds:", "mode: one_at_a_time\nseeds:")), "20:1",
        "mode: one_at_a_time combines factors, and there are none",
    ),
    "an unknown mode": (
        edited(factors("model.T: [1, 2]", "mode: zipp\n")), "22:1",
        "mode: 'zipp' is not one of product, zip, one_at_a_time; did you mean zip?",
    ),
    "an exclusion of nothing": (
        edited(factors("model.T: [1, 2]\n  model.layers: [1, 2]",
                       "mode: zip\nexclude: [{model.T: 1, model.layers: 2}]\n")), "24:11",
        "exclude.0: no cell has all of {'model.T': 1, 'model.layers': 2}",
    ),
    "an empty exclusion": (
        edited(factors("model.T: [1, 2]", "exclude: [{}]\n")), "22:11",
        "exclude.0: names no cell; give one or more of variant, model.T",
    ),
    "an exclusion of everything": (
        edited(factors("model.T: [1, 2]", "exclude: [{model.T: 1}, {model.T: 2}]\n")), "22:1",
        "exclude: leaves none of 4 cells",
    ),
    "a contrast without a cell": (
        edited(factors("model.T: [1, 2]", "exclude: [{variant: deep}]\n")), "26:71",
        "contrasts.0.against.0: 'deep' and 'shallow' have no combination of the factors in common",
    ),
    "a million cells": (
        edited((DEEP, ""), ("[deep]", "[shallow]"),
               factors(f"model.T: {THOUSAND}\n  model.n: {THOUSAND}")), "19:1",
        "1,000,000 cells of 1 variant and factors 1,000 x 1,000; more than 100,000 are made by "
        "`trm-lab validate`, `plan` and `run` with --yes-really only",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a valid study."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / TINY).write_text(written())
    return tmp_path


def starting(kind: str) -> list[str]:
    """Give the command that would start something with bad.yaml."""
    if kind == RECIPE:
        return ["train", "bad.yaml", "--out", "runs/x"]
    return ["run", TINY, "--on", "bad.yaml"] if kind == SWEEP else ["run", "bad.yaml"]


def written_to(folder: Path, text: str | bytes) -> None:
    (folder / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())


def holds(done: Done, folder: Path, at: str, says: str) -> None:
    """Hold a command to what a bad file must lead to."""
    lines = done.err.removeprefix("errors:\n").removeprefix("error: ").splitlines()
    ours = [line for line in lines if says in line]
    assert len(ours) == 1, done.err
    assert ours[0].startswith(f"bad.yaml:{at}: "), ours[0]
    assert all(line.startswith("bad.yaml:") for line in lines), done.err
    assert (done.code, done.out) == (2, "")
    assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml", TINY]


def test_the_table_is_long_enough():
    assert len(TABLE) >= 100


@pytest.mark.parametrize(("file", "at", "says"), TABLE.values(), ids=TABLE)
def test_a_bad_file_is_refused_at_its_place(
    folder: Path, trm_lab: TrmLab, file: tuple[str, str | bytes], at: str, says: str
):
    kind, text = file
    written_to(folder, text)
    holds(trm_lab("validate", "bad.yaml"), folder, at, says)
    holds(trm_lab(*starting(kind)), folder, at, says)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a key of a study", "a cycle", "a million cells"])
def test_a_process_says_the_same(folder: Path, name: str):
    (kind, text), at, says = TABLE[name]
    written_to(folder, text)
    holds(in_a_process("validate", "bad.yaml"), folder, at, says)
    holds(in_a_process(*starting(kind)), folder, at, says)


@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_a_large_matrix_goes_on_with_yes_really(
    folder: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch, verb: str
):
    monkeypatch.setattr("trm_lab.study.combinations.MOST_CELLS", 1)
    refused = trm_lab(verb, TINY)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: tiny.yaml:17:1: 2 cells; more than 1 are made by")
    assert not (folder / "runs").exists()
    (folder / "here.yaml").write_text("name: here\nexecutor: in_process\n")
    on = ["--on", "here.yaml", "--set", "train.updates=2"] * (verb != "validate")
    done = trm_lab(verb, TINY, "--yes-really", *on)
    assert (done.code, done.err) == (0, "")
    assert (folder / "runs").exists() == (verb == "run")


@pytest.mark.parametrize(
    ("more", "at", "says"),
    [
        ("cells: [{variant: dep}]", "2:10", "cells.0: no variant 'dep'; did you mean deep?"),
        ("cells: [dep]", "2:9", "cells.0: no cell 'dep'; did you mean deep?"),
        ("set: {model.lyers: 2}", "2:7", "model.lyers: unknown setting; did you mean layers?"),
        ("set: {train.updates: 0}", "2:7", "train.updates: input should be greater than or equal"),
    ],
)
def test_a_sweep_that_does_not_fit_its_study_is_refused(
    folder: Path, trm_lab: TrmLab, more: str, at: str, says: str
):
    written_to(folder, f"name: s\n{more}\n")
    holds(trm_lab("plan", TINY, "--on", "bad.yaml"), folder, at, says)
    holds(trm_lab("run", TINY, "--on", "bad.yaml"), folder, at, says)


def test_errors_of_all_levels_come_at_once(folder: Path, trm_lab: TrmLab):
    typos = [("question", "qestion"), ("seeds:", "seds:"), ("metric:", "metrik:"),
             ("batch", "bach"), ("width", "widht"), ("[deep]", "[dep]")]  # fmt: skip
    written_to(folder, written(*typos))
    expected = (
        "errors:\n"
        "bad.yaml:2:1: qestion: unknown setting; did you mean question?\n"
        "bad.yaml:20:1: seds: unknown setting; did you mean seeds?\n"
        "bad.yaml:21:1: metrik: unknown setting; did you mean metric?\n"
        "bad.yaml:23:71: contrasts.0.against.0: no variant 'dep'; did you mean deep?\n"
        "bad.yaml:6:22: model.widht: unknown setting; did you mean width?\n"
        "bad.yaml:11:5: train.bach: unknown setting; did you mean batch?\n"
    )
    for verb in ("validate", "plan", "run"):
        assert trm_lab(verb, "bad.yaml") == Done(2, "", expected)


def test_a_base_is_looked_at_where_only_what_is_above_it_is_wrong(folder: Path, trm_lab: TrmLab):
    changes = [("seeds: [0, 1]", "seeds: none"), ("question: Does", "question: 3 #"),
               ("batch", "bach"), ("name: tiny", "name: tiny\nzzz: 1")]  # fmt: skip
    written_to(folder, written(*changes))
    assert trm_lab("validate", "bad.yaml").err == (
        "errors:\n"
        "bad.yaml:3:1: question: input should be a valid string, not 3\n"
        "bad.yaml:21:1: seeds: input should be a list, not 'none'\n"
        "bad.yaml:2:1: zzz: unknown setting; known: name, question, hypothesis, base, variants, "
        "factors, mode, exclude, seeds, search, held, metric, fits, contrasts\n"
        "bad.yaml:12:5: train.bach: unknown setting; did you mean batch?\n"
    )


def test_a_profile_is_known_by_its_keys(folder: Path, trm_lab: TrmLab):
    written_to(folder, "partition: gpu\ntimeout_min: 5\n")
    assert trm_lab("validate", "bad.yaml").out == "bad.yaml: a profile of a cluster, valid\n"
    assert trm_lab("plan", "bad.yaml").err == (
        "error: bad.yaml: is a profile of a cluster, not a study; a sweep names it, as `executor: "
        "{kind: slurm, profile: bad}`\n"
    )
    (folder / "sweep.yaml").write_text("name: s\nexecutor: {kind: slurm, profile: bad}\n")
    assert trm_lab("validate", "sweep.yaml") == Done(0, "sweep.yaml: a sweep, valid\n", "")
    written_to(folder, "partition: gpu\ntimeout_min: 5\nmemory_gb: 4 GB\n")
    error = "error: bad.yaml:3:1: memory_gb: input should be a valid number, not '4 GB'\n"
    for arguments in (("validate", "bad.yaml"), ("validate", "sweep.yaml"),
                      ("plan", TINY, "--on", "sweep.yaml")):  # fmt: skip
        assert trm_lab(*arguments) == Done(2, "", error)


def test_errors_and_warnings_are_to_be_had_as_json(folder: Path, trm_lab: TrmLab):
    written_to(folder, MLP + "modle: {}\n")
    done = trm_lab("validate", "bad.yaml", TINY, "--json")
    assert (done.code, done.err) == (2, "")
    assert json.loads(done.out) == [
        {"file": "bad.yaml", "is": "", "warnings": [],
         "errors": ["bad.yaml:2:1: modle: unknown setting; did you mean model?"]},
        {"file": TINY, "is": "a study of 2 cells", "warnings": [], "errors": []},
    ]  # fmt: skip
    assert trm_lab("validate", TINY, "--json").code == 0


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_seed_said_outside_the_study_is_refused(folder: Path, trm_lab: TrmLab, verb: str):
    done = trm_lab(verb, TINY, "--set", "seed=3")
    assert done == Done(2, "", f"error: --set seed=3: {SEED}\n")
    written_to(folder, "name: s\nset: {seed: 3}\n")
    done = trm_lab(verb, TINY, "--on", "bad.yaml")
    assert done == Done(2, "", f"error: bad.yaml:2:7: {SEED}\n")
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("detached", [(), ("--detach",)])
def test_what_cannot_start_leaves_no_folder(
    folder: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch, detached: tuple[str, ...]
):
    monkeypatch.setitem(sys.modules, "wandb", None)  # not to be imported, installed or not
    assert trm_lab("run", TINY, "--as-job").err == (
        "error: --as-job: the sweep's executor is not slurm\n"
    )
    (folder / "bad.yaml").write_text(
        written(
            ("kind: sudoku, size: 4, clues: 8", "kind: sudoku_csv, name: x, train_csv: a.csv, "
             "test_csv: a.csv"),
        )
    )  # fmt: skip
    done = trm_lab("run", "bad.yaml", *detached)
    assert (done.code, done.err) == (
        2,
        "error: a.csv: cannot be read: [Errno 2] No such file or directory: 'a.csv'\n",
    )
    (folder / "tracked.yaml").write_text("name: t\nexecution: {trackers: [wandb]}\n")
    assert trm_lab("run", TINY, "--on", "tracked.yaml", *detached).err == (
        "error: execution.trackers: no package wandb; pip install 'trm-lab[wandb]', or leave it "
        "out\n"
    )
    assert trm_lab("run", TINY, "--only", "depe", *detached).code == 2
    assert not (folder / "runs").exists()


def test_only_an_unknown_cell_is_refused_with_the_near_miss(folder: Path, trm_lab: TrmLab):
    done = trm_lab("run", TINY, "--only", "depe")
    assert done == Done(2, "", "error: --only depe: no such cell; did you mean deep?\n")
    assert not (folder / "runs").exists()


def test_a_rate_may_be_written_1e_4(folder: Path, trm_lab: TrmLab):
    written_to(folder, written(("lr: 1e-2", "lr: 1e-4")))
    assert trm_lab("validate", "bad.yaml") == Done(0, "bad.yaml: a study of 2 cells, valid\n", "")
