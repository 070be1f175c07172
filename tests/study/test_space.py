"""What a study's search may say."""

from pathlib import Path

import pytest

from tests.cli.conftest import in_a_process
from tests.study.search_study import FIRST_LR, ONE_SEED, SEARCH, searching
from tests.study.tiny import write_files
from trm_lab.config.changes import Change
from trm_lab.config.search import Choice, Parameter
from trm_lab.errors import ConfigError
from trm_lab.study.sampling import sampler
from trm_lab.study.space import label

LR = "train.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}"
FFN = "model.ffn: {choices: [swiglu, norm_gate_swiglu]}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("optimizer.lr", "optimizer.lrr", "24:5: train.optimizer.lrr: unknown setting; "
         "did you mean lr?"),
        ("train.optimizer", "trian.optimizer", "24:5: trian: unknown setting; did you mean train?"),
        ("low: 1e-4", "low: 1", "24:5: search.parameters.train.optimizer.lr: low 1 must be less "
         "than high 0.1"),
        ("low: 1e-4", "low: 0.0", "24:5: search.parameters.train.optimizer.lr: log needs low above "
         "0, and no step"),
        ("log: true", "step: 0.03", "24:5: search.parameters.train.optimizer.lr: step 0.03: high "
         "0.1 is not low 0.0001 and whole steps"),
        ("low: 1e-4, ", "", "24:5: search.parameters.train.optimizer.lr: needs low and high, or "
         "choices"),
        (", log: true", ", choices: [1, 2]", "24:5: search.parameters.train.optimizer.lr: choices "
         "and a range: give one of them"),
        ("[swiglu, ", "[swiglo, ", "25:5: model.ffn: no such kind 'swiglo'; did you mean swiglu?"),
        ("[swiglu, ", "[norm_gate_swiglu, ", "25:5: search.parameters.model.ffn: choices: given "
         'twice: "norm_gate_swiglu"'),
        (FFN, "model.n: {low: 1, high: 4}", "25:5: model.n is searched, and variant 'deep' sets it "
         "too"),
        (FFN, "model.T: {low: 0, high: 4}", "25:5: model.T: input should be greater than or equal "
         "to 1, not 0"),
        (FFN, "model.T: {low: 1, high: 4.5}", "25:5: model.T: input should be a valid integer, not "
         "4.5"),
        (FFN, "model.width: {low: 16, high: 33, step: 17}", "25:5: model.width: input should be a "
         "multiple of 2, not 33"),
        (FFN, "task.clues: {low: 6, high: 8}", "25:5: task.clues: says what is measured, and values"
         " under different ones do not compare; make it a factor"),
        (FFN, "supervision.N_sup: {low: 2, high: 3}", None),
        ("trials: 6", "trials: 0", "26:3: search.trials: input should be greater than or equal to "
         "1, not 0"),
        ("trials: 6", "trials: 6\n  sampler: tpee", "27:3: search.sampler: 'tpee' is not one of "
         "tpe, gp, nsga2, qmc, random; did you mean tpe?"),
        ("trials: 6", "trials: 6\n  sampler: nsga2", "27:3: search: sampler nsga2: needs "
         "objectives, such as [puzzle_accuracy, flops]"),
        ("trials: 6", "trials: 6\n  warmup: 3", "27:3: search: warmup: there is no pruner to warm "
         "up"),
        ("[10, 11]", "[0, 11]", "27:13: search.confirm.seeds: [0, 11] must be different ones that "
         "the search did not see, and it sees 0"),
    ],
)  # fmt: skip
def test_a_wrong_search_is_refused_at_its_place(
    old: str, new: str, said: str | None, tmp_path: Path
):
    if said is None:  # metric.steps is given, so any N_sup goes
        assert searching(tmp_path, (old, new)).arms
        return
    with pytest.raises(ConfigError) as caught:
        searching(tmp_path, (old, new))
    assert str(caught.value) == f"tiny.yaml:{said}"


