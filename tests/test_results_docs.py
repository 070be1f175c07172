import contextlib
import io
import re
from pathlib import Path

import pytest
from factories import make_study

from trm_lab.results import collect
from trm_lab.results.schema import ROOT, VARIABLES, table

DOC = Path(__file__).parents[1] / "docs" / "results.md"


def text() -> str:
    return DOC.read_text(encoding="utf-8")


def test_the_document_holds_the_table_generated_from_the_schema():
    between = re.search(r"<!-- schema: begin -->\n(.*)<!-- schema: end -->", text(), re.DOTALL)
    assert between is not None
    assert between[1].strip() == table().strip()


def test_every_variable_and_root_attribute_is_named():
    for variables in VARIABLES.values():
        for variable in variables:
            assert f"`{variable.name}`" in text()
    for name in ROOT:
        assert f"`{name}`" in text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fits = [{"name": "depth-trm", "law": "saturating", "x": "effective_depth"}]
    fits[0] |= {"y": "puzzle_accuracy", "series": "TRM", "cluster": "seed"}
    collect(make_study(tmp_path / "runs", fits=fits))
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", text(), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(example, str(DOC), "exec"), {})
    assert "depth-trm converged" in said.getvalue()
