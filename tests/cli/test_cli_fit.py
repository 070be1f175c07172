"""`trm-lab fit FILE`: one law on any table."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from factories import DEPTHS, Cell, make_study

from tests.cli.conftest import Done, TrmLab
from trm_lab.fit import fit_study, law_of
from trm_lab.laws import PowerFloor, SumPower
from trm_lab.results import collect
from trm_lab.results.files import write_netcdf

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
    done = trm_lab(
        "fit", "runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--draws", "20",
        "--cluster", "row",
    )  # fmt: skip
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
    call = (
        "--law",
        "SumPower(N, D)",
        "--y",
        "loss",
        "--cluster",
        "row",
        "--interval",
        "none",
        "--json",
    )
    of_csv = json.loads(trm_lab("fit", "runs.csv", *call).out)[0]
    of_nc = json.loads(trm_lab("fit", "runs.nc", *call).out)[0]
    found = [one["data_vars"]["coefficients"]["data"] for one in (of_csv, of_nc)]
    assert found[0] == found[1]
    assert set(of_csv["data_vars"]) == {"coefficients", "stderr", "ci", "meaning", "covariance"}
    assert of_csv["attrs"]["status"] == "converged"


def test_the_advice_of_a_fit_is_an_option_that_can_be_typed(table: Path, trm_lab: TrmLab):
    call = ("fit", "runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--interval", "none")
    assert "resample cells, such as --cluster N\n" in trm_lab(*call).out
    for asked in ("N", "N,D"):
        done = trm_lab(*call, "--cluster", asked, "--where", "arch=trm")
        assert done.code == 0, done.err
        assert "resample" not in done.out
        assert "left out" not in done.out  # every row is taken
    twice = pd.concat([pd.read_csv(table)] * 2)
    twice.to_csv("twice.csv", index=False)
    told = trm_lab("fit", "twice.csv", *call[2:], "--cluster", "row").out
    assert "resample cells, such as --cluster N,D\n" in told


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
        (("runs.csv", "--on", "x.yaml"), "runs.csv: is a table; --on, --set and --runs go with"),
        (("runs.csv", "--set", "a=1", "--law", "m4"), "runs.csv: is a table; --on, --set and"),
        (("runs.csv", "--law", "M4(N)", "--x", "D", "--y", "loss"), "--x: goes with a law's plain"),
        (
            ("runs.csv", "--law", "Logistic(D)", "--y", "of,solved", "--cluster", "N"),
            r"1000 of \d+ in row 0 is no share; did you mean solved,of\?",
        ),
        (("rums.csv", "--law", "m4", "--x", "D", "--y", "loss"), r"did you mean runs.csv\?"),
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


def test_a_column_of_any_name_is_fitted_and_its_file_knows_the_law(table: Path, trm_lab: TrmLab):
    pd.read_csv(table).rename(columns={"N": "n params"}).to_csv("named.csv", index=False)
    call = ("fit", "named.csv", "--y", "loss", "--interval", "none")
    law = 'SumPower("n params", D, E=1.6)'
    done = trm_lab(*call, "--law", law, "--cluster", "row", "--out", "a.nc", "--describe")
    assert done.code == 0, done.err
    assert "We fitted SumPower('n params', D)" in done.out
    assert "- [x] Parameters held: E=1.6\n" in done.out
    assert law_of(xr.load_dataset("a.nc")) == SumPower("n params", "D").hold(E=1.6)
    done = trm_lab(*call, "--law", "PowerFloor", "--x", "n params", "--cluster", "D")
    assert done.code == 0, done.err
    assert law_of(xr.load_dataset("named.power_floor.nc")) == PowerFloor("n params")


def test_a_fit_is_written_over_an_older_fit_only(table: Path, trm_lab: TrmLab):
    pd.read_csv(table).to_xarray().to_netcdf("runs.nc")
    xr.Dataset({"law": 1}).to_netcdf("other.nc")
    Path("text.nc").write_text("no netCDF")
    before = {path.name: path.read_bytes() for path in table.parent.iterdir()}
    call = ("fit", "runs.nc", "--law", "PowerFloor(D)", "--y", "loss", "--cluster", "N",
            "--interval", "none", "--out")  # fmt: skip
    for out, said in (
        ("runs.nc", "error: --out: runs.nc is what is fitted; give another file"),
        ("../" + table.parent.name + "/runs.nc", "is what is fitted"),
        ("other.nc", "error: other.nc: is there and no fit that may be replaced (not a fit of"),
        ("text.nc", "error: text.nc: is there and no fit that may be replaced"),
    ):
        done = trm_lab(*call, out)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
    assert {path.name: path.read_bytes() for path in table.parent.iterdir()} == before
    assert trm_lab(*call, "fit.nc").out.splitlines()[-1] == "saved: fit.nc"
    assert trm_lab(*call, "fit.nc").out.splitlines()[-1] == "replaced: fit.nc"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (2, "2 distinct x for 5 parameters: no estimates; add rows at other x, or hold parameters, "
            "as `SumPower(N, D, E=VALUE)`; nothing is saved"),
        (0, "0 distinct x for 5 parameters: no estimates; add rows"),
    ],
)  # fmt: skip
def test_rows_that_give_no_estimates_are_an_error_and_an_older_fit_stays(
    table: Path, trm_lab: TrmLab, rows: int, said: str
):
    call = ("fit", "runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--interval", "none")
    call += ("--cluster", "row")
    assert trm_lab(*call).code == 0
    before = Path("runs.sum_power.nc").read_bytes()
    pd.read_csv(table)[:rows].to_csv(table, index=False)
    done = trm_lab(*call)
    assert (done.code, done.out) == (2, "")
    assert f"error: runs.csv: {said}" in done.err
    assert Path("runs.sum_power.nc").read_bytes() == before


def test_a_y_that_is_all_zero_is_an_error(table: Path, trm_lab: TrmLab):
    pd.read_csv(table).assign(acc=0).to_csv(table, index=False)
    done = trm_lab("fit", "runs.csv", "--law", "Saturating(D)", "--y", "acc", "--cluster", "N")
    assert done.code == 2
    assert "nothing to fit: every acc is 0; train longer, or take a softer y" in done.err


@pytest.mark.parametrize(
    "option",
    [
        ("--draws", "37"), ("--interval", "wild"), ("--level", "0.5"), ("--seed", "0"),
        ("--delta", "0.5"), ("--out", "a.nc"), ("--share", "E"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(
    table: Path, trm_lab: TrmLab, option: tuple[str, str]
):
    done = trm_lab("fit", "runs.csv", *option)
    assert done.code == 2
    assert (
        done.err == f"error: {option[0]}: without --law the laws of the study's file are fitted\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "N;D;loss\n1;2;3\n", "a.csv: columns are separated by ';'; save it as .csv"),
        ("a.csv", "N\tD\tloss\n1\t2\t3\n", r"separated by '\\t'; save it as .csv"),
        ("a.csv", "N,D,loss\n1,2,diverged\n1,3,4\n",
         r"loss holds 'diverged', which is no number \(row 0, 1 such rows\); drop"),
        ("a.csv", 'N,D,loss\n1,2,3\n1,3,"1,000"\n', r"'1,000', .* \(row 1, .*write numbers"),
        ("a.csv", "N,D,loss\n1,2,3\n-1,3,4\n",
         r"N must be finite and above 0, not -1 \(row 1, 1 such rows\); drop these rows first"),
        ("a.csv", "N,D,loss\n1,2,-3\n", r"not -3 \(row 0\); drop such rows first, and say why"),
        ("a.csv", "\xff\xfeN,D", "a.csv: is not UTF-8 text; save it as CSV UTF-8"),
        ("a.csv", "N,D,loss\n1,2,3,4\n2,3,4,5\n",
         "a.csv: rows have more fields than the header; name every column, or take out what"),
        ("a.csv", "N,D,loss\n1,2,3,\n2,3,4,5\n", "a.csv: rows have more fields than the header"),
        ("a.csv", "N,D,loss,loss\n1,2,3,9\n2,3,4,9\n",
         "y: the data have 2 columns 'loss'; rename all but one"),
        ("a.txt", "N,D,loss\n1,2,3\n", r"a.txt: is neither a study \(.yaml\) nor a table; save"),
        ("a.csv.gz", "N,D,loss\n1,2,3\n", "a.csv.gz: is neither a study"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_good_table_is_told_with_place_and_fix(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trm_lab: TrmLab,
    name: str,
    text: str,
    said: str,
):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(text.encode("latin-1"))
    done = trm_lab("fit", name, "--law", "SumPower(N, D)", "--y", "loss", "--cluster", "row")
    assert (done.code, done.out) == (2, "")
    assert re.search(said, done.err), done.err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_commas_that_end_every_row_shift_no_column(table: Path, trm_lab: TrmLab):
    """A spreadsheet writes them for an empty column: pandas would name the rows by the first."""
    call = ("--law", "SumPower(N, D)", "--y", "loss", "--interval", "none", "--json")
    plain = trm_lab("fit", "runs.csv", *call)
    head, *rest = table.read_text().splitlines()
    Path("ended.csv").write_text("\n".join([head, *(f"{line}," for line in rest)]))
    Path("empty.csv").write_text("\n".join(f"{line}," for line in (head, *rest)))
    estimates = [
        json.loads(done.out)[0]["data_vars"]["coefficients"]["data"]
        for done in (plain, *(trm_lab("fit", f"{name}.csv", *call) for name in ("ended", "empty")))
    ]
    assert estimates[0] == estimates[1] == estimates[2]


def test_one_law_of_a_study_uses_the_runs_that_its_own_fits_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trm_lab: TrmLab
):
    cells = (*DEPTHS, Cell("hrm", series="HRM", n=3))
    study = make_study(tmp_path / "runs", cells, states={("n1T1", 1): "diverged"})
    tree = collect(study)
    tree["runs/planned"].values[4] = 0  # a run of an earlier plan
    tree["runs/puzzle_accuracy"].values[7] = np.nan
    write_netcdf(tree, study / "results.nc")
    monkeypatch.chdir(tmp_path)
    done = trm_lab("fit", study, "--law", "Saturating(effective_depth)", "--y", "puzzle_accuracy",
                   "--cluster", "seed", "--interval", "none", "--where", "series=TRM")  # fmt: skip
    assert done.code == 0, done.err
    made = xr.load_dataset(study / "fits" / "saturating.nc")
    spec = {"name": "a", "law": "saturating", "x": "effective_depth", "y": "puzzle_accuracy"}
    other = fit_study(tree, {**spec, "series": "TRM"}, draws=2)
    np.testing.assert_array_equal(made["name_of_row"], other["name_of_row"])
    np.testing.assert_allclose(made["coefficients"], other["coefficients"])
    said = "left out of 14 runs: 1 diverged, 1 completed without effective_depth or puzzle_accuracy"
    assert said in made.attrs["note"]
    assert said in other.attrs["note"]
    assert "left out: 3 of 18 rows, not series=TRM" in made.attrs["note"]
    assert made.attrs["data_hash"] == other.attrs["data_hash"]
    done = trm_lab("fit", study, "--law", "Saturating(effective_depth)", "--y", "variant")
    assert "no column 'variant'" in done.err


def test_of_equal_names_the_one_with_the_ending_that_was_asked_for_is_proposed(
    table: Path, trm_lab: TrmLab
):
    Path("runs").mkdir()
    done = trm_lab("fit", "rusn.csv", "--law", "PowerFloor(D)", "--y", "loss")
    assert done == Done(2, "", "error: rusn.csv: no such file; did you mean runs.csv?\n")


def test_too_few_clusters_to_resample_are_counted(table: Path, trm_lab: TrmLab):
    call = ("fit", "runs.csv", "--law", "SumPower(N, D)", "--y", "loss", "--draws", "20")
    pd.read_csv(table)[lambda rows: rows["N"] < 3e7].to_csv(table, index=False)
    done = trm_lab(*call, "--cluster", "N")
    assert (done.code, done.err) == (0, "")
    assert (
        "fewer than half of the resamples of 3 clusters (N) tell 5 parameters: no interval; add "
        "clusters, or take interval sandwich\n"
    ) in done.out
    done = trm_lab(*call, "--cluster", "N", "--interval", "sandwich")
    assert "in 3 clusters (N); cluster-robust sandwich, Student t" in done.out
