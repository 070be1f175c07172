"""Least squares of logarithms against lmfit and iminuit."""

from pathlib import Path

import numpy as np
import pytest
from published import chinchilla

from trm_lab.fit import fit
from trm_lab.laws import Law, PowerFloor, SumPower

lmfit = pytest.importorskip("lmfit", reason="lmfit comes with the dev extra")
iminuit = pytest.importorskip("iminuit", reason="iminuit comes with the dev extra")


def curve() -> tuple[Law, dict[str, np.ndarray]]:
    x = np.geomspace(1e3, 1e7, 40)
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(40))
    return PowerFloor("x"), {"x": x, "y": (1.5 + 30 * x**-0.4) * noise}


def runs(shared: Path) -> tuple[Law, dict[str, np.ndarray]]:
    rows = chinchilla(shared / "data" / "scaling")
    return SumPower("N", "D"), {
        "N": rows.N.to_numpy(),
        "D": rows.D.to_numpy(),
        "y": rows.L.to_numpy(),
    }


def compare(law: Law, data: dict[str, np.ndarray]) -> None:
    ours = fit(
        data, "y", law, cluster=np.arange(len(data["y"])) // 2, objective="least_squares",
        interval="none",
    )  # fmt: skip
    best = ours.coefficients.values
    # amplitudes by their logarithm: both optimisers stall on numbers of such different sizes
    amplitudes = np.array([name.startswith("A") for name in law.names])

    def own(at: np.ndarray) -> np.ndarray:
        return np.where(amplitudes, np.exp(np.where(amplitudes, at, 0.0)), at)

    def residuals(at: np.ndarray) -> np.ndarray:
        return 1e3 * (np.log(law.value(own(at), data)) - np.log(data["y"]))

    def slopes(at: np.ndarray) -> np.ndarray:
        params = own(at)
        bent = law.jacobian(params, data) / law.value(params, data)[:, None]
        return 1e3 * bent * np.where(amplitudes, params, 1.0)

    def given(params) -> np.ndarray:
        return np.array([params[name].value for name in law.names])

    start = np.where(amplitudes, np.log(np.where(amplitudes, best, 1.0)), best) * 1.03
    params = lmfit.Parameters()
    for name, value in zip(law.names, start, strict=True):
        params.add(name, value=value)
    theirs = lmfit.minimize(
        lambda p: residuals(given(p)), params, Dfun=lambda p: slopes(given(p)),
        xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=20_000,
    )  # fmt: skip
    np.testing.assert_allclose(best, own(given(theirs.params)), rtol=1e-6)

    minuit = iminuit.Minuit(
        lambda at: float((residuals(at) ** 2).sum()), start,
        grad=lambda at: 2 * slopes(np.asarray(at)).T @ residuals(np.asarray(at)),
    )  # fmt: skip
    minuit.errordef, minuit.strategy, minuit.tol = 1.0, 2, 1e-6
    for _ in range(5):
        minuit.migrad(ncall=50_000)
    np.testing.assert_allclose(best, own(np.array(minuit.values)), rtol=1e-6)
    assert ours.attrs["objective_value"] <= minuit.fval / 1e6 * (1 + 1e-9)


def test_a_power_curve_is_that_of_lmfit_and_iminuit():
    compare(*curve())


def test_chinchillas_runs_are_those_of_lmfit_and_iminuit(shared: Path):
    law, data = runs(shared)
    compare(law, data)
    found = fit(
        data, "y", law, cluster=np.arange(240) // 2, objective="least_squares", interval="none"
    )
    expected = [1.8645, 593.3, 4875.6, 0.3603, 0.4059]
    np.testing.assert_allclose(found.coefficients, expected, rtol=2e-4)
