"""The worked example in a folder of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extension.example import forget, write_example


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the worked example, where everything is started."""
    write_example(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    forget(tmp_path)
