"""What is independent, counted where it counts: by cluster, by group, by kind of cluster."""

import numpy as np
import pandas as pd
import pytest

from trm_lab.fit import ClusterWarning, contrast, describe, fit, predict
from trm_lab.fit.clusters import fewest, resample, strata
from trm_lab.fit.intervals import LEAST, directions, expanded, information
from trm_lab.fit.problem import Problem
from trm_lab.fit.saved import rows_of
from trm_lab.fit.verdicts import tightest
from trm_lab.laws import Grouped, Saturating

LAW = Saturating("x")
PLACES = np.array([6.0, 12.0, 24.0, 48.0, 96.0])


def arms(seeds: dict[str, list[int]], places: dict[str, int] | None = None) -> pd.DataFrame:
    """Give five places, or the first of them, per arm and seed."""
    rng, rows = np.random.default_rng(0), []
    for arm, ceiling in (("a", 0.9), ("b", 0.8)):
        for seed in seeds[arm]:
            for x in PLACES[: (places or {}).get(arm, 5)]:
                y = ceiling - 0.6 * np.exp(-x / 20) + 0.005 * rng.standard_normal()
                rows.append({"arm": arm, "seed": seed, "x": x, "y": y})
    return pd.DataFrame(rows)


# -- intervals that know no clusters -------------------------------------------------------------


@pytest.mark.parametrize("interval", ["wald", "profile"])
def test_an_interval_that_ignores_clusters_says_so(interval: str):
    rows = arms({"a": [0, 1, 2], "b": []})
    with pytest.warns(ClusterWarning, match=r"3 clusters \(seed\) hold 15 of them: .*too narrow"):
        made = fit(rows, "y", LAW, cluster="seed", interval=interval)
    assert made.attrs["independent"] == "row"
    assert made.attrs["n_clusters"] == 3
    said = "over 15 rows taken as independent, though 3 clusters (seed) hold several"
    assert describe(made).count(said) == 2  # in the paragraph and in the checklist
    assert "over 3 clusters" not in describe(made)


def test_an_interval_over_clusters_says_that():
    rows = arms({"a": [0, 1, 2], "b": []})
    made = fit(rows, "y", LAW, cluster="seed", interval="sandwich")  # warnings are errors here
    assert made.attrs["independent"] == "seed"
    assert "over 3 clusters (seed)" in describe(made)
    one = rows[rows.seed == 0]
    alone = fit(one, "y", LAW, interval="wald")
    assert alone.attrs["independent"] == "row"
    assert "over 5 clusters (row)." in describe(alone)
    alone = fit(one.assign(run=range(5)), "y", LAW, cluster="run", interval="wald")
    assert "over 5 rows taken as independent." in describe(alone)


# -- groups --------------------------------------------------------------------------------------


def test_clusters_are_counted_in_the_smallest_group():
    rows = arms({"a": list(range(12)), "b": [100, 101, 102]})
    made = fit(rows, "y", LAW, by="arm", cluster="seed", draws=40)
    assert (made.attrs["n_clusters"], made.attrs["fewest_clusters"]) == (15, 3)
    assert made.attrs["descriptive"] == 1
    assert (
        "intervals from 3 clusters (seed) in the smallest group are too narrow"
        in (made.attrs["note"])
    )
    assert "over 15 clusters (seed), 3 in the smallest group, 40 draws" in describe(made)
    draws = made.draws.values
    ends = np.quantile(draws, expanded(0.95, 3), axis=0)
    np.testing.assert_allclose(made.ci.values.T, ends)
    at = {"x": [30.0], "arm": ["b"]}
    law = Grouped(LAW, ("a", "b"), ())
    drawn = law.value(draws, {"x": np.array([30.0]), "__group__": np.array([1.0])})
    np.testing.assert_allclose(
        predict(made, at).band[0], np.quantile(drawn[:, 0], expanded(0.95, 3))
    )
    found = contrast(rows, "y", LAW, "c", by="arm", a="a", b="b", cluster="seed", draws=40)
    assert found.attrs["descriptive"] == 1
    np.testing.assert_allclose(found.ci, np.quantile(found.draws, expanded(0.95, 3)))


