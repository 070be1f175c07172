"""Figures of fits: what stands where, not what it looks like."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from trm_lab.errors import ConfigError
from trm_lab.fit import backtest as held_out
from trm_lab.fit import fit, forecast, predict
from trm_lab.fit import isoflop as best_sizes
from trm_lab.fit import sensitivity as other_choices
from trm_lab.laws import SumPower
from trm_lab.plots import (
    agreement,
    backtest,
    captions,
    isoflop,
    law,
    parameter_pairs,
    residuals,
    sensitivity,
    style,
)
from trm_lab.plots.fitted import tidy


@pytest.fixture(scope="module")
def grid():
    """3 sizes x 4 amounts of data, 1 % noise."""
    sizes, tokens = [1e6, 1e7, 1e8], [1e8, 1e9, 1e10, 1e11]
    N, D = (a.ravel() for a in np.meshgrid(sizes, tokens, indexing="ij"))
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(12))
    y = SumPower("N", "D").value(np.array([1.7, 60, 900, 0.3, 0.35]), {"N": N, "D": D}) * noise
    return pd.DataFrame({"N": N, "D": D, "cell": np.arange(12) // 2, "loss": y})


@pytest.fixture(scope="module")
def surface(grid):
    return fit(grid, "loss", "SumPower(N, D)", cluster="cell", draws=40, delta=0.02)


@pytest.fixture(scope="module")
def curve():
    x = np.geomspace(10, 1e4, 12)
    y = (0.5 + 3 * x**-0.5) * np.exp(0.01 * np.random.default_rng(1).standard_normal(12))
    return {"x": x, "y": y}


@pytest.fixture(scope="module")
def made(curve):
    return fit(curve, "y", "PowerFloor(x)", objective="least_squares", draws=40)


@pytest.fixture(scope="module")
def tested(curve):
    return held_out(curve, "y", ["PowerFloor(x)", "Power(x)"], along="x", horizons=(2, 5, 20))


@pytest.fixture(scope="module")
def arms():
    rng = np.random.default_rng(2)
    rows = [
        {"arm": arm, "seed": seed, "T": T, "acc": top - 0.6 * np.exp(-T / 3) + rng.normal(0, 0.01)}
        for arm, top in (("TRM", 0.9), ("HRM", 0.8))
        for seed in range(3)
        for T in (1.0, 2.0, 4.0, 8.0)
    ]
    frame = pd.DataFrame(rows)
    return fit(frame, "acc", "Saturating(T)", by="arm", share=["tau"], cluster="seed", draws=20)


def lines(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


def data(ax):
    return [line for line in ax.get_lines() if str(line.get_label()).startswith("_data")]


def band(ax, label="_band"):
    """Lowest and highest y of every x of a filled band."""
    (found,) = (c for c in ax.collections if c.get_label() == label)
    path = found.get_paths()[0].vertices
    x = np.unique(path[:, 0])
    ends = [path[np.isclose(path[:, 0], one), 1] for one in x]
    return x, np.array([(one.min(), one.max()) for one in ends])


def test_a_power_law_stands_on_two_logarithmic_axes_with_its_floor(made, curve):
    ax = law.draw(made)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (points,) = data(ax)
    assert points.get_xydata() == pytest.approx(np.stack([curve["x"], curve["y"]], -1))
    (line,) = lines(ax, "_curve")
    assert line.get_xdata() == pytest.approx(made["grid_x"].values)
    assert line.get_ydata() == pytest.approx(made["curve"].values)
    (floor,) = lines(ax, "_floor")
    assert floor.get_ydata()[0] == pytest.approx(made["coefficients"].sel(param="E"))
    x, ends = band(ax)
    assert x == pytest.approx(made["grid_x"].values)
    assert ends == pytest.approx(made["band"].values)


def test_a_floor_that_is_not_identified_is_not_drawn(made):
    other = made.copy()
    other.attrs["floor_not_identified"] = "E"
    assert lines(law.draw(other), "_floor") == []


def test_several_columns_give_a_curve_for_each_value_of_the_others(surface, grid):
    ax = law.draw(surface, x="D")
    curves = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in curves] == ["N = 1e+06", "N = 1e+07", "N = 1e+08"]
    for line, N in zip(curves, (1e6, 1e7, 1e8), strict=True):
        D = np.asarray(line.get_xdata())
        assert (D.min(), D.max()) == pytest.approx((1e8, 1e11))
        expected = predict(surface, {"N": np.full(len(D), N), "D": D})["prediction"]
        assert line.get_ydata() == pytest.approx(expected.values)
    shown = np.concatenate([line.get_xydata() for line in data(ax)])
    assert shown == pytest.approx(grid[["D", "loss"]].to_numpy())
    colors = [to_hex(line.get_color()) for line in curves]
    assert colors == [style.shade("#0072B2", i, 3) for i in range(3)]


def test_of_many_values_of_the_others_a_few_curves_are_picked(surface):
    wide = surface.isel(row=np.tile(np.arange(12), 2)).copy()
    wide["N"] = ("row", np.geomspace(1e6, 1e8, 24))
    ax = law.draw(wide, x="D")
    curves = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    assert len(curves) == law.MOST_CURVES
    assert len(data(ax)) == 24
    assert curves[0].get_label() == "N = 1e+06"
    assert curves[-1].get_label() == "N = 1e+08"


def test_groups_have_their_looks_and_linear_axes_where_the_law_is_no_power(arms):
    ax = law.draw(arms)
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")
    looks = style.looks(["HRM", "TRM"])
    for group in ("HRM", "TRM"):
        (line,) = lines(ax, group)
        assert to_hex(line.get_color()) == looks[group].color.lower()
        c, a, tau = (
            float(arms["coefficients"].sel(param=name))
            for name in (f"c[{group}]", f"a[{group}]", "tau")
        )
        T = np.asarray(line.get_xdata())
        assert line.get_ydata() == pytest.approx(c - a * np.exp(-T / tau))
    assert ax.get_legend().get_title().get_text() == "arm"


def test_a_forecast_adds_its_prediction_and_back_tested_band(made, curve):
    there = np.geomspace(1.1e4, 1.9e4, 5)
    ahead = forecast(curve, "y", {"x": there}, ["PowerFloor(x)", "Power(x)"])
    ax = law.draw(made, tested=ahead)
    (line,) = lines(ax, "_forecast")
    assert line.get_xydata() == pytest.approx(np.stack([there, ahead["prediction"].values], -1))
    x, ends = band(ax, "_back-tested band")
    assert x == pytest.approx(there)
    assert ends == pytest.approx(ahead["band"].values)


def test_a_back_test_extends_the_curve_by_the_errors_of_its_own_law(made, tested):
    ax = law.draw(made, tested=tested)
    errors = np.abs(tested["error"].sel(law="PowerFloor(x)").values)
    half = np.quantile(errors[np.isfinite(errors)], 0.95)
    (line,) = lines(ax, "_forecast")
    x = np.asarray(line.get_xdata())
    assert (x.min(), x.max()) == pytest.approx((1e4, 2e4))
    middle = predict(made, {"x": x})["prediction"].values
    assert line.get_ydata() == pytest.approx(middle)
    _, ends = band(ax, "_back-tested band")
    assert ends == pytest.approx(middle[:, None] * np.exp([-half, half]))


def test_what_a_law_does_not_read_is_refused(made, surface, tested, curve):
    with pytest.raises(ConfigError, match="reads N, D, not 'T'"):
        law.draw(surface, x="T")
    with pytest.raises(ConfigError, match="along D"):
        law.draw(surface, x="D", tested=tested)
    by = held_out({**curve, "g": np.arange(12) % 3}, "y", ["Power(x)"], by="g")
    with pytest.raises(ConfigError, match="along x"):
        law.draw(made, tested=by)


def test_rows_that_were_not_fitted_are_still_drawn():
    rows = {"x": [1.0, 1.0], "y": [0.5, 0.6]}
    ax = law.draw(fit(rows, "y", "PowerFloor(x)", cluster="row"))
    assert len(data(ax)) == 1
    assert lines(ax, "_curve") == []


def test_residuals_stand_against_every_column_with_a_line_at_0(surface):
    axes = residuals.panels(surface)
    assert [ax.get_xlabel() for ax in axes] == ["N", "D", "cell"]
    for ax, name in zip(axes, ("N", "D"), strict=False):
        (points,) = lines(ax, "_residuals")
        assert points.get_xdata() == pytest.approx(surface[name].values)
        assert points.get_ydata() == pytest.approx(surface["residuals"].values)
        assert lines(ax, "_zero")[0].get_ydata() == [0.0, 0.0]
        assert ax.get_xscale() == "log"


def test_residuals_by_group_and_cluster_have_a_place_and_a_median_per_name(arms):
    assert residuals.places(arms) == ["T", "group", "cluster"]
    group, cluster = residuals.panels(arms)[1:]
    for ax, along, names in ((group, "group", ["HRM", "TRM"]), (cluster, "cluster", list("012"))):
        assert [text.get_text() for text in ax.get_xticklabels()] == names
        labels = arms[along].values.astype(str)
        (points,) = lines(ax, "_residuals")
        assert [names[int(at)] for at in points.get_xdata()] == list(labels)
        middle = [np.median(arms["residuals"].values[labels == name]) for name in names]
        assert lines(ax, "_median")[0].get_ydata() == pytest.approx(middle)
    assert group.get_xlabel() == "arm"
    with pytest.raises(ConfigError, match="not 'D'"):
        residuals.draw(arms, along="D")


def test_agreement_sorts_what_starts_reached_relative_to_the_best(made):
    other = made.drop_vars(["start_objective", "start_params"]).assign(
        start_objective=("start", [3.0, 2.0, 2.0 * (1 + 1e-9), 2.0])
    )
    other.attrs |= {"objective_value": 2.0, "agreement": 0.75}
    assert agreement.excesses(other) == pytest.approx([0, 0, 1e-9, 0.5], abs=1e-15)
    ax = agreement.draw(other)
    (points,) = lines(ax, "_starts")
    assert points.get_xdata() == pytest.approx([1, 2, 3, 4])
    assert points.get_ydata() == pytest.approx([1e-12, 1e-12, 1e-9, 0.5])
    assert lines(ax, "_same optimum")[0].get_ydata()[0] == 1e-6
    assert ax.get_title(loc="left") == "75% of 4 starts agree"


def test_agreement_of_nothing_says_why():
    none = fit({"x": [1.0, 1.0], "y": [0.5, 0.6]}, "y", "PowerFloor(x)", cluster="row")
    assert "1 distinct x" in agreement.draw(none).texts[0].get_text()


def test_draws_stand_pair_by_pair_with_amplitudes_on_logarithmic_axes(surface):
    axes = parameter_pairs.panels(surface)
    names = [str(name) for name in surface["param"].values]
    assert axes.shape == (5, 5)
    at = {name: i for i, name in enumerate(names)}
    ridge = axes[at["alpha_N"], at["A_N"]]
    good = surface["draws"].values[np.isfinite(surface["draws"].values).all(axis=1)]
    expected = good[:, [at["A_N"], at["alpha_N"]]]
    assert lines(ridge, "_draws")[0].get_xydata() == pytest.approx(expected)
    assert (ridge.get_xscale(), ridge.get_yscale()) == ("log", "linear")
    estimate = surface["coefficients"].sel(param=["A_N", "alpha_N"]).values
    assert lines(ridge, "_estimate")[0].get_xydata()[0] == pytest.approx(estimate)
    assert not axes[0, 1].get_visible()
    ends = [line.get_xdata()[0] for line in lines(axes[4, 4], "_interval")]
    assert ends == pytest.approx(surface["ci"].sel(param="alpha_D").values)


def test_pairs_leave_out_what_was_held_and_need_draws(curve):
    held = fit(curve, "y", "PowerFloor(x, E=0.5)", draws=10)
    assert parameter_pairs.panels(held).shape == (2, 2)
    none = fit(curve, "y", "PowerFloor(x)", interval="none")
    with pytest.raises(ConfigError, match="no draws"):
        parameter_pairs.draw(none, "A", "alpha")
    with pytest.raises(ConfigError, match="no parameter 'beta'"):
        parameter_pairs.draw(held, "A", "beta")
    zero = fit({**curve, "y": 0 * curve["y"]}, "y", "PowerFloor(x)", draws=10)
    with pytest.raises(ConfigError, match="the fit has no estimates: nothing to fit: every y is 0"):
        parameter_pairs.draw(zero, "A", "alpha")


def test_the_fan_shows_what_every_split_said_of_the_rest(tested, curve):
    ax = backtest.draw(tested, law="Power(x)")
    assert lines(ax, "_data")[0].get_ydata() == pytest.approx(curve["y"])
    cuts = sorted(float(line.get_xdata()[0]) for line in lines(ax, "_cut"))
    x = curve["x"]
    assert cuts == pytest.approx(sorted(x[x <= 1e4 / h].max() for h in (2, 5, 20)))
    for j, h in enumerate((2, 5, 20)):
        held = x > 1e4 / h
        (line,) = lines(ax, f"to {x[~held].max():.3g}")
        assert line.get_xdata() == pytest.approx(x[held])
        expected = tested["prediction"].sel(law="Power(x)", split=j).values[held]
        assert line.get_ydata() == pytest.approx(expected)


def test_the_stack_s_fan_is_the_weighted_combination(tested):
    made = backtest.predictions(tested)
    weights = tested["weight"].values
    logs = np.tensordot(weights, np.log(tested["prediction"].values), axes=1)
    held = np.isfinite(logs)
    assert made[held] == pytest.approx(np.exp(logs[held]))
    with pytest.raises(ConfigError, match="no law 'M3'"):
        backtest.draw(tested, law="M3")


def test_back_tests_by_group_stand_against_the_data(curve):
    by = held_out({**curve, "g": np.arange(12) % 3}, "y", {"p": "Power(x)"}, by="g")
    ax = backtest.draw(by, law="p")
    right = lines(ax, "_right")[0].get_xydata()
    assert right[:, 0] == pytest.approx(right[:, 1])
    for j in range(3):
        (points,) = lines(ax, f"_split {j}")
        shown = np.isfinite(points.get_ydata())
        assert np.asarray(points.get_xdata())[shown] == pytest.approx(curve["y"][j::3])
        assert np.asarray(points.get_ydata())[shown] == pytest.approx(
            by["prediction"].values[0, j, j::3]
        )


def test_both_optima_of_a_budget_are_marked():
    C = np.repeat([1e18, 1e20], 9)
    N = np.sqrt(C / 6) / 3 * np.tile(np.geomspace(0.02, 5, 9), 2)
    rows = {"N": N, "D": C / 6 / N, "C": C}
    rows["loss"] = SumPower("N", "D").value(np.array([1.69, 406.4, 410.7, 0.34, 0.28]), rows)
    found = best_sizes(
        rows, "C", "N", y="loss", law="SumPower(N, D)", cluster="row", interval="none"
    )
    curves, optima = isoflop.panels(found)
    for name in ("surface", "parabola"):
        marks = [float(line.get_xdata()[0]) for line in lines(curves, f"_{name} optimum")]
        assert marks == pytest.approx(found[name].values)
        (line,) = lines(optima, f"_{name} line")
        assert line.get_ydata() == pytest.approx(found[name].values)
    gain = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
    assert found["surface"].values == pytest.approx(
        gain * (np.array([1e18, 1e20]) / 6) ** (28 / 62)
    )
    assert (found["parabola"].values > 1.02 * found["surface"].values).all()


def test_the_strip_has_a_row_per_case_and_the_interval_as_a_band(surface):
    changed = other_choices(surface, drop=(1,), deltas=(1e-3,), along="N", windows=(0.4,))
    axes = sensitivity.panels(surface, changed, ["alpha_N", "A_N"])
    ax = axes[0]
    (points,) = lines(ax, "_cases")
    assert points.get_xdata() == pytest.approx(
        changed["coefficients"].sel(param="alpha_N").values, nan_ok=True
    )
    assert list(points.get_ydata()) == list(range(changed.sizes["case"]))
    assert [text.get_text() for text in ax.get_yticklabels()] == list(changed["case"].values)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    (span,) = ax.patches
    ends = surface["ci"].sel(param="alpha_N").values
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx(tuple(ends))
    with pytest.raises(ConfigError, match="no parameter 'beta'"):
        sensitivity.draw(surface, changed, "beta")


def test_figures_keep_the_caller_s_settings(made):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    law.draw(made)
    residuals.panels(made)
    assert dict(mpl.rcParams) == before


@pytest.fixture(scope="module")
def crowd():
    """Three groups with long names x 3 sizes x 3 amounts of data."""
    names = ["TRM", "HRM with the gradient of one step only", "direct prediction, twelve heads"]
    law, rng = SumPower("N", "D"), np.random.default_rng(5)
    rows = pd.DataFrame(
        [(arm, N, D) for arm in names for N in (1e6, 1e7, 1e8) for D in (1e8, 1e9, 1e10)],
        columns=["arm", "N", "D"],
    )
    X = {"N": rows.N.to_numpy(), "D": rows.D.to_numpy()}
    rows["loss"] = law.value(np.array([1.7, 60, 900, 0.3, 0.35]), X) * np.exp(
        0.01 * rng.standard_normal(len(rows))
    )
    share = ["E", "alpha_N", "alpha_D"]
    return fit(rows, "loss", law, by="arm", share=share, cluster=["N", "D"], draws=20)


def words(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_wide_band_does_not_set_the_y_axis(made, curve):
    wide = made.copy(deep=True)
    wide["draws"].loc[{"param": "A"}] = wide["draws"].sel(param="A") * np.geomspace(1e-9, 1e9, 40)
    ax = law.draw(wide)
    assert band(ax)[1].max() > 1e3
    floor = float(made["coefficients"].sel(param="E"))
    low = np.log(floor)
    high = np.log(max(curve["y"].max(), float(made["curve"].max())))
    more = 0.25 * (high - low)
    under = min(low, max(np.log(band(ax)[1].min()), low - more))
    margin = 0.05 * (high + more - under)
    assert np.log(ax.get_ylim()) == pytest.approx([under - margin, high + more + margin])


def test_a_legend_names_both_bands_and_the_floor(made, tested, curve):
    expected = ["95 % band of the curve", "95 % back-tested band", "floor"]
    assert words(law.draw(made, tested=tested)) == expected
    there = np.geomspace(1.1e4, 1.9e4, 3)
    ahead = forecast(curve, "y", {"x": there}, ["PowerFloor(x)"], level=0.8)
    assert words(law.draw(made, tested=ahead))[1] == "80 % back-tested band"
    none = fit(curve, "y", "PowerFloor(x)", interval="none")
    assert words(law.draw(none)) == ["floor"]


def test_crossed_groups_and_values_stand_beside_the_axes_one_after_the_other(crowd):
    ax = law.draw(crowd)
    assert words(ax)[:6] == [
        "HRM with the gradient of\none step only",
        "TRM",
        "direct prediction, twelve\nheads",
        "D = 1e+08",
        "D = 1e+09",
        "D = 1e+10",
    ]
    ax.figure.draw_without_rendering()
    assert ax.bbox.width / ax.figure.dpi > 2.3  # inches, of the 3.3 without a legend
    assert ax.get_legend().get_window_extent().x0 >= ax.bbox.x1


def test_a_logarithmic_axis_is_numbered_at_few_round_values():
    for limits, most, expected in (
        ((5e6, 3e8), 3, ["$10^{7}$", "$10^{8}$"]),
        ((260, 7000), 3, ["300", "1000", "3000"]),
        ((8e7, 6e8), 4, ["$10^{8}$", "$2\\times 10^{8}$", "$5\\times 10^{8}$"]),
        ((2.1, 3.4), 4, ["2.4", "2.8", "3.2"]),
    ):
        ax = style.axes(None)
        ax.set(xscale="log", xlim=limits)
        tidy(ax, most)
        ax.figure.draw_without_rendering()
        shown = [
            tick.label1.get_text()
            for tick in (*ax.xaxis.get_major_ticks(), *ax.xaxis.get_minor_ticks())
            if tick.label1.get_text() and limits[0] <= tick.get_loc() <= limits[1]
        ]
        assert shown == expected


def test_panels_fill_rows_no_wider_than_a_page(crowd):
    changed = other_choices(crowd)
    for axes, down in ((residuals.panels(crowd), 2), (sensitivity.panels(crowd, changed), 3)):
        assert axes[0].figure.get_figwidth() <= style.WIDE
        assert axes[0].get_subplotspec().get_gridspec().nrows == down
    assert axes[1].get_xlabel() == "A_N[HRM with the\ngradient of one\nstep only]"


def test_a_caption_of_a_fit_gives_law_n_and_bands(made, arms, tested, curve):
    text = captions.fitted(made, tested)
    assert text == (
        f"power_floor law, {made.attrs['formula']}, 12 rows, converged; band: 95 % cluster "
        "bootstrap, expanded percentile over rows; grey band beyond the data: 95 % of the "
        "back-tested errors" + "; descriptive" * made.attrs["descriptive"]
    )
    assert "24 rows by arm with tau in common, " in captions.fitted(arms)
    assert "percentile over 3 clusters (seed); descriptive" in captions.fitted(arms)
    none = fit(curve, "y", "PowerFloor(x)", interval="none")
    assert "; no band; 12 clusters (row)" in captions.fitted(none)
    assert captions.headed("a", arms) == "a   n = 24, 3 clusters (seed), bootstrap band"


@pytest.mark.slow
def test_long_names_are_legible(crowd, legible):
    changed = other_choices(crowd)
    legible(law.draw(crowd).figure)
    legible(parameter_pairs.panels(crowd)[0, 0].figure)
    legible(residuals.panels(crowd)[0].figure)
    legible(sensitivity.panels(crowd, changed)[0].figure)


@pytest.mark.slow
def test_texts_are_legible(surface, made, arms, tested, legible):
    for ax in (law.draw(surface, x="D"), law.draw(made, tested=tested), law.draw(arms)):
        legible(ax.figure)
    for axes in (residuals.panels(arms), [backtest.draw(tested)], [agreement.draw(made)]):
        legible(axes[0].figure)
