"""docs/statistics.md: its example runs and gives these numbers; the package stays light."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trm_lab.stats

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "statistics.md"


def test_the_worked_example_gives_the_numbers_on_the_page():
    test = doctest.DocTestParser().get_doctest(PAGE.read_text(), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 10
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert result.failed == 0, "".join(said)


def test_every_public_function_has_its_place_on_the_page():
    named = set(re.findall(r"`(\w+)", PAGE.read_text()))
    functions = {n for n in trm_lab.stats.__all__ if n[0].islower()}
    assert functions - named == {"paired_differences"}


@pytest.mark.slow
def test_importing_the_statistics_leaves_the_large_libraries_out():
    code = "import sys, trm_lab.stats; print({'torch', 'pandas', 'statsmodels'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"
