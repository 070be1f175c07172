"""What is accepted and yet remarked: gradients longer than the program, latents never written."""

from typing import Any, ClassVar

import pytest

from trm_lab.config import PRESETS, Model, Recipe, Update, preset
from trm_lab.config.contracts import OwnLayout
from trm_lab.config.remarks import computation, remarks, twins
from trm_lab.config.tables import TABLE_ROWS


class Ring(OwnLayout):
    """Five reasoning latents in a ring, and the answer."""

    latents: ClassVar[tuple[str, ...]] = ("z0", "z1", "z2", "z3", "z4", "y")
    answer: int = 5
    nets: int = 1

    def cycle(self, n: int) -> tuple[Update, ...]:
        think = (Update(write=i % 5, state=(i % 5,), context=(5,), inject=True) for i in range(n))
        return (*think, Update(write=5, state=(5,), context=(0,)))


UPDATES = "model.gradient: {} is more than the {} updates of the program: {}"
CYCLES = "model.gradient: {} is more than the {} cycles (T): {}"
WHOLE = "it is whole_program"


def recipe(gradient: dict[str, Any] | str, T: int = 2, n: int = 2, **more: Any) -> Recipe:
    return preset("trm_mlp", model={"T": T, "n": n, "gradient": gradient}, **more)


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        ({"kind": "last_updates", "k": 6}, []),
        ({"kind": "last_updates", "k": 7}, [UPDATES.format("last_updates k: 7", 6, WHOLE)]),
        ({"kind": "last_cycles", "c": 2}, []),
        ({"kind": "last_cycles", "c": 5}, [CYCLES.format("last_cycles c: 5", 2, WHOLE)]),
        ("whole_program", []),
        ({"kind": "phantom", "k": 2}, []),
        ({"kind": "phantom", "k": 3}, [CYCLES.format("phantom k: 3", 2, "it acts as k: 2")]),
        ({"kind": "random_truncation", "high": 6}, []),
        (
            {"kind": "random_truncation", "high": 7},
            [
                UPDATES.format(
                    "random_truncation high: 7", 6, "lengths from 6 on are the whole program"
                )
            ],
        ),
        (
            {"kind": "random_truncation", "high": 3, "unit": "cycle"},
            [
                CYCLES.format(
                    "random_truncation high: 3", 2, "lengths from 2 on are the whole program"
                )
            ],
        ),
        ("implicit", []),
    ],
)
def test_a_gradient_longer_than_the_program_is_remarked(gradient: Any, expected: list[str]):
    more = {"train": {"dtype": "float32"}}
    assert remarks(recipe(gradient, **more)) == expected


def test_the_longest_program_of_the_training_counts():
    stages = {"curriculum": [{"until": 0.5, "T": 4}]}
    assert remarks(recipe({"kind": "last_cycles", "c": 4}, supervision=stages)) == []
    drawn = {"depth": {"kind": "sampled", "high": 4}}
    assert remarks(recipe({"kind": "last_updates", "k": 12}, supervision=drawn)) == []
    assert remarks(recipe({"kind": "last_updates", "k": 13}, supervision=drawn)) == [
        UPDATES.format("last_updates k: 13", 12, WHOLE)
    ]


@pytest.mark.parametrize("name", [*PRESETS, *TABLE_ROWS])
def test_published_recipes_give_no_remark(name: str):
    assert remarks(preset(name)) == []


def test_a_residual_without_a_carry_is_remarked():
    residual = {"kind": "residual", "threshold": 0.1}
    assert remarks(preset("trm_mlp", supervision={"halting": residual})) == []
    assert remarks(preset("trm_mlp", supervision={"halting": residual, "loop": "no_carry"})) == [
        "supervision.halting: residual with loop: no_carry sees the change of the same first step "
        "at every step: a puzzle halts at once, or hardly before N_sup"
    ]
    assert remarks(preset("trm_mlp", supervision={"loop": "no_carry"})) == []


UNWRITTEN = (
    "model.layout: {} with n: {} never writes {}, which keep their initial values; raise "
    "model.n, or have fewer latents"
)


def test_a_latent_that_nothing_writes_is_remarked():
    many = {"kind": "many_latents", "k": 4}
    assert remarks(preset("trm_mlp", model={"layout": many, "n": 4})) == []
    assert remarks(preset("trm_mlp", model={"layout": many, "n": 2})) == [
        UNWRITTEN.format("many_latents", 2, "z3, z4")
    ]


def test_a_latent_that_one_stage_of_the_curriculum_writes_is_not_remarked():
    layout = {"kind": "many_latents", "k": 4}
    stages = {"curriculum": [{"until": 0.5, "n": 4}]}
    assert remarks(preset("trm_mlp", model={"layout": layout, "n": 2}, supervision=stages)) == []
    stages = {"curriculum": [{"until": 0.5, "n": 1}]}
    assert remarks(preset("trm_mlp", model={"layout": layout, "n": 3}, supervision=stages)) == [
        UNWRITTEN.format("many_latents", 3, "z4")
    ]


def test_a_latent_of_an_own_layout_that_nothing_writes_is_remarked():
    base = preset("trm_mlp")
    model = Model.model_validate({**base.model.__dict__, "layout": Ring(), "n": 3})
    (found,) = remarks(base.model_copy(update={"model": model}))
    assert found == UNWRITTEN.format(Ring().kind, 3, "z3, z4")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"kind": "last_cycles", "c": 5}, "whole_program", True),
        ({"kind": "last_cycles", "c": 2}, "whole_program", True),
        ({"kind": "last_cycles", "c": 1}, "whole_program", False),
        ({"kind": "last_cycles", "c": 1}, {"kind": "last_updates", "k": 3}, True),
        ({"kind": "last_cycles", "c": 1}, {"kind": "last_updates", "k": 2}, False),
        ({"kind": "random_truncation", "low": 6, "high": 9}, "whole_program", True),
        ({"kind": "random_truncation", "low": 5, "high": 9}, "whole_program", False),
        ({"kind": "phantom", "k": 1, "damping": 1.0}, {"kind": "last_cycles", "c": 1}, True),
        ({"kind": "phantom", "k": 1}, {"kind": "last_cycles", "c": 1}, False),
        ({"kind": "phantom", "k": 2}, {"kind": "phantom", "k": 9}, True),
        ({"kind": "phantom", "k": 1}, {"kind": "phantom", "k": 2}, False),
    ],
)
def test_gradients_that_keep_the_same_updates_are_one_computation(one: Any, other: Any, same: bool):
    pair = [recipe(one), recipe(other)]
    assert pair[0].id != pair[1].id
    assert twins(pair) == ([[0, 1]] if same else [])


def test_settings_without_effect_do_not_tell_computations_apart():
    quiet = {"exploration": 0.0}
    law = preset("trm_mlp", supervision=quiet | {"exploration_law": "full"})
    assert computation(law) == computation(preset("trm_mlp", supervision=quiet))
    assert computation(preset("trm_mlp", supervision={"exploration_law": "full"})) != computation(
        preset("trm_mlp")
    )
    rate = {"train": {"table_optimizer": {"lr": 1e-3}}}
    bare = {"model": {"puzzle": None}}
    assert computation(preset("trm_mlp", **rate, **bare)) == computation(preset("trm_mlp", **bare))
    assert computation(preset("trm_mlp", **rate)) != computation(preset("trm_mlp"))


def test_seeds_are_one_computation_and_other_settings_are_not():
    base = preset("trm_mlp")
    assert computation(base.with_seed(7)) == computation(base)
    found = twins([base, preset("trm_mlp", model={"n": 5}), base, preset("trm_att")])
    assert found == [[0, 2]]
