"""Where presets stand between paper and released code, and what every switch does about it."""

from typing import Any

import pytest

from trm_lab.config import Recipe, preset
from trm_lab.config.presets import KNOWN
from trm_lab.discrepancies import POINTS, Side, family

NUMBERS = {point.number: point for point in POINTS}

ALWAYS: dict[int, Side] = {
    18: "neither", 19: "neither", 20: "neither", 25: "neither", 27: "both", 28: "neither",
    30: "neither", 33: "neither",
}  # fmt: skip
"""Facts: the same for every recipe."""
TRM: dict[int, Side] = ALWAYS | {
    1: "code", 2: "both", 3: "code", 4: "both", 5: "code", 6: "neither", 7: "code", 8: "code",
    9: "code", 10: "code", 11: "code", 12: "neither", 13: "neither", 14: "neither", 15: "neither",
    16: "code", 17: "both", 21: "code", 22: "code", 23: "both", 24: "neither", 26: "both",
    29: "neither", 31: "neither", 32: "neither",
}  # fmt: skip
HRM: dict[int, Side] = TRM | {
    1: "both", 3: "both", 4: "neither", 5: "neither", 7: "both", 9: "both", 10: "both", 11: "both",
    12: "code",
    16: "both", 21: "both", 22: "both", 24: "code", 29: "both",
}  # fmt: skip
LOOPED: dict[int, Side] = TRM | {
    1: "both", 3: "both", 4: "neither", 5: "neither", 7: "both", 9: "both", 10: "neither",
    16: "neither", 21: "both", 22: "both", 31: "paper", 32: "code",
}  # fmt: skip
"""HRM's baseline; its code halts where q_halt is above a q_continue that nothing trains."""
EXPECTED: dict[str, dict[int, Side]] = {
    "trm_att": TRM,
    "trm_mlp": TRM,
    "hrm": HRM,
    "table_1/two_nets": TRM | {15: "paper"},
    "table_1/one_step": TRM | {16: "paper"},
    "table_3/trm_k1_T1": TRM | {4: "neither", 17: "code"},
    "table_3/hrm_k1_T1": HRM | {17: "code"},
    "urm": TRM,
    "looped": LOOPED,
    "direct": LOOPED | dict.fromkeys((3, 8, 9, 11), "neither") | {32: "paper"},
}


def sides(recipe: Recipe) -> dict[int, Side]:
    return {number: point.stand(recipe).side for number, point in NUMBERS.items()}


