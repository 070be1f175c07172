"""`trm-lab fit FILE`: one law on any table."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.cli.conftest import TrmLab

TRUTH = {"E": 1.6, "A_N": 20.0, "A_D": 1300.0, "alpha_N": 0.2, "alpha_D": 0.37}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table without noise: 4 sizes x 4 amounts of data."""
    N, D = (a.ravel() for a in np.meshgrid([1e6, 3e6, 1e7, 3e7], [1e8, 1e9, 1e10, 3e10]))
    loss = (
        TRUTH["E"] + TRUTH["A_N"] * N ** -TRUTH["alpha_N"] + TRUTH["A_D"] * D ** -TRUTH["alpha_D"]
    )
    rows = pd.DataFrame({"N": N, "D": D, "loss": loss, "arch": "trm", "solved": 300, "of": 1000})
    rows["solved"] = np.round(1000 / (1 + np.exp(-0.8 * (np.log(D) - 21)))).astype(int)
    rows.to_csv(tmp_path / "runs.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs.csv"


def test_a_law_is_fitted_to_a_table_and_saved(table: Path, trm_lab: TrmLab):
    done = trm_lab("fit", "runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--draws", "20")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("sum_power: ")
    assert [line.split()[0] for line in lines[2:7]] == list(TRUTH)
    assert lines[7].startswith("sum_power: converged; 16 rows in 16 clusters (row)")
    assert re.fullmatch(
        r"  rmse \S+ of ln loss; to compare laws: `backtest` in Python, docs/laws.md", lines[-2]
    )
    assert lines[-1] == "saved: runs.sum_power.nc"
    made = xr.load_dataset("runs.sum_power.nc")
    np.testing.assert_allclose(made["coefficients"], [*TRUTH.values()], rtol=1e-8)
    assert len(made.attrs["data_hash"]) == 64


def test_a_netcdf_table_gives_the_same_fit(table: Path, trm_lab: TrmLab):
    pd.read_csv(table).to_xarray().to_netcdf("runs.nc")
    call = ("--law", "SumPower(N, D)", "--y", "loss", "--interval", "none", "--json")
    of_csv = json.loads(trm_lab("fit", "runs.csv", *call).out)[0]
    of_nc = json.loads(trm_lab("fit", "runs.nc", *call).out)[0]
    found = [one["data_vars"]["coefficients"]["data"] for one in (of_csv, of_nc)]
    assert found[0] == found[1]


def test_counts_clusters_and_the_methods_paragraph(table: Path, trm_lab: TrmLab):
    done = trm_lab(
        "fit", "runs.csv", "--law", "Logistic(D)", "--y", "solved,of", "--cluster", "N",
        "--interval", "wald", "--out", "logistic.nc", "--describe",
    )  # fmt: skip
    assert done.code == 0, done.err
    made = xr.load_dataset("logistic.nc")
    assert made.attrs["objective"] == "quasi_binomial"
    np.testing.assert_allclose(made["coefficients"].sel(param="mu"), 21, atol=0.01)
    assert "We fitted Logistic(D)" in done.out
    assert "- [x] Objective: quasi_binomial" in done.out
    assert "- [ ] Validation: to be filled in" in done.out
    assert "of 16 rows, minimising the binomial deviance" in done.out
    assert re.search(r"^g +0 +held$", done.out, re.MULTILINE)


def test_rows_of_one_value_are_taken_and_a_file_that_was_there_is_said_to_be_replaced(
    table: Path, trm_lab: TrmLab
):
    call = ("fit", "runs.csv", "--law", "PowerFloor(D)", "--y", "loss", "--interval", "none")
    done = trm_lab(*call, "--where", "N=3000000", "--where", "arch=trm")
    assert done.code == 0, done.err
    assert "4 rows in 4 clusters" in done.out
    assert "left out: 12 of 16 rows, not N=3000000, arch=trm" in done.out
    made = xr.load_dataset("runs.power_floor.nc")
    np.testing.assert_allclose(made["coefficients"].sel(param="alpha"), TRUTH["alpha_D"], rtol=1e-6)
    assert trm_lab(*call, "--where", "N=1e6").out.splitlines()[-1] == (
        "replaced: runs.power_floor.nc"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs.csv",), "error: runs.csv: a table needs --law, --y and mostly --cluster"),
        (("rums.csv", "--law", "m4", "--x", "D", "--y", "loss"), "did you mean .*runs.csv"),
        (("runs.csv", "--law", "m4", "--x", "D"), "error: --y: name the column to fit"),
        (("runs.csv", "--law", "m4", "--y", "loss"), "law m4: of which column"),
        (("runs.csv", "--law", "SumPowr(N)", "--y", "loss"), "did you mean 'SumPower'"),
        (
            ("runs.csv", "--law", "SumPower(N, DD)", "--y", "loss"),
            "no column 'DD'; did you mean 'D'",
        ),
        (
            ("runs.csv", "--law", "SumPower(N, D)", "--y", "los"),
            "no column 'los'; did you mean 'loss'",
        ),
        (
            ("runs.csv", "--law", "SumPower(N, arch)", "--y", "loss"),
            "arch holds 'trm', which is no",
        ),
        (("runs.csv", "--law", "PowerFloor(D)", "--y", "loss"), "cluster: rows repeat the same x"),
        (("runs.csv", "--law", "Saturating(D)", "--y", "loss", "--cluster", "N"), r"in \[0, 1\]"),
        (
            ("runs.csv", "--law", "Saturating(D)", "--y", "solved", "--cluster", "N"),
            "give counts with their total, --y solved,TOTAL, and divide percentages by 100",
        ),
        (("runs.csv", "--law", "Powr(N)", "--y", "loss"), "did you mean 'Power'"),
        (("runs.csv", "--where", "N=1"), "error: --where: without --law"),
        (("runs.csv", "--law", "Power(N)", "--y", "loss", "--where", "N"), "'N' is not COLUMN="),
        (
            ("runs.csv", "--law", "Power(N)", "--y", "loss", "--where", "ach=trm"),
            "--where: the data have no column 'ach'; did you mean 'arch'",
        ),
        (
            ("runs.csv", "--law", "Power(N)", "--y", "loss", "--where", "arch=tmr"),
            "--where: no row has arch 'tmr'; did you mean 'trm'",
        ),
        (
            ("runs.csv", "--law", "Power(N)", "--y", "loss", "--where", "N=2"),
            "--where: no row has N '2'; there are 1e\\+06, 3e\\+06",
        ),
        (
            ("runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--objective", "hubr"),
            "'hubr' is not one of",
        ),
        (
            ("runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--share", "E"),
            r"share=\['E'\] needs by=",
        ),
        (
            ("runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--out", "a.txt"),
            "not a .nc file",
        ),
        (
            (
                "runs.csv",
                "--law",
                "Logistic(D)",
                "--y",
                "solved,of",
                "--cluster",
                "N",
                "--interval",
                "wild",
            ),
            "counts have no residuals to flip",
        ),
    ],
)
def test_bad_input_is_one_clear_error_and_writes_nothing(
    table: Path, trm_lab: TrmLab, arguments: tuple[str, ...], message: str
):
    done = trm_lab("fit", *arguments)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert re.search(message, done.err), done.err
    assert [p.name for p in table.parent.iterdir()] == ["runs.csv"]
