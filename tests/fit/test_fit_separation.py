"""Which parameters the design of the runs tells apart, and which runs would tell more."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from published import looped_design

from trm_lab.fit import design_report, fit, suggest_runs
from trm_lab.laws import EffectiveN, Law, SumPower
from trm_lab.laws import law as law_named

NETS = {
    "once": np.tile(np.geomspace(1e5, 1e7, 6), 5), "rec": np.tile(np.geomspace(2e7, 3e5, 6), 5),
    "n": np.repeat([1.0, 2, 3, 5, 7], 6),
}  # fmt: skip
RECURRENT = law_named("PowerFloor(EffectiveN(once, rec, n=n, T=T))")


def recurrent(
    data: dict[str, np.ndarray], law: Law = RECURRENT, seed: int = 0, phi: float = 0.3
) -> xr.Dataset:
    truth = np.array([0.5, 20, phi, 0.4, 0.3])
    noise = np.exp(0.002 * np.random.default_rng(seed).standard_normal(len(data["n"])))
    y = RECURRENT.value(truth, data) * noise
    cell = [f"{n:g} {T:g}" for n, T in zip(data["n"], data["T"], strict=True)]
    return fit(data | {"y": y}, "y", law, cluster=cell, starts=8, interval="none")


@pytest.mark.slow  # eight searches with many basins
@pytest.mark.parametrize("law", [RECURRENT, RECURRENT.hold(E=0.5)], ids=["E free", "E held"])
def test_one_net_at_many_n_and_T_does_not_tell_phi_from_alpha(law: Law):
    """Of y = E + A (once + (n + 1)^phi_n T^phi_T rec)^-alpha the rows tell alpha phi only."""
    n, T = (np.tile(a.ravel(), 2) for a in np.meshgrid([1.0, 2, 4, 6], [1.0, 2, 3, 6]))
    net = {"once": np.full(32, 1e5), "rec": np.full(32, 5e6), "n": n, "T": T}
    for seed in range(4):
        made = recurrent(net, law, seed)
        assert made.attrs["status"] == "not_separable"
        assert {"alpha", "phi_n", "phi_T"} <= set(made.attrs["not_separable"].split(", "))
        report = design_report(made)
        assert (report.attrs["separable"], report.attrs["collinear"]) == (0, "")
        assert "trade places over these runs" in report.attrs["advice"]
        assert "(once, rec: one value only)" in report.attrs["advice"]


@pytest.mark.slow
def test_nets_of_several_sizes_tell_phi_from_alpha():
    made = recurrent(NETS | {"T": NETS["n"]}, phi=0.2)  # T = n: ln T and ln(n + 1) differ enough
    assert made.attrs["status"] == "converged"
    assert design_report(made).attrs["separable"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("T", [1.0, 3.0, 6.0])
def test_an_exponent_of_what_never_varies_is_not_told(T: float):
    data = NETS | {"T": np.full(30, T)}
    made = recurrent(data, phi=0.2)
    assert (made.attrs["status"], made.attrs["collinear"]) == ("not_separable", "T")
    assert "T does not vary in these rows" in made.attrs["note"]
    report = design_report(made)
    assert report.attrs["advice"] == (
        "T does not vary in these rows; add runs where it changes alone, or hold its exponent at a "
        "value"
    )
    held = recurrent(data, RECURRENT.hold(phi_T=0.3), phi=0.2)
    assert (held.attrs["status"], held.attrs["collinear"]) == ("converged", "")
    one = law_named("PowerFloor(EffectiveN(once, rec, r=T))")
    assert recurrent(data, one, phi=0.2).attrs["collinear"] == "T"


@pytest.mark.slow
def test_the_advised_run_is_off_the_diagonal():
    T = NETS["n"] + 1
    report = design_report(recurrent(NETS | {"T": T}, phi=0.2))
    assert report.attrs["collinear"] == "n, T"
    cell = dict(re.findall(r"(\w+) = ([^,]+)", report.attrs["advice"]))
    assert (cell["n"], cell["T"]) == ("1", "8")


@pytest.mark.slow
def test_suggested_nets_are_nets_that_can_exist(shared: Path):
    rows, truth = looped_design(shared / "data" / "scaling")
    law = SumPower(EffectiveN("N_once", "N_rec", r="r"), "D")
    rows["L"] = law.value(truth, {n: rows[n].to_numpy() for n in law.columns_read})
    made = fit(rows, "L", law, cluster=["budget", "r"], interval="none", starts=2)
    picked = suggest_runs(made, "phi").to_dataframe()
    net = ["N_once", "N_rec", "r"]
    assert len(picked[net].merge(rows[net].drop_duplicates())) == len(picked) == 3
    assert (np.diff(picked.width, prepend=1) < 0).all()


def test_columns_are_crossed_only_where_a_run_can_choose_them():
    axis = EffectiveN("once", "rec", n="n", T="T")
    X = {"once": np.array([1.0, 1, 1, 2]), "rec": np.array([5.0, 5, 5, 5]), "D": np.arange(4.0),
         "n": np.array([1.0, 2, 3, 1]), "T": np.array([3.0, 3, 3, 6])}  # fmt: skip
    assert axis.choices(X) == [("once", "rec", "T"), ("n",)]  # T is a matter of the net here
    assert SumPower(axis, "D", "n").choices(X) == [("once", "rec", "T"), ("n",), ("D",)]
