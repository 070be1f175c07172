"""Recipes: presets, identity, and values that survive as they were written."""

import pickle
from typing import Any

import pytest

from trm_lab.config import (
    AdamATan2,
    Attention,
    Confidence,
    ConstantSchedule,
    Eval,
    Fixed,
    GeneratedSudoku,
    LastCycles,
    LastUpdates,
    Model,
    NoPositions,
    PuzzleSlots,
    QLearning,
    Recipe,
    Rope,
    SignSGD,
    Stablemax,
    SudokuCSV,
    TokenMLP,
    Train,
    TwoLatents,
    load_recipe,
    preset,
    recipe_from,
)
from trm_lab.config.source import Source
from trm_lab.errors import ConfigError


def test_the_presets_are_the_published_recipes() -> None:
    for name, recipe in ((n, preset(n)) for n in ("trm_att", "trm_mlp", "hrm")):
        hrm = name == "hrm"
        model, train, supervision = recipe.model, recipe.train, recipe.supervision
        assert model.layout == TwoLatents(nets=2 if hrm else 1)
        assert (model.width, model.layers) == (512, 4 if hrm else 2)
        assert (model.n, model.T) == ((2, 2) if hrm else (6, 3))
        assert model.mixer == (TokenMLP() if name == "trm_mlp" else Attention(heads=8))
        assert model.positions == (NoPositions() if name == "trm_mlp" else Rope())
        assert model.puzzle == PuzzleSlots(slots=1 if hrm else 16, dim=512)
        assert model.gradient == (LastUpdates(k=2) if hrm else LastCycles(c=1))
        assert supervision.halting == (QLearning() if hrm else Confidence())
        assert (supervision.N_sup, supervision.exploration) == (16, 0.1)
        assert supervision.halt_weight == 0.5
        assert supervision.loss == Stablemax(dtype="float64")
        assert train.optimizer == AdamATan2(lr=1e-4, betas=(0.9, 0.95), weight_decay=1.0)
        assert train.table_optimizer == SignSGD(lr=1e-4, weight_decay=1.0)
        assert train.schedule == ConstantSchedule(warmup=2000)
        assert (train.batch, train.dtype) == (768, "bfloat16")
        assert train.ema == (None if hrm else 0.999)
        assert train.updates == (26_040 if hrm else 65_100)
        # Ten evaluations, as in the published runs.
        assert train.updates == 10 * recipe.eval.every
        assert recipe.seed == 0


def test_a_change_is_laid_over_a_preset() -> None:
    recipe = preset("trm_att", model={"T": 2, "mixer": {"heads": 4}}, supervision={"N_sup": 8})
    assert recipe.model.T == 2
    assert recipe.model.mixer == Attention(heads=4)
    assert recipe.model.n == 6
    assert recipe.supervision.N_sup == 8
    assert recipe.supervision.halting == Confidence()
    mlp = preset("trm_att", model={"mixer": "token_mlp", "positions": "none"})
    assert mlp == preset("trm_mlp")
    fixed = load_recipe("preset: hrm\nsupervision: {halting: fixed}\n", "x")
    assert fixed.supervision.halting == Fixed()
    assert load_recipe("preset: hrm\nmodel: {puzzle: null}\n", "x").model.puzzle is None


def test_numbers_are_read_as_written() -> None:
    recipe = load_recipe("preset: trm_mlp\ntrain: {optimizer: {lr: 1e-4}, ema: 1e-1}\n", "x")
    assert recipe.train.optimizer.lr == 0.0001
    assert recipe.train.ema == 0.1
    whole = load_recipe("preset: trm_mlp\ntrain: {optimizer: {weight_decay: 1}}\n", "x")
    assert type(whole.train.optimizer.weight_decay) is float
    assert whole == preset("trm_mlp")


def test_off_stays_text() -> None:
    text = (
        "preset: trm_mlp\n"
        "task: {kind: sudoku_csv, name: off, train_csv: on.csv, test_csv: no.csv}\n"
    )
    assert load_recipe(text, "x").task == SudokuCSV(
        name="off", train_csv="on.csv", test_csv="no.csv"
    )
    with pytest.raises(ConfigError) as error:
        load_recipe("preset: trm_mlp\nmodel:\n  puzzle: off\n", "x")
    assert str(error.value).startswith("x:3:3: model.puzzle: ")
    assert str(error.value).endswith(" not 'off'")