def test_a_setting_that_is_searched_cannot_be_set_for_all(tmp_path: Path):
    plan = searching(tmp_path)
    from trm_lab.config.source import parse_yaml
    from trm_lab.study.matrix import expand_study

    change = Change(("train", "optimizer", "lr"), 0.1, "--set train.optimizer.lr=0.1")
    with pytest.raises(ConfigError) as caught:
        expand_study(parse_yaml(plan.matrix.text, "tiny.yaml"), (change,))
    assert str(caught.value) == (
        "tiny.yaml:24:5: train.optimizer.lr is searched, and --set train.optimizer.lr=0.1 sets it "
        "too"
    )


def test_a_search_has_one_seed(tmp_path: Path):
    from tests.study.tiny import planned

    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, ("contrasts:", SEARCH))
    assert "a search trains all trials with one seed" in str(caught.value)
    assert str(caught.value).startswith("tiny.yaml:20:1: seeds")


def test_what_is_held_is_said_and_must_not_vary(tmp_path: Path):
    held = ("contrasts:", "held: [train.optimizer.lr]\ncontrasts:")
    plan = searching(tmp_path, (LR + "\n    ", ""), study=(held,))
    assert plan.asked.remarks() == [
        "train.optimizer.lr is held over model.n",
        "model.ffn: tuned in every arm on 6 trials",
        "sampler tpe: random until 10 trials of an arm have a value; at most 4 of an arm at a time",
        "search.trials: all 6 of an arm may be random, with 4 at a time before 10 have a value: "
        "sampler tpe needs more trials, or fewer at a time (search.parallel)",
    ]
    for name, said in (
        ("train.batc", "train.batc: no such setting in these recipes"),
        ("model.n", "model.n differs between cells: model.n"),
    ):
        with pytest.raises(ConfigError) as caught:
            searching(tmp_path, study=(("contrasts:", f"held: [{name}]\ncontrasts:"),))
        assert str(caught.value) == f"tiny.yaml:28:8: held: {said}"
    with pytest.raises(ConfigError) as caught:
        searching(tmp_path, study=(held,))
    assert str(caught.value) == (
        "tiny.yaml:24:5: train.optimizer.lr is searched, and held sets it too"
    )


@pytest.mark.parametrize(("warmup", "remarked"), [(3, False), (4, True), (100, True)])
def test_a_warmup_that_leaves_nothing_to_prune_is_remarked(
    tmp_path: Path, warmup: int, remarked: bool
):
    pruner = f"trials: 6\n  pruner: median\n  warmup: {warmup}"
    said = f"search.warmup: {warmup} updates leave nothing to prune of a run of 4"
    assert (said in searching(tmp_path, ("trials: 6", pruner)).asked.remarks()) == remarked


@pytest.mark.parametrize(
    ("said", "startup", "at_once", "random"),
    [
        ("trials: 30", 10, 4, False),
        ("trials: 14", 10, 4, False),
        ("trials: 13", 10, 4, True),
        ("trials: 200", 10, 20, False),
        ("trials: 30\n  parallel: 20", 10, 20, False),
        ("trials: 30\n  parallel: 21", 10, 21, True),
        ("trials: 11\n  sampler: gp\n  parallel: 1", 10, 1, False),
        ("trials: 10\n  sampler: gp\n  parallel: 1", 10, 1, True),
        ("trials: 30\n  sampler: nsga2\n  objectives: [puzzle_accuracy, flops]", 6, 4, False),
        ("trials: 30\n  sampler: random", 0, None, False),
        ("trials: 30\n  sampler: qmc\n  pruner: hyperband", 0, None, False),
        ("trials: 30\n  sampler: random\n  parallel: 3", 0, 3, False),
    ],
)
def test_a_sampler_that_learns_has_few_trials_at_a_time_and_says_if_it_never_comes_to_it(
    tmp_path: Path, said: str, startup: int, at_once: int | None, random: bool
):
    plan = searching(tmp_path, ("trials: 6", said))
    search = plan.study.search
    assert search is not None
    assert (search.startup, search.at_once) == (startup, at_once)
    remarks = plan.asked.remarks()
    if startup:
        assert remarks[1] == (
            f"sampler {search.sampler}: random until {startup} trials of an arm have a value; at "
            f"most {at_once} of an arm at a time"
        )
    else:
        assert not [line for line in remarks if line.startswith("sampler ")]
    assert bool([line for line in remarks if line.startswith("search.trials: all ")]) == random


