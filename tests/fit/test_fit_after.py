"""What is asked of a fit once it is made."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from published import chinchilla

from trm_lab.errors import ConfigError
from trm_lab.fit import (
    ClusterWarning,
    backtest,
    contrast,
    describe,
    design_report,
    fit,
    forecast,
    influence,
    law_of,
    predict,
    suggest_runs,
)
from trm_lab.fit.describe import rounded
from trm_lab.fit.saved import rows_of
from trm_lab.laws import SumPower

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(f"ignore::{ClusterWarning.__module__}.ClusterWarning"),
]
TRUTH = np.array([1.7, 400, 1800, 0.34, 0.36])


def runs(count: int = 40, noise: float = 0.005, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "N": np.exp(rng.uniform(16, 21, count)), "D": np.exp(rng.uniform(20, 25, count)),
    })  # fmt: skip
    where = {name: frame[name].to_numpy() for name in ("N", "D")}
    frame["y"] = SumPower("N", "D").value(TRUTH, where) * np.exp(noise * rng.standard_normal(count))
    return frame


@pytest.fixture(scope="module")
def made() -> xr.Dataset:
    return fit(runs(), "y", "SumPower(N, D)", draws=200, name="loss")


def arms(phi: dict[str, float]) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for arch, one in phi.items():
        for r in (1.0, 2.0, 4.0, 8.0):
            for once in (1e6, 3e6, 1e7, 3e7):
                for D in (1e8, 1e9, 1e10):
                    y = 1.6 + 20 * (once + r**one * 3 * once) ** -0.2 + 1300 * D**-0.37
                    y *= np.exp(0.002 * rng.standard_normal())
                    rows.append(
                        {"arch": arch, "r": r, "once": once, "rec": 3 * once, "D": D, "y": y}
                    )
    return pd.DataFrame(rows)


SHARE = ["E", "alpha_D", "A_D", "alpha_N_eff"]
JOINT = "SumPower(EffectiveN(once, rec, r=r), D)"


def test_a_contrast_finds_the_planted_difference_and_what_is_shared_is_equal():
    rows = arms({"a": 0.4, "b": 0.6, "c": 0.9})
    found = contrast(
        rows, "y", JOINT, "phi", by="arch", a="a", b="b", cluster=["r", "once"], share=SHARE,
        draws=60,
    )  # fmt: skip
    lower, upper = found.ci.values
    assert lower <= -0.2 <= upper < 0
    assert upper - lower < 0.2
    assert float(found.difference) == pytest.approx(-0.2, abs=0.05)
    assert float(found.difference) == pytest.approx(float(-np.diff(found.estimates)[0]))
    assert found.attrs["n_clusters"] == 16  # cells that both arms have are drawn together
    joint = fit(
        rows[rows.arch != "c"], "y", JOINT, by="arch", share=SHARE, cluster=["r", "once"],
        draws=20,
    )  # fmt: skip
    names = set(joint.param.values)
    assert set(SHARE) <= names
    assert {"phi[a]", "phi[b]", "A_N_eff[a]", "A_N_eff[b]"} == names - set(SHARE)
    assert joint.draws.shape == (20, 8)
    place = {"once": [1e7, 1e7], "rec": [3e7, 3e7], "r": [4.0, 4.0], "D": [1e9, 1e9]}
    both = predict(joint, {**place, "arch": ["a", "b"]}).prediction.values
    assert both[0] > both[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "aa"}, "arch: no variant 'aa'; did you mean 'a'"),
        ({"parameter": "E"}, "E is shared, so its difference is 0 by definition"),
        ({"parameter": "psi"}, "contrast: no parameter 'psi'"),
        ({"by": "arc"}, "no column 'arc'; did you mean 'arch'"),
    ],
)
def test_a_contrast_of_what_is_not_there_is_refused(change: dict, message: str):
    asked = {"parameter": "phi", "by": "arch", "a": "a", "b": "b", **change}
    with pytest.raises(ConfigError, match=message):
        contrast(
            arms({"a": 0.4, "b": 0.6}), "y", JOINT, asked.pop("parameter"),
            cluster=["r", "once"], share=SHARE, interval="none", **asked,
        )  # fmt: skip


def test_a_column_is_found_by_its_last_name_and_no_more_than_20_are_listed():
    with pytest.raises(ConfigError, match=r"no column 'T'; did you mean 'model.T'\?"):
        fit({"model.T": [1.0], "y": [1.0]}, "y", "Power(T)")
    with pytest.raises(ConfigError, match=r"there are c0, .*, c19 and 10 more$"):
        fit({f"c{i}": [1.0] for i in range(30)}, "y", "Power(zz)")


def test_what_a_descent_left_beside_0_is_printed_as_0():
    x = np.geomspace(1, 100, 12)
    data = {"x": x, "loss": 3 * x**-0.5 * np.exp(0.01 * np.random.default_rng(0).normal(size=12))}
    made = fit(data, "loss", "PowerFloor(x)", draws=20)
    made["coefficients"].loc["E"] = 5.5e-27
    made["ci"].loc["E"] = [1.7e-26, 0.023]
    floor, amplitude, _ = rounded(made)
    assert (floor.value, floor.lower, floor.upper) == (0, 0, 0.023)
    assert amplitude.value == float(made["coefficients"].sel(param="A"))
    assert "- E = 0 [0, 0.023] (not identified): floor" in describe(made)
    assert not floor.held
    held = fit(data, "loss", "PowerFloor(x, E=0)", interval="none")
    assert [one.held for one in rounded(held)] == [True, False, False]
    assert "- A = 3" in describe(fit(data, "loss", "Power(x)", interval="none"))
    assert "y where x is 1" in describe(fit(data, "loss", "Power(x)", interval="none"))


def planted_curve() -> pd.DataFrame:
    x = np.geomspace(1, 64, 25)
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(25))
    return pd.DataFrame({"x": x, "loss": (0.5 + 2 * np.exp(-0.15 * x)) * noise})


def test_a_back_test_picks_the_law_that_was_planted():
    laws = {"exp": "TestTime(x)", "power": "Power(x)", "floor": "PowerFloor(x)"}
    tested = backtest(planted_curve(), "loss", laws, along="x")
    assert tested.attrs["selected"] == "exp"
    assert tested.score.sel(law="exp") < 0.25 * tested.score.sel(law="power")
    assert tested.weight.sum() == pytest.approx(1)
    assert tested.weight.sel(law="exp") > 0.9
    # a split predicts what lies beyond its own rows only
    for split, horizon in enumerate((1.5, 2.0, 3.0)):
        beyond = tested.along > 64 / horizon * (1 + 1e-9)
        predicted = np.isfinite(tested.prediction.sel(law="exp", split=split))
        np.testing.assert_array_equal(predicted, beyond)


def test_groups_are_left_out_one_by_one():
    rows = runs().assign(family=np.arange(40) % 4)
    tested = backtest(rows, "y", ["SumPower(N, D)", "PowerFloor(N)"], by="family")
    assert tested.sizes["split"] == 4
    assert np.isfinite(tested.prediction).sum() == 2 * 40
    assert tested.attrs["selected"] == "SumPower(N, D)"
    assert float(tested.score[0]) < 0.01 < float(tested.score[1])


def test_a_forecast_holds_what_comes_and_says_where_it_is_far():
    rows = planted_curve()
    seen, later = rows[rows.x <= 30], rows[rows.x > 30]
    laws = {"exp": "TestTime(x)", "floor": "PowerFloor(x)"}
    made = forecast(seen, "loss", {"x": [40.0, 50.0, 70.0]}, laws, along="x")
    assert made.weight.sel(law="exp") > 0.9
    np.testing.assert_array_equal(made.far, [0, 0, 1])
    expected = 0.5 + 2 * np.exp(-0.15 * np.array([40.0, 50.0, 70.0]))
    np.testing.assert_allclose(made.prediction, expected, rtol=0.01)
    assert np.isnan(made.band[2]).all()
    lower, upper = made.band[:2].values.T
    assert ((lower < expected[:2]) & (expected[:2] < upper)).all()
    assert len(later) > 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give either along= .* or by="),
        ({"along": "x", "by": "x"}, "give either along= .* or by="),
        ({"along": "x", "horizons": [0.5]}, "horizons: 0.5 is not above 1"),
        ({"along": "x", "horizons": [1e6]}, "no horizon of .* leaves 4 distinct values of x"),
        ({"by": "one"}, "one has one value only"),
    ],
)
def test_a_back_test_without_a_split_is_refused(asked: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        backtest(planted_curve().assign(one=1), "loss", ["Power(x)"], **asked)


@pytest.mark.parametrize("ask", [backtest, lambda *a, **k: forecast(a[0], a[1], a[0], a[2], **k)])
@pytest.mark.parametrize(
    ("at", "value", "residuals", "laws", "message"),
    [
        (3, 0.0, None, ["Power(x)"], "loss is 0 in row 3: residuals of ln y need values above 0"),
        (3, -1.0, "raw", ["Power(x)"], r"loss must lie in \[0, inf\], not -1 \(row 3\)"),
        (3, 0.0, None, ["Power(x)", "M4(x)"], "law m4 needs values above 0; drop such rows"),
        (3, 0.0, "raw", ["Power(x)", "M4(x)"], "loss is 0 in row 3: law m4 needs values above 0"),
        (slice(None), 0.0, None, ["Power(x)"], "every loss is 0, so there is nothing to predict"),
    ],
)  # fmt: skip
def test_a_back_test_refuses_what_a_fit_refuses(ask, at, value, residuals, laws, message):
    rows = planted_curve()
    rows.loc[rows.index[at], "loss"] = value
    with pytest.raises(ConfigError, match=message):
        ask(rows, "loss", laws, along="x", residuals=residuals)


def test_a_description_has_the_whole_recipe(made: xr.Dataset):
    text = describe(made)
    for part in (
        "SumPower(N, D)", "y = E + sum_k A_k x_k^-alpha_k", "arXiv 2203.15556", "40 rows",
        "delta = 0.001", "variable projection", "100% of them reached the best optimum",
        "cluster bootstrap", "40 clusters (row), 200 draws, seed 0", "- alpha_D = 0.3",
        "[x] Objective: huber", "[ ] Training set-up", "[x] Points: 40 rows, 40 distinct x",
        f"numpy {np.__version__}", "Status: converged",
    ):  # fmt: skip
        assert part in text, part


def test_a_fit_holds_what_its_attributes_say(made: xr.Dataset):
    assert made.sizes == {"param": 5, "param_2": 5, "bound": 2, "draw": 200, "row": 40} | {
        name: made.sizes[name] for name in ("start", "free")
    }
    np.testing.assert_allclose(
        made.residuals, np.log(made.fitted) - np.log(made.y), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(np.sqrt(np.diag(made.covariance)), made.stderr, rtol=1e-9)
    lower, upper = made.ci.values.T
    assert ((lower < made.coefficients) & (made.coefficients < upper)).all()
    assert ((lower < TRUTH) & (upper > TRUTH)).all()


def test_predictions_have_bands_and_flags(made: xr.Dataset):
    N, D = np.exp(18.5), np.exp(22.5)
    got = predict(made, {"N": [N, N, N, N * 1e4], "D": [D, D * 50, D / 1e4, D]})
    np.testing.assert_array_equal(got.far, [0, 1, 1, 1])
    where = {"N": np.full(1, N), "D": np.full(1, D)}
    exact = float(SumPower("N", "D").value(TRUTH, where)[0])
    assert float(got.prediction[0]) == pytest.approx(exact, rel=0.005)
    lower, upper = got.band[0].values
    assert lower <= exact <= upper
    widths = np.diff(got.band.values)[:, 0] / got.prediction.values
    assert widths[2] > widths[0]
    with pytest.raises(ConfigError, match="no column 'D'"):
        predict(made, {"N": [N]})


def test_a_saved_fit_predicts_the_same(made: xr.Dataset, tmp_path: Path):
    made.to_netcdf(tmp_path / "fit.nc")
    again = xr.load_dataset(tmp_path / "fit.nc", engine="netcdf4")
    assert again.identical(made)
    where = {"N": [1e8, 1e9], "D": [1e10, 1e11]}
    assert predict(again, where).identical(predict(made, where))
    assert law_of(again) == SumPower("N", "D")
    assert describe(again) == describe(made)
    held = fit(runs(), "y", SumPower("N", "D").hold(E=1.7), interval="none")
    held.to_netcdf(tmp_path / "held.nc")
    assert law_of(xr.load_dataset(tmp_path / "held.nc")) == SumPower("N", "D").hold(E=1.7)
    with pytest.raises(ConfigError, match="not a fit of trm_lab: no coefficients, y, weights"):
        predict(xr.Dataset(), where)


def test_a_suggested_run_narrows_the_interval_more_than_others(made: xr.Dataset):
    rng = np.random.default_rng(5)
    cells = pd.DataFrame({
        "N": np.exp(rng.uniform(16, 21, 30)), "D": np.exp(rng.uniform(20, 25, 30)),
    })  # fmt: skip
    picked = suggest_runs(made, "alpha_N", cells, count=3)
    assert (np.diff(picked.width.values) < 0).all()
    assert float(picked.width[0]) < 1

    def width(cell: dict[str, float]) -> float:
        where = {name: np.full(4, value) for name, value in cell.items()}
        new = pd.DataFrame(where).assign(y=SumPower("N", "D").value(TRUTH, where))
        more = pd.concat([runs(), new], ignore_index=True)
        found = fit(
            more, "y", "SumPower(N, D)", cluster="row", objective="least_squares",
            interval="wald",
        )  # fmt: skip
        return float(np.diff(found.ci.sel(param="alpha_N"))[0])

    best = width({name: float(picked[name][0]) for name in ("N", "D")})
    others = [width(dict(cells.iloc[i])) for i in range(0, 30, 3)]
    assert best < np.median(others)
    assert best <= min(others) * 1.02
    for message, asked in {"did you mean 'alpha_N'": "alpha_M", "no parameter": "phi"}.items():
        with pytest.raises(ConfigError, match=message):
            suggest_runs(made, asked)


def test_a_design_without_estimates_is_refused_with_the_reason():
    made = fit({"x": [1.0, 1.0, 1.0], "y": [1.0, 1.1, 0.9]}, "y", "PowerFloor(x)", cluster="row")
    for ask in (design_report, lambda made: suggest_runs(made, "alpha")):
        with pytest.raises(ConfigError, match="the fit has no estimates: "):
            ask(made)


def test_a_design_report_names_what_cannot_be_told_apart(made: xr.Dataset):
    good = design_report(made)
    assert good.attrs["separable"] == 1
    assert good.attrs["advice"] == ""
    assert (good.inflation >= 1).all()
    N = np.geomspace(1e7, 1e10, 20)
    bad = pd.DataFrame({"N": N, "D": 20 * N})
    bad["y"] = 1.7 + 400 * bad.N**-0.34 + 1800 * bad.D**-0.36
    report = design_report(fit(bad, "y", "SumPower(N, D)", interval="none"))
    assert report.attrs["separable"] == 0
    assert report.attrs["collinear"] == "N, D"
    assert "N and D cannot be separated by these rows; add" in report.attrs["advice"]
    assert "for example N = 1e+07, D = 2e+11" in report.attrs["advice"]


def test_influence_is_that_of_refits_without_each_cluster():
    rows = runs(20).assign(batch=np.arange(20) // 2)
    made = fit(rows, "y", "SumPower(N, D)", cluster="batch", interval="none")
    found = influence(made)
    assert found["shift"].shape == (10, 5)
    for batch in (0, 4, 9):
        rest = fit(
            rows[rows.batch != batch], "y", "SumPower(N, D)", cluster="batch", interval="none"
        )
        shift = found["shift"].sel(left_out=str(batch))
        expected = (rest.coefficients - made.coefficients).values
        np.testing.assert_allclose(shift, expected, rtol=1e-3, atol=1e-6)


def test_influence_on_chinchilla_has_the_measured_jackknife(shared: Path):
    made = fit(
        chinchilla(shared / "data" / "scaling"), "L", "SumPower(N, D)", cluster="row",
        interval="none",
    )  # fmt: skip
    stderr = influence(made).jackknife_stderr.sel(param=["alpha_N", "alpha_D"])
    np.testing.assert_allclose(stderr, [0.0226, 0.0163], rtol=0.01)


def test_a_description_names_weights_groups_and_the_likelihood():
    rows = runs().assign(arm=lambda t: np.where(t.index % 2, "a", "b"), w=2.0)
    made = fit(rows, "y", "SumPower(N, D, E=1.7)", weights="w", by="arm", share=["alpha_N"],
               objective="least_squares", interval="none")  # fmt: skip
    text = describe(made)
    assert "y of 40 rows by arm (parameters: alpha_N in common, all others once per arm)" in text
    assert "minimising the sum of squared residuals, rows weighted by w; residuals are" in text
    assert "residuals of the logarithm, weights w\n" in text
    assert "- [x] Parameters held: E=1.7\n" in text
    assert made.attrs["weights_name"] == rows_of(made).weights_name == "w"
    assert law_of(made) == SumPower("N", "D").hold(E=1.7)
    alone = fit(rows, "y", "Power(N)", by="arm", objective="student_t", interval="none")
    assert "by arm (parameters: all once per arm)" in describe(alone)
    assert "minimising the negative log likelihood of Student's t" in describe(alone)
    assert "weight" not in describe(alone)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_description_of_nothing_claims_nothing(rows: int):
    made = fit(runs()[:rows], "y", "SumPower(N, D)")
    text = describe(made)
    assert "nan" not in text
    assert "descended" not in text
    assert text.startswith("We could not fit SumPower(N, D)")
    assert f"There are no estimates. Status: {made.attrs['status']}" in text
    for item in ("Optimiser and starts", "Value at the optimum", "Identifiability"):
        assert f"- [ ] {item}: to be filled in: no estimates" in text


def test_a_law_that_breaks_at_the_last_points_has_no_say_in_a_forecast():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 1e3, 31)
    y = 0.95 * x ** (-1 / 3) * np.exp(0.002 * rng.standard_normal(31))
    y[-2:] *= 0.93, 1.05  # outliers
    made = forecast({"x": x, "y": y}, "y", {"x": [2e3, 1e4, 1e6]})
    scores = made.score.values
    assert scores[-1] < 1.1 * scores.min()  # in back-tests the broken law was as good as others
    assert made.by_law.sel(law="bnsl").values[2] > 10
    np.testing.assert_allclose(made.weight, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.02)
    assert (np.diff(made.prediction) < 0).all()
    np.testing.assert_allclose(made.prediction[:2], 0.95 * made.x[:2] ** (-1 / 3), rtol=0.06)
