import re
from typing import Any

import pytest

from tests.study.tiny import DEEP, SHALLOW, study
from trm_lab.config.blocks import Attention
from trm_lab.config.changes import Change
from trm_lab.config.execution import Execution, Local, Sweep
from trm_lab.config.gradient import LastUpdates, WholeProgram
from trm_lab.config.halting import Confidence, Fixed
from trm_lab.config.source import parse_yaml
from trm_lab.config.supervision import Softmax, Stablemax
from trm_lab.config.training import AdamATan2, AdamW
from trm_lab.errors import ConfigError
from trm_lab.study.combinations import texts
from trm_lab.study.matrix import Matrix, expand_study
from trm_lab.study.plan import make_plan

VARIANTS = "  - {name: deep, series: TRM, set: {model.n: 2}}\n"


def matrix(*replacements: tuple[str, str], changes: Any = ()) -> Matrix:
    return expand_study(study(*replacements), changes)


def refusal(*replacements: tuple[str, str], changes: Any = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        expand_study(study(*replacements), changes)
    return str(caught.value)


def variant(settings: str) -> tuple[str, str]:
    return VARIANTS, f"  - {{name: deep, series: TRM, set: {{{settings}}}}}\n"


def factors(text: str) -> tuple[str, str]:
    return "seeds: [0, 1]", f"factors:\n{text}seeds: [0, 1]"


def test_variants_are_crossed_with_factors_in_the_order_written():
    made = matrix(factors("  model.T: [2, 1]\n  train.ema: [0.5, null]\n"))
    assert [cell.variant for cell in made.cells] == [
        "shallow, model.T=2, train.ema=0.5",
        "shallow, model.T=2, train.ema=None",
        "shallow, model.T=1, train.ema=0.5",
        "shallow, model.T=1, train.ema=None",
        "deep, model.T=2, train.ema=0.5",
        "deep, model.T=2, train.ema=None",
        "deep, model.T=1, train.ema=0.5",
        "deep, model.T=1, train.ema=None",
    ]
    recipes = [cell.recipe for cell in made.cells]
    assert [(r.model.n, r.model.T, r.train.ema) for r in recipes] == [
        (1, 2, 0.5), (1, 2, None), (1, 1, 0.5), (1, 1, None),
        (2, 2, 0.5), (2, 2, None), (2, 1, 0.5), (2, 1, None),
    ]  # fmt: skip
    assert [cell.series for cell in made.cells] == ["TRM"] * 8


def test_a_change_wins_over_variant_and_factor():
    made = matrix(
        variant("model.n: 3, model.layers: 3"),
        factors("  model.T: [2]\n"),
        changes=(Change(("model", "layers"), 2, "here"),),
    )
    model = made.cells[1].recipe.model
    assert (model.n, model.T, model.layers) == (3, 2, 2)


@pytest.mark.parametrize(
    ("ours", "factor"),
    [
        ("model.T: 3", "model.T: [2]"),
        ("supervision.loss: softmax", "supervision.loss.dtype: [float64]"),
        ("supervision.loss.dtype: float64", "supervision.loss: [softmax]"),
    ],
)
def test_a_setting_of_both_a_variant_and_a_factor_is_refused(ours: str, factor: str):
    key, other = ours.split(":")[0], factor.split(":")[0]
    text = refusal(variant(ours), factors(f"  {factor}\n"))
    assert text.endswith(f": variant 'deep' sets {key}, which factor {other} sets too")
    assert text.startswith("tiny.yaml:19:")


def test_a_dotted_name_changes_one_setting_and_leaves_its_neighbours():
    model = matrix(variant("supervision.loss.dtype: float64")).cells[1].recipe
    assert model.supervision.loss == Stablemax(dtype="float64")
    assert model.supervision.N_sup == 2


def test_the_same_kind_merges_and_another_kind_replaces():
    same = matrix(variant("train.optimizer: {kind: adam_atan2, weight_decay: 0.5}"))
    assert same.cells[1].recipe.train.optimizer == AdamATan2(lr=1e-2, weight_decay=0.5)
    without = matrix(variant("train.optimizer: {weight_decay: 0.5}"))
    assert without.cells[1].recipe.train.optimizer == AdamATan2(lr=1e-2, weight_decay=0.5)
    other = matrix(variant("train.optimizer: {kind: adamw, weight_decay: 0.5}"))
    assert other.cells[1].recipe.train.optimizer == AdamW(weight_decay=0.5)  # lr is the default


@pytest.mark.parametrize(
    ("settings", "path", "expected"),
    [
        ("model.gradient: whole_program", ("model", "gradient"), WholeProgram()),
        ("model.gradient: {kind: last_updates, k: 3}", ("model", "gradient"), LastUpdates(k=3)),
        ("supervision.halting: fixed", ("supervision", "halting"), Fixed()),
        ("model.mixer: {kind: attention, heads: 2}", ("model", "mixer"), Attention(heads=2)),
    ],
)
def test_a_kind_may_be_written_as_a_bare_name(settings: str, path: tuple[str, str], expected: Any):
    recipe = matrix(variant(settings)).cells[1].recipe
    assert getattr(getattr(recipe, path[0]), path[1]) == expected
    assert matrix().cells[1].recipe.supervision.halting == Confidence()


def test_a_kind_may_be_a_factor_and_its_name_labels_the_cell():
    made = matrix(
        factors("  model.gradient: [whole_program, {kind: last_updates, k: 3}]\n"),
        variant("model.n: 2, model.T: 3"),
    )
    assert [cell.variant for cell in made.cells[2:]] == [
        "deep, model.gradient=whole_program",
        "deep, model.gradient=last_updates",
    ]
    assert made.cells[3].recipe.model.gradient == LastUpdates(k=3)


KS = "  model.gradient: [{kind: last_updates, k: 1}, whole_program, {kind: last_updates, k: 2}]\n"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2.5, True, None, "fixed"], ["1", "2.5", "True", "None", "fixed"]),
        ([{"kind": "a", "k": 1}, {"kind": "b", "k": 2}], ["a", "b"]),
        (
            [{"kind": "a", "k": 1, "same": 0}, {"kind": "b"}, {"kind": "a", "k": 2, "same": 0}],
            ["a k=1", "b", "a k=2"],
        ),
        (["a", {"kind": "a", "k": 2}, {"kind": "a", "j": 3}], ["a", "a k=2", "a j=3"]),
        (
            [{"kind": "a", "k": 1, "j": 1}, {"kind": "a", "k": 1, "j": 2}, {"kind": "a", "k": 2}],
            ["a k=1 j=1", "a k=1 j=2", "a k=2"],
        ),
        (
            [{"kind": "a", "law": {"kind": "c", "p": p}, "betas": [0.9, p]} for p in (0.5, 0.7)],
            ["a law.p=0.5 betas=[0.9, 0.5]", "a law.p=0.7 betas=[0.9, 0.7]"],
        ),
        ([{"k": 1}, {"k": 2}], ["{'k': 1}", "{'k': 2}"]),
    ],
)
def test_values_of_one_kind_are_called_by_the_settings_in_which_they_differ(
    values: list[Any], said: list[str]
):
    assert texts(values) == said


