"""What an interval is made of: weights that are relative, residuals, bands without draws."""

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import t

from trm_lab.errors import ConfigError
from trm_lab.fit import ClusterWarning, contrast, fit, predict
from trm_lab.fit.intervals import wild
from trm_lab.fit.saved import rows_of
from trm_lab.laws import Gompertz, Logistic, LogQuadratic, Saturating

RNG = np.random.default_rng(0)
X = np.geomspace(1, 60, 20)
LOSS = {"x": X, "y": (0.2 + 3 * X**-0.5) * np.exp(0.1 * RNG.standard_normal(20))}
COUNTS = {
    "x": X, "m": np.full(20, 1000),
    "k": RNG.binomial(1000, Logistic("x").value(np.array([0.85, 0, 1.5, 1.6]), {"x": X})),
}  # fmt: skip


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.slow  # 36 fits
@pytest.mark.parametrize(
    ("objective", "interval"),
    [
        *(("huber", kind) for kind in ("bootstrap", "sandwich", "wald")),
        *(("least_squares", kind) for kind in ("bootstrap", "wild", "sandwich", "wald", "profile")),
        *(("student_t", kind) for kind in ("bootstrap", "wald", "profile")),
        ("scaled_huber", "wald"),
        *(("quasi_binomial", kind) for kind in ("bootstrap", "sandwich", "wald", "profile")),
        *(("beta_binomial", kind) for kind in ("bootstrap", "wald")),
    ],
)
def test_an_objective_scaled_by_its_mean_changes_nothing(objective: str, interval: str):
    counts = "binomial" in objective
    data, law = (COUNTS, "Logistic(x)") if counts else (LOSS, "PowerFloor(x)")
    uneven = np.random.default_rng(1).uniform(0.5, 2, 20)
    total, mean = (
        fit(
            {**data, "w": uneven * scale}, ("k", "m") if counts else "y", law, weights="w",
            objective=objective, interval=interval, draws=6, starts=2,
        )
        for scale in (1.0, 1 / 60)
    )  # fmt: skip
    for name in ("status", "note", "agreement"):
        assert total.attrs[name] == mean.attrs[name], name
    for name in ("objective_value", "condition_number", "loglik", "dispersion"):
        assert total.attrs[name] == pytest.approx(mean.attrs[name], rel=1e-6, nan_ok=True), name
    for name in ("coefficients", "ci", "covariance", "band", "weights"):
        a, b = total[name].values, mean[name].values
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-9 * np.nanmax(np.abs(a)), err_msg=name)