def test_there_are_33_points_in_order() -> None:
    assert [point.number for point in POINTS] == list(range(1, 34))
    assert len({point.topic for point in POINTS}) == 33
    assert all(point.topic and point.paper and point.code for point in POINTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_stands_where_it_should(name: str) -> None:
    assert sides(preset(name)) == EXPECTED[name]


def test_the_baselines_stand_where_they_should() -> None:
    direct, twelve, looped = (sides(preset(n)) for n in ("direct", "direct_12_heads", "looped"))
    assert (direct[31], twelve[31]) == ("paper", "code")
    assert (direct[32], looped[32]) == ("paper", "code")


def test_the_family_of_a_recipe() -> None:
    two = {"layout": {"nets": 2}}
    families = {
        "hrm": [
            preset("hrm"),
            preset("hrm", model={"gradient": "whole_program"}),
            preset("hrm", supervision={"halting": "confidence"}),
            preset("trm_att", model={**two, "gradient": {"kind": "last_updates", "k": 2}}),
        ],
        "baseline": [preset("direct"), preset("looped")],
        "trm": [
            *map(preset, ("trm_att", "singlez", "urm", "table_1/act_continue", "table_1/one_step")),
            preset("trm_att", model=two),
            preset("looped", model={"n": 2}),
        ],
    }
    for name, recipes in families.items():
        assert [family(recipe) for recipe in recipes] == [name] * len(recipes)


def test_points_about_something_else_do_not_apply() -> None:
    def apart(name: str, **changes: Any) -> set[int]:
        recipe = preset(name, **changes)
        return {n for n, point in NUMBERS.items() if not point.stand(recipe).applies}

    always = {6, 18, 19, 20}
    assert apart("trm_att") == always | {12, 13, 14, 15, 24, 29, 31, 32}
    assert apart("hrm") == always | {4, 5, 13, 14, 15, 31, 32}
    assert apart("table_1/two_nets") == apart("trm_att") - {15}
    assert apart("urm") == apart("trm_att")
    assert apart("singlez") == apart("trm_mlp") - {13}
    assert apart("multiz") == apart("trm_mlp") - {14}
    assert apart("looped") == always | {4, 5, 12, 13, 14, 15, 16, 24, 29}
    assert apart("direct") == apart("looped") | {3, 8, 9, 10}
    fixed = {"supervision": {"halting": {"kind": "fixed"}}}
    assert apart("trm_att", **fixed) == apart("trm_att") | {3}


def with_(base: str, changes: dict[str, Any]) -> Recipe:
    return preset(base, **changes)


ONE = {"model": {"layout": {"kind": "one_latent"}}}
ONE_X = {"model": {"layout": {"kind": "one_latent", "x_in_last": True}}}
HIGH = {"kind": "confidence", "threshold": 3.0}
TWO_NETS = {"layout": {"kind": "two_latents", "nets": 2}}
FLIPS: list[tuple[int, str, dict[str, Any], Side]] = [
    (1, "trm_att", {"train": {"optimizer": {"kind": "adamw"}}}, "paper"),
    (1, "trm_att", {"train": {"optimizer": {"kind": "adam_atan2_scaled"}}}, "neither"),
    (1, "hrm", {"train": {"optimizer": {"kind": "adamw"}}}, "neither"),
    (1, "trm_att", {"train": {"optimizer": {"kind": "muon"}}}, "neither"),
    (2, "trm_att", {"supervision": {"loss": {"kind": "softmax"}}}, "paper"),
    (2, "trm_att", {"supervision": {"loss": {"kind": "stablemax", "dtype": "float32"}}}, "paper"),
    (3, "trm_att", {"supervision": {"halt_weight": 1.0}}, "paper"),
    (3, "trm_att", {"supervision": {"halt_weight": 0.7}}, "neither"),
    (3, "trm_att", {"supervision": {"halting": {"kind": "fixed"}}}, "neither"),
    (4, "trm_att", {"model": {"n": 4}}, "neither"),
    (5, "trm_att", {"train": {"updates": 78_120}}, "paper"),
    (5, "trm_att", {"train": {"updates": 3000}}, "neither"),
    (5, "trm_att", {"supervision": {"loop": {"kind": "slot_carry", "steps": 2}}}, "neither"),
    (5, "trm_att", {"supervision": {"loop": "full_loop"}}, "neither"),
    (5, "trm_att", {"supervision": {"loop": "full_loop"}, "train": {"updates": 1_250_000}},
     "paper"),
    (7, "trm_att", {"model": {"puzzle": {"slots": 1}}}, "paper"),
    (7, "trm_att", {"model": {"puzzle": {"slots": 4}}}, "neither"),
    (8, "trm_att", {"supervision": {"loop": {"kind": "full_loop"}}}, "paper"),
    (8, "trm_att", {"supervision": {"loop": {"kind": "no_carry"}}}, "neither"),
    (8, "trm_att", {"supervision": {"loop": {"kind": "slot_carry", "steps": 2}}}, "neither"),
    (9, "trm_att", {"supervision": {"exploration": 0.0}}, "paper"),
    (9, "trm_att", {"supervision": {"exploration": 0.2}}, "neither"),
    (9, "trm_att", {"supervision": {"exploration_law": "full"}}, "neither"),
    (10, "trm_att", {"supervision": {"loop": {"kind": "full_loop"}}}, "paper"),
    (10, "trm_att", {"supervision": {"loop": "full_loop", "halting": HIGH}}, "neither"),
    (10, "hrm", {"supervision": {"loop": {"kind": "full_loop"}}}, "neither"),
    (10, "hrm", {"supervision": {"loop": "full_loop", "halting": "confidence"}}, "neither"),
    (10, "trm_att", {"supervision": {"halting": {"kind": "fixed"}}}, "neither"),
    (10, "hrm", {"supervision": {"halting": {"kind": "confidence"}}}, "neither"),
    (11, "looped", {"supervision": {"halting": {"kind": "q_learning"}}}, "neither"),
    (10, "trm_att", {"supervision": {"halting": {"kind": "confidence", "threshold": 1.0}}},
     "neither"),
    (11, "trm_att", {"supervision": {"halting": {"kind": "q_learning"}}}, "paper"),
    (11, "trm_att", {"supervision": {"halting": {"kind": "fixed"}}}, "neither"),
    (13, "trm_att", ONE, "code"),
    (13, "trm_att", ONE_X, "paper"),
    (14, "trm_att", {"model": {"layout": {"kind": "many_latents"}}}, "code"),
    (15, "trm_att", {"model": TWO_NETS}, "paper"),
    (15, "trm_att", {"model": {**TWO_NETS, "gradient": "whole_program"}}, "neither"),
    (16, "trm_att", {"model": {"gradient": {"kind": "last_updates", "k": 2}}}, "paper"),
    (16, "trm_att", {"model": {"gradient": {"kind": "whole_program"}}}, "neither"),
    (17, "trm_att", {"model": {"n": 2, "T": 1}}, "code"),
    (21, "trm_att", {"train": {"ema_table": True}}, "paper"),
    (21, "trm_att", {"train": {"ema": None}}, "neither"),
    (21, "hrm", {"train": {"ema": 0.999}}, "neither"),
    (22, "trm_att", {"model": {"initial": {"kind": "zero"}}}, "neither"),
    (23, "trm_att", {"eval": {"policy": {"kind": "when_halted"}}}, "neither"),
    (23, "trm_att", {"eval": {"final_steps": [16, 64]}}, "neither"),
    (24, "hrm", {"train": {"ema": 0.999}}, "neither"),
    (24, "hrm", {"train": {"updates": 65_100}}, "neither"),
    (26, "trm_att", {"model": {"puzzle": None}}, "neither"),
    (31, "direct", {"model": {"mixer": {"heads": 4}}}, "neither"),
    (32, "direct", {"supervision": {"N_sup": 16}}, "code"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "base", "changes", "side"), FLIPS, ids=lambda v: str(v)[:50])
def test_a_switch_moves_its_point(
    number: int, base: str, changes: dict[str, Any], side: Side
) -> None:
    before, after = NUMBERS[number].stand(preset(base)), NUMBERS[number].stand(with_(base, changes))
    assert after.side == side
    assert after != before


def test_only_the_first_row_of_table_3_has_a_depth_of_its_own() -> None:
    apart = {name for name in KNOWN if sides(preset(name))[17] != "both"}
    assert apart == {"table_3/trm_k1_T1", "table_3/hrm_k1_T1"}


LAST_CYCLE: list[Any] = [
    "last_cycles",
    {"kind": "last_updates", "k": 7},
    {"kind": "random_truncation", "low": 7, "high": 7},
    {"kind": "phantom", "damping": 1.0},
]


@pytest.mark.parametrize("gradient", LAST_CYCLE, ids=str)
def test_gradients_are_compared_by_what_they_do(gradient: Any) -> None:
    one, two = ({"gradient": gradient, **more} for more in ({}, TWO_NETS))
    assert sides(preset("trm_att", model=one))[16] == "code"
    assert sides(preset("trm_att", model=two))[15] == "paper"
    # What is the same by the end of training is not the same in all of it.
    stage = {"curriculum": [{"until": 0.5, "n": 3}]}
    found = preset("trm_att", model=one, supervision=stage)
    same = gradient in ("last_cycles", LAST_CYCLE[-1])
    assert sides(found)[16] == ("code" if same else "neither")


def test_a_short_program_has_one_gradient_under_many_names() -> None:
    assert sides(preset("trm_att", model={"T": 1, "gradient": "whole_program"}))[16] == "code"
    assert sides(preset("trm_att", model={"n": 1}))[16] == "both"


def test_every_point_with_a_switch_is_moved_by_one() -> None:
    switched = {point.number for point in POINTS if point.switch} - {6}
    assert switched <= {number for number, *_ in FLIPS}
    assert {n for n, p in NUMBERS.items() if not p.switch} == set(ALWAYS) | {12, 14, 17, 29}


def test_switches_name_settings() -> None:
    fields = preset("trm_att").as_dict()
    fields["model"]["layout"] = {**fields["model"]["layout"], "x_in_last": False}
    for point in POINTS:
        here: Any = fields
        for name in filter(None, point.switch.split(".")):
            assert name in here, point.switch
            here = here[name]


def test_values_say_what_the_recipe_has() -> None:
    def value(number: int, recipe: Recipe) -> str:
        return NUMBERS[number].stand(recipe).value

    trm = preset("trm_att")
    assert value(5, trm) == "49,997 epochs of 1,000 rows"
    two = preset("trm_att", supervision={"loop": {"kind": "slot_carry", "steps": 2}})
    assert value(5, two) == "99,994 epochs of 1,000 rows"
    left = " epochs of 1,000 puzzles, more if batches are left early"
    full = {"supervision": {"loop": "full_loop"}, "train": {"updates": 65_104}}
    assert value(5, preset("trm_att", **full)) == f"3,125{left}"
    full["supervision"]["curriculum"] = [{"until": 0.5, "N_sup": 8}]
    assert value(5, preset("trm_att", **full)) == f"4,687{left}"
    assert value(24, preset("hrm")) == "trained here, 19,999 epochs of 1,000 rows"
    assert value(9, trm) == "0.1, uniform"
    assert value(16, trm) == "7 updates with a graph"
    assert value(17, trm) == "effective depth 42"
    assert value(21, trm) == "0.999, table false"
    assert value(27, trm) == "6,828,034, and 512 in the table"
    assert value(8, trm) == "slots carry over; steps an update: 1"
    multi = preset("trm_att", task={"kind": "sudoku", "data_seed": 4})
    assert value(25, multi) == "drawn with data_seed 4"


def test_on_maze_the_points_of_maze_bear() -> None:
    from trm_lab.config.contracts import OwnTask

    class Maze(OwnTask):
        cells: int = 900
        vocabulary: int = 6
        identifiers: int = 1
        validation: int = 10
        test: int = 10
        augment: bool = False

        def load(self, cache: Any) -> Any:
            raise NotImplementedError

    def maze(n: int, augment: bool) -> dict[int, Side]:
        base = preset("trm_att", model={"n": n})
        return sides(Recipe.model_validate({**base.__dict__, "task": Maze(augment=augment)}))

    assert [maze(4, False)[k] for k in (4, 6)] == ["code", "code"]
    assert [maze(6, True)[k] for k in (4, 6)] == ["paper", "paper"]
    assert maze(5, True)[4] == "neither"