def test_cells_whose_values_share_a_kind_have_names_of_their_own():
    made = matrix(factors(KS))
    assert [cell.variant for cell in made.cells] == [
        "shallow, model.gradient=last_updates k=1",
        "shallow, model.gradient=whole_program",
        "shallow, model.gradient=last_updates k=2",
        "deep, model.gradient=last_updates k=1",
        "deep, model.gradient=whole_program",
        "deep, model.gradient=last_updates k=2",
    ]
    assert [c.recipe.model.gradient for c in made.cells[:3:2]] == [LastUpdates(k=k) for k in (1, 2)]
    assert made.cells[0].name.startswith("shallow-model-gradient-last-updates-k-1-")
    assert refusal(factors(KS + "exclude: [{model.gradient: {kind: last_updates, k: 3}}]\n")) == (
        "tiny.yaml:22:12: exclude.0: model.gradient has no value {'kind': 'last_updates', 'k': 3}; "
        "it has last_updates k=1, whole_program, last_updates k=2"
    )


def test_two_cells_of_one_name_are_refused():
    clash = variant("model.n: 2")[1].replace("deep", '"shallow, model.T=2"')
    settings = factors("  model.T: [1, 2]\nmode: one_at_a_time\n")
    assert refusal((VARIANTS, clash), settings, ("[deep]", '["shallow, model.T=2"]')) == (
        "tiny.yaml:19:6: variants.1.name: two cells are named 'shallow, model.T=2'; rename a "
        "variant or a value"
    )


