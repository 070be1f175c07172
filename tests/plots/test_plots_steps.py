import numpy as np
import pytest
from synthetic import DEMO, STEPS, study_tree

from trm_lab.plots import steps
from trm_lab.stats import mean_interval


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def reached(tree, arm, seeds=(0, 1, 2)):
    values = tree["eval"]["puzzle_accuracy"].sel(weights="last")
    return np.array([values.sel(run=f"{arm.cell}/seed-{seed}").values for seed in seeds])


def test_a_line_is_the_mean_over_seeds_at_every_step(tree):
    arm = DEMO[2]
    found = line(steps.draw(tree), arm.variant)
    assert list(found.get_xdata()) == list(STEPS)
    assert found.get_ydata() == pytest.approx(100 * reached(tree, arm).mean(axis=0))


def test_the_band_is_the_interval_of_the_statistics(tree):
    arm = DEMO[4]
    ax = steps.draw(tree, series=arm.series)
    corners = ax.collections[0].get_paths()[0].vertices
    for place in (0, 3, 15):
        found = mean_interval(reached(tree, arm)[:, place])
        at = corners[corners[:, 0] == STEPS[place], 1]
        assert at.min() == pytest.approx(100 * found.lower)
        assert at.max() == pytest.approx(100 * found.upper)


def test_a_diverged_seed_is_not_in_the_line(patchy):
    arm = DEMO[3]
    found = line(steps.draw(patchy), arm.variant)
    assert found.get_ydata() == pytest.approx(100 * reached(patchy, arm, (0, 2)).mean(axis=0))


def test_the_trained_number_of_steps_is_marked(tree):
    mark = line(steps.draw(tree), "_TRM (3,2) trained")
    assert list(mark.get_xdata()) == [1]
    assert mark.get_ydata() == pytest.approx([100 * np.mean(DEMO[3].accuracy)])


def test_there_is_a_panel_for_every_series_with_its_lines_alone(tree):
    axes = steps.panels(tree).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["TRM", "TRM one-step gradient", "HRM"]
    shown = [found.get_label() for found in axes[2].get_lines()]
    assert [name for name in shown if not name.startswith("_")] == ["HRM (1,1)", "HRM (2,2)"]


def test_a_cell_without_a_completed_run_is_named_in_the_panel(patchy):
    ax = steps.draw(patchy, series="HRM")
    assert any("HRM (1,1)" in text.get_text() for text in ax.texts)


def test_the_caption_gives_n_and_what_the_marks_are(tree, patchy):
    assert "n = 3 seeds per cell." in steps.caption(tree)
    assert "N_sup of training" in steps.caption(tree)
    assert "TRM (3,2): 2 of 3 seeds (1 diverged)" in steps.caption(patchy)


def test_a_study_without_results_draws_a_note(empty):
    assert steps.draw(empty).texts[0].get_text() == "no completed run was evaluated"


def test_a_missing_series_has_no_panel():
    tree = study_tree([arm for arm in DEMO if arm.series != "HRM"], contrasts=())
    titles = [ax.get_title(loc="left") for ax in steps.panels(tree).axes]
    assert "HRM" not in titles


def test_the_table_has_n_on_every_row(patchy):
    table = steps.table(patchy)
    assert len(table) == 7 * 16
    assert set(table.loc[table["label"] == "HRM (1,1)", "n"]) == {0}
