"""Names of cells in figures: short, unbroken where they can be, and with room for all of them."""

from itertools import product

import pytest
import xarray as xr
from synthetic import Arm, study_tree

from trm_lab.plots import curves, forest, steps, style
from trm_lab.plots.names import brief, distinct, wrapped

ENDINGS = [
    f"supervision.halting={rule}, supervision.exploration_law={law}"
    for rule, law in product(("confidence", "fixed", "q_learning"), ("uniform", "geometric"))
]


@pytest.fixture(scope="module")
def crossed() -> xr.DataTree:
    """Two series of six cells with long names, and a contrast for each pair."""
    arms = [
        Arm(f"{family}, {ending}", family, 1, 1 + place % 3, (0.4, 0.5, 0.45))
        for family in ("TRM", "HRM")
        for place, ending in enumerate(ENDINGS)
    ]
    contrasts = [
        {"name": e, "title": e, "baseline": f"TRM, {e}", "against": [f"HRM, {e}"]} for e in ENDINGS
    ]
    return study_tree(arms, contrasts=contrasts, fits=())


def ends(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("panels", [steps.panels, curves.panels, forest.panels])
def test_many_long_names_are_legible(panels, crossed, legible):
    legible(panels(crossed))


@pytest.mark.parametrize("draw", [steps.draw, curves.draw, forest.draw])
def test_a_single_panel_of_many_long_names_is_legible(draw, crossed, legible):
    legible(draw(crossed).figure)


def test_names_leave_out_their_panel_s_series_and_the_beginnings_of_settings(crossed):
    trm, hrm = steps.panels(crossed).axes
    expected = {
        f"halting={rule},\nexploration_law=\n{law}"
        for rule, law in product(("confidence", "fixed", "q_learning"), ("uniform", "geometric"))
    }
    assert set(ends(trm)) == set(ends(hrm)) == expected
    assert "HRM, halting=fixed,\nexploration_law=\nuniform" in ends(curves.draw(crossed))


def test_a_figure_grows_where_its_names_need_it(tree, crossed):
    assert steps.panels(tree).get_figheight() == curves.panels(tree).get_figheight() - 0.1 == 2.6
    # Eight names of four lines and four of three, and what stands above and below the axes.
    assert curves.panels(crossed).get_figheight() > 44 * style.TEXT * 1.22 / 72 + 0.3


def test_a_row_of_the_forest_is_called_by_what_differs_from_its_baseline(crossed):
    names = [label.get_text() for label in forest.draw(crossed).get_yticklabels()]
    assert names[::2][0] == "against TRM,\nhalting=confidence,\nexploration_law=uniform:"
    assert names[1::2] == ["HRM"] * 6


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("TRM (2,2) one-step gradient", "TRM (2,2) one-step\ngradient"),
        ("lr=0.001, ema=0.9999", "lr=0.001,\nema=0.9999"),
        ("gradient=last_updates k=2", "gradient=\nlast_updates k=2"),
        ("my_package.layouts:Ring=2", "my_package.\nlayouts:Ring=2"),
        ("x" * 40, "\n".join(["x" * 18, "x" * 18, "x" * 4])),
    ],
)
def test_a_name_is_broken_inside_a_word_only_where_that_is_too_long(name: str, lines: str):
    assert wrapped(name) == lines


def test_settings_that_end_alike_keep_their_whole_names():
    names = ["TRM, model.T=2, model.mixer.heads=1, own.heads=0.5", "TRM, model.T=3"]
    assert brief(names) == ["TRM, T=2, model.mixer.heads=1, own.heads=0.5", "TRM, T=3"]


def test_what_all_names_have_is_left_out():
    assert distinct(["TRM, T=2, n=1", "TRM, T=2, n=2"]) == ["n=1", "n=2"]
    assert distinct(["TRM", "TRM, T=2"]) == ["TRM", "T=2"]
    assert distinct(["TRM, T=2"]) == ["TRM, T=2"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("[0.9, 0.95]", "[0.9, 0.99]"),
        ("[[1, 2], 3]", "[[1, 2], 4]"),
        ('{"heads": 2, "kind": "attention"}', '{"heads": 4, "kind": "attention"}'),
        ("{'slots': 16, 'dim': 8}", "{'slots': 4, 'dim': 8}"),
        ('["), a", "b"]', '["), c", "b"]'),
        (r"['it\'s), a', 1]", r"['it\'s), b', 1]"),
        ("(users', 2)", "(users', 3)"),
    ],
)
def test_commas_of_a_value_part_no_name(first: str, second: str):
    names = [f"HRM's, users', own.x={value}, model.n=1" for value in (first, second)]
    assert distinct(names) == [f"own.x={first}", f"own.x={second}"]
    assert brief(names) == [f"HRM's, users', x={value}, n=1" for value in (first, second)]


def test_a_bracket_without_its_other_end_keeps_a_name_in_one_piece():
    assert distinct(["TRM (a, n=1", "TRM (a, n=2"]) == ["TRM (a, n=1", "TRM (a, n=2"]
    assert distinct(["a) TRM, n=1", "a) TRM, n=2"]) == ["n=1", "n=2"]


def test_lines_end_with_whole_values():
    arms = [
        Arm(f"{name}, train.optimizer.betas={value}", name, 1, 1 + place, (0.4, 0.5, 0.45))
        for name in ("TRM", "HRM")
        for place, value in enumerate(("[0.9, 0.95]", "[0.9, 0.99]"))
    ]
    assert ends(curves.draw(study_tree(arms, contrasts=(), fits=()))) == [
        "TRM, betas=[0.9,\n0.95]", "TRM, betas=[0.9,\n0.99]",
        "HRM, betas=[0.9,\n0.95]", "HRM, betas=[0.9,\n0.99]",
    ]  # fmt: skip