def test_a_folder_is_a_readable_slug_and_eight_digits_of_the_id():
    made = matrix(
        ("name: shallow, series", 'name: "TRM (1,1): Größe & co", series'),
        ("baseline: shallow", 'baseline: "TRM (1,1): Größe & co"'),
        factors("  model.T: [1, 2]\n"),
    )
    first = made.cells[0]
    assert first.name == f"trm-1-1-gr-e-co-model-t-1-{first.recipe.id[:8]}"
    for cell in made.cells:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}", cell.name)
    kanji = matrix(("name: deep", "name: 深い"), ("[deep]", "[深い]"))
    assert kanji.cells[1].name == DEEP.replace("deep", "cell")
    long = matrix(("name: deep", f"name: {'x' * 300}"), ("[deep]", f"[{'x' * 300}]"))
    assert long.cells[1].name == "x" * 60 + DEEP.removeprefix("deep")
    assert [cell.name for cell in matrix().cells] == [SHALLOW, DEEP]


def test_a_cells_id_depends_neither_on_seeds_nor_on_labels_nor_on_where_and_how_it_runs(tmp_path):
    ids = [cell.recipe.id for cell in matrix().cells]
    renamed = matrix(("name: deep, series: TRM", "name: d, series: other"), ("[deep]", "[d]"))
    reseeded = matrix(("seeds: [0, 1]", "seeds: [7]"))
    assert [cell.recipe.id for cell in renamed.cells] == ids
    assert [cell.recipe.id for cell in reseeded.cells] == ids
    execution = Execution(device="cuda", threads=3, matmul_precision="high", log_every=7)
    sweep = Sweep(name="else", executor=Local(workers=3), execution=execution, seeds=1)
    elsewhere = make_plan(study(), sweep=sweep, runs=tmp_path / "elsewhere")
    assert [cell.recipe.id for cell in elsewhere.matrix.cells] == ids
    assert {run.recipe.id for run in elsewhere.runs()} == set(ids)


def test_a_csv_tasks_id_depends_on_its_name_and_not_on_its_paths():
    def identity(name: str, path: str) -> str:
        files = f"train_csv: {path}/a.csv, test_csv: {path}/b.csv"
        base = "task: {kind: sudoku, size: 4, clues: 8, train: 32, validation: 8, test: 12}"
        return (
            matrix((base, f"task: {{kind: sudoku_csv, name: {name}, {files}}}")).cells[0].recipe.id
        )

    assert identity("extreme", "/data") == identity("extreme", "/else/where")
    assert identity("extreme", "/data") != identity("other", "/data")


def test_a_misspelt_setting_of_a_variant_is_named_at_its_place():
    assert refusal(variant("modle.n: 2")) == (
        "tiny.yaml:19:37: modle: unknown setting; did you mean model?"
    )
    assert refusal(variant("model.lyers: 2")) == (
        "tiny.yaml:19:37: model.lyers: unknown setting; did you mean layers?"
    )
    assert refusal(variant("model.layout: {kind: two_latents, net: 2}")) == (
        "tiny.yaml:19:71: model.layout.net: unknown setting; did you mean nets?"
    )


