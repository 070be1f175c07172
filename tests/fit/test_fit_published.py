"""Fits of public data against what others published of them."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from published import chinchilla, gemstones, learning_curves, rmsle

from trm_lab.fit import ClusterWarning, fit, forecast, sensitivity
from trm_lab.laws import BNSL, M4, Law, Power, SumPower

pytestmark = pytest.mark.filterwarnings(f"ignore::{ClusterWarning.__module__}.ClusterWarning")
LAW = SumPower("N", "D")
NAMES = ["A_N", "A_D", "E", "alpha_N", "alpha_D"]


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return shared / "data" / "scaling"


def test_chinchillas_240_runs_end_below_the_published_objective(data: Path):
    rows = chinchilla(data)
    began = time.process_time()
    found = fit(rows, "L", LAW, cluster="row", interval="none")
    print(f"240 rows: {time.process_time() - began:.2f} CPU s")
    assert found.sizes["row"] == 240
    assert found.attrs["objective_value"] <= 1.01827402e-3
    assert (found.attrs["status"], found.attrs["agreement"]) == ("converged", 1)
    expected = [477.8258, 2143.417, 1.817218, 0.3473105, 0.3671724]
    np.testing.assert_allclose(found.coefficients.sel(param=NAMES), expected, rtol=1e-4)


@pytest.mark.slow
def test_all_245_runs_have_a_better_optimum_than_the_one_quoted(data: Path):
    found = fit(chinchilla(data, 0), "L", LAW, cluster="row", interval="none")
    assert found.attrs["objective_value"] <= 1.826010523e-3 * (1 + 1e-9) < 1.85609e-3
    np.testing.assert_allclose(
        found.coefficients.sel(param=["alpha_N", "alpha_D"]), [0.34931, 0.45305], atol=5e-6
    )
    table = sensitivity(found, drop=(3,), deltas=())
    beta = table.coefficients.sel(param="alpha_D").values
    np.testing.assert_allclose(beta, [0.4530, 0.3825], atol=5e-5)
    np.testing.assert_array_equal(table.rows, [245, 242])


@pytest.mark.slow  # the scale and the law in turn
def test_the_scaled_huber_likelihood_is_the_published_one(data: Path):
    found = fit(
        chinchilla(data), "L", LAW, cluster="row", objective="scaled_huber", interval="none"
    )
    expected = [482.00572, 2085.4342, 1.8168640, 0.3478130, 0.3658541]
    np.testing.assert_allclose(found.coefficients.sel(param=NAMES), expected, rtol=1e-5)
    assert found.attrs["loglik"] == pytest.approx(879.77314, abs=5e-4)


def test_students_t_has_the_higher_likelihood(data: Path):
    found = fit(chinchilla(data), "L", LAW, cluster="row", objective="student_t", interval="none")
    assert found.attrs["loglik"] == pytest.approx(888.40, abs=5e-3)
    expected = [459.2, 1867, 1.8073, 0.3449, 0.3605]
    np.testing.assert_allclose(found.coefficients.sel(param=NAMES), expected, rtol=3e-4)
    assert found.extras.values == pytest.approx([0.00394, 2.578], rel=2e-3)


def test_raw_least_squares_of_217_rows(data: Path):
    rows = chinchilla(data)
    rows = rows[rows.C < 1e21]
    rows = rows.assign(N=rows.N / 1e6, D=rows.D / 1e9)
    found = fit(
        rows, "L", LAW, cluster="row", objective="least_squares", residuals="raw", interval="none"
    )
    assert found.sizes["row"] == 217
    assert found.attrs["objective_value"] == pytest.approx(0.062414, abs=5e-7)
    np.testing.assert_allclose(
        found.coefficients.sel(param=NAMES), [4.0005, 1.0509, 1.9051, 0.3511, 0.4587], atol=5e-5
    )


@pytest.mark.slow  # 1,000 refits
def test_a_bootstrap_has_the_published_ends(data: Path):
    rows = chinchilla(data)
    began = time.process_time()
    found = fit(rows, "L", LAW, cluster="row", draws=1000)
    print(f"fit and 1,000 resamples: {time.process_time() - began:.1f} CPU s")
    assert found.attrs["draws_failed"] == 0
    published = {
        "A_N": (285.2, 743.6), "A_D": (1042.4, 5810.3), "E": (1.769, 1.871),
        "alpha_N": (0.317, 0.373), "alpha_D": (0.331, 0.415),
    }  # fmt: skip
    for name, ends in published.items():
        got = found.ci.sel(param=name).values
        np.testing.assert_allclose(got[0], ends[0], rtol=0.05, err_msg=name)
        wide = 0.10 if name == "A_D" else 0.05
        np.testing.assert_allclose(got[1], ends[1], rtol=wide, err_msg=name)


@pytest.mark.slow  # eleven searches
def test_no_published_gemstones_fit_is_better(data: Path):
    worse, names = {}, []
    for name, rows, axes, delta, published in gemstones(data):
        found = fit(
            rows, "final_loss", SumPower(*axes), cluster="row", delta=delta, interval="none"
        )
        names.append(name)
        if not found.attrs["objective_value"] <= published * (1 + 1e-6):
            worse[name] = (found.attrs["objective_value"], published)
    assert not worse
    assert len(names) == len(set(names)) == 11
    assert "hot_sampled_like_chinchilla N-D 0.0001" in names


@pytest.mark.slow  # seven searches
def test_the_ladders_predictions_are_the_published_ones(data: Path):
    folder = data / "olmo_ladder"
    points = pd.read_csv(folder / "step1_final_points.csv")
    published = pd.read_csv(folder / "published_step1_main.csv").set_index("Task").Pred
    got = {}
    for task, rows in points.groupby("task"):
        train, target = rows[rows["mode"] == "train"], rows[rows.model.str.startswith("13B")]
        found = fit(train, "bpb", LAW, cluster="row", interval="none")
        where = {name: target[name].to_numpy(float) for name in ("N", "D")}
        got[task] = float(LAW.value(found.coefficients.values, where)[0])
    assert len(got) == 7
    for task, value in got.items():
        assert value == pytest.approx(published[task], abs=5e-5), task


def test_five_runs_predict_two_large_ones(data: Path):
    rows = pd.read_csv(data / "gadre_openlm" / "models_losses.csv")
    rows = rows[rows.name.str.startswith("rpj-")].rename(columns={"params": "N", "tokens": "D"})
    small = ((rows.mult == 1) & (rows.N < 4.2e8)) | ((rows.mult == 16) & (rows.N < 1.1e7))
    law = SumPower("N", "D", shared=True)
    found = fit(
        rows[small], "loss_c4_val", law, cluster="row", objective="least_squares", residuals="raw",
        interval="none",
    )  # fmt: skip
    assert found.sizes["row"] == 5
    for name, expected in {"rpj-open_lm_1b-32.0": 0.7103, "rpj-open_lm_7b-1.0": 0.7320}.items():
        target = rows[rows.name == name]
        where = {one: target[one].to_numpy(float) for one in ("N", "D")}
        predicted = float(law.value(found.coefficients.values, where)[0])
        actual = float(target.loss_c4_val.iloc[0])
        assert 100 * abs(predicted / actual - 1) == pytest.approx(expected, abs=5e-4), name


@pytest.mark.slow
def test_compute_optimal_exponents_plain_and_weighted(data: Path):
    optima = pd.read_csv(data / "porian" / "porian_optimal_pairs.csv")
    published = json.loads((data / "porian" / "porian_published_fits.json").read_text())
    assert len(published) == 15
    for one in published:
        rows = optima[(optima.file == one["file"]) & (optima.exp == one["exp"])]
        rows = rows.dropna(subset=["n", "n_star_std"])
        rows = rows.assign(w=1 / rows.n_star_std**2)  # theirs multiply residuals, ours squares
        for weights, key in ((None, "basic_n_exponent"), ("w", "weighted_n_exponent")):
            found = fit(
                rows, "n", Power("flops"), objective="least_squares", weights=weights,
                interval="none",
            )  # fmt: skip
            exponent = -float(found.coefficients.sel(param="alpha"))
            assert exponent == pytest.approx(one[key], abs=5e-5), (one["file"], one["exp"], key)


def _means(data: Path, laws: dict[str, Law]) -> dict[tuple[str, str], float]:
    """Give the mean held-out error of laws and of the default stack, by domain."""
    errors: dict[tuple[str, str], list[float]] = {}
    for domain, train, rest in learning_curves(data):
        given = rest.Loss.to_numpy()
        stack = forecast(train, "Loss", rest, along="x").prediction.values
        errors.setdefault((domain, "stack"), []).append(rmsle(stack, given))
        for name, law in laws.items():
            alone = forecast(train, "Loss", rest, {name: law}, along="x").prediction.values
            errors.setdefault((domain, name), []).append(rmsle(alone, given))
    counts = {domain: len(values) for (domain, name), values in errors.items() if name == "stack"}
    assert counts == {"NMT": 5, "LM": 5, "BB": 10}
    return {key: float(np.mean(values)) for key, values in errors.items()}


@pytest.mark.slow  # 20 forecasts by back-tested stacks
def test_learning_curves_are_extrapolated_as_well_as_published(data: Path):
    began = time.process_time()
    got = _means(data, {"m4": M4("x"), "bnsl": BNSL("x")})
    print(f"20 curves: {time.process_time() - began:.1f} CPU s")
    print({" ".join(key): round(value, 5) for key, value in got.items()})
    wide = 1.05
    bounds = {
        ("NMT", "m4"): 0.0181 * wide, ("NMT", "bnsl"): 0.0105 * wide,
        ("NMT", "stack"): 0.0077 * wide,
        ("BB", "bnsl"): 0.0139 * wide, ("BB", "stack"): 0.0089 * wide,
        ("LM", "m4"): 0.0014, ("LM", "bnsl"): 0.0010, ("LM", "stack"): 0.0010,
    }  # fmt: skip
    missed = {key: (got[key], bound) for key, bound in bounds.items() if not got[key] <= bound}
    assert not missed
    # Not within 5 % of 0.0074, which another search was measured at: docs/decisions/009-fits.md.
    assert got["BB", "m4"] <= 0.0084


def test_a_broken_law_extrapolates_four_digit_addition(data: Path):
    given = json.loads((data / "bnsl_addition" / "four_digit_addition.json").read_text())
    x, y = np.array(given["x_train_set_size"], float), np.array(given["y_test_cross_entropy"])
    n, law = given["n_train_points"], BNSL("x")
    found = fit({"x": x[:n], "y": y[:n]}, "y", law, objective="least_squares", interval="none")
    assert rmsle(law.value(found.coefficients.values, {"x": x[n:]}), y[n:]) <= 0.0112


@pytest.mark.slow  # 405 rows, six parameters
def test_the_constants_of_a_broken_law_come_back_from_a_noiseless_prefix(data: Path):
    given = json.loads((data / "bnsl_addition" / "four_digit_addition.json").read_text())
    law, planted = BNSL("x"), given["noiseless_truth"]
    truth = np.array([planted[name] for name in ("a", "b", "c0", "c1", "d1", "f1")])
    x = np.arange(1.0, 406)
    rows = {"x": x, "y": law.value(truth, {"x": x})}
    found = fit(rows, "y", law, objective="least_squares", interval="none")
    np.testing.assert_allclose(found.coefficients, truth, rtol=1e-6)
