from dataclasses import replace

import numpy as np
import pytest
from synthetic import DEMO, study_tree

from trm_lab.plots import accuracy, curves, forest, steps, style
from trm_lab.plots.ends import spread


def test_a_series_has_one_look_in_every_study():
    alone, among = style.looks(["HRM"]), style.looks(["TRM", "TRM one-step gradient", "HRM", "URM"])
    assert alone["HRM"] == among["HRM"]


def test_many_series_all_look_different():
    names = [f"series {i}" for i in range(12)]
    assert len(set(style.looks(names).values())) == 12


def test_shades_end_at_the_colour_itself():
    assert style.shade("#0072B2", 3, 4).upper() == "#0072B2"
    assert style.shade("#0072B2", 0, 1).upper() == "#0072B2"
    assert style.shade("#0072B2", 0, 4) != style.shade("#0072B2", 1, 4)


def test_spread_keeps_places_that_are_free():
    wanted = np.array([30.0, 10.0, 80.0])
    assert spread(wanted, np.full(3, 9), 0, 100) == pytest.approx(wanted)


def test_spread_parts_close_places_and_keeps_their_order():
    placed = spread(np.array([50.0, 51.0, 49.0, 98.0, 99.0]), np.full(5, 10.0), 0, 100)
    assert placed == pytest.approx([50, 60, 40, 85, 95])


def test_spread_gives_each_box_its_own_size():
    placed = spread(np.array([50.0, 50.0]), np.array([10.0, 30.0]), 0, 100)
    assert np.diff(placed) == pytest.approx([20])


@pytest.mark.parametrize("which", ["patchy", "empty"])
@pytest.mark.parametrize(
    "panels",
    [accuracy.panels, forest.panels, steps.panels, curves.panels],
    ids=["depth", "forest", "steps", "curves"],
)
def test_no_text_is_small_cut_off_or_overlaps_another(which, panels, request, legible):
    legible(panels(request.getfixturevalue(which)))


def test_series_without_data_at_the_budget_leave_the_layout_alone(tree, legible):
    other = tree.copy(deep=True)
    other["curves"]["validation_puzzle_accuracy"][12:, :11] = np.nan
    legible(accuracy.panels(other))


def test_an_untested_number_of_training_steps_leaves_the_layout_alone(tree, legible):
    other = tree.copy(deep=True)
    other["runs"]["supervision.N_sup"][:] = 32
    legible(steps.panels(other))


@pytest.mark.slow
def test_panels_without_data_leave_their_neighbours_alone(legible):
    none = dict.fromkeys(range(3), "failed")
    arms = [replace(arm, states=none if arm.series == "HRM" else {}) for arm in DEMO]
    tree = study_tree(arms)
    tree["curves"]["validation_puzzle_accuracy"][:] = np.nan
    for panels in (accuracy.panels, forest.panels, steps.panels, curves.panels):
        legible(panels(tree))
    left, right = accuracy.panels(tree).axes
    assert list(left.get_xticks()) == [4, 6, 12, 18]
    assert right.texts[0].get_text() == "no completed run has this number"
    first, _, last = steps.panels(tree).axes
    assert len(first.get_yticks()) > 2
    assert last.texts[0].get_text() == "no completed run was evaluated"


@pytest.mark.parametrize("draw", [accuracy.draw, forest.draw, steps.draw, curves.draw])
def test_a_single_panel_is_as_legible(draw, patchy, legible):
    legible(draw(patchy).figure)


@pytest.mark.slow
def test_two_builds_write_the_same_bytes_and_leave_no_other_file(tree, tmp_path):
    for name in ("one", "two"):
        style.save(forest.panels(tree), tmp_path / name / "forest")
    found = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert found == ["forest.pdf", "forest.png", "forest.svg"]
    for name in found:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_drawing_leaves_the_settings_of_the_caller_alone(tree):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    forest.panels(tree)
    assert dict(mpl.rcParams) == before


def test_a_figure_has_the_width_of_a_column(tree):
    assert accuracy.draw(tree).figure.get_figwidth() == style.NARROW
    assert accuracy.panels(tree).get_figwidth() == style.WIDE
