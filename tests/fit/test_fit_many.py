"""Many starts at once end where one after the other ends."""

import numpy as np
import pytest

from trm_lab.fit import many
from trm_lab.fit.objectives import Objective
from trm_lab.fit.problem import Problem
from trm_lab.fit.scan import Scan
from trm_lab.laws import BNSL, M3, M4, Law, PowerFloor, Saturating

X = {"x": np.geomspace(1, 60, 20)}
CASES = (
    (PowerFloor("x"), np.array([0.5, 2.0, 0.4])),
    (PowerFloor("x").hold(E=0.4), np.array([0.4, 2.0, 0.4])),
    (M3("x"), np.array([2.0, 0.5, 0.05])),
    (M4("x"), np.array([0.5, 2.5, 0.8, 1.5, 0.9])),
    (BNSL("x"), np.array([0.2, 2.0, 0.2, 0.5, 10.0, 0.4])),
    (Saturating("x"), np.array([0.9, 0.6, 12.0])),
)


def problem(law: Law, truth: np.ndarray) -> Problem:
    noise = np.random.default_rng(0).standard_normal(20)
    y = law.value(truth, X)
    y = y * np.exp(0.01 * noise) if law.space == "log" else y + 0.01 * noise
    return Problem(law, X, y, np.ones(20), Objective("least_squares", law.space))


@pytest.mark.slow
@pytest.mark.parametrize(("law", "truth"), CASES, ids=lambda one: str(one)[:20])
def test_every_start_ends_where_it_would_end_alone(law: Law, truth: np.ndarray):
    posed, rng = problem(law, truth), np.random.default_rng(1)
    starts = np.stack(Scan(posed).candidates(posed.weights, 4))
    weights = rng.uniform(0.5, 2, (len(starts), 20))
    ends = many.descend(posed, starts, weights, 3000)
    reached = many.sums(posed, ends, weights)
    lower, upper = posed.bounds
    assert ((ends >= lower) & (ends <= upper)).all()
    for start, own, value in zip(starts, weights, reached, strict=True):
        assert value == pytest.approx(posed.descend(start, own, most=2000).value, rel=1e-5)


@pytest.mark.parametrize(("law", "truth"), CASES, ids=lambda one: str(one)[:20])
def test_residuals_of_many_places_are_those_of_each(law: Law, truth: np.ndarray):
    posed = problem(law, truth)
    places = np.stack(Scan(posed).candidates(posed.weights, 4))
    r, J = posed.residual(places)
    for place, one, slopes in zip(places, r, J, strict=True):
        alone = posed.residual(place)
        np.testing.assert_allclose(one, alone[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(slopes, alone[1], rtol=1e-7, atol=1e-10)
        total = many.sums(posed, place[None], posed.weights[None])
        assert total[0] == pytest.approx(posed.value(place), rel=1e-12)


def test_a_start_where_nothing_is_finite_is_left_where_it_is():
    posed = problem(*CASES[0])
    lower, upper = posed.bounds
    places = np.stack([np.full(3, np.nan), (np.maximum(lower, -5) + np.minimum(upper, 5)) / 2])
    ends = many.descend(posed, places, np.ones((2, 20)), 200)
    assert np.isnan(ends[0]).all()
    assert many.sums(posed, ends, np.ones((2, 20)))[0] == np.inf
    assert many.sums(posed, ends, np.ones((2, 20)))[1] < 0.01
