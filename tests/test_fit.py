from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from factories import DEPTHS, Cell, make_study
from scipy.optimize import least_squares, lsq_linear

from trm_lab.errors import ConfigError
from trm_lab.fit import fit, fit_specs, fit_study, save_fit
from trm_lab.laws import LAWS, Law, Saturating
from trm_lab.projection import Problem
from trm_lab.results import collect, data_hash, gather

X = np.repeat([6.0, 12.0, 18.0, 36.0, 54.0, 80.0], 3)
SEEDS = np.tile([0, 1, 2], 6)
TRUE = {"saturating": np.array([0.85, 0.9, 20.0]), "power": np.array([0.1, 3.0, 0.8])}
SPEC = {"name": "depth", "law": "saturating", "x": "effective_depth", "y": "puzzle_accuracy"}

every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)


def noisy(law: Law, sd: float = 0.03, seed: int = 0) -> np.ndarray:
    noise = sd * np.random.default_rng(seed).standard_normal(len(X))
    return np.clip(law.value(TRUE[law.name], X) + noise, 0, 1)


@every_law
def test_planted_parameters_are_recovered_from_data_without_noise(law: Law):
    found = fit(law, X, law.value(TRUE[law.name], X), cluster=SEEDS, draws=50)
    np.testing.assert_allclose(found["estimate"], TRUE[law.name], rtol=1e-10)
    np.testing.assert_allclose(found["draws"], np.tile(TRUE[law.name], (50, 1)), rtol=1e-8)
    assert found.attrs["status"] == "converged"
    assert found.attrs["agreement"] == 1
    assert found.attrs["rmse"] < 1e-12


@pytest.mark.parametrize("tau", [3.0, 15.0, 60.0, 200.0])
def test_recovery_holds_over_the_range_of_scales(tau: float):
    params = np.array([0.6, 0.5, tau])
    found = fit(
        Saturating(), X, np.clip(Saturating().value(params, X), 0, 1), cluster=SEEDS, draws=1
    )
    np.testing.assert_allclose(found["estimate"], params, rtol=1e-8)


@every_law
def test_no_optimiser_from_many_starts_finds_a_better_fit(law: Law):
    y = noisy(law)
    found = fit(law, X, y, cluster=SEEDS, draws=1)
    rng = np.random.default_rng(1)
    lower, upper = (
        np.array([getattr(p, end) for p in law.parameters]) for end in ("lower", "upper")
    )
    best = min(
        least_squares(
            lambda p: law.value(p, X) - y,
            TRUE[law.name] * np.exp(0.3 * rng.standard_normal(3) - 0.3),
            lambda p: law.jacobian(p, X),
            bounds=(lower, upper),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        ).cost
        for _ in range(10)
    )
    assert found.attrs["sum_of_squares"] <= 2 * best * (1 + 1e-9)
    assert found.attrs["sum_of_squares"] == pytest.approx(float((found["residual"] ** 2).sum()))
    assert found.attrs["rmse"] == pytest.approx(np.sqrt(found.attrs["sum_of_squares"] / len(X)))


@every_law
def test_the_scan_is_the_projected_objective(law: Law):
    y = noisy(law)
    problem = Problem(law, X, y)
    weights = np.random.default_rng(2).uniform(0.5, 2, len(X))
    scan = problem.scan(weights[None], problem.grid())[0]
    for g in (0, 20, 40, 63):
        nonlinear = np.exp(problem.grid()[g])
        columns = law.columns(nonlinear, X, problem.origin)
        lower, upper = problem.bounds
        root = np.sqrt(weights)
        exact = lsq_linear(
            root[:, None] * columns, root * (y - law.offset), (lower, upper), tol=1e-13
        )
        assert scan[g] == pytest.approx(2 * exact.cost, rel=1e-6)


def test_equal_seeds_give_equal_draws_and_another_seed_others():
    one, two, other = (
        fit("power", X, noisy(LAWS[1]), cluster=np.arange(len(X)), draws=20, seed=s)
        for s in (0, 0, 1)
    )
    assert one.identical(two)
    assert not np.array_equal(one["draws"], other["draws"])


def test_clusters_are_resampled_whole():
    found = fit("saturating", X, noisy(LAWS[0]), cluster=SEEDS, draws=300)
    # three clusters have ten multisets, so there are at most ten different draws
    assert 2 < len(np.unique(found["draws"], axis=0)) <= 10
    np.testing.assert_allclose(
        found["lower"], np.quantile(found["draws"], 0.025, axis=0), rtol=1e-12
    )
    assert (found["lower"] <= found["estimate"]).all()
    assert (found["estimate"] <= found["upper"]).all()
    assert (found["curve_lower"] <= found["curve_upper"]).all()


