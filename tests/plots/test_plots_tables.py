import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import DEMO, Arm, fit_dataset, study_tree

from trm_lab.plots import captions
from trm_lab.plots.contrasts import compare, contrast_table
from trm_lab.plots.tables import at_compute, cell_table, changed, fits, labels, run_table
from trm_lab.results import equal_compute
from trm_lab.stats import mean_interval, paired_bootstrap, paired_difference, seed_bootstrap


def test_a_cell_has_the_mean_and_interval_of_its_seeds(tree):
    cells = cell_table(tree).set_index("label")
    for arm in DEMO:
        found = mean_interval(arm.accuracy)
        row = cells.loc[arm.variant]
        assert row["updates_mean"] == pytest.approx(found.estimate)
        assert (row["updates_lower"], row["updates_upper"]) == pytest.approx(
            (found.lower, found.upper)
        )
        assert (row["effective_depth"], row["T"], row["n"]) == (arm.depth, arm.T, arm.n)
        assert (row["updates_n"], row["completed"], row["planned"]) == (3, 3, 3)


def test_a_diverged_seed_enters_no_mean_and_is_counted(patchy):
    row = cell_table(patchy).set_index("label").loc["TRM (3,2)"]
    assert row["updates_mean"] == pytest.approx((0.82 + 0.847) / 2)
    assert (row["updates_n"], row["completed"], row["diverged"], row["planned"]) == (2, 2, 1, 3)


def test_a_diverged_run_with_numbers_enters_no_mean_either(patchy):
    tree = patchy.copy(deep=True)
    tree["runs"]["puzzle_accuracy"][:] = 0.5
    row = cell_table(tree).set_index("label").loc["TRM (3,2)"]
    assert row["updates_n"] == 2


def test_equal_compute_is_that_of_the_results(tree):
    found = equal_compute(tree)
    values, budget = at_compute(tree)
    assert budget == float(found["flops"])
    np.testing.assert_allclose(run_table(tree)["at_compute"], found["puzzle_accuracy"])
    np.testing.assert_allclose(values, found["puzzle_accuracy"])


def test_a_metric_without_a_validation_curve_has_no_number_at_equal_compute(tree):
    other = tree.copy()
    other.attrs["metric"] = "flops"
    assert run_table(other)["at_compute"].isna().all()
    assert run_table(other)["at_updates"].notna().all()


def test_runs_outside_the_plan_enter_no_table_and_no_budget(tree):
    old = Arm("old", "TRM", 1, 1, (0.01, 0.01, 0.01), layers=1)
    other = study_tree([*DEMO, old])
    other["runs"]["planned"][-3:] = 0
    other["curves"]["validation_flops"][-3:] /= 10
    assert list(cell_table(other)["label"]) == list(cell_table(tree)["label"])
    assert at_compute(other)[1] == at_compute(tree)[1]


def test_contrasts_of_a_crossed_study_are_within_each_combination():
    arms = [
        Arm("TRM", "TRM", 2, 2, (0.6, 0.5, 0.6), layers=2, crossed=True),
        Arm("TRM", "TRM", 2, 2, (0.7, 0.6, 0.7), layers=4, crossed=True),
        Arm("HRM", "HRM", 2, 2, (0.5, 0.5, 0.5), nets=2, layers=4, crossed=True),
        Arm("HRM", "HRM", 2, 2, (0.3, 0.2, 0.4), nets=2, layers=2, crossed=True),
        Arm("HRM", "HRM", 2, 2, (0.3, 0.2, 0.4), nets=2, layers=8, crossed=True),
    ]
    plan = {"name": "family", "title": "Family", "baseline": "TRM", "against": ["HRM"]}
    rows = contrast_table(study_tree(arms, contrasts=[plan], fits=()))
    pairs = list(zip(rows["baseline"], rows["against"], strict=True))
    assert pairs == [
        ("TRM, model.layers=4", "HRM, model.layers=4"),
        ("TRM, model.layers=2", "HRM, model.layers=2"),
        ("TRM", "HRM, model.layers=8"),
    ]
    assert list(rows["updates_n"]) == [3, 3, 0]
    assert list(rows["updates_difference"][:2]) == pytest.approx([-0.5 / 3, -0.8 / 3])


