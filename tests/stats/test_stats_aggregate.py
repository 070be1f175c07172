"""Interquartile means and their stratified bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from trm_lab.stats import iqm, iqm_difference, iqm_interval

RNG = np.random.default_rng(5)
TASKS = {f"task {k}": (0.2 * k + RNG.normal(0, 0.1, 6)).tolist() for k in range(4)}


def by_seed(strata):
    return {name: dict(enumerate(column)) for name, column in strata.items()}


def test_iqm_by_hand():
    """A quarter of 8 is cut from each end; of 5 it is one."""
    assert iqm([100, 1, 2, 3, 4, 5, 6, -50]) == (2 + 3 + 4 + 5) / 4
    assert iqm([9.0, 1, 2, 6, 4]) == 4.0
    assert iqm([3, 1]) == 2.0
    assert np.isnan(iqm([]))


def test_it_is_the_papers_aggregate_over_a_table_of_runs_and_tasks():
    """rliable flattens runs x tasks and cuts a quarter from each end."""
    table = np.array(list(TASKS.values())).T
    expected = scipy_stats.trim_mean(table, 0.25, axis=None)
    assert iqm_interval(TASKS).estimate == pytest.approx(expected, rel=1e-12)


def test_the_interval_is_scipys_stratified_bootstrap():
    """scipy draws several samples independently of each other: the same scheme, other draws."""

    def flat(*columns, axis):
        return scipy_stats.trim_mean(np.concatenate(columns, axis=axis), 0.25, axis=axis)

    expected = scipy_stats.bootstrap(
        tuple(np.array(c) for c in TASKS.values()), flat, n_resamples=9999, method="percentile",
        vectorized=True, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = iqm_interval(TASKS)
    width = expected.high - expected.low
    assert found.lower == pytest.approx(expected.low, abs=0.03 * width)
    assert found.upper == pytest.approx(expected.high, abs=0.03 * width)
    assert found.method == "IQM, stratified percentile bootstrap of n runs in 4 strata"
    assert (found.n, found.descriptive) == (24, False)


def test_one_run_fewer_in_each_draw_is_wider_by_the_root_of_n_over_n_minus_one():
    found = {size: iqm_interval(TASKS, size=size) for size in ("n", "n-1")}
    widths = {size: f.upper - f.lower for size, f in found.items()}
    assert widths["n-1"] / widths["n"] == pytest.approx(np.sqrt(6 / 5), abs=0.05)
    assert "of n-1 runs" in found["n-1"].method


def test_pairs_are_drawn_together():
    """A constant difference has no spread of its own, however wide the arms are."""
    shifted = {name: [y + 0.25 for y in column] for name, column in TASKS.items()}
    found = iqm_difference(by_seed(shifted), by_seed(TASKS))
    assert found.estimate == pytest.approx(0.25)
    assert found.upper - found.lower < 1e-12
    assert found.method == "IQM, paired stratified percentile bootstrap of n runs in 4 strata"
    assert iqm_interval(TASKS).upper - iqm_interval(TASKS).lower > 0.05


def test_few_runs_in_any_stratum_are_descriptive_and_one_has_no_interval():
    few = TASKS | {"task 0": TASKS["task 0"][:4]}
    assert iqm_interval(few).descriptive
    lone = iqm_interval(TASKS | {"task 0": [0.1]})
    assert np.isnan([lone.lower, lone.upper]).all()
    assert lone.n == 19


@settings(max_examples=20)
@given(st.permutations(range(6)), st.permutations(sorted(TASKS)), st.floats(0.1, 10))
def test_order_shift_and_scale_are_followed(order, names, scale):
    moved = {name: [scale * TASKS[name][i] + 1 for i in order] for name in names}
    found, plain = (iqm_interval(s, draws=200) for s in (moved, TASKS))
    for end in ("estimate", "lower", "upper"):
        assert getattr(found, end) == pytest.approx(scale * getattr(plain, end) + 1, abs=1e-9)
    turned = by_seed(moved)
    other = {name: dict(reversed(column.items())) for name, column in turned.items()}
    base = by_seed(TASKS)
    base = {name: {s: base[name][i] for s, i in enumerate(order)} for name in names}
    assert iqm_difference(turned, base, draws=200) == iqm_difference(other, base, draws=200)


def test_what_does_not_pair_is_refused():
    a = by_seed(TASKS)
    with pytest.raises(ValueError, match=r"strata of one arm alone: \['task 3'\]"):
        iqm_difference(a, {name: a[name] for name in sorted(a)[:3]})
    with pytest.raises(ValueError, match=r"seeds of one arm alone in 'task 0': \[9\]"):
        iqm_difference(a | {"task 0": {**a["task 0"], 9: 0.5}}, a)
    with pytest.raises(ValueError, match="no strata"):
        iqm_interval({})
    with pytest.raises(ValueError, match="stratum 'a' has no run"):
        iqm_interval({"a": []})
    with pytest.raises(ValueError, match="a stratum without a run"):
        iqm_difference({"a": {}}, {"a": {}})
    with pytest.raises(ValueError, match='size is "n" or "n-1", not \'m\''):
        iqm_interval(TASKS, size="m")
    with pytest.raises(ValueError, match="draws is at least 100, not 10"):
        iqm_interval(TASKS, draws=10)
    with pytest.raises(ValueError, match="expected finite values"):
        iqm_interval({"a": [0.1, np.nan]})
