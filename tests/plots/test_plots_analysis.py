import runpy
import sys
from pathlib import Path

import pytest

from trm_lab.plots import style
from trm_lab.results.files import write_netcdf

SCRIPTS = Path(__file__).parents[2] / "analysis"


@pytest.fixture
def study(patchy, tmp_path):
    write_netcdf(patchy, tmp_path / "recursion" / "results.nc")
    return tmp_path / "recursion"


def run(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    monkeypatch.delitem(sys.modules, "style", raising=False)
    runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    monkeypatch.delitem(sys.modules, "style")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "stems"),
    [
        ("accuracy.py", ["accuracy_by_depth"]),
        ("accuracy_by_steps.py", ["accuracy_by_steps"]),
        ("gradient_forest.py", ["gradient_forest"]),
        ("training_curves.py", ["training_loss", "training_validation"]),
    ],
)
def test_a_script_writes_figure_caption_and_numbers(script, stems, study, monkeypatch):
    monkeypatch.setattr(style, "FORMATS", {"svg": style.FORMATS["svg"]})
    out = study / "figures"
    run(monkeypatch, script, study, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{stem}.{kind}" for stem in stems for kind in ("csv", "svg", "txt")
    )
    for stem in stems:
        assert "diverged" in (out / f"{stem}.txt").read_text("utf-8") or stem == "gradient_forest"


def test_a_script_without_a_study_says_what_is_missing(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "gradient_forest.py", tmp_path / "none")
    assert "no such folder or file of results" in capsys.readouterr().err


def test_scripts_are_thin_and_import_neither_torch_nor_optuna():
    for script in SCRIPTS.glob("*.py"):
        text = script.read_text("utf-8")
        assert len(text.splitlines()) <= 40
        assert "import torch" not in text
        assert "optuna" not in text
