import numpy as np
import pytest
from synthetic import DEMO

from trm_lab.plots import curves


def named(ax, label):
    return [found for found in ax.get_lines() if found.get_label() == label]


def recorded(tree, arm, variable="validation_puzzle_accuracy"):
    values = tree["curves"][variable]
    runs = [f"{arm.cell}/seed-{seed}" for seed in range(3)]
    return values.sel(run=runs)


def test_the_thick_line_is_the_mean_over_seeds_at_the_steps_of_training(tree):
    arm = DEMO[1]
    ax = curves.draw(tree)
    expected = recorded(tree, arm).sel(validation_step=1).mean("run")
    assert named(ax, arm.variant)[0].get_ydata() == pytest.approx(100 * expected.values)
    assert len(named(ax, "_seed")) == 21


def test_against_compute_the_same_values_stand_at_their_flops(tree):
    arm = DEMO[3]
    one, other = (named(curves.draw(tree, x=x), arm.variant)[0] for x in ("updates", "flops"))
    assert other.get_ydata() == pytest.approx(one.get_ydata())
    assert other.get_xdata() == pytest.approx(one.get_xdata() * arm.flops_per_update)


def test_the_compute_axis_is_written_with_a_prefix(tree):
    ax = curves.draw(tree, x="flops")
    assert ax.get_xlabel() == "Training compute (TFLOP)"
    assert ax.xaxis.get_major_formatter()(2e12, 0) == "2"


def test_loss_is_drawn_from_the_training_records(tree):
    arm = DEMO[0]
    ax = curves.draw(tree, y="loss")
    expected = recorded(tree, arm, "loss").mean("run")
    assert named(ax, arm.variant)[0].get_ydata() == pytest.approx(expected.values)
    assert ax.get_ylim()[0] == 0


def test_a_diverged_run_ends_in_a_cross_and_is_not_in_the_mean(patchy):
    ax = curves.draw(patchy)
    assert len(named(ax, "_ended early")) == 4
    assert {float(cross.get_xdata()[0]) for cross in named(ax, "_ended early")} == {300.0}
    kept = recorded(patchy, DEMO[3]).sel(validation_step=1)[[0, 2]].mean("run")
    assert named(ax, "TRM (3,2)")[0].get_ydata() == pytest.approx(100 * kept.values)
    assert not named(ax, "HRM (1,1)")


def test_the_mean_stops_where_a_completed_seed_was_not_recorded(tree):
    other = tree.copy(deep=True)
    other["curves"]["validation_puzzle_accuracy"][0, -2:] = np.nan
    assert named(curves.draw(other), "TRM (1,1)")[0].get_xdata()[-1] == 500


def test_the_step_is_the_metric_s_where_it_has_one(tree):
    other = tree.copy()
    other.attrs["metric_steps"] = 4
    expected = recorded(tree, DEMO[1]).sel(validation_step=4).mean("run")
    found = named(curves.draw(other), "TRM (1,2)")[0].get_ydata()
    assert found == pytest.approx(100 * expected.values)


def test_both_axes_are_in_one_figure_with_one_scale(tree):
    left, right = curves.panels(tree).axes
    assert left.get_ylim() == right.get_ylim() == (0, 100)
    assert left.get_xlabel() == "Updates"


def test_the_caption_counts_completed_and_stopped_runs(tree, patchy):
    assert "21 of 21 planned runs completed." in curves.caption(tree)
    text = curves.caption(patchy, "loss")
    assert text.startswith("Training loss")
    assert "16 of 21 planned runs completed" in text
    assert "(3 diverged, 1 failed)" in text


def test_a_study_without_records_draws_a_note(empty):
    assert curves.draw(empty).texts[0].get_text() == "nothing was recorded while training"