def test_choices_are_stored_by_names_that_tell_them_apart():
    def named(*choices: object) -> dict[object, object]:
        return dict(Parameter(choices=choices).named)

    assert named("a", 2, None, 0.5) == {"a": "a", 2: 2, None: None, 0.5: 0.5}
    assert named({"kind": "a"}, "b") == {"a": {"kind": "a"}, "b": "b"}
    heads = [{"kind": "attention", "heads": h} for h in (1, 2)]
    assert list(named(*heads)) == [
        '{"heads": 1, "kind": "attention"}', '{"heads": 2, "kind": "attention"}',
    ]  # fmt: skip
    assert list(named({"kind": "a"}, "a")) == ['{"kind": "a"}', '"a"']
    assert list(named(1, True)) == ["1", "true"]


MIXERS = "model.mixer: {choices: [{kind: attention, heads: 2}, {kind: attention, heads: 4}, conv]}"


@pytest.mark.parametrize(
    ("parameter", "stored", "said"),
    [
        (FFN, "swiglu", "ffn=swiglu"),
        (MIXERS, '{"heads": 2, "kind": "attention"}', "mixer=attention heads=2"),
        (MIXERS, "conv", "mixer=conv"),
        ("train.optimizer.betas: {choices: [[0.9, 0.95], [0.9, 0.99]]}", "[0.9, 0.95]",
         "betas=[0.9, 0.95]"),
        ("train.ema: {choices: [null, 0.5]}", None, "ema=None"),
        ("model.T: {low: 1, high: 2}", 2, "T=2"),
    ],
)  # fmt: skip
def test_a_trial_is_called_as_a_factor_s_cell_is(
    parameter: str, stored: Choice, said: str, tmp_path: Path
):
    search = searching(tmp_path, (FFN, parameter)).study.search
    assert search is not None
    name = parameter.partition(":")[0]
    values = {"train.optimizer.lr": FIRST_LR, name: stored}
    assert label("deep", search, values) == f"deep, lr=0.00443, {said}"


def test_a_plan_says_the_budget_and_runs_nothing(tmp_path: Path):
    files = write_files(tmp_path / "files", ("contrasts:", SEARCH), ONE_SEED)
    done = in_a_process("plan", *files, "--runs", tmp_path / "runs")
    assert done.code == 0
    assert "at most 6 trials in each of 2 arms, then the best 1 of each x 2 seeds" in done.out
    assert "remark: train.optimizer.lr, model.ffn: tuned in every arm on 6 trials" in done.out
    assert not (tmp_path / "runs").exists()
    checked = in_a_process("validate", files[0])
    assert checked.code == 0
    for told in (done.out, checked.out):
        assert ": sampler tpe: random until 10 trials of an arm have a value; at most 4 of " in told
        assert ": search.trials: all 6 of an arm may be random, with 4 at a time " in told


def test_a_sweep_can_take_some_arms(tmp_path: Path):
    from tests.study.tiny import HERE

    some = HERE.model_copy(update={"cells": ({"cell": "deep"},)})
    plan = searching(tmp_path, sweep=some)
    assert [cell.variant for cell in plan.taken] == ["deep"]
    assert [cell.variant for cell in plan.arms] == ["shallow", "deep"]
    files = write_files(tmp_path / "files", ("contrasts:", SEARCH), ONE_SEED, sweep=some)
    done = in_a_process("plan", *files, "--runs", tmp_path / "runs")
    assert "at most 6 trials in 1 of 2 arms, then the best 1 of it x 2 seeds in " in done.out


def test_suggestions_have_seeds_of_their_own_and_qmc_one_for_its_sequence(tmp_path: Path):
    search = searching(tmp_path, ("trials: 6", "trials: 6\n  sampler: qmc\n  seed: 3")).study.search
    assert search is not None
    assert sampler(search, 0)._seed == sampler(search, 5)._seed == 3  # type: ignore[attr-defined]


def test_the_study_is_planned_without_files(tmp_path: Path):
    plan = searching(tmp_path)
    assert list(plan.runs()) == []
    assert plan.as_dict()["seeds"] == [10, 11]
    assert plan.as_dict()["search"] == [
        {"variant": name, "trials": 6, "winners": []} for name in ("shallow", "deep")
    ]