def test_what_all_groups_share_has_all_clusters():
    rows = arms({"a": list(range(12)), "b": [100, 101, 102]})
    member = np.unique(rows.seed, return_inverse=True)[1]
    group = (rows.arm == "b").to_numpy().astype(float)
    alone, shared = Grouped(LAW, ("a", "b"), ("tau",)), Grouped(LAW, ("a", "b"), ("c", "a", "tau"))
    assert (fewest(alone, member, group), fewest(shared, member, group)) == (3, 15)
    assert fewest(LAW, member, None) == 15
    held = Grouped(LAW.hold(c=0.9, a=0.6), ("a", "b"), ("tau",))
    assert held.alone == (0, 0)


@pytest.mark.parametrize("interval", ["bootstrap", "wild", "sandwich"])
def test_a_group_of_one_cluster_has_no_interval(interval: str):
    rows = arms({"a": list(range(9)), "b": [100]})
    made = fit(rows, "y", LAW, by="arm", cluster="seed", interval=interval, draws=10)
    assert made.attrs["interval"] == "none"
    assert np.isnan(made.ci).all()
    assert "1 cluster (seed) in the smallest group: no interval" in made.attrs["note"]


@pytest.mark.parametrize(
    ("count", "share", "status", "said"),
    [
        (3, [], "not_identified", "3 distinct x in b for 3 parameters of its own: no interval"),
        (2, ["tau"], "not_identified", "2 distinct x in b for 2 parameters of its own"),
        (
            2,
            [],
            "not_identified",
            "2 distinct x in b for 3 parameters of its own: no estimates; add rows at other x, or "
            "hold parameters, as `Saturating(x, c=VALUE)`",
        ),
        (3, ["tau"], "converged", ""),
    ],
)
def test_places_are_counted_in_every_group(count: int, share: list[str], status: str, said: str):
    rows = arms({"a": list(range(9)), "b": list(range(9))}, {"b": count})
    made = fit(rows, "y", LAW, by="arm", share=share, cluster="seed", draws=8)
    assert made.attrs["status"] == status
    assert said in made.attrs["note"]
    assert np.isfinite(made.ci).all() == (status == "converged")
    if count == 2 and not share:
        assert np.isnan(made.coefficients).all()


# -- strata --------------------------------------------------------------------------------------


def test_clusters_are_drawn_among_those_of_the_same_groups():
    #           cluster  0 and 1 in both groups, 2 to 4 in a, 5 to 7 in b
    member = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    group = np.array([0, 1, 0, 1, 0, 0, 0, 1, 1, 1.0])
    assert strata(member, 8, group).tolist() == [1, 1, 0, 0, 0, 2, 2, 2]
    counts = resample(np.random.default_rng(0), member, 8, group, 200)
    for kind in ([0, 1], [2, 3, 4], [5, 6, 7]):
        assert (counts[:, kind].sum(axis=1) == len(kind)).all()
        assert (counts[:, kind].std(axis=0) > 0.5).all()


def test_a_cluster_with_groups_of_its_own_goes_with_the_others():
    member = np.array([0, 0, 1, 1, 2, 2, 3])
    group = np.array([0, 1, 0, 1, 0, 1, 0.0])
    assert len(set(strata(member, 4, group))) == 1
    counts = resample(np.random.default_rng(0), member, 4, group, 200)
    assert counts[:, 3].std() > 0.5
    assert (counts.sum(axis=1) == 4).all()


def test_a_contrast_keeps_every_kind_of_cluster():
    rows = arms({"a": [0, 1, 2, 3, 10, 11, 12], "b": [0, 1, 2, 3, 20, 21, 22]})
    member = np.unique(rows.seed, return_inverse=True)[1]
    group = (rows.arm == "b").to_numpy().astype(float)
    counts = resample(np.random.default_rng(0), member, 10, group, 50)
    assert (counts[:, :4].sum(axis=1) == 4).all()
    found = contrast(rows, "y", LAW, "c", by="arm", a="a", b="b", cluster="seed", draws=30)
    assert (found.attrs["n_clusters"], found.attrs["fewest_clusters"]) == (10, 7)
    lower, upper = found.ci.values
    assert lower <= 0.1 <= upper


# -- resamples that tell no law ------------------------------------------------------------------


