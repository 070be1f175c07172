"""Groups count as places of the design: the same x in two groups are two."""

import numpy as np
import pytest

from trm_lab.fit import fit
from trm_lab.fit.search import FIRST
from trm_lab.laws import Saturating


@pytest.mark.slow
def test_two_groups_of_four_x_tell_five_parameters_apart():
    T = np.tile([1.0, 2.0, 4.0, 8.0], 2)
    arm = np.repeat(["a", "b"], 4)
    X = {"T": T[:4]}
    y = np.concatenate([Saturating("T").value(np.array([c, 0.6, 3.0]), X) for c in (0.9, 0.8)])
    made = fit({"T": T, "arm": arm, "acc": y, "seed": np.tile([0, 1], 4)}, "acc", "Saturating(T)",
               by="arm", share=["tau"], cluster="seed", interval="none")  # fmt: skip
    assert made.attrs["status"] == "converged"
    assert made.attrs["n_distinct_x"] == 8
    found = made["coefficients"].sel(param=["c[a]", "c[b]", "a[a]", "a[b]", "tau"]).values
    assert found == pytest.approx([0.9, 0.8, 0.6, 0.6, 3.0], rel=1e-7)


def test_a_joint_fit_starts_from_resamples_too():
    x, arm = np.tile(np.geomspace(1, 40, 9), 2), np.repeat(["a", "b"], 9)
    noise = 0.01 * np.random.default_rng(0).standard_normal(18)
    y = np.where(arm == "a", 0.9, 0.8) - 0.6 * np.exp(-x / 8) + noise
    made = fit({"x": x, "arm": arm, "y": y}, "y", "Saturating(x)", by="arm", share=["tau"],
               interval="none")  # fmt: skip
    assert made.attrs["starts"] >= 1 + FIRST + 2  # groups alone, resamples, and about the best
    assert (made.attrs["agreement"], made.attrs["status"]) == (1, "converged")


@pytest.mark.slow  # a search of two groups, and a joint one of six starts
def test_a_trap_of_a_joint_fit_shows_in_its_agreement():
    rng = np.random.default_rng(0)
    x, arm = np.tile(np.geomspace(1, 200, 24), 2), np.repeat(["a", "b"], 24)
    y = 0.5 + 0.3 * np.sin(2 * np.log(x)) + 0.02 * rng.standard_normal(48)
    made = fit({"x": x, "arm": arm, "y": y}, "y", "BNSL(x)", by="arm", share=["a"],
               interval="none", starts=6)  # fmt: skip
    assert made.attrs["n_basins"] > 1
    assert made.attrs["agreement"] < 0.75
    assert "of 11 starts reach the best optimum" in made.attrs["note"]
