"""An interval that ends at rounding above 0 has not told a floor from 0."""

import numpy as np
import pytest

from trm_lab.fit import fit
from trm_lab.fit.verdicts import Verdict, with_interval


@pytest.mark.parametrize(("lower", "floor"), [(1e-16, "E"), (0.0, "E"), (0.2, "")])
def test_a_floor_is_told_from_0_by_an_interval_that_is_clear_of_it(lower, floor):
    verdict = Verdict(10.0, (), (), (), ("E",), 0.0, agreement=1.0)
    assert verdict.status == "floor_not_identified"
    found = with_interval(verdict, ("E", "A"), np.array([lower, 1.0]), np.array([0.5, 2.0]))
    assert found.floors == ((floor,) if floor else ())
    assert (found.status == "converged") == (not floor)


def test_every_floor_is_cleared_by_its_own_interval():
    verdict = Verdict(10.0, (), (), (), ("E[a]", "E[b]"), 0.0, agreement=1.0)
    names, estimate = ("E[a]", "E[b]", "A"), np.array([0.5, 0.5, 2.0])
    found = with_interval(verdict, names, np.array([0.2, 0.0, 1.0]), estimate)
    assert found.floors == ("E[b]",)
    assert found.status == "floor_not_identified"
    both = with_interval(verdict, names, np.array([0.2, 0.3, 1.0]), estimate)
    assert both.status == "converged"


def test_all_floors_that_are_not_told_from_0_are_named():
    x, arm = np.tile(np.geomspace(1, 300, 30), 3), np.repeat(["a", "b", "c"], 30)
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(90))
    y = (np.where(arm == "c", 1.0, 0.0) + 3 * x**-0.3) * noise
    made = fit({"x": x, "arm": arm, "y": y}, "y", "PowerFloor(x)", by="arm", interval="none",
               objective="least_squares", starts=2)  # fmt: skip
    assert made.attrs["floor_not_identified"] == "E[a], E[b]"
    assert "E[a] and E[b] are not told from 0 by these rows: report no floor" in made.attrs["note"]


@pytest.mark.parametrize(
    ("lower", "estimate", "floors"),
    [(2e-17, 0.55, ("E",)), (1.7e-26, 5.5e-27, ("E",)), (0.2, 0.5, ()), (np.nan, 0.5, ())],
)
@pytest.mark.parametrize("resampled", [True, False])
def test_a_floor_whose_interval_reaches_0_is_not_told_from_it(lower, estimate, floors, resampled):
    verdict = Verdict(10.0, (), (), (), (), 0.0, agreement=1.0)
    found = with_interval(
        verdict, ("E", "A"), np.array([lower, 0.0]), np.array([estimate, 2.0]), floors=["E"],
        size=1.0, resampled=resampled,
    )  # fmt: skip
    assert found.floors == floors
    assert found.status == ("floor_not_identified" if floors else "converged")