BASE: dict[str, Any] = {
    "task": {"kind": "sudoku", "size": 4, "clues": 8},
    "model": {"width": 16, "mixer": {"kind": "attention", "heads": 2}, "puzzle": None},
    "train": {"updates": 100, "schedule": {"kind": "constant", "warmup": 0}},
}


def recipe(**changes: Any) -> Recipe:
    sections = {
        key: {**BASE.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return recipe_from(Source({**BASE, **sections}, "test"))


def test_identity_is_64_hex_digits_of_every_science_field() -> None:
    base = recipe()
    assert len(base.id) == 64
    assert int(base.id, 16) > 0
    others = [
        recipe(task={"clues": 9}),
        recipe(task={"data_seed": 1}),
        recipe(task={"augment": False}),
        recipe(model={"n": 5}),
        recipe(model={"norm_eps": 1e-6}),
        recipe(model={"puzzle": {"slots": 1, "dim": 16}}),
        recipe(model={"mixer": {"kind": "attention", "heads": 2, "head_dim": 8}}),
        recipe(supervision={"exploration": 0.2}),
        recipe(supervision={"loss": {"kind": "stablemax", "dtype": "float32"}}),
        recipe(train={"batch": 7}),
        recipe(train={"ema": None}),
        recipe(train={"dtype": "float32"}),
        recipe(train={"table_optimizer": {"lr": 0.5}}),
        recipe(eval={"best": True}),
        recipe(eval={"steps": [8]}),
    ]
    assert len({base.id, *(other.id for other in others)}) == len(others) + 1


def test_the_seed_and_where_files_lie_are_outside_the_identity() -> None:
    base = recipe()
    assert base.with_seed(7).id == base.id
    assert base.with_seed(7) != base
    assert base.with_seed(7).seed == 7
    assert base.with_seed(7).with_seed(0) == base
    csv = {"kind": "sudoku_csv", "name": "a", "train_csv": "x.csv", "test_csv": "y.csv"}
    here = recipe_from(Source({**BASE, "task": csv}, "test"))
    there = recipe_from(Source({**BASE, "task": csv | {"train_csv": "/z/x.csv.gz"}}, "test"))
    named = recipe_from(Source({**BASE, "task": csv | {"name": "b"}}, "test"))
    assert here.id == there.id
    assert here.id != named.id


def test_defaults_are_part_of_the_identity() -> None:
    """Written or left out, the same value is the same recipe."""
    said = recipe(
        model={"layers": 2, "n": 6, "round_to": 256, "layout": "two_latents"},
        eval={"every": 1000},
        supervision={"N_sup": 16, "halting": {"kind": "confidence"}},
    )
    assert said == recipe()
    assert said.id == recipe().id


def test_recipes_of_python_objects_and_of_text_are_one() -> None:
    built = Recipe(
        task=GeneratedSudoku(size=4, clues=8),
        model=Model(width=16, mixer=Attention(heads=2), puzzle=None),
        train=Train(updates=100, schedule=ConstantSchedule(warmup=0)),
        eval=Eval(),
    )
    assert built == recipe()
    assert built.id == recipe().id
    assert pickle.loads(pickle.dumps(built)) == built
    assert hash(built) == hash(recipe())


def test_a_seed_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 4294967296"):
        recipe().with_seed(2**32)


@pytest.mark.parametrize(
    ("until", "updates", "end"),
    [(0.07, 100, 7), (0.55, 100, 55), (0.3, 65_100, 19_530), (0.3, 11, 4), (0.001, 100, 1)],
)
def test_a_stage_ends_at_its_fraction_rounded_up(until: float, updates: int, end: int) -> None:
    recipe = preset(
        "trm_mlp",
        supervision={"curriculum": [{"until": until, "T": 1}]},
        train={"updates": updates, "schedule": {"warmup": 1}},
    )
    assert recipe.spans() == [(end, (6, 1, 16)), (updates, (6, 3, 16))]
    assert [recipe.counts(u).T for u in (end, end + 1)] == [1, 3]
