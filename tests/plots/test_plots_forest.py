import numpy as np
import pytest
from matplotlib.collections import LineCollection
from synthetic import DEMO, Arm, study_tree

from trm_lab.plots import forest
from trm_lab.plots.tables import at_compute
from trm_lab.results import frame
from trm_lab.stats import paired_difference

ACCURACY = {arm.variant: arm.accuracy for arm in DEMO}


def marks(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


def segments(ax):
    found = [c for c in ax.collections if isinstance(c, LineCollection)]
    return np.array([c.get_segments()[0] for c in found])


def names(ax):
    return [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]


def test_rows_are_paired_differences_in_points_sorted_with_the_best_first(tree):
    ax = forest.draw(tree)
    assert names(ax) == ["against TRM (2,2):", "TRM (2,2) one-step gradient", "HRM (2,2)"]
    for mark, bar, variant in zip(marks(ax, "_mean"), segments(ax), names(ax)[1:], strict=True):
        found = paired_difference(ACCURACY[variant], ACCURACY["TRM (2,2)"])
        assert mark.get_xdata() == pytest.approx([100 * found.estimate])
        assert bar[:, 0] == pytest.approx([100 * found.lower, 100 * found.upper])


def test_every_seed_difference_is_a_point(tree):
    seeds = marks(forest.draw(tree), "_seeds")[0].get_xdata()
    new, old = ACCURACY["TRM (2,2) one-step gradient"], ACCURACY["TRM (2,2)"]
    assert seeds == pytest.approx([100 * (a - b) for a, b in zip(new, old, strict=True)])


def test_n_is_on_every_row(patchy):
    words = [text.get_text() for text in forest.draw(patchy).texts]
    assert [word.splitlines()[1] for word in words] == ["n = 3", "n = 2"]


def test_equal_compute_has_its_own_differences(tree):
    values = dict(zip(frame(tree)["run"], at_compute(tree)[0], strict=True))
    by_variant = {
        arm.variant: [values[f"{arm.cell}/seed-{seed}"] for seed in range(3)] for arm in DEMO
    }
    found = paired_difference(by_variant["TRM (2,2) one-step gradient"], by_variant["TRM (2,2)"])
    mark = marks(forest.draw(tree, at="compute"), "_mean")[0]
    assert mark.get_xdata() == pytest.approx([100 * found.estimate])


def test_both_panels_have_one_order_and_one_scale(tree):
    left, right = forest.panels(tree).axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert list(left.get_yticks()) == list(right.get_yticks())


def test_baselines_have_groups_of_their_own():
    plans = [
        {"name": "a", "title": "A", "baseline": "TRM (2,2)", "against": ["TRM (1,1)", "TRM (3,2)"]},
        {"name": "b", "title": "B", "baseline": "HRM (2,2)", "against": ["HRM (1,1)"]},
    ]
    ax = forest.draw(study_tree(contrasts=plans))
    expected = ["against TRM (2,2):", "TRM (3,2)", "TRM (1,1)", "against HRM (2,2):", "HRM (1,1)"]
    assert names(ax) == expected


def test_an_interval_far_beyond_the_seeds_ends_in_an_arrow(patchy):
    ax = forest.draw(patchy)
    assert len(marks(ax, "_goes on")) == 2
    low, high = ax.get_xlim()
    assert (low, high) == pytest.approx((-60, 60))
    assert segments(ax)[1][0, 0] < low  # the data are not clipped
    assert "an arrow marks an interval that goes on" in forest.caption(patchy)


def test_one_pair_has_a_point_and_no_interval():
    arms = [Arm("A", "TRM", 1, 1, (0.4,)), Arm("B", "HRM", 1, 1, (0.3,))]
    plan = {"name": "c", "title": "C", "baseline": "A", "against": ["B"]}
    ax = forest.draw(study_tree(arms, contrasts=[plan], seeds=(0,)))
    assert ax.texts[0].get_text() == "\N{MINUS SIGN}10.0\nn = 1"


def test_the_caption_gives_n_and_the_interval(tree, patchy):
    assert "n = 3 seeds per cell." in forest.caption(tree)
    assert "HRM (2,2): 2 of 3 seeds (1 running)" in forest.caption(patchy)
    assert "95 % t interval of the paired differences" in forest.caption(tree)


def test_rows_without_a_pair_say_so(empty):
    assert forest.draw(empty).texts[0].get_text() == "no pair of seeds\nhas this number"


def test_a_study_without_contrasts_draws_a_note():
    tree = study_tree(contrasts=())
    assert forest.draw(tree).texts[0].get_text() == "the study plans no contrast"
    assert forest.caption(tree) == "The study plans no contrast."
