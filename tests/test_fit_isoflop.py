"""The best size at a budget: exact from the surface, biased from parabolas."""

import numpy as np
import pytest

from trm_lab.errors import ConfigError
from trm_lab.fit import fit, isoflop
from trm_lab.laws import SumPower

E, A, B = 1.69, 406.4, 410.7
BUDGETS = np.geomspace(1e17, 1e21, 5)


def planted(alpha: float, beta: float, wide: float = 16.0):
    """15 sizes at each of 5 budgets, `wide` times to both sides of the optimum; no noise."""
    a = beta / (alpha + beta)
    gain = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    C = np.repeat(BUDGETS, 15)
    N = gain * (C / 6) ** a * np.tile(np.geomspace(1 / wide, wide, 15), 5)
    rows = {"N": N, "D": C / 6 / N, "C": C}
    rows["loss"] = SumPower("N", "D").value(np.array([E, A, B, alpha, beta]), rows)
    return rows, a, np.log10(gain)


@pytest.mark.parametrize(
    ("alpha", "beta", "true", "biased"),
    [(0.34, 0.28, -0.5554, -0.5781), (0.465, 0.155, -1.3458, -1.4600), (0.31, 0.31, -0.3817, None)],
)
def test_parabolas_are_biased_without_noise_and_the_surface_is_not(alpha, beta, true, biased):
    """Published for such surfaces: -0.5779 against -0.5554 and -1.459 against -1.346."""
    rows, a, log_gain = planted(alpha, beta)
    found = isoflop(rows, "C", "D", y="loss", law="SumPower(N, D)", cluster="row", interval="none")
    exact = -log_gain - (1 - a) * np.log10(6)
    assert exact == pytest.approx(true, abs=5e-5)
    surface, parabola = (found.sel(optimum=name) for name in ("surface", "parabola"))
    assert float(surface["intercept"]) == pytest.approx(exact, abs=1e-6)
    assert float(surface["exponent"]) == pytest.approx(1 - a, abs=1e-7)
    assert float(parabola["exponent"]) == pytest.approx(1 - a, abs=1e-7)
    assert float(parabola["intercept"]) == pytest.approx(biased or exact, abs=5e-5)
    assert found["surface"].values == pytest.approx(10**exact * BUDGETS ** (1 - a), rel=1e-6)


def test_the_optimum_of_a_fit_has_an_interval_that_holds_it():
    rows, a, log_gain = planted(0.34, 0.28)
    rows["loss"] = rows["loss"] * np.exp(0.003 * np.random.default_rng(1).standard_normal(75))
    made = fit(rows, "loss", "SumPower(N, D)", cluster="row", draws=60)
    found = isoflop(made.assign(C=("row", rows["C"])), "C", "N")
    lower, upper = found["surface_ci"].values.T
    truth = 10**log_gain * (BUDGETS / 6) ** a
    assert ((lower < found["surface"].values) & (found["surface"].values < upper)).all()
    assert ((lower < truth) & (truth < upper)).sum() >= 4
    assert (upper / lower).max() < 1.5
    assert found.attrs["budget_name"] == "C"
    same = isoflop(made, rows["C"], "N")
    assert same["surface"].values == pytest.approx(found["surface"].values, rel=1e-12)


def test_an_optimum_outside_the_rows_is_none():
    rows, _, _ = planted(0.34, 0.28)
    small = {name: values[np.tile(np.arange(15) < 6, 5)] for name, values in rows.items()}
    found = isoflop(small, "C", "N", y="loss", law="SumPower(N, D)", cluster="row", interval="none")
    assert np.isnan(found["surface"].values).all()
    assert np.isnan(found["exponent"].sel(optimum="surface"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"along": "M"}, "the law reads no 'M'"),
        ({"budget": "F"}, "no column 'F'"),
        ({"budget": np.arange(75.0)}, "above 0"),
        ({"budget": np.arange(1, 76.0)}, "fewer than 3 different N"),
        ({"budget": np.ones(3)}, r"\(3,\) values for 75 rows"),
        ({"law": None}, "rows need y= and law="),
    ],
)
def test_what_does_not_fit_is_refused(change, text):
    rows, _, _ = planted(0.34, 0.28)
    given = {"budget": "C", "along": "N", "y": "loss", "law": "SumPower(N, D)", "cluster": "row"}
    with pytest.raises(ConfigError, match=text):
        isoflop(rows, **{**given, "interval": "none", **change})


def test_a_fit_names_the_way_to_give_it_a_budget():
    rows, _, _ = planted(0.34, 0.28)
    made = fit(rows, "loss", "SumPower(N, D)", cluster="row", interval="none")
    with pytest.raises(ConfigError, match=r"made\.assign\(C="):
        isoflop(made, "C", "N")
