import numpy as np
import pytest
from matplotlib.collections import LineCollection
from synthetic import DEMO, Arm, fit_dataset, study_tree

from trm_lab.plots import accuracy
from trm_lab.stats import mean_interval


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def bars(ax, series):
    found = next(
        c
        for c in ax.collections
        if isinstance(c, LineCollection) and c.get_label() == f"_{series} interval"
    )
    return np.array(found.get_segments())


def test_means_stand_at_their_depth_in_percent(tree):
    found = line(accuracy.draw(tree), "TRM")
    arms = [arm for arm in DEMO if arm.series == "TRM"]
    means = [100 * mean_interval(arm.accuracy).estimate for arm in arms]
    assert found.get_ydata() == pytest.approx(means)
    assert found.get_xdata() == pytest.approx([4, 6, 12, 18], rel=0.1)
    assert found.get_xdata()[[1, 3]] == pytest.approx([6, 18])  # alone at their depth


def test_cells_at_one_depth_stand_side_by_side_in_the_order_of_the_plan(tree):
    ax = accuracy.draw(tree)
    trm, step, hrm = (
        line(ax, name).get_xdata() for name in ("TRM", "TRM one-step gradient", "HRM")
    )
    assert trm[2] < step[0] == pytest.approx(12)
    assert step[0] < hrm[1]


def test_interval_ends_are_those_of_the_statistics(tree):
    arms = [arm for arm in DEMO if arm.series == "HRM"]
    for segment, arm in zip(bars(accuracy.draw(tree), "HRM"), arms, strict=True):
        found = mean_interval(arm.accuracy)
        assert segment[:, 1] == pytest.approx([100 * found.lower, 100 * found.upper])


def test_every_completed_seed_is_a_point(patchy):
    seeds = line(accuracy.draw(patchy), "_TRM seeds").get_ydata()
    expected = [100 * v for arm in DEMO if arm.series == "TRM" for v in arm.accuracy]
    expected.remove(79.0)
    assert sorted(seeds) == pytest.approx(sorted(expected))


def test_depth_is_a_log2_axis_with_the_real_depths_as_ticks(tree):
    ax = accuracy.draw(tree)
    assert ax.get_xscale() == "log"
    assert list(ax.get_xticks()) == [4, 6, 12, 18]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "6", "12", "18"]
    assert ax.get_ylim() == (0, 100)


def test_both_panels_span_all_planned_depths(tree):
    other = tree.copy(deep=True)
    other["curves"]["validation_puzzle_accuracy"][6:, :10] = np.nan  # two cells reach the budget
    left, right = accuracy.panels(other).axes
    assert left.get_xlim() == right.get_xlim()
    assert list(right.get_xticks()) == [4, 6, 12, 18]


def test_crowded_depths_keep_their_ticks_and_lose_names():
    arms = [Arm(f"T{T}", "TRM", T, 2, (0.1, 0.2, 0.3)) for T in range(1, 25)]
    ax = accuracy.draw(study_tree(arms, contrasts=()))
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert len(names) == 24
    assert names[0] == "6"
    assert "" in names


def test_the_law_is_drawn_as_fitted_with_its_band(tree):
    fit = fit_dataset()
    ax = accuracy.draw(tree, fits=[fit])
    law = line(ax, "_fit saturating law")
    assert law.get_xdata() == pytest.approx(fit["grid_x"].values)
    assert law.get_ydata() == pytest.approx(100 * fit["curve"].values)
    band = next(c for c in ax.collections if not isinstance(c, LineCollection))
    assert band.get_datalim(ax.transData).ymax == pytest.approx(
        100 * float(fit["band"].sel(bound="upper").max())
    )
    assert "_TRM line" not in [found.get_label() for found in ax.get_lines()]
    assert line(ax, "_HRM line").get_linestyle() == "-"


def test_a_law_that_did_not_converge_is_dotted_and_says_so(tree):
    fit = fit_dataset(status="not_converged")
    ax = accuracy.draw(tree, fits=[fit])
    assert line(ax, "_fit saturating law (not converged)").get_linestyle() == ":"
    assert "not converged" in accuracy.caption(tree, [fit])


@pytest.mark.parametrize("name", ["x_name", "y_name"])
def test_a_law_of_other_axes_is_not_drawn(tree, name):
    fit = fit_dataset()
    fit.attrs[name] = "params"
    assert not [
        found
        for found in accuracy.draw(tree, fits=[fit]).get_lines()
        if "_fit" in found.get_label()
    ]
    assert "law" not in accuracy.caption(tree, [fit])