def test_a_wrong_kind_is_named_with_the_near_miss():
    assert refusal(variant("model.gradient: whole_programm")) == (
        "tiny.yaml:19:37: model.gradient: no such kind 'whole_programm'; "
        "did you mean whole_program?"
    )
    assert refusal(variant("model.gradient: {k: 2}")) == (
        "tiny.yaml:19:37: model.gradient: needs a kind; "
        "known: last_updates, last_cycles, whole_program, random_truncation, phantom, implicit"
    )


def test_an_error_of_some_cells_names_them():
    wide = variant("model.width: 18, model.mixer: {kind: attention, heads: 1}")
    shallow = (
        "{name: shallow, series: TRM}",
        "{name: shallow, series: TRM, set: {model.mixer: {kind: attention, heads: 1}}}",
    )
    assert refusal(wide, shallow, factors("  model.mixer.heads: [1, 2]\n")).splitlines() == [
        "tiny.yaml:18:40: variant 'shallow' sets model.mixer, which factor model.mixer.heads sets "
        "too",
        "tiny.yaml:19:54: variant 'deep' sets model.mixer, which factor model.mixer.heads sets too",
    ]
    base = ("mixer: token_mlp", "mixer: {kind: attention, heads: 1}")
    wide = variant("model.width: 18")
    says = "does not split into {} heads of even width; heads: {} does, or give mixer.head_dim"
    assert refusal(base, wide, factors("  model.mixer.heads: [1, 3, 5]\n")).splitlines() == [
        f"tiny.yaml:21:26: model: width 16 {says.format(3, 2)} (in shallow, model.mixer.heads=3)",
        f"tiny.yaml:21:29: model: width 16 {says.format(5, 4)} (in shallow, model.mixer.heads=5)",
        f"tiny.yaml:21:29: model: width 18 {says.format(5, 3)} (in deep, model.mixer.heads=5)",
    ]


def test_an_error_stands_at_what_was_written_last():
    """The base is right, the variant replaces a kind, an argument replaces a part of that."""
    heads = variant("model.mixer: {kind: attention, heads: 2}, model.layers: 2")
    says = ("model: width 16 does not split into 3 heads of even width; heads: 2 does, or give "
            "mixer.head_dim")  # fmt: skip
    change = Change(("model", "mixer", "heads"), 3, "--set model.mixer.heads=3")
    only = ("{name: shallow, series: TRM}", "{name: shallow, series: TRM, set: "
            "{model.mixer: {kind: attention, heads: 8}}}")  # fmt: skip
    assert refusal(heads, only, changes=(change,)) == (
        f"--set model.mixer.heads=3: tiny.yaml:6:22: {says}"
    )
    assert refusal(variant("model.mixer: {kind: attention, heads: 3}")) == (
        f"tiny.yaml:19:37: {says}"
    )
    # What the variant's kind replaced has left no place behind.
    inner = variant("model.mixer: {kind: attention}")
    old = ("mixer: token_mlp", "mixer: {kind: conv, kernel: 3}")
    change = Change(("model", "mixer", "kernel"), 5, "--set model.mixer.kernel=5")
    assert (
        refusal(old, inner, changes=(change,))
        .splitlines()[0]
        .startswith("--set model.mixer.kernel=5: model.mixer.kernel: unknown setting")
    )


def test_an_error_of_the_base_is_said_once_and_not_once_a_cell():
    assert refusal(("width: 16", "width: 17"), factors("  model.T: [1, 2]\n")) == (
        "tiny.yaml:6:22: model.width: input should be a multiple of 2, not 17"
    )