# -- the wild bootstrap --------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2])
def test_a_wild_bootstrap_flips_residuals_to_fits_without_their_cluster(rows: int):
    rng = np.random.default_rng(2)
    x = np.geomspace(1, 40, 12)
    data = {"x": x, "y": 0.6 + 0.02 * rng.standard_normal(12), "w": rng.uniform(0.5, 2, 12)}
    member = np.arange(12) // rows
    made = fit(data, "y", LogQuadratic("x"), cluster=member, weights="w", interval="none")
    problem = rows_of(made).problem
    draws = wild(
        problem, problem.from_own(made["coefficients"].values), member, 12 // rows, 1500, 0
    )
    design, w = np.stack([np.ones(12), np.log(x), np.log(x) ** 2], -1), problem.weights
    inverse, scores = np.linalg.inv(design.T @ (w[:, None] * design)), []
    for c in range(12 // rows):
        here, rest = member == c, np.sqrt(w) * (member != c)
        without = np.linalg.lstsq(rest[:, None] * design, rest * data["y"], rcond=None)[0]
        away = data["y"][here] - design[here] @ without
        scores.append(design[here].T @ (w[here] * away))
    exact = inverse @ sum(np.outer(s, s) for s in scores) @ inverse
    np.testing.assert_allclose(draws.std(axis=0), np.sqrt(np.diag(exact)), rtol=0.08)


@pytest.mark.parametrize("objective", ["scaled_huber", "student_t", "beta_binomial"])
def test_densities_have_no_sandwich(objective: str):
    counts = "binomial" in objective
    data, law = (COUNTS, "Logistic(x)") if counts else (LOSS, "PowerFloor(x)")
    with pytest.raises(ConfigError, match=f"interval sandwich: {objective} has none; give boot"):
        fit(data, ("k", "m") if counts else "y", law, objective=objective, interval="sandwich")


# -- what the rows do not tell -------------------------------------------------------------------

DEPTH, SEED = np.repeat(2.0 ** np.arange(6), 4), np.tile(np.arange(4), 6)
NOTHING = {
    "flat": np.tile([500, 520, 490, 505], 6),
    "all solved": np.full(24, 1000),
    "one solved": np.eye(24, dtype=int)[23],
}


@pytest.mark.filterwarnings(f"ignore::{ClusterWarning.__module__}.ClusterWarning")
@pytest.mark.parametrize("interval", ["sandwich", "wald", "bootstrap"])
@pytest.mark.parametrize("law", ["Logistic(x)", "Gompertz(x)"])
@pytest.mark.parametrize("case", NOTHING)
def test_what_counts_do_not_tell_can_be_anything(case: str, law: str, interval: str):
    data = {"x": DEPTH, "k": NOTHING[case], "m": np.full(24, 1000), "seed": SEED}
    found = fit(data, ("k", "m"), law, cluster="seed", interval=interval, starts=2, draws=20)
    assert found.attrs["status"] in ("at_bound", "not_separable")
    np.testing.assert_array_equal(found.ci.sel(param=["mu", "s"]), [[-700, 700], [0, np.inf]])
    np.testing.assert_array_equal(found.stderr.sel(param=["mu", "s"]), np.inf)
    ceiling = found.ci.sel(param="c").values
    if case == "one solved":  # a ceiling at any midpoint that is far enough
        np.testing.assert_array_equal(ceiling, [0, 1])
    elif case == "flat":
        shares = (NOTHING[case] / 1000).reshape(6, 4)
        assert float(found.coefficients.sel(param="c")) == pytest.approx(shares.mean(), abs=1e-6)
        assert ceiling[0] < shares.mean() < ceiling[1]
        if interval == "sandwich":
            half = t.ppf(0.975, 3) * shares.mean(axis=0).std(ddof=1) / 2 * np.sqrt(23 / 21)
            np.testing.assert_allclose(ceiling - shares.mean(), [-half, half], rtol=1e-3)
        band = found.band.values[found.grid_x >= 4]  # nearer to the first x there may be a step
        np.testing.assert_allclose(band, np.tile(ceiling, (len(band), 1)), atol=1e-3)


@pytest.mark.parametrize("interval", ["sandwich", "wald", "bootstrap"])
def test_exact_rows_tell_no_more_of_axes_that_move_together(interval: str):
    x = np.geomspace(1, 32, 12)
    data = {"x": x, "again": 2 * x, "y": 2 + 3 * x**-0.5, "run": np.arange(12)}
    found = fit(
        data, "y", "SumPower(x, again, E=2)", cluster="run", objective="least_squares",
        interval=interval, draws=4, starts=2,
    )  # fmt: skip
    assert found.attrs["status"] == "not_separable"
    powers = found.ci.sel(param=["A_x", "A_again", "alpha_x", "alpha_again"])
    np.testing.assert_array_equal(powers, [[0, np.inf], [0, np.inf], [0, 10], [0, 10]])
    np.testing.assert_array_equal(found.ci.sel(param="E"), [2, 2])


def test_a_contrast_of_what_is_not_told_can_be_anything():
    data = {
        "x": np.tile(DEPTH, 2), "k": np.tile(NOTHING["flat"], 2), "m": np.full(48, 1000),
        "seed": np.tile(SEED, 2), "arm": np.repeat(["a", "b"], 24),
    }  # fmt: skip
    found = contrast(
        data, ("k", "m"), "Logistic(x)", "mu", by="arm", a="a", b="b", cluster="seed", draws=4,
        starts=2,
    )  # fmt: skip
    np.testing.assert_array_equal(found.ci, [-1400, 1400])


# -- counts --------------------------------------------------------------------------------------


def seeds_of_counts() -> dict[str, np.ndarray]:
    names = ("k", "m", "x")
    data = {name: np.tile(COUNTS[name], 2) for name in names}
    return {**data, "seed": np.arange(40) % 5, "arm": np.repeat(["a", "b"], 20)}


def test_counts_have_a_sandwich_and_its_band_unless_told():
    data = seeds_of_counts()
    found = fit(data, ("k", "m"), "Logistic(x)", cluster="seed", starts=2)
    assert found.attrs["interval"] == "cluster-robust sandwich, Student t"
    assert "descriptive: intervals from 5 clusters (seed)" in found.attrs["note"]
    assert found.sizes["draw"] == 0
    # The midpoint's band, by hand: at x = exp(mu) the slopes of the curve are known.
    c, _, mu, s = found.coefficients.values
    slopes = np.array([0.5, 0, -c * s / 4, 0])
    half = t.ppf(0.975, 4) * np.sqrt(slopes @ found.covariance.values @ slopes) / (c / 2)
    there = predict(found, {"x": [np.exp(mu)]})
    expected = logit(c / 2) + np.array([-1, 1]) * half / (1 - c / 2)
    np.testing.assert_allclose(logit(there.band[0]), expected, rtol=1e-6)
    assert ((found.band > 0) & (found.band < 1)).all()
    other = fit(data, ("k", "m"), "Logistic(x)", cluster="seed", interval="bootstrap", draws=4)
    assert other.sizes["draw"] == 4
    none = fit(data, ("k", "m"), "Logistic(x)", cluster="seed", interval="none", starts=2)
    assert np.isnan(none.band).all()


def test_a_contrast_of_counts_still_draws():
    found = contrast(
        seeds_of_counts(), ("k", "m"), "Logistic(x)", "c", by="arm", a="a", b="b", cluster="seed",
        draws=4, starts=2,
    )  # fmt: skip
    assert found.sizes["draw"] == 4


@pytest.mark.filterwarnings(f"ignore::{ClusterWarning.__module__}.ClusterWarning")
def test_bands_of_wald_stay_above_0_and_below_the_curve_of_a_share():
    loss = fit(LOSS, "y", "PowerFloor(x)", interval="wald", starts=2)
    assert (loss.band.sel(bound="lower") > 0).all()
    assert (loss.band.sel(bound="lower") < loss.curve).all()
    y = np.clip(Saturating("x").value(np.array([0.99, 0.9, 8]), {"x": X}), 0, 1)
    share = fit({"x": X, "y": y - 0.01 * (X > 20)}, "y", "Saturating(x)", interval="wald", starts=2)
    assert ((share.band > 0) & (share.band < 1)).all()


@pytest.mark.parametrize("exact", [True, False])
def test_a_curve_that_is_next_to_0_somewhere_is_fitted(exact: bool):
    x, truth = np.geomspace(1, 200, 40), np.array([0.8, 0, 3.8, 2.8])
    p = Gompertz("x").value(truth, {"x": x})
    assert p.min() < 1e-300  # fewer than one digit is left of it
    k = 1000 * p if exact else np.random.default_rng(0).binomial(1000, p)
    found = fit(
        {"x": x, "k": k, "m": np.full(40, 1000)}, ("k", "m"), "Gompertz(x)", interval="none"
    )
    np.testing.assert_allclose(found.coefficients, truth, rtol=1e-6 if exact else 0.1)
