"""Names of cells in figures: short, unbroken where they can be, and with room for all of them."""

import json
from itertools import product

import pytest
import xarray as xr
from synthetic import Arm, fit_dataset, study_tree

from trm_lab.plots import accuracy, curves, forest, steps, style
from trm_lab.plots.abscissa import named
from trm_lab.plots.names import brief, common, distinct, wrapped

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


@pytest.fixture(scope="module")
def two_factors() -> xr.DataTree:
    """One series over gradient and T, between which max depth varies by T alone; and HRM's line."""
    ks, Ts = (1, 2), (1, 2)
    arms = [
        Arm(
            f"TRM, model.gradient=last_updates k={k}, model.T={T}",
            "TRM",
            T,
            1,
            (0.2 * T + 0.1 * k,) * 3,
        )
        for k in ks
        for T in Ts
    ] + [Arm(f"HRM, model.T={T}", "HRM", T, 1, (0.1 * T,) * 3) for T in Ts]
    made = study_tree(arms, contrasts=(), fits=())
    plan = json.loads(made.attrs["plan_json"])
    for cell, (k, T) in zip(plan["cells"], product((*ks, None), Ts), strict=True):
        gradient = {"model.gradient": {"kind": "last_updates", "k": k}} if k else {}
        cell |= {"arm": cell["series"], "factors": gradient | {"model.T": T}}
    made.attrs["plan_json"] = json.dumps(plan)
    return made


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


@pytest.mark.parametrize("fits", [[], [fit_dataset()]])
def test_lines_of_a_series_are_told_apart_against_another_x(fits, two_factors, legible):
    x = named("max_depth")
    fits = [fit.assign_attrs(x_name=x.name) for fit in fits]  # a law takes the place of the lines
    figure = accuracy.panels(two_factors, fits, x)
    for ax in figure.axes:
        assert ends(ax) == ["gradient=\nlast_updates k=1", "gradient=\nlast_updates k=2"]
        marks = {found.get_label(): found for found in ax.get_lines()}
        first, second = (marks[f"_end TRM, model.gradient=last_updates k={k}"] for k in (1, 2))
        assert len({first.get_color(), second.get_color(), marks["HRM"].get_color()}) == 3
        assert [note.arrowprops["color"] for note in ax.texts] == [
            first.get_color(), second.get_color(),
        ]  # fmt: skip
        assert [list(note.xy) for note in ax.texts] == [
            found.get_xydata()[-1].tolist() for found in (first, second)
        ]
        entries = [entry.get_label() for entry in accuracy.entries(ax)]
        assert entries[:2] == ["TRM", "HRM"]
    left = figure.axes[0]
    assert [t.xy[1] for t in left.texts] == pytest.approx([50, 60])  # in %, at T = 2
    legible(figure)
    assert "lines of one series, named at their ends" in accuracy.caption(two_factors, fits, x)


def test_series_of_one_line_each_have_no_names_at_their_ends(tree):
    figure = accuracy.panels(tree)
    assert not [text for ax in figure.axes for text in ax.texts]
    assert figure.get_figheight() == 2.75
    assert "Shades" not in accuracy.caption(tree)


def test_a_single_panel_has_names_at_the_ends_and_a_legend(two_factors, legible):
    ax = accuracy.draw(two_factors, x=named("max_depth"))
    assert ends(ax) == ["gradient=\nlast_updates k=1", "gradient=\nlast_updates k=2"]
    legible(ax.figure)


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


def test_cells_together_are_called_by_what_all_their_names_have():
    assert common(["TRM, T=1, k=[1, 2]", "TRM, T=2, k=[1, 2]"]) == "TRM, k=[1, 2]"
    assert common(["TRM (1,1)", "TRM (2,1)"]) == "TRM (1,1)"


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