def test_errors_of_several_variants_come_together():
    deep = variant("model.n: 0")
    shallow = ("{name: shallow, series: TRM}", "{name: shallow, series: TRM, set: {model.T: two}}")
    assert refusal(shallow, deep).splitlines() == [
        "tiny.yaml:18:40: model.T: input should be a valid integer, not 'two'",
        "tiny.yaml:19:37: model.n: input should be greater than or equal to 1, not 0",
    ]


def test_an_error_of_a_factor_is_named_at_its_place():
    assert refusal(factors("  model.TT: [1, 2]\n")) == (
        "tiny.yaml:21:3: model.TT: unknown setting; did you mean T?"
    )
    assert refusal(factors("  modl.T: [1, 2]\n")) == (
        "tiny.yaml:21:3: modl: unknown setting; did you mean model?"
    )
    assert refusal(factors("  model.T: [1, 2.5]\n")) == (
        "tiny.yaml:21:16: model.T: input should be a valid integer, not 2.5"
    )
    assert refusal(factors("  model.T: []\n")) == (
        "tiny.yaml:21:3: factors.model.T: needs 1 or more, and is []"
    )


def test_an_error_of_an_argument_is_named_by_the_argument():
    change = Change(("model", "TT"), 2, "--set model.TT=2")
    assert refusal(changes=(change,)) == (
        "--set model.TT=2: model.TT: unknown setting; did you mean T?"
    )
    change = Change(("modle", "T"), 2, "--set modle.T=2")
    assert refusal(changes=(change,)) == (
        "--set modle.T=2: modle: unknown setting; did you mean model?"
    )
    with pytest.raises(ConfigError) as caught:
        make_plan(study(), settings=("train.updates=many", "model.width=17"))
    assert str(caught.value).splitlines() == [
        "--set model.width=17: model.width: input should be a multiple of 2, not 17",
        "--set train.updates=many: train.updates: input should be a valid integer, not 'many'",
    ]


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        # The file's own place of what the argument replaces would mislead.
        (
            "eval.steps=[0]",
            "--set eval.steps=[0]: eval.steps.0: input should be greater than or equal to 1, not 0",
        ),
        (
            "train.optimizer={kind: adamw, lr: -1.0}",
            "--set train.optimizer={kind: adamw, lr: -1.0}: train.optimizer.lr: input should be "
            "greater than 0, not -1.0",
        ),
        (
            "supervision.loss=softmx",
            "--set supervision.loss=softmx: supervision.loss: no such kind 'softmx'; did you mean "
            "softmax?",
        ),
        # Two settings that do not go together: the argument's, and where the other one stands.
        (
            "train.updates=1",
            "--set train.updates=1: tiny.yaml:13:32: train: schedule.warmup 1 leaves nothing of 1 "
            "updates",
        ),
        (
            "metric.steps=4",
            "--set metric.steps=4: metric: unknown setting; did you mean train?",
        ),
    ],
)
def test_an_error_of_an_arguments_value_shows_the_argument(argument: str, text: str):
    with pytest.raises(ConfigError) as caught:
        make_plan(study(), settings=(argument,))
    assert str(caught.value) == text


def test_an_error_that_was_there_before_keeps_its_place_beside_an_argument():
    with pytest.raises(ConfigError) as caught:
        make_plan(study(("batch: 8", "batch: 0")), settings=("model.T=2", "train.ema=2.0"))
    assert str(caught.value).splitlines() == [
        "tiny.yaml:11:5: train.batch: input should be greater than or equal to 1, not 0",
        "--set train.ema=2.0: train.ema: input should be less than 1, not 2.0",
    ]


@pytest.mark.parametrize("argument", ["model.T=3", "model={T: 3}"])
def test_an_argument_over_a_factor_says_that_it_is_one(argument: str):
    with pytest.raises(ConfigError) as caught:
        make_plan(study(factors("  model.T: [1, 2]\n")), settings=(argument,))
    assert str(caught.value) == (
        f"--set {argument}: model.T is a factor of the study with the values 1, 2, and all cells "
        "would get one; change it under factors: in tiny.yaml, or leave this out and run one cell "
        "with --only"
    )