def test_two_laws_of_a_series_differ_in_stroke(tree):
    power = fit_dataset("depth-power")
    power.attrs["law_name"] = "power"
    ax = accuracy.draw(tree, fits=[fit_dataset(), power])
    strokes = [line(ax, f"_fit {law} law").get_linestyle() for law in ("saturating", "power")]
    assert strokes == ["-", "-."]
    assert "power law" in [entry.get_label() for entry in accuracy.entries(ax)]


def test_lines_join_within_a_combination_of_factors():
    arms = [
        Arm(f"T{T}", "TRM", T, 2, (0.1, 0.2, 0.3), layers=layers, crossed=True)
        for T in (1, 2)
        for layers in (2, 4)
    ]
    ax = accuracy.draw(study_tree(arms, contrasts=()))
    joined = [found for found in ax.get_lines() if found.get_label() == "_TRM line"]
    assert [len(found.get_xdata()) for found in joined] == [2, 2]


def test_laws_are_left_out_at_equal_compute(tree):
    ax = accuracy.draw(tree, at="compute", fits=[fit_dataset()])
    assert not [found for found in ax.get_lines() if "_fit" in found.get_label()]


def test_a_wide_band_does_not_set_the_y_axis_of_a_loss(tree):
    loss = tree.copy(deep=True)
    loss.attrs["metric"] = "loss"
    loss["runs"]["loss"] = loss["runs"]["puzzle_accuracy"]
    fit = fit_dataset()
    fit.attrs["y_name"] = "loss"
    plain = accuracy.draw(loss, fits=[fit]).get_ylim()
    fit["band"] = fit["band"] * np.array([1.0, 1e6])
    low, high = accuracy.draw(loss, fits=[fit]).get_ylim()
    assert low == pytest.approx(plain[0], abs=0.05)
    assert high == pytest.approx(plain[1], abs=0.3)


def test_axes_handed_in_are_used(tree):
    ax = accuracy.style.figure().add_subplot()
    assert accuracy.draw(tree, ax) is ax
    assert ax.get_legend() is not None


def test_the_caption_gives_n_interval_and_budget(tree):
    text = accuracy.caption(tree, [fit_dataset()])
    assert "n = 3 seeds per cell." in text
    assert "95 % t interval over seeds" in text
    assert "after 600 updates" in text
    assert "3.6 TFLOP" in text
    assert "y = ceiling (1 - exp(-x / scale)), 12 runs, converged" in text
    assert "3 clusters (seed); descriptive" in text


def test_the_caption_counts_what_is_missing(patchy):
    text = accuracy.caption(patchy)
    assert "n = 3 seeds per cell, except TRM (3,2): 2 of 3 seeds (1 diverged)" in text
    assert "HRM (1,1): 0 of 3 seeds (2 diverged, 1 failed)" in text
    assert "HRM (2,2): 2 of 3 seeds (1 running)" in text
    assert "may pass 0 or 100 %" in text


def test_the_caption_says_why_a_completed_run_has_no_number_at_equal_compute(tree):
    other = tree.copy(deep=True)
    other["curves"]["validation_puzzle_accuracy"][9:12, :11] = np.nan  # evaluated at the end only
    assert (
        "training): n = 3 seeds per cell, except TRM (3,2): 0 of 3 seeds (3 completed without an "
        "evaluation up to this budget)."
    ) in accuracy.caption(other)


def test_a_missing_series_leaves_the_others_as_they_are(tree):
    without = study_tree([arm for arm in DEMO if arm.series != "HRM"], contrasts=())
    ax, full = accuracy.draw(without), accuracy.draw(tree)
    assert "HRM" not in [found.get_label() for found in ax.get_lines()]
    assert line(ax, "TRM").get_ydata() == pytest.approx(line(full, "TRM").get_ydata())
    assert line(ax, "TRM").get_color() == line(full, "TRM").get_color()


def test_a_study_without_results_draws_a_note(empty):
    assert accuracy.draw(empty).texts[0].get_text() == "no completed run has this number"
    text = accuracy.caption(empty)
    assert "at equal compute; n = 0, no run has completed. Small" in text
    assert "seeds (" not in text
    assert "unknown" not in text


def test_the_table_has_every_planned_run(patchy):
    table = accuracy.table(patchy)
    assert len(table) == 21
    assert table["at_updates"].isna().sum() == 5
