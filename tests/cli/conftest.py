"""The command line, called as a user calls it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from trm_lab.cli import main


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


TrmLab = Callable[..., Done]


def plain(text: str) -> str:
    """Make sure that a text has no control characters: there is no terminal."""
    assert not [c for c in text if ord(c) < 32 and c != "\n"], repr(text)
    return text


@pytest.fixture
def trm_lab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> TrmLab:
    """Calls `trm-lab` in this process, which saves its start."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["trm-lab", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return Done(code, plain(out), plain(err))

    return call


@pytest.fixture(scope="session")
def undisturbed_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny study's results, driven once; not to be written to."""
    from tests.study.tiny import planned
    from trm_lab.runs import State
    from trm_lab.study.driver import drive

    plan = planned(tmp_path_factory.mktemp("undisturbed"))
    assert drive(plan) == {State.COMPLETED: 4}
    return plan.root.parent


def in_a_process(*arguments: object, cwd: Path | None = None) -> Done:
    """Call `python -m trm_lab.cli`, with a terminal's variables but none of its devices."""
    done = subprocess.run(
        [sys.executable, "-m", "trm_lab.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"TERM": "xterm-256color"},
        timeout=300,
    )
    return Done(done.returncode, plain(done.stdout), plain(done.stderr))
