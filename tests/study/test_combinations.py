"""Modes of the matrix, exclusions, slices of a sweep, and matrices that are too large."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.study.test_matrix import factors, refusal
from tests.study.tiny import DEEP, SHALLOW, planned, study
from trm_lab.config.execution import InProcess, Sweep
from trm_lab.config.source import parse_yaml
from trm_lab.config.study import Study
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError
from trm_lab.plots.contrasts import contrast_table
from trm_lab.results.collect import gather
from trm_lab.study.combinations import count
from trm_lab.study.driver import select
from trm_lab.study.matrix import Matrix, expand_study
from trm_lab.study.plan import Plan, load_sweep, make_plan

TWO = "  model.T: [1, 2]\n  model.layers: [1, 2]\n"


def matrix(*replacements: tuple[str, str]) -> Matrix:
    return expand_study(study(*replacements))


def names(made: Matrix) -> list[str]:
    return [cell.variant for cell in made.cells]


def counts(made: Matrix) -> list[tuple[int, int, int]]:
    models = [cell.recipe.model for cell in made.cells]
    return [(model.n, model.T, model.layers) for model in models]


def test_zip_pairs_the_values_one_by_one():
    made = matrix(factors(TWO + "mode: zip\n"))
    assert names(made) == [
        "shallow, model.T=1, model.layers=1",
        "shallow, model.T=2, model.layers=2",
        "deep, model.T=1, model.layers=1",
        "deep, model.T=2, model.layers=2",
    ]
    assert counts(made) == [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2)]


def test_one_at_a_time_changes_one_factor_from_what_the_variant_has():
    made = matrix(
        factors("  model.T: [1, 2, 3]\n  model.layers: [2, 1]\nmode: one_at_a_time\n"),
        ("set: {model.n: 2}", "set: {model.n: 2, model.T: 2}"),
    )
    # shallow has T 1 and 1 layer, deep has T 2: those values are the base cell, which comes once.
    assert names(made) == [
        "shallow", "shallow, model.T=2", "shallow, model.T=3", "shallow, model.layers=2",
        "deep", "deep, model.T=1", "deep, model.T=3", "deep, model.layers=2",
    ]  # fmt: skip
    assert counts(made) == [
        (1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 1, 2),
        (2, 2, 1), (2, 1, 1), (2, 3, 1), (2, 2, 2),
    ]  # fmt: skip
    assert [cell.places for cell in made.cells[:2]] == [(), (("model.T", 1),)]
    assert made.cells[0].name == SHALLOW


def test_a_recipe_has_one_id_and_one_folder_in_every_mode():
    crossed = matrix(factors(TWO))
    zipped = matrix(factors(TWO + "mode: zip\n"))
    left = matrix(factors(TWO + "exclude: [{model.T: 2, model.layers: 1}]\n"))
    folders = {cell.variant: cell.name for cell in crossed.cells}
    for made in (zipped, left):
        assert {cell.variant: cell.name for cell in made.cells}.items() <= folders.items()
    single = matrix(factors("  model.T: [1, 2]\nmode: one_at_a_time\n"))
    ids = {cell.recipe.id for cell in crossed.cells}
    assert {cell.recipe.id for cell in single.cells} < ids
    assert [cell.name for cell in single.cells[::2]] == [SHALLOW, DEEP]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("[{model.T: 2}]", [(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 1, 2)]),
        (
            "[{variant: deep, model.T: 2}]",
            [(1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2)],
        ),
        (
            "[{model.T: 2, model.layers: 2}, {model.T: 1, model.layers: 1}]",
            [(1, 1, 2), (1, 2, 1), (2, 1, 2), (2, 2, 1)],
        ),
        ("[{model.T: 2.0}]", [(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 1, 2)]),
    ],
)
def test_an_excluded_cell_matches_everything_that_is_said(exclude: str, left: list[Any]):
    assert counts(matrix(factors(TWO + f"exclude: {exclude}\n"))) == left


def test_a_value_with_settings_is_excluded_by_itself_or_by_its_kind():
    text = "  model.gradient: [whole_program, {kind: last_updates, k: 1}]\n"
    for pick in ("last_updates", "{kind: last_updates, k: 1}"):
        made = matrix(factors(text + f"exclude: [{{model.gradient: {pick}}}]\n"))
        assert names(made) == [
            "shallow, model.gradient=whole_program",
            "deep, model.gradient=whole_program",
        ]
    assert refusal(factors("  model.T: [1, 2]\nexclude: [{model.T: true}]\n")) == (
        "tiny.yaml:22:12: exclude.0: model.T has no value True; it has 1, 2"
    )


KS = "  model.gradient: [{kind: last_updates, k: 1}, {kind: last_updates, k: 2}]\n"
MISSING = "exclude: [{variant: deep, model.gradient: {kind: last_updates, k: 2}}]\n"


@pytest.mark.parametrize(("exclude", "both"), [("", [1, 2]), (MISSING, [1])])
def test_contrasts_pair_the_same_value_where_values_share_a_kind(
    tmp_path: Path, exclude: str, both: list[int]
):
    confounded = ("set: {model.n: 2}", "set: {model.n: 2, train.batch: 4}")
    plan = planned(tmp_path, factors(KS + exclude), confounded)
    assert plan.confounds() == [
        "deep against shallow: 2 settings change at once: model.n, train.batch"
    ]
    plan.write()
    rows = contrast_table(gather(plan.root))
    name = "{}, model.gradient=last_updates k={}"
    pairs = list(zip(rows["baseline"], rows["against"], strict=True))
    assert pairs == [(name.format("shallow", k), name.format("deep", k)) for k in both]
    assert set(rows["changed"]) == {"model.n: 1 -> 2; train.batch: 8 -> 4"}


def test_a_cell_is_taken_by_its_name_where_values_share_a_kind(tmp_path: Path):
    name = "deep, model.gradient=last_updates k=2"
    plan = sliced(tmp_path, f'["{name}"]', factors(KS))
    assert [cell.variant for cell in plan.cells] == [name]
    assert {run.cell.variant for run in select(planned(tmp_path, factors(KS)), name)} == {name}
    with pytest.raises(
        ConfigError, match=r"no such cell; did you mean deep, model\.gradient=last_"
    ):
        select(plan, "deep, model.gradient=last_updates")


def test_a_study_that_was_named_by_kinds_keeps_its_folders(tmp_path: Path):
    """A value of the same kind beside it changes what a cell is called, and not where it is."""
    alone = planned(tmp_path, factors(KS.replace(", {kind: last_updates, k: 2}", "")))
    old = [cell.name for cell in alone.matrix.cells]
    assert old[0].rpartition("-")[0] == "shallow-model-gradient-last-updates"
    for name in old:
        (alone.root / name).mkdir(parents=True)
    grown = planned(tmp_path, factors(KS))
    assert [cell.name for cell in grown.matrix.cells[::2]] == old


def test_contrasts_compare_the_cells_that_both_arms_have(tmp_path: Path):
    plan = planned(tmp_path, factors(TWO + "exclude: [{variant: deep, model.T: 2}]\n"))
    assert plan.confounds() == []
    confounded = ("set: {model.n: 2}", "set: {model.n: 2, train.batch: 4}")
    plan = planned(tmp_path, factors("  model.T: [1, 2]\nmode: one_at_a_time\n"), confounded)
    assert plan.confounds() == [
        "deep against shallow: 2 settings change at once: model.n, train.batch"
    ]


def test_arms_without_a_common_cell_are_refused():
    text = factors(
        "  model.T: [1, 2]\n"
        "exclude: [{variant: deep, model.T: 2}, {variant: shallow, model.T: 1}]\n"
    )
    assert refusal(text) == (
        "tiny.yaml:26:71: contrasts.0.against.0: 'deep' and 'shallow' have no combination of the "
        "factors in common: exclude leaves nothing to compare"
    )


def sliced(tmp_path: Path, cells: str, *replacements: tuple[str, str]) -> Plan:
    (tmp_path / "s.yaml").write_text(f"name: s\nexecutor: in_process\ncells: {cells}\n")
    return make_plan(study(*replacements), sweep=load_sweep(tmp_path / "s.yaml"), runs=tmp_path)


@pytest.mark.parametrize(
    ("cells", "taken"),
    [
        ("[{variant: deep}]", ["deep, model.T=1", "deep, model.T=2"]),
        ("[{model.T: 2}]", ["shallow, model.T=2", "deep, model.T=2"]),
        ('["deep, model.T=2", {model.T: 1}]',
         ["shallow, model.T=1", "deep, model.T=1", "deep, model.T=2"]),
        ("[{variant: deep, model.T: 1}]", ["deep, model.T=1"]),
    ],
)  # fmt: skip
def test_a_sweep_takes_a_slice_of_the_cells(tmp_path: Path, cells: str, taken: list[str]):
    plan = sliced(tmp_path, cells, factors("  model.T: [1, 2]\n"))
    assert [cell.variant for cell in plan.cells] == taken
    assert list(dict.fromkeys(run.cell.variant for run in plan.runs())) == taken
    assert plan.root == tmp_path / "tiny"  # a slice changes no recipe
    said = plan.as_dict()
    assert len(said["cells"]) == 4
    assert said["sweep_cells"] == [cell.name for cell in plan.cells]


def test_a_slice_names_a_cell_by_its_folder(tmp_path: Path):
    assert [cell.name for cell in sliced(tmp_path, f"[{DEEP}]").cells] == [DEEP]


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ("[{variant: dep}]", "3:10: cells.0: no variant 'dep'; did you mean deep?"),
        ("[{model.n: 1}]", "3:10: cells.0: model.n is not a factor of study tiny; did you mean "
         "model.T?"),
        ("[deep, shallow]", "3:9: cells.0: no cell 'deep'; did you mean deep, model.T=1?\n"
         "s.yaml:3:15: cells.1: no cell 'shallow'; did you mean shallow, model.T=1?"),
        ("[{}]", "3:9: cells.0: names no cell; give one or more of variant, model.T"),
        ("[]", "3:1: cells: needs 1 or more, and is []"),
        ("[3]", "3:9: cells.0: input should be a valid dictionary, not 3"),
    ],
)  # fmt: skip
def test_a_slice_of_what_is_not_there_is_refused(tmp_path: Path, cells: str, text: str):
    with pytest.raises(ConfigError) as caught:
        sliced(tmp_path, cells, factors("  model.T: [1, 2]\n"))
    assert str(caught.value).replace(f"{tmp_path}/", "") == f"s.yaml:{text}"


def test_a_sweep_made_in_python_takes_a_slice_too(tmp_path: Path):
    sweep = Sweep(name="s", executor=InProcess(), cells=({"variant": "deep"},))
    assert [run.key for run in planned(tmp_path, sweep=sweep).runs()] == [
        f"{DEEP}/seed-0",
        f"{DEEP}/seed-1",
    ]


def test_cells_are_counted_without_being_made():
    def counted(*replacements: tuple[str, str]) -> int:
        return count(validate(Study, study(*replacements)))

    assert counted() == 2
    assert counted(factors("  model.T: [1, 2, 3]\n  model.layers: [1, 2]\n")) == 12
    assert counted(factors(TWO + "mode: zip\n")) == 4
    assert counted(factors(TWO + "mode: one_at_a_time\n")) == 10


def test_a_billion_cells_are_refused_at_once():
    values = list(range(1, 1001))
    source = study(factors("".join(f"  model.{key}: {values}\n" for key in ("n", "T", "layers"))))
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        expand_study(source)
    assert time.process_time() - began < 0.5
    assert str(caught.value).startswith("tiny.yaml:20:1: 2,000,000,000 cells of 2 variants and ")


def test_a_limit_may_be_raised_or_taken_away():
    source = parse_yaml(study(factors("  model.T: [1, 2]\n")).text, "tiny.yaml")
    with pytest.raises(ConfigError, match=r"4 cells of .*; more than 3 are made by"):
        expand_study(source, most=3)
    assert (
        len(expand_study(source, most=4).cells) == len(expand_study(source, most=None).cells) == 4
    )


@pytest.mark.slow
def test_ten_thousand_cells_are_made_in_half_a_minute():
    rates = [round(1e-4 * (1 + i / 100), 8) for i in range(500)]
    text = f"  model.T: {list(range(1, 11))}\n  train.optimizer.lr: {rates}\n"
    began = time.process_time()
    assert len(matrix(factors(text)).cells) == 10_000
    assert time.process_time() - began < 30
