"""Intervals hold the truth as often as they say, on planted data."""

from pathlib import Path

import numpy as np
import pytest
from published import looped_design

from trm_lab.fit import ClusterWarning, fit
from trm_lab.laws import EffectiveN, Logistic, LogQuadratic, Saturating, SumPower

LOOPED = SumPower(EffectiveN("N_once", "N_rec", r="r"), "D")
CELL = ["budget", "r"]


def test_phi_is_exact_without_noise_on_the_116_runs(shared: Path):
    rows, truth = looped_design(shared / "data" / "scaling")
    assert len(rows) == 116
    rows["L"] = LOOPED.value(truth, {n: rows[n].to_numpy() for n in LOOPED.columns_read})
    assert rows.L.min() == pytest.approx(2.28, abs=0.01)
    assert rows.L.max() == pytest.approx(3.09, abs=0.01)
    found = fit(rows, "L", LOOPED, cluster=CELL, interval="none")
    assert abs(float(found.coefficients.sel(param="phi")) - 0.459) < 1e-9
    np.testing.assert_allclose(found.coefficients, truth, rtol=1e-9)
    assert (found.attrs["status"], found.attrs["agreement"]) == ("converged", 1)
    assert found.attrs["n_clusters"] == len(rows[CELL].drop_duplicates())


def test_resampling_the_116_runs_singly_warns(shared: Path):
    rows, truth = looped_design(shared / "data" / "scaling")
    rows["L"] = LOOPED.value(truth, {n: rows[n].to_numpy() for n in LOOPED.columns_read})
    with pytest.warns(ClusterWarning, match="too narrow; resample cells"):
        fit(rows, "L", LOOPED, cluster="row", interval="none")


@pytest.mark.slow  # 100 fits with 60 resamples each
def test_resampled_cells_cover_phi(shared: Path):
    rows, truth = looped_design(shared / "data" / "scaling")
    exact = LOOPED.value(truth, {n: rows[n].to_numpy() for n in LOOPED.columns_read})
    cells = rows.groupby(CELL).ngroup().to_numpy()
    rng = np.random.default_rng(0)
    held, widths = [], []
    for replicate in range(100):
        shared_noise = 0.006 * rng.standard_normal(cells.max() + 1)[cells]
        rows["L"] = exact + 0.006 * rng.standard_normal(len(rows)) + shared_noise
        found = fit(rows, "L", LOOPED, cluster=CELL, draws=60, seed=replicate, starts=2)
        lower, upper = found.ci.sel(param="phi").values
        held.append(lower <= truth[-1] <= upper)
        widths.append(upper - lower)
    print(f"coverage of phi {np.mean(held):.2f}, width {np.mean(widths):.3f}")
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.slow
def test_intervals_from_many_clusters_hold_the_truth_about_as_often_as_they_say():
    x = np.tile([6.0, 18.0, 36.0, 80.0], 12)
    cluster = np.repeat(np.arange(12), 4)
    law, params, held = Saturating("x"), np.array([0.85, 0.9, 20.0]), []
    for trial in range(16):
        rng = np.random.default_rng(trial)
        shift = 0.02 * rng.standard_normal(12)[cluster]
        y = law.value(params, {"x": x}) + shift + 0.01 * rng.standard_normal(len(x))
        found = fit({"x": x, "y": y}, "y", law, cluster=cluster, draws=30, level=0.9, seed=trial)
        lower, upper = found.ci.values.T
        held.append((lower <= params) & (upper >= params))
    assert 0.7 <= float(np.mean(held)) <= 0.98


@pytest.mark.slow  # 100 fits, each with 200 resamples
def test_flipped_residuals_of_few_rows_cover_about_as_often_as_they_say():
    x = np.geomspace(1, 40, 12)
    law, truth = LogQuadratic("x"), np.array([0.2, 0.3, -0.05])
    exact, rng, held = law.value(truth, {"x": x}), np.random.default_rng(0), []
    for replicate in range(100):
        rows = {"x": x, "y": exact + 0.02 * rng.standard_normal(12)}
        found = fit(rows, "y", law, interval="wild", draws=200, seed=replicate, starts=0)
        lower, upper = found.ci.values.T
        held.append((lower <= truth) & (truth <= upper))
    coverage = np.mean(held, axis=0)
    print(f"level, slope, curvature {coverage.round(3)}")
    assert (coverage >= 0.87).all()  # 0.79 to 0.88 with the residuals of the fit itself
    assert (coverage <= 0.99).all()


@pytest.mark.slow  # 200 fits
@pytest.mark.parametrize(
    ("objective", "interval", "cells", "runs"),
    [
        ("huber", "sandwich", 10, 3),
        ("huber", "sandwich", 40, 3),
        ("huber", "wald", 40, 1),
        ("scaled_huber", "wald", 40, 1),
    ],
)
def test_curvature_of_hubers_loss_covers_though_few_rows_lie_within_delta(
    objective: str, interval: str, cells: int, runs: int
):
    x, cell = np.repeat(np.geomspace(1, 64, cells), runs), np.repeat(np.arange(cells), runs)
    truth, rng, held = 0.2, np.random.default_rng(0), []
    for _ in range(200):
        noise = rng.standard_normal(cells)[cell] + rng.standard_normal(cells * runs)
        rows = {"x": x, "y": 3 * x**-truth * np.exp(0.01 * noise), "cell": cell}
        found = fit(
            rows, "y", "Power(x)", cluster="cell", objective=objective, interval=interval, starts=0
        )
        lower, upper = found.ci.sel(param="alpha").values
        held.append(lower <= truth <= upper)
    print(f"{objective}, {interval}, {cells} cells of {runs}: exponent {np.mean(held):.3f}")
    assert 0.90 <= np.mean(held) <= 0.98  # 0.74 to 0.92 by the rows that lie within delta


@pytest.mark.slow  # 200 fits of counts
@pytest.mark.filterwarnings(f"ignore::{ClusterWarning.__module__}.ClusterWarning")
@pytest.mark.parametrize("rho", [0.004, 0.02])
@pytest.mark.parametrize(
    ("objective", "interval"),
    [("quasi_binomial", None), ("quasi_binomial", "wald"), ("beta_binomial", "wald")],
)
def test_counts_over_seeds_are_covered(objective: str, interval: str | None, rho: float):
    depth = np.repeat(2.0 ** np.linspace(0.5, 6, 10), 4)
    seed, m = np.tile(np.arange(4), 10), 1000
    # ceiling 0.88, midpoint 2.3 and slope 1.6 in log2 depth, here in ln depth
    truth = np.array([0.88, 2.3 * np.log(2), 1.6 / np.log(2)])
    law = Logistic("depth")
    p = law.value(np.array([truth[0], 0, *truth[1:]]), {"depth": depth})
    size, rng = (1 - rho) / rho, np.random.default_rng(int(1000 * rho))
    held = []
    for _ in range(200):
        k = rng.binomial(m, rng.beta(p * size, (1 - p) * size))
        rows = {"depth": depth, "k": k, "m": np.full(40, m), "run": np.arange(40), "seed": seed}
        found = fit(
            rows, ("k", "m"), law, cluster="seed", objective=objective, interval=interval, starts=2
        )
        lower, upper = found.ci.sel(param=["c", "mu", "s"]).values.T
        held.append((lower <= truth) & (truth <= upper))
    coverage = np.mean(held, axis=0)
    print(f"{objective} {interval} rho {rho}: ceiling, midpoint, slope {coverage.round(3)}")
    assert (coverage >= 0.90).all()
    assert (coverage <= 0.99).all()