def test_a_sweep_over_a_factor_says_that_it_is_one():
    with pytest.raises(ConfigError, match=r"^sweep small: train.updates is a factor of the study"):
        make_plan(
            study(factors("  train.updates: [2, 4]\n")),
            sweep=Sweep(name="small", set={"train.updates": 2}),
        )


def test_an_argument_inside_a_factors_value_may_leave_cells_apart():
    made = make_plan(
        study(factors("  supervision.loss: [{kind: softmax}, {kind: stablemax}]\n")),
        settings=("supervision.loss.dtype=float64",),
    )
    losses = [cell.recipe.supervision.loss for cell in made.matrix.cells[:2]]
    assert losses == [Softmax(dtype="float64"), Stablemax(dtype="float64")]


@pytest.mark.parametrize(
    ("replacement", "argument", "names"),
    [
        (("", ""), "model.n=1", "'shallow' and 'deep'"),
        (
            factors("  model.gradient: [{kind: last_updates, k: 1}, {kind: last_updates, k: 2}]\n"),
            "model.gradient.k=3",
            "'shallow, model.gradient=last_updates k=1' and "
            "'shallow, model.gradient=last_updates k=2'",
        ),
    ],
)
def test_an_argument_that_makes_two_cells_one_is_named(
    replacement: tuple[str, str], argument: str, names: str
):
    with pytest.raises(ConfigError) as caught:
        make_plan(study(*[replacement] * bool(replacement[0])), settings=(argument,))
    assert str(caught.value) == (
        f"--set {argument}: variants {names} become the same recipe: it overrides what tells them "
        "apart; leave it out, or change the variants in tiny.yaml"
    )


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("model.T", "--set model.T: expected a dotted name, '=' and a value: model.T=3"),
        ("=3", "--set =3: expected a dotted name, '=' and a value: model.T=3"),
        ("model.=3", "--set model.=3: expected a dotted name, '=' and a value: model.T=3"),
        (
            "model.T=[1",
            "--set model.T=[1:1:3: expected ',' or ']', but got '<stream end>'",
        ),
    ],
)
def test_an_argument_that_is_no_setting_is_refused(argument: str, text: str):
    with pytest.raises(ConfigError) as caught:
        make_plan(study(), settings=(argument,))
    assert str(caught.value) == text


