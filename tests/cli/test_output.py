"""Tables, on terminals of several widths."""

from io import StringIO

import pytest
from rich.console import Console

from trm_lab.cli import output

ROWS = [{"cell": "deep", "id": "8669f01a", "max depth": 6, "why": "no space left"}]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["cell  id        max depth  why", "deep  8669f01a          6  no space left"]),
        # Words stay whole, and lines are broken between them.
        (36, ["cell  id        max depth  why", "deep  8669f01a          6  no space",
              "                           left"]),
        # Not wide enough for all words: nothing is cut off, and the terminal breaks the line.
        (20, ["cell  id        max depth  why", "deep  8669f01a  6          no space left"]),
    ],
)  # fmt: skip
def test_a_table_cuts_nothing_off(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int,
    lines: list[str],
):
    file = StringIO()
    terminal = Console(file=file, force_terminal=True, width=width, no_color=True, markup=False)
    monkeypatch.setattr(output, "console", terminal)
    output.table("t", ROWS)
    said = file.getvalue() + capsys.readouterr().out
    shown = [line.rstrip() for line in _plain(said).splitlines() if line.strip() not in ("", "t")]
    assert shown == lines


def _plain(text: str) -> str:
    """Leave out what colours and slants."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)