def test_cells_that_share_a_variant_are_named_by_their_folder(tree):
    other = tree.copy(deep=True)
    other["runs"]["variant"][:6] = "TRM"
    names = list(labels(other).values())
    assert names[:3] == [DEMO[0].cell, DEMO[1].cell, "TRM (2,2)"]


def test_a_contrast_is_paired_by_seed(tree):
    row = contrast_table(tree).set_index("contrast").loc["gradient"]
    arms = {arm.variant: arm for arm in DEMO}
    new, old = arms["TRM (2,2) one-step gradient"].accuracy, arms["TRM (2,2)"].accuracy
    found = paired_difference(new, old)
    assert row["updates_difference"] == pytest.approx(found.estimate)
    assert row["updates_lower"] == pytest.approx(found.lower)
    assert row["updates_upper"] == pytest.approx(found.upper)
    apart = json.loads(row["updates_seeds"])
    assert apart == pytest.approx({str(s): new[s] - old[s] for s in range(3)})
    assert (
        row["changed"]
        == "model.gradient.k: - -> 2; model.gradient.kind: last_cycles -> last_updates"
    )


def test_a_contrast_uses_the_seeds_that_both_completed(patchy):
    row = contrast_table(patchy).set_index("contrast").loc["family"]
    assert row["updates_n"] == 2
    assert set(json.loads(row["updates_seeds"])) == {"0", "1"}


def test_a_planned_contrast_without_a_cell_or_a_seed_is_still_a_row(tree, empty):
    plan = {"name": "gone", "title": "Gone", "baseline": "TRM (2,2)", "against": ["URM"]}
    row = contrast_table(study_tree(contrasts=[plan])).iloc[0]
    assert (row["against"], row["updates_n"]) == ("URM", 0)
    assert np.isnan(row["updates_difference"])
    assert list(contrast_table(empty)["updates_n"]) == [0, 0]


def test_means_of_a_comparison_are_over_its_pairs(patchy):
    cells = {label: cell for cell, label in labels(patchy).items()}
    found = compare(run_table(patchy), cells["TRM (1,1)"], cells["TRM (3,2)"], "updates")
    assert found["old"] == pytest.approx((0.14 + 0.153) / 2)
    assert found["new"] - found["old"] == pytest.approx(found["difference"])


def test_changed_names_settings_and_values(tree):
    cells = {label: cell for cell, label in labels(tree).items()}
    assert changed(tree, cells["TRM (1,1)"], cells["TRM (3,2)"]) == [
        "model.T: 1 -> 3",
        "model.n: 1 -> 2",
    ]


def test_fits_of_other_data_are_given_only_when_asked_for(tree):
    other = tree.copy()
    fit = fit_dataset()
    fit.attrs["stale"] = 1
    other["fits"] = xr.DataTree.from_dict({"old": fit, "new": fit_dataset("new")})
    assert [fit.attrs["name"] for fit in fits(other)] == ["new"]
    assert len(fits(other, stale=True)) == 2
    assert fits(tree) == []


def test_from_eight_seeds_on_intervals_are_bootstrapped_and_said_to_be():
    rng = np.random.default_rng(0)
    arms = [replace(a, accuracy=tuple(a.accuracy[0] + rng.normal(0, 0.01, 8))) for a in DEMO]
    many = study_tree(arms, seeds=range(8))
    row = cell_table(many).iloc[0]
    expected = seed_bootstrap(arms[0].accuracy)
    assert row["updates_n"] == 8
    assert row["updates_lower"] == pytest.approx(expected.lower)
    assert row["updates_upper"] == pytest.approx(expected.upper)
    by_variant = {arm.variant: arm.accuracy for arm in arms}
    found = contrast_table(many).set_index("contrast").loc["gradient"]
    against = by_variant["TRM (2,2) one-step gradient"]
    expected = paired_bootstrap(against, by_variant["TRM (2,2)"])
    assert found["updates_lower"] == pytest.approx(expected.lower)
    assert captions.interval(cell_table(many)) == "95 % bootstrap interval of expanded percentiles"
    mixed = pd.concat([cell_table(many), cell_table(study_tree())])
    assert captions.interval(mixed).endswith("percentiles (t interval below 8 seeds)")
    assert captions.interval(contrast_table(study_tree())) == "95 % t interval"
    assert captions.interval(contrast_table(study_tree(contrasts=()))) == "95 % t interval"