def test_two_variants_of_one_recipe_are_refused():
    assert refusal(variant("model.n: 1")) == (
        "tiny.yaml:19:5: variants 'shallow' and 'deep' are the same recipe"
    )
    assert refusal(factors("  model.T: [3, 3]\n")) == (
        "tiny.yaml:21:16: variants 'shallow, model.T=3' and 'shallow, model.T=3' are the same "
        "recipe"
    )


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        (("seeds: [0, 1]", "seeds: [0, 1, 0]"), "20:15: seeds.2: 0 is given twice"),
        (
            ("name: deep", "name: shallow"),
            "19:6: variants.1.name: 'shallow' is given twice\n"
            "tiny.yaml:23:71: contrasts.0.against.0: no variant 'deep'; known: shallow",
        ),
        (
            ("against: [deep]", "against: [deep, shallow]"),
            "23:77: contrasts.0.against.1: 'shallow' is the baseline itself",
        ),
        (
            (
                "contrasts:",
                "fits: [{name: f, law: power_error}, {name: f, law: saturating}]\ncontrasts:",
            ),
            "22:38: fits.1.name: 'f' is given twice",
        ),
        (
            ("[deep]", "[deeper]"),
            "23:71: contrasts.0.against.0: no variant 'deeper'; did you mean deep?",
        ),
        (
            ("baseline: shallow", "baseline: shalow"),
            "23:42: contrasts.0.baseline: no variant 'shalow'; did you mean shallow?",
        ),
        (
            ("contrasts:", "fits: [{name: f, law: power_error, series: HRM}]\ncontrasts:"),
            "22:36: fits.0.series: no series 'HRM'; did you mean TRM?",
        ),
        (
            (
                "contrasts:",
                "fits: [{name: f, law: power_error, series: TRM, variants: [steep]}]\ncontrasts:",
            ),
            "22:60: fits.0.variants.0: no variant 'steep'; did you mean deep?",
        ),
    ],
)
def test_names_that_do_not_hold_are_refused(replacement: tuple[str, str], text: str):
    assert refusal(replacement) == f"tiny.yaml:{text}"


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        (("name: tiny", "name: Tiny Study"), "tiny.yaml:1:1: name: string should match pattern "
         "'^[a-z0-9_]+$', not 'Tiny Study'"),
        (("seeds: [0, 1]", "seeds: []"), "tiny.yaml:20:1: seeds: needs 1 or more, and is "
         "[]"),
        (("seeds: [0, 1]", "seeds: [-1]"), "tiny.yaml:20:9: seeds.0: input should be greater than "
         "or equal to 0, not -1"),
        (("hypothesis: It does.\n", ""), "tiny.yaml:1:1: hypothesis: is required"),
        (("series: TRM}", "serie: TRM}"), "tiny.yaml:18:21: variants.0.serie: "
         "unknown setting; did you mean series?"),
        (("metric: {name: puzzle_accuracy", "metric: {name: accuracy"), "tiny.yaml:21:10: "
         "metric.name: 'accuracy' is not one of puzzle_accuracy, cell_accuracy; did you mean "
         "cell_accuracy?"),
    ],
)  # fmt: skip
def test_a_broken_study_is_refused_at_the_place(replacement: tuple[str, str], text: str):
    assert refusal(replacement) == text


def test_a_metric_step_that_is_not_evaluated_is_refused():
    assert refusal(("steps: 2}\n", "steps: 3}\n")) == (
        "tiny.yaml:16:20: eval.steps: the metric is read after 3 steps, which is not among [2]\n"
        "tiny.yaml:16:32: eval.final_steps: the metric is read after 3 steps, which is not among "
        "[1, 2]"
    )
    own = ("metric: {name: puzzle_accuracy, steps: 2}\n", "")
    assert len(matrix(own).cells) == 2
    assert refusal(own, variant("supervision.N_sup: 4")) == (
        "tiny.yaml:19:37: eval.steps: the metric is read after 4 steps, which is not among [2]\n"
        "tiny.yaml:19:37: eval.final_steps: the metric is read after 4 steps, which is not among "
        "[1, 2]"
    )
    assert (
        len(
            matrix(
                own, variant("supervision.N_sup: 4, eval.steps: [4], eval.final_steps: [1, 4]")
            ).cells
        )
        == 2
    )


def test_an_unknown_preset_is_named_with_the_near_miss():
    assert refusal(("base:\n", "base:\n  preset: trm_mpl\n")) == (
        "tiny.yaml:5:3: preset: no preset 'trm_mpl'; did you mean trm_mlp?"
    )


def test_a_study_may_build_on_a_preset():
    text = (
        "name: p\nquestion: q\nhypothesis: h\nbase: {preset: hrm, train: {batch: 4}}\n"
        "variants: [{name: a, series: s}]\nseeds: [3]\n"
    )
    recipe = expand_study(parse_yaml(text, "p.yaml")).cells[0].recipe
    assert (recipe.model.layout.nets, recipe.model.layers, recipe.model.n) == (2, 4, 2)
    assert (recipe.train.batch, recipe.train.updates, recipe.train.ema) == (4, 26_040, None)


def test_a_study_that_is_no_mapping_is_refused():
    with pytest.raises(ConfigError) as caught:
        expand_study(parse_yaml("- a\n- b\n", "list.yaml"))
    assert str(caught.value) == ("list.yaml:1:1: expected a mapping of settings, found ['a', 'b']")
