"""What is independent, counted where it counts: by cluster, by group, by kind of cluster."""

import numpy as np
import pandas as pd
import pytest

from trm_lab.fit import ClusterWarning, contrast, describe, fit, predict
from trm_lab.fit.clusters import fewest, resample, strata
from trm_lab.fit.intervals import expanded
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
        (2, [], "not_identified", "2 distinct x in b for 3 parameters of its own: no interval"),
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
