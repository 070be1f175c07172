"""What a fit says of itself, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, lsq_linear

from trm_lab.errors import ConfigError
from trm_lab.fit import ClusterWarning, fit
from trm_lab.fit.data import labels
from trm_lab.fit.objectives import Objective
from trm_lab.fit.problem import Problem
from trm_lab.fit.scan import Scan
from trm_lab.laws import M4, Law, PowerError, Saturating
from trm_lab.laws import law as law_named

X = np.repeat([6.0, 12.0, 18.0, 36.0, 54.0, 80.0], 3)
SEEDS = np.tile([0, 1, 2], 6)
TRUE = {"saturating": np.array([0.85, 0.9, 20.0]), "power_error": np.array([0.1, 3.0, 0.8])}
LAWS = (Saturating("x"), PowerError("x"))
SATURATING = LAWS[0]

every_law = pytest.mark.parametrize("law", LAWS, ids=str)


def rows(y: np.ndarray, x: np.ndarray = X, seeds: np.ndarray = SEEDS) -> dict[str, np.ndarray]:
    return {"x": x, "y": y, "seed": seeds}


def noisy(law: Law, sd: float = 0.03, seed: int = 0) -> np.ndarray:
    noise = sd * np.random.default_rng(seed).standard_normal(len(X))
    return np.clip(law.value(TRUE[law.name], {"x": X}) + noise, 0, 1)


# -- the optimum ---------------------------------------------------------------------------------


@every_law
def test_no_optimiser_from_many_starts_finds_a_better_fit(law: Law):
    y = noisy(law)
    found = fit(rows(y), "y", law, cluster="seed", interval="none")
    rng = np.random.default_rng(1)
    lower, upper = (
        np.array([getattr(p, end) for p in law.parameters]) for end in ("lower", "upper")
    )
    best = min(
        least_squares(
            lambda p: law.value(p, {"x": X}) - y,
            TRUE[law.name] * np.exp(0.3 * rng.standard_normal(3) - 0.3),
            lambda p: law.jacobian(p, {"x": X}),
            bounds=(lower, upper), xtol=1e-14, ftol=1e-14, gtol=1e-14,
        ).cost
        for _ in range(10)
    )  # fmt: skip
    total = found.attrs["objective_value"]
    assert total <= 2 * best * (1 + 1e-9)
    assert total == pytest.approx(float((found.residuals**2).sum()))
    assert found.attrs["rmse"] == pytest.approx(np.sqrt(total / len(X)))
    assert found.attrs["gradient"] < 1e-6


@every_law
def test_the_scan_is_the_projected_objective(law: Law):
    y = noisy(law)
    problem = Problem(law, {"x": X}, y, np.ones(len(X)), Objective("least_squares", "raw"))
    scan = Scan(problem)
    weights = np.random.default_rng(2).uniform(0.5, 2, len(X))
    values, _ = scan._project(weights)
    root = np.sqrt(weights)
    bounds = [(p.lower, p.upper) for p in law.parameters[:2]]
    for g in (0, 20, 40, 63):
        columns = law.columns(scan.grid[g], {"x": X}, problem.centre)
        exact = lsq_linear(
            root[:, None] * columns, root * (y - law.offset), tuple(zip(*bounds, strict=True)),
            tol=1e-13,
        )  # fmt: skip
        assert values[g] == pytest.approx(2 * exact.cost, rel=1e-6)


def test_weights_are_like_repeated_points():
    y = noisy(SATURATING)
    data = rows(y) | {"w": np.where(X == 6, 2.0, 1.0)}
    weighted = fit(data, "y", SATURATING, cluster="seed", weights="w", interval="none")
    again = np.concatenate([np.arange(len(X)), np.flatnonzero(X == 6)])
    repeated = fit(
        rows(y[again], X[again], SEEDS[again]), "y", SATURATING, cluster="seed", interval="none"
    )
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, rtol=1e-6)


def test_equal_seeds_give_equal_draws_and_another_seed_others():
    one, two, other = (
        fit(rows(noisy(LAWS[1])), "y", LAWS[1], cluster=np.arange(len(X)) // 2, draws=20, seed=s)
        for s in (0, 0, 1)
    )
    assert one.identical(two)
    assert not np.array_equal(one.draws, other.draws)
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-6)


# -- clusters ------------------------------------------------------------------------------------


def test_clusters_are_resampled_whole():
    found = fit(rows(noisy(SATURATING)), "y", SATURATING, cluster="seed", draws=300)
    # three clusters have ten multisets, so there are at most ten different draws
    assert 2 < len(np.unique(found.draws, axis=0)) <= 10
    ends = found.ci.sel(bound="lower"), found.ci.sel(bound="upper")
    assert (ends[0] <= found.coefficients).all()
    assert (found.coefficients <= ends[1]).all()
    assert (found.band.sel(bound="lower") <= found.band.sel(bound="upper")).all()


def test_few_clusters_are_descriptive_and_say_why():
    found = fit(rows(noisy(SATURATING)), "y", SATURATING, cluster="seed", draws=50)
    assert found.attrs["descriptive"] == 1
    assert "percentile intervals from 3 clusters (seed) are too narrow" in found.attrs["note"]
    each = np.arange(len(X)) // 2
    many = fit(rows(noisy(SATURATING)), "y", SATURATING, cluster=each, draws=20)
    assert many.attrs["descriptive"] == 0
    assert many.attrs["interval"] == "cluster bootstrap, expanded percentile"


def test_one_cluster_has_estimates_and_no_interval():
    found = fit(rows(noisy(SATURATING), seeds=0 * SEEDS), "y", SATURATING, cluster="seed", draws=50)
    assert np.isfinite(found.coefficients).all()
    assert np.isnan(found.ci).all()
    assert found.sizes["draw"] == 0
    assert found.attrs["interval"] == "none"
    assert "1 cluster (seed): no interval" in found.attrs["note"]


def test_rows_that_repeat_need_a_cluster():
    with pytest.raises(ConfigError, match=r"rows repeat the same x, .*; say what was drawn"):
        fit(rows(noisy(SATURATING)), "y", SATURATING)
    assert fit(rows(noisy(SATURATING)[::3], X[::3], SEEDS[::3]), "y", SATURATING, draws=10)


def test_rows_of_few_runs_are_not_silently_independent():
    D = np.outer([1, 1.01, 1.02, 1.03], np.geomspace(1e8, 1e10, 30)).ravel()  # no two are equal
    checkpoints = surface(np.repeat([1e6, 2e6, 4e6, 8e6], 30), D)
    with pytest.warns(ClusterWarning, match=r"every row is a cluster .* though rows share N: "):
        fit(checkpoints, "y", "SumPower(N, D)", interval="none")
    arm = np.repeat(["a", "b"], 6)
    apart = {"x": X[::3].tolist() * 2, "arm": arm, "y": np.tile(noisy(SATURATING)[::3], 2)}
    made = fit(apart, "y", SATURATING, by="arm", interval="none")  # a group shares no x
    assert made.attrs["cluster"] == "row"


def test_the_advice_of_a_warning_names_columns_that_are_there():
    rows = {"a, b": np.repeat([1e6, 1e7, 1e8], 4), "D": np.geomspace(1e8, 1e10, 12)}
    rows["y"] = 1.5 + 200 * rows["a, b"] ** -0.3 + 900 * rows["D"] ** -0.35
    with pytest.warns(ClusterWarning, match=r"share a, b: .* cluster=\['a, b'\]"):
        fit(rows, "y", 'SumPower("a, b", D)', interval="none")


def test_clusters_of_several_columns_stay_apart_whatever_their_text():
    names = {"a": ["x y", "x", "x\\", "x y"], "b": ["z", "y z", "z", "z"]}
    who, name = labels(pd.DataFrame(names), ["a", "b"], "cluster")
    assert name == "a x b"
    assert [who.tolist().index(one) for one in who] == [0, 1, 2, 0]
    plain, _ = labels(pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}), ["a", "b"], "cluster")
    assert plain.tolist() == ["1 u", "2 v"]


def test_resampling_single_runs_of_shared_cells_warns():
    cells = {"N": np.repeat([1e6, 1e7, 1e8], 4), "D": np.tile([1e8, 1e9, 3e9, 1e10], 3)}
    cells["y"] = 1.5 + 200 * cells["N"] ** -0.3 + 900 * cells["D"] ** -0.35
    cells["cell"] = np.repeat([0, 1, 2], 4)
    with pytest.warns(
        ClusterWarning, match=r"rows share N, D.*resample cells, such as cluster=\['N'\]"
    ):
        fit(cells, "y", "SumPower(N, D)", cluster="row", interval="none")  # one row of N and D each
    fit(cells, "y", "SumPower(N, D)", cluster="cell", interval="none")  # warnings are errors here
    fit(cells, "y", "SumPower(N, D)", cluster=["D", "N"], interval="none")  # what was asked for
    twice = {name: np.tile(values, 2) for name, values in cells.items()}
    with pytest.warns(ClusterWarning, match=r"such as cluster=\['N', 'D'\]$"):
        fit(twice, "y", "SumPower(N, D)", cluster="row", interval="none")


# -- verdicts ------------------------------------------------------------------------------------


def surface(N: np.ndarray, D: np.ndarray, floor: float = 1.7) -> dict[str, np.ndarray]:
    noise = np.exp(0.003 * np.random.default_rng(3).standard_normal(len(N)))
    return {"N": N, "D": D, "y": (floor + 400 * N**-0.34 + 1800 * D**-0.36) * noise}


@pytest.mark.slow  # 32 starts that do not agree
def test_a_diagonal_design_cannot_tell_its_axes_apart():
    N = np.geomspace(1e7, 1e10, 30)
    found = fit(surface(N, 20 * N), "y", "SumPower(N, D)", draws=20)
    assert found.attrs["status"] == "not_separable"
    assert found.attrs["collinear"] == "N, D"
    assert "N and D cannot be separated by these rows" in found.attrs["note"]
    assert found.attrs["descriptive"] == 1
    spread = np.tile([5.0, 20.0, 80.0], 10)
    apart = fit(surface(N, spread * N), "y", "SumPower(N, D)", interval="none")
    assert apart.attrs["collinear"] == ""
    assert apart.attrs["status"] == "converged"


@pytest.mark.slow
def test_two_kinds_of_recursion_that_move_together_are_not_separable():
    rng = np.random.default_rng(0)
    n = np.tile([1.0, 3.0, 5.0, 7.0], 6)
    N = np.repeat([1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6], 4)
    data = {"once": N, "rec": 3 * N, "n": n, "D": 1e6 * np.exp(rng.uniform(0, 4, 24))}
    law = law_named("SumPower(EffectiveN(once, rec, n=n, T=T), D)")
    truth = np.array([1.5, 20, 200, 0.2, 0.35, 0.4, 0.3])
    for together, T in ((True, (n + 1) / 2), (False, np.tile([4.0, 1.0, 2.0], 8))):
        given = data | {"T": T}
        y = law.value(truth, {one: given[one] for one in law.columns_read})
        found = fit(given | {"y": y}, "y", law, cluster="once", interval="none")
        assert (found.attrs["status"] == "not_separable") == together
        assert found.attrs["collinear"] == ("n, T" if together else "")
    np.testing.assert_allclose(found.coefficients, truth, rtol=1e-9)


@pytest.mark.parametrize("law", ["SumPower(N, D)", "PowerFloor(N)"])
def test_a_floor_at_zero_is_not_reported_as_a_floor(law: str):
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(2, 6, 40)), np.exp(rng.uniform(2, 6, 40))
    data = surface(N, D, 0.0)
    if "D" not in law:
        data["y"] = 3 * N**-0.3 * np.exp(0.003 * rng.standard_normal(40))
    found = fit(data, "y", law, interval="none")
    assert found.attrs["status"] == "floor_not_identified"
    assert found.attrs["floor_not_identified"] == "E"
    assert "E is not told from 0 by these rows: report no floor" in found.attrs["note"]


@pytest.mark.slow  # 1,000 resamples: fewer seldom reach 0
def test_a_floor_whose_interval_reaches_0_is_not_identified_whatever_the_likelihood_says():
    data = pd.read_csv(Path(__file__).parents[2] / "docs" / "data" / "olmo_hellaswag_bpb.csv")
    plain = fit(data, "bpb", "SumPower(N, D)", cluster="model", interval="none")
    assert plain.attrs["status"] == "converged"  # the test of a floor takes rows as independent
    found = fit(data, "bpb", "SumPower(N, D)", cluster="model")
    assert found.ci.sel(param="E").values[0] < 1e-9
    assert found.attrs["status"] == "floor_not_identified"
    assert found.attrs["floor_not_identified"] == "E"


@pytest.mark.slow  # seven parameters and more, from 32 starts
def test_a_trap_of_many_basins_shows_in_the_agreement():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 200, 24)
    y = 0.5 + 0.3 * np.sin(2 * np.log(x)) + 0.02 * rng.standard_normal(24)
    found = fit({"x": x, "y": y}, "y", "BNSL(x, breaks=2)", interval="none")
    assert found.attrs["agreement"] < 0.5
    assert found.attrs["n_basins"] > 1
    assert found.attrs["status"] != "converged"
    assert "starts reach the best optimum" in found.attrs["note"]
    starts = found.start_objective.values
    reached = np.mean(starts <= found.attrs["objective_value"] * (1 + 1e-6))
    assert found.attrs["agreement"] == pytest.approx(reached)


@pytest.mark.slow
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
    found = fit(rows(y), "y", SATURATING, cluster="seed", draws=10)
    assert found.attrs["status"] in ("at_bound", "not_separable")
    assert named in found.attrs["at_bound"].split(", ")
    assert found.attrs["descriptive"] == 1
    assert 0 <= float(found.coefficients.sel(param="c")) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("law", ["saturating", "power_error", "test_time", "m4", "power_floor"])
@pytest.mark.parametrize(
    "y",
    [np.full(18, 0.5), 0.9 - X / 200, 0.3 + 0.2 * (X == 6), X / 1e5, 0.3 + 0.5 * (X > 40)],
    ids=["flat", "falling", "spike", "straight", "step"],
)
def test_shapes_that_a_law_does_not_have_overflow_nowhere(law: str, y: np.ndarray):
    found = fit(
        rows(y), "y", law_named(law, "x"), cluster="seed", draws=3, residuals="raw",
        objective="least_squares",
    )  # fmt: skip
    assert np.isfinite(found.coefficients).all()
    assert np.isfinite(found.curve).all()
    assert found.attrs["rmse"] <= np.sqrt(np.mean((y - y.mean()) ** 2)) * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("law", ["saturating", "power_error", "logistic"])
def test_nothing_is_fitted_to_accuracies_that_are_all_zero(law: str):
    data = {"x": X, "puzzle_accuracy": np.zeros(len(X)), "seed": SEEDS}
    made = law_named(law, "x")
    found = fit(data, "puzzle_accuracy", made, cluster="seed", draws=10)
    assert found.attrs["status"] == "all_zero"
    assert found.attrs["note"] == (
        "nothing to fit: every puzzle accuracy is 0; train longer, or take a softer y"
    )
    assert (found.attrs["interval"], found.attrs["descriptive"]) == ("none", 1)
    assert found.sizes["draw"] == 0
    for name in ("coefficients", "ci", "curve", "fitted", "band"):
        assert np.isnan(found[name]).all(), name
    one = np.where(np.arange(len(X)) == 0, 0.001, 0)
    assert fit(rows(one), "y", made, cluster="seed", draws=5).attrs["status"] != "all_zero"


def test_four_distinct_x_are_enough_for_three_parameters():
    keep = X <= 36
    data = rows(noisy(SATURATING)[keep], X[keep], SEEDS[keep])
    found = fit(data, "y", SATURATING, cluster="seed", draws=20)
    assert found.attrs["status"] == "converged"
    assert np.isfinite(found.ci).all()


def test_three_distinct_x_are_solved_but_not_identified():
    keep = X <= 18
    y = SATURATING.value(TRUE["saturating"], {"x": X[keep]})
    found = fit(rows(y, X[keep], SEEDS[keep]), "y", SATURATING, cluster="seed", draws=20)
    assert found.attrs["status"] == "not_identified"
    np.testing.assert_allclose(found.coefficients, TRUE["saturating"], rtol=1e-6)
    assert np.isnan(found.ci).all()
    assert np.isnan(found.band).all()
    assert found.attrs["note"].startswith("3 distinct x for 3 parameters: no interval")


@pytest.mark.parametrize(("distinct", "status"), [(2, "not_identified"), (1, "too_few_points")])
def test_fewer_x_than_parameters_have_no_estimates(distinct: int, status: str):
    keep = np.unique(X, return_inverse=True)[1] < distinct
    data = rows(noisy(LAWS[1])[keep], X[keep], SEEDS[keep])
    found = fit(data, "y", LAWS[1], cluster="seed")
    assert found.attrs["status"] == status
    assert np.isnan(found.coefficients).all()
    assert found.attrs["descriptive"] == 1


def test_no_points_at_all_are_a_result_too():
    found = fit({"x": [], "y": [], "seed": []}, "y", SATURATING, cluster="seed")
    assert found.attrs["status"] == "too_few_points"
    assert found.attrs["n_points"] == 0


LEVELS = {"Saturating": ("c",), "PowerError": ("e",), "NeverSolved": ("w",), "Logistic": ("c", "g")}


@pytest.mark.slow  # 25 data sets
@settings(max_examples=25)
@given(
    st.sampled_from(sorted(LEVELS)),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
    st.booleans(),
)
@example(  # a slope of which nothing is told: its variance is huge and finite
    "Logistic",
    [0, 0.95, 0, 0, 0.8499849932636676, 0.3884608872158587, 0, 0.37052815425594426],
    True,
)
def test_floors_ceilings_and_chance_never_leave_the_unit_interval(
    name: str, y: list[float], counts: bool
):
    rest = ", chance=None" if name == "Logistic" else ""
    data = pd.DataFrame({"x": np.geomspace(1, 50, 8), "y": y, "m": 50.0})
    data["k"] = np.round(data.y * 50)
    law = law_named(f"{name}(x{rest})")
    found = fit(data, ("k", "m") if counts else "y", law, interval="wald", starts=2)
    for level in LEVELS[name]:
        one = found.sel(param=level)
        value = float(one.coefficients)
        if np.isfinite(value):
            assert 0 <= value <= 1
            ends = one.ci.values
            assert np.isnan(ends).all() or (0 <= ends[0] <= ends[1] <= 1)


@pytest.mark.slow
def test_levels_of_an_error_rate_stay_in_the_unit_interval():
    x = np.geomspace(1, 100, 12)
    y = 0.999 / (1 + x / 30)
    found = fit({"x": x, "y": y}, "y", M4("x", error_rate=True), interval="none")
    levels = found.coefficients.sel(param=["e_inf", "e_0"])
    assert ((levels >= 0) & (levels <= 1)).all()


def test_counts_of_errors_have_an_error_rate():
    x = np.geomspace(1, 100, 12)
    wrong = np.round(1000 * 0.9 / (1 + x / 30))
    found = fit(
        {"x": x, "wrong": wrong, "of": [1000] * 12}, ("wrong", "of"), M4("x", error_rate=True),
        interval="none", starts=2,
    )  # fmt: skip
    np.testing.assert_allclose(found.fitted, wrong / 1000, atol=0.01)


def test_counts_of_no_error_and_of_nothing_but_errors_stay_in_the_fit():
    """Without the rows of no error the luckless ones are left, and make a floor of 0.006."""
    x, seed = np.repeat(np.geomspace(1, 1000, 12), 4), np.arange(48) % 4
    truth = M4("x").value(np.array([0.0, 1.0, 1.0, 30, 1.4]), {"x": x})
    wrong = np.random.default_rng(0).binomial(50, truth)
    assert ((wrong == 0).sum(), (wrong == 50).sum()) == (11, 2)
    floors = []
    for kept in (wrong >= 0, wrong > 0):
        data = {"x": x, "k": wrong, "of": np.full(48, 50), "seed": seed}
        found = fit(
            {name: values[kept] for name, values in data.items()}, ("k", "of"),
            M4("x", error_rate=True), cluster="seed", interval="none", starts=0,
        )  # fmt: skip
        np.testing.assert_allclose(found.fitted, truth[kept], atol=0.02)
        floors.append(float(found.coefficients.sel(param="e_inf")))
    assert floors == pytest.approx([0, 0.0057], abs=5e-4)


def test_m4_bears_an_x_whose_powers_float64_does_not_hold():
    x = np.geomspace(1e18, 1e24, 12)
    y = M4("x").value(np.array([1.5, 11, 0.8, 3e6, 0.3]), {"x": x})
    found = fit({"x": x, "y": y}, "y", M4("x"), interval="none", starts=0)
    np.testing.assert_allclose(found.coefficients, [1.5, 11, 0.8, 3e6, 0.3], rtol=1e-4)
    far = np.array([0.1, 0.9, 1.0, 2.0, 20.0])
    assert M4("x").own(far, {"x": 1e21})[3] == np.inf
    assert M4("x").from_own(far, {"x": 1e21})[3] == 0.0
    assert M4("x").own_jacobian(far, {"x": 1e21})[3, 3] == np.inf


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": "z"}, r"y: the data have no column 'z'"),
        ({"law": "Saturating(xx)"}, r"law Saturating\(xx\): .*no column 'xx'; did you mean 'x'"),
        ({"cluster": "sed"}, "cluster: the data have no column 'sed'; did you mean 'seed'"),
        ({"objective": "hubr"}, "objective: 'hubr' is not one of least_squares"),
        ({"objective": "quasi_binomial"}, r'give a pair y=\("solved", "of"\)'),
        ({"y": ("x", "seed")}, "y: 6 of 0 in row 0 is no share"),
        ({"delta": 0.0, "objective": "huber"}, "delta must be above 0, not 0"),
        ({"residuals": "ln"}, "'ln' is neither 'log' nor 'raw'"),
        ({"interval": "boot"}, "interval: 'boot' is not one of bootstrap"),
        ({"level": 1.5}, "level must lie between 0 and 1, not 1.5"),
        ({"share": ["c"]}, r"share=\['c'\] needs by="),
        ({"by": "seed", "share": ["cc"]}, "law saturating has no parameter 'cc'; it has c, a, tau"),
        ({"law": "Saturating(x, c=0.9)", "weights": "no"}, "weights: the data have no column"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused(change: dict, message: str):
    asked = {"y": "y", "law": SATURATING, "cluster": "seed", **change}
    with pytest.raises(ConfigError, match=message):
        fit(rows(noisy(SATURATING)), **asked)


def test_data_that_the_law_cannot_have_are_refused():
    def refused(message: str, y: np.ndarray, law: str = "PowerError(x)", **more) -> None:
        with pytest.raises(ConfigError, match=message):
            fit(rows(y), "y", law, cluster="seed", **more)

    refused(r"law power_error .*: y must lie in \[0, 1\], not 2.3", np.full(len(X), 2.3))
    refused(r"y is nan in row 0 \(18 such rows\); drop these rows", np.full(len(X), np.nan))
    refused("residuals of ln y need values above 0", np.where(X > 6, 0.5, 0.0), "PowerFloor(x)")
    with pytest.raises(ConfigError, match="columns do not fit together"):
        fit({"x": X, "y": X[:3] / 100}, "y", "PowerError(x)")
    with pytest.raises(ConfigError, match="y holds 'high', which is no number"):
        fit({"x": X, "y": ["high"] * len(X)}, "y", "PowerError(x)", cluster="row")
    for bad in (0.0, -1.0):
        with pytest.raises(ConfigError, match="weights must be finite and above 0"):
            fit(rows(X / 100) | {"w": bad + 0 * X}, "y", SATURATING, cluster="seed", weights="w")


@pytest.mark.parametrize("law", ["logistic", "gompertz"])
def test_a_flat_line_tells_nothing_of_where_a_law_rises(law: str):
    found = fit(rows(np.full(len(X), 0.5)), "y", law_named(law, "x"), cluster="seed", draws=3)
    assert found.attrs["status"] == "not_separable"
    assert found.attrs["not_separable"] == "mu, s"


@pytest.mark.parametrize("space", ["log", "raw"])
@pytest.mark.parametrize(("law", "named"), [("power", "alpha"), ("log_quadratic", "p1, p2")])
def test_a_flat_line_is_no_power_law(law: str, named: str, space: str):
    found = fit(
        rows(np.full(len(X), 0.5)), "y", law_named(law, "x"), cluster="seed", draws=3,
        residuals=space,
    )  # fmt: skip
    assert found.attrs["status"] == "at_bound"
    assert found.attrs["at_bound"] == named
    assert "no change with x, so the law's scale in x is not identified" in found.attrs["note"]
    falling = fit(rows(0.5 * X**-1e-3), "y", law_named(law, "x"), cluster="seed", draws=3)
    assert falling.attrs["status"] == "converged"


def test_a_search_without_any_finite_start_says_so():
    law = M4("x").hold(e_0=0.3)  # below the data, so that no curve goes through them
    found = fit(rows(noisy(SATURATING)), "y", law, cluster="seed", draws=3)
    assert found.attrs["status"] == "not_converged"
    assert found.attrs["note"] == (
        "no start reached a finite optimum: no estimates; hold fewer parameters"
    )
    assert np.isnan(found.coefficients).all()


def test_a_law_of_values_above_0_refuses_a_zero():
    y = np.where(X > 20, 0.8, 0.0)
    with pytest.raises(ConfigError, match="y is 0 in row 0: law m4 needs values above 0"):
        fit(rows(y), "y", law_named("m4", "x"), cluster="seed", residuals="raw")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.9, 0.5, 0.3, 1.2], r"y must lie in \[0, 1\], not 1.2 \(row 3\)"),
        (
            [0.9, 1.0, 0.3, 0.2],
            r"y must lie in \(0, 1\), not 1 \(row 1\); give counts with their total, --y y,TOTAL$",
        ),
        ([0.9, 0.5, 0.3, 0.0], "law m4 needs values above 0; give counts with their total"),
    ],
)
def test_an_error_rate_lies_between_0_and_1(y: list[float], message: str):
    law = M4("x", error_rate=True)
    with pytest.raises(ConfigError, match=message):
        fit({"x": [1.0, 2.0, 4.0, 8.0], "y": y}, "y", law)
    with pytest.raises(ConfigError, match="counts need a law of a share"):
        fit({"x": [1.0, 2.0], "k": [3, 4], "m": [10, 10]}, ("k", "m"), M4("x"))


def test_a_dataset_without_rows_is_refused():
    with pytest.raises(ConfigError, match="the Dataset has no dimension, so no rows; give one row"):
        fit(xr.Dataset({"x": 1.0, "y": 2.0}), "y", "Power(x)")


def _planted(noise: float = 0.01) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    x = np.geomspace(1, 300, 60)
    y = (1 + 3 * x**-0.5) * np.exp(noise * rng.standard_normal(60))
    return {"x": x, "loss": y, "seed": np.arange(60) % 10 + 1000001.0}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["least_squares", "student_t", "scaled_huber"])
def test_a_floor_that_stands_out_is_identified_under_every_objective(objective: str):
    found = fit(
        _planted(), "loss", "PowerFloor(x)", cluster="row", objective=objective, interval="none"
    )
    assert found.attrs["floor_not_identified"] == ""


def test_labels_that_are_large_numbers_stay_apart_and_missing_ones_are_refused():
    data = _planted()
    assert fit(data, "loss", "PowerFloor(x)", cluster="seed", draws=2).attrs["n_clusters"] == 10
    data["seed"][4] = np.nan
    with pytest.raises(ConfigError, match="seed: no label in row 4"):
        fit(data, "loss", "PowerFloor(x)", cluster="seed", draws=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": -1}, "draws must be 2 or more, not -1"),
        ({"draws": 1}, "draws must be 2 or more, not 1"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
    ],
)
def test_resamples_and_their_seed_are_checked(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        fit(_planted(), "loss", "PowerFloor(x)", cluster="row", **settings)


def test_times_and_columns_of_one_name_are_refused():
    frame = pd.DataFrame(_planted())
    days = frame.assign(x=pd.date_range("2024-01-01", periods=60))
    for times in (days, days.assign(x=days["x"] - days["x"][0])):
        with pytest.raises(ConfigError, match=r"law .*: x holds times, .* such as days since the"):
            fit(times, "loss", "PowerFloor(x)", cluster="row")
    for name, what in (("x", "law PowerFloor.x.: "), ("loss", "y: "), ("seed", "cluster: ")):
        twice = pd.concat([frame, frame[[name]]], axis=1)
        with pytest.raises(ConfigError, match=f"^{what}the data have 2 columns '{name}'; rename"):
            fit(twice, "loss", "PowerFloor(x)", cluster="seed")
    unread = pd.concat([frame.assign(of=1), frame.assign(of=1)[["of"]]], axis=1)
    assert fit(unread, "loss", "PowerFloor(x)", cluster="seed", interval="none", starts=0)


def test_information_does_not_hang_on_the_scale_of_weights():
    data = {**_planted(), "w": np.full(60, 10.0)}
    plain, heavy = (
        fit(data, "loss", "PowerFloor(x)", cluster="row", objective="least_squares",
            weights=weights, interval="none")
        for weights in (None, "w")
    )  # fmt: skip
    assert heavy.attrs["aic"] == pytest.approx(plain.attrs["aic"])


def test_huber_has_no_profile():
    with pytest.raises(ConfigError, match="interval profile: huber is no likelihood"):
        fit(_planted(), "loss", "PowerFloor(x)", cluster="row", interval="profile")


def test_one_cluster_has_no_sandwich_and_names_of_a_fit_are_no_columns():
    data = {**_planted(), "one": np.zeros(60)}
    found = fit(data, "loss", "PowerFloor(x)", cluster="one", interval="sandwich")
    assert np.isnan(found.ci).all()
    data["weights"] = data["x"]
    with pytest.raises(ConfigError, match="a fit uses the name 'weights' itself"):
        fit(data, "loss", "PowerFloor(weights)", cluster="row")