def test_few_clusters_are_descriptive_and_say_why():
    found = fit("saturating", X, noisy(LAWS[0]), cluster=SEEDS, draws=50, cluster_name="seed")
    assert found.attrs["descriptive"] == 1
    assert "percentile intervals from 3 clusters (seed) are too narrow" in found.attrs["note"]
    many = fit("saturating", X, noisy(LAWS[0]), cluster=np.arange(len(X)), draws=20)
    assert many.attrs["descriptive"] == 0
    assert many.attrs["interval"] == "cluster bootstrap percentile"


def test_one_cluster_has_estimates_and_no_interval():
    found = fit("saturating", X, noisy(LAWS[0]), cluster=np.zeros(len(X)), draws=50)
    assert np.isfinite(found["estimate"]).all()
    assert np.isnan(found["lower"]).all()
    assert found.sizes["draw"] == 0
    assert found.attrs["interval"] == "none"
    assert "1 cluster (cluster): no interval" in found.attrs["note"]


def test_four_distinct_x_are_enough_for_three_parameters():
    keep = X <= 36
    found = fit("saturating", X[keep], noisy(LAWS[0])[keep], cluster=SEEDS[keep], draws=20)
    assert found.attrs["status"] == "converged"
    assert np.isfinite(found["lower"]).all()


def test_three_distinct_x_are_solved_but_not_identified():
    keep = X <= 18
    y = LAWS[0].value(TRUE["saturating"], X[keep])
    found = fit("saturating", X[keep], y, cluster=SEEDS[keep], draws=20)
    assert found.attrs["status"] == "not_identified"
    np.testing.assert_allclose(found["estimate"], TRUE["saturating"], rtol=1e-6)
    assert np.isnan(found["lower"]).all()
    assert np.isnan(found["curve_lower"]).all()
    assert found.attrs["note"].startswith("3 distinct x for 3 parameters: no interval")


@pytest.mark.parametrize(("distinct", "status"), [(2, "not_identified"), (1, "too_few_points")])
def test_fewer_x_than_parameters_have_no_estimates(distinct: int, status: str):
    keep = np.unique(X, return_inverse=True)[1] < distinct
    found = fit("power", X[keep], noisy(LAWS[1])[keep], cluster=SEEDS[keep])
    assert found.attrs["status"] == status
    assert np.isnan(found["estimate"]).all()
    assert found.attrs["descriptive"] == 1


def test_no_points_at_all_are_a_result_too():
    found = fit("power", [], [], cluster=[])
    assert found.attrs["status"] == "too_few_points"
    assert found.attrs["n_points"] == 0


@pytest.mark.parametrize(
    ("y", "named"),
    [
        (1.0 - 0.9 * np.exp(-X / 20), "c"),
        (np.full(len(X), 0.5), "a"),
        (0.9 - X / 200, "a"),
        (0.8 * (X > 6), "tau"),
        (X / 1e5, "tau"),
    ],
    ids=["ceiling one", "flat", "falling", "step", "straight"],
)
def test_what_stands_at_a_bound_is_named(y: np.ndarray, named: str):
    found = fit("saturating", X, y, cluster=SEEDS, draws=10)
    assert found.attrs["status"] == "at_bound"
    assert named in found.attrs["at_bound"].split(", ")
    assert found.attrs["descriptive"] == 1
    assert 0 <= float(found["estimate"].sel(parameter="c")) <= 1


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_nothing_is_fitted_to_accuracies_that_are_all_zero(law: Law):
    found = fit(law, X, np.zeros(len(X)), cluster=SEEDS, draws=10, y_name="puzzle_accuracy")
    assert found.attrs["status"] == "all_zero"
    assert found.attrs["note"] == "nothing to fit: every puzzle accuracy is 0"
    assert (found.attrs["interval"], found.attrs["descriptive"]) == ("none", 1)
    assert found.sizes["draw"] == 0
    for name in ("estimate", "lower", "upper", "curve", "fitted"):
        assert np.isnan(found[name]).all(), name
    one = np.where(np.arange(len(X)) == 0, 0.001, 0)
    assert fit(law, X, one, cluster=SEEDS, draws=10).attrs["status"] != "all_zero"


def test_weights_are_like_repeated_points():
    y = noisy(LAWS[0])
    double = np.where(X == 6, 2.0, 1.0)
    weighted = fit("saturating", X, y, cluster=SEEDS, weights=double, draws=1)
    again = np.concatenate([np.arange(len(X)), np.flatnonzero(X == 6)])
    repeated = fit("saturating", X[again], y[again], cluster=SEEDS[again], draws=1)
    np.testing.assert_allclose(weighted["estimate"], repeated["estimate"], rtol=1e-6)
    assert weighted.attrs["objective"] == "weighted least squares"


