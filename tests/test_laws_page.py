"""docs/laws.md: its lines run and give these numbers, and its tables have every law and name."""

import doctest
import re
import runpy
import sys
from pathlib import Path

import pytest

from trm_lab.fit import fit
from trm_lab.fit.intervals import KINDS
from trm_lab.fit.objectives import NAMES
from trm_lab.fit.verdicts import STATUS
from trm_lab.laws import LAWS, EffectiveN, SumPower

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_line_of_the_page_gives_what_it_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    test = doctest.DocTestParser().get_doctest(PAGE, {}, "laws.md", "laws.md", 0)
    assert len(test.examples) > 15
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed == 0, "".join(
        said
    )


@pytest.mark.slow
def test_the_example_prints_the_page_s_numbers_and_draws_its_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["law_example.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(ROOT / "analysis" / "law_example.py"), run_name="__main__")
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert capsys.readouterr().out == f"{block}{tmp_path / 'law_example.svg'}\n"
    assert (tmp_path / "law_example.svg").stat().st_size > 10_000


@pytest.mark.parametrize("kind", [*LAWS, EffectiveN], ids=lambda law: law.__name__)
def test_every_law_and_parameter_is_in_the_table(kind):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind.__name__}(")]
    _, _, formula, symbols, source, use, _ = row.split("|")
    assert formula.strip() == f"`{kind.formula}`"
    assert source.strip() == kind.source
    assert use.strip() == kind.use
    if kind is EffectiveN:
        axes = kind("a", "b", r="r"), kind("a", "b", n="n", T="T")
        parameters = [parameter for axis in axes for parameter in axis.parameters]
    else:
        parameters = (kind("N", "D") if kind is SumPower else kind("x")).own_parameters
    named = re.findall(r"`(\w+)` ([^`]+)", symbols)
    assert [name for name, _ in named] == [parameter.name for parameter in parameters]
    for (_, text), parameter in zip(named, parameters, strict=True):
        assert text.strip().startswith(parameter.meaning)


@pytest.mark.parametrize("names", [STATUS, NAMES, KINDS], ids=["status", "objective", "interval"])
def test_every_status_objective_and_interval_has_a_row(names):
    rows = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    assert set(names) <= rows


def test_the_layout_of_a_fit_is_on_the_page():
    made = fit(
        {"x": [1.0, 2.0, 4.0, 8.0], "s": [9, 7, 6, 5], "m": [10] * 4}, ("s", "m"), "Logistic(x)",
        objective="beta_binomial", draws=2,
    )  # fmt: skip
    named = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## The Dataset of a fit") :]))
    assert {str(name) for name in made.data_vars} - {"x"} <= named
    versions = {"trm_lab_version", "scipy_version", "numpy_version"}
    assert set(made.attrs) - versions - {"name", "law_name"} <= named


def test_the_data_of_the_example_name_source_and_licence():
    text = (ROOT / "docs" / "data" / "README.md").read_text(encoding="utf-8")
    for file in (ROOT / "docs" / "data").glob("*.csv"):
        (row,) = [line for line in text.splitlines() if f"`{file.name}`" in line]
        assert "MIT" in row or "Apache-2.0" in row