def grid_of_arms() -> pd.DataFrame:
    """Give three equal arms over 3 sizes x 3 amounts of data, with 0.4 % noise."""
    N, D = (a.ravel() for a in np.meshgrid([1e6, 4e6, 1.6e7], [1e8, 1e9, 1e10]))
    rows = pd.DataFrame({"N": np.tile(N, 3), "D": np.tile(D, 3), "arm": np.repeat([*"abc"], 9)})
    noise = 0.004 * np.random.default_rng(0).standard_normal(27)
    rows["loss"] = (1.6 + 20 * rows.N**-0.2 + 1300 * rows.D**-0.37) * np.exp(noise)
    return rows.assign(cell=np.tile(np.arange(9), 3))


def told_by(rows: pd.DataFrame, law: str, **settings: object) -> tuple[np.ndarray, Problem]:
    """Give the directions that rows tell at their optimum, and the problem."""
    made = fit(rows, "loss", law, interval="none", objective="least_squares", **settings)
    problem = rows_of(made).problem
    return directions(problem, problem.from_own(made["coefficients"].values)), problem


def test_the_information_of_a_resample_is_relative_to_the_data():
    rows = grid_of_arms()[:9]
    told, problem = told_by(rows, "SumPower(N, D)")
    assert told.shape == (9, 5)
    assert information(told, np.full(9, 3)) == pytest.approx(3)
    two_sizes = np.where(rows.N < 1e7, 1, 0)
    assert tightest(problem, two_sizes > 0).spare == 1  # enough places, on which any floor fits
    assert information(told, two_sizes) < 1e-12
    assert information(told, np.where(rows.index == 4, 0, 1)) > 0.3  # without the grid's middle


@pytest.mark.slow  # a joint search
def test_groups_that_differ_by_noise_tell_nothing_more():
    rows = grid_of_arms()
    told, problem = told_by(
        rows, "SumPower(N, D)", cluster="cell", by="arm", share=["E", "alpha_N", "alpha_D"]
    )
    assert told.shape == (27, 9)
    assert information(told, np.ones(27)) == pytest.approx(1)
    two_sizes = np.where(rows.N < 1e7, 1, 0)
    assert tightest(problem, two_sizes > 0).spare == 4
    assert information(told, two_sizes) < 1e-12
    assert information(told, np.where(rows.cell == 4, 0, 1)) > 0.3


def test_parameters_that_the_data_do_not_tell_are_no_reason_to_leave_resamples_out():
    rows = pd.DataFrame({"x": [1.0, 2.0, 4.0, 8.0, 16.0], "again": [2.0, 4.0, 8.0, 16.0, 32.0]})
    rows["loss"] = 2 + 3 * rows.x**-0.5
    told, problem = told_by(rows, "SumPower(x, again, E=2)")
    assert told.shape[1] < problem.free.sum()
    assert information(told, np.array([0, 1, 1, 1, 2])) > LEAST


@pytest.mark.slow  # a joint search, and 150 joint refits
def test_groups_that_share_a_law_have_the_intervals_of_that_law():
    rows, share = grid_of_arms(), ["E", "alpha_N", "alpha_D"]

    def width(**settings: object) -> np.ndarray:
        made = fit(rows, "loss", "SumPower(N, D)", cluster="cell", objective="least_squares",
                   draws=150, **settings)  # fmt: skip
        assert made.attrs["status"] == "converged"
        return np.diff(made["ci"].sel(param=share).values)[:, 0]

    one = width()
    ratio = width(by="arm", share=share) / one
    print(f"bootstrap of groups against no groups {ratio.round(2)}")
    assert (ratio > 0.6).all()
    assert (ratio < 1.6).all()
    sandwich = width(by="arm", share=share, interval="sandwich")
    assert (one < 2.5 * sandwich).all()


def test_groups_that_differ_in_nothing_are_no_places_of_the_design():
    rows = arms({"a": list(range(9)), "b": list(range(9))}, {"a": 3, "b": 3})
    rows["y"] = 0.9 - 0.6 * np.exp(-rows.x / 20)
    made = fit(rows, "y", LAW, by="arm", share=["c", "a", "tau"], cluster="seed", draws=4)
    assert made.attrs["n_distinct_x"] == 3
    assert made.attrs["status"] == "not_identified"