def test_intervals_from_many_clusters_hold_the_truth_about_as_often_as_they_say():
    x = np.tile([6.0, 18.0, 36.0, 80.0], 12)
    cluster = np.repeat(np.arange(12), 4)
    law, held = Saturating(), []
    for trial in range(16):
        rng = np.random.default_rng(trial)
        shift = 0.02 * rng.standard_normal(12)[cluster]
        y = law.value(TRUE["saturating"], x) + shift + 0.01 * rng.standard_normal(len(x))
        found = fit(law, x, y, cluster=cluster, draws=30, level=0.9, seed=trial)
        held.append((found["lower"] <= TRUE["saturating"]) & (found["upper"] >= TRUE["saturating"]))
    assert 0.7 <= float(np.mean(held)) <= 0.98


def test_data_that_the_law_cannot_have_are_refused():
    with pytest.raises(ConfigError, match=r"law power .*: y must lie in \[0, 1\], not 2.3"):
        fit("power", X, np.full(len(X), 2.3), cluster=SEEDS)
    with pytest.raises(ConfigError, match=r"y must lie in .* not nan"):
        fit("power", X, np.full(len(X), np.nan), cluster=SEEDS)
    with pytest.raises(ConfigError, match="must be equally long"):
        fit("power", X, X[:3] / 100, cluster=SEEDS)
    with pytest.raises(ConfigError, match="weights must be finite and above 0"):
        fit("power", X, X / 100, cluster=SEEDS, weights=0 * X)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    states = {("n1T1", 1): "diverged", ("n8T3", 0): "failed"}
    cells = (*DEPTHS, Cell("hrm", series="HRM", n=3))
    return make_study(
        tmp_path_factory.mktemp("runs"), cells, states=states, fits=[{**SPEC, "series": "TRM"}]
    )


def test_a_study_is_fitted_as_its_plan_says(study: Path):
    tree = collect(study)
    (spec,) = fit_specs(tree)
    found = fit_study(tree, spec, draws=50)
    assert found.attrs["n_points"] == 13
    assert found.attrs["cluster"] == "seed"
    assert found.attrs["n_clusters"] == 3
    assert "left out of 15 runs: 1 diverged, 1 failed" in found.attrs["note"]
    assert found.attrs["data_hash"] == data_hash(tree)
    assert found.attrs["series"] == "TRM"
    assert found["x"].attrs["long_name"] == "Effective depth, layers x T x updates of a cycle"
    assert set(found["cluster"].values) == {"0", "1", "2"}
    assert f"{DEPTHS[0].name}/seed-0" in found["run"].values
    np.testing.assert_allclose(found["estimate"], [0.9, 0.8, 20], rtol=0.2)


def test_variants_can_be_chosen_and_runs_outside_the_plan_stay_out(study: Path):
    tree = gather(study)
    few = fit_study(tree, {**SPEC, "variants": ["n1T1", "n2T2"]}, draws=5)
    assert few.attrs["n_points"] == 5
    assert few.attrs["variants"] == "n1T1, n2T2"
    assert few.attrs["status"] == "not_identified"
    tree["runs/planned"].values[:] = 0
    assert fit_study(tree, SPEC).attrs["status"] == "too_few_points"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": "powr"}, "law: 'powr' is not one of saturating, power; did you mean 'power'"),
        ({"x": "effectiv_depth"}, "fit depth: x: .* did you mean 'effective_depth'"),
        ({"y": "variant"}, "fit depth: y: the study has no 'variant'"),
        ({"series": "TMR"}, "fit depth: series: the study has no 'TMR'; did you mean 'TRM'"),
        ({"variants": ["n9"]}, "fit depth: variants: the study has no 'n9'"),
        ({"cluster": "sed"}, "fit depth: cluster: .* did you mean 'seed'"),
        ({"y": ""}, "fit depth: y not given"),
    ],
)
def test_a_spec_that_does_not_fit_the_study_is_refused(study: Path, change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        fit_study(gather(study), {**SPEC, **change})


def test_a_fit_round_trips_through_its_file(study: Path):
    found = fit_study(gather(study), SPEC, draws=30)
    path = save_fit(found, study)
    assert path == study / "fits" / "depth.nc"
    assert xr.load_dataset(path, engine="netcdf4").identical(found)
    empty = fit_study(gather(study), {**SPEC, "variants": ["hrm"], "name": "empty"})
    assert xr.load_dataset(save_fit(empty, study), engine="netcdf4").identical(empty)
    assert sorted(p.name for p in path.parent.iterdir()) == ["depth.nc", "empty.nc"]
    with pytest.raises(ConfigError, match="fit 'a/b': a name has letters, digits"):
        save_fit(found.assign_attrs(name="a/b"), study)
