"""How the command line starts: what it imports, and on a terminal."""

import os
import pty
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import trm_lab
from tests.cli.conftest import in_a_process
from tests.study.tiny import HERE, local, planned, write_files

HEAVY = ("torch", "optuna", "xarray", "submitit", "matplotlib", "pandas", "scipy")
VERBS = {
    "demo", "validate", "plan", "run", "status", "collect", "fit", "report", "presets", "train",
    "diagnose", "eval", "explain", "verify", "data", "watch", "logs", "cancel", "retry", "sync",
    "doctor", "dashboard", "importance",
}  # fmt: skip


def imported(*arguments: str, of: tuple[str, ...] = HEAVY) -> list[str]:
    """List the heavy packages that a command imports."""
    code = (
        "import sys\n"
        "from trm_lab.cli import main\n"
        f"sys.argv = ['trm-lab', *{list(arguments)!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print([m for m in {of!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [part for part in of if f"'{part}'" in done.stderr.splitlines()[-1]]


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    assert imported("--help") == []
    assert imported("run", "--help") == []


@pytest.mark.slow
def test_looking_at_studies_imports_nothing_heavy(tmp_path: Path):
    study, _, sweep = write_files(tmp_path, sweep=HERE)
    assert imported("plan", study, "--on", sweep) == []
    assert imported("validate", study, sweep) == []
    assert imported("presets") == []
    assert imported("explain", "hrm") == []
    planned(tmp_path).write()
    # Of a folder no plan is made, and no law is read.
    assert imported("status", str(tmp_path / "tiny"), of=(*HEAVY, "numpy")) == []


def test_help_takes_less_than_two_seconds():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = in_a_process("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of a core's time: the clock on the wall also tells of what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert (done.code, done.err) == (0, "")
    for verb in VERBS:
        assert f" {verb} " in done.out


def test_every_verb_is_known_and_helps():
    from typer.main import get_command

    from trm_lab.cli.app import app

    command = get_command(app)
    assert set(command.commands) == VERBS  # type: ignore[attr-defined]
    for verb in command.commands.values():  # type: ignore[attr-defined]
        assert verb.help


@pytest.mark.slow
def test_there_is_a_script_and_a_module():
    wanted = f"trm-lab {trm_lab.__version__}\n"
    script = Path(sys.executable).with_name("trm-lab")
    for command in ([sys.executable, "-m", "trm_lab"], [str(script)]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (wanted, "")
    assert in_a_process("--version").out == wanted


def test_an_interrupt_while_importing_ends_without_a_word():
    code = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "trm_lab.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from trm_lab.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def on_a_terminal(*arguments: str, columns: int = 120) -> tuple[int, str]:
    """Call the command on a terminal; give exit code and everything that it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "trm_lab.cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return process.wait(), shown.decode()


def test_a_terminal_gets_a_table(tmp_path: Path):
    code, shown = on_a_terminal("plan", *write_files(tmp_path, sweep=HERE))
    assert code == 0
    assert "\x1b[" in shown
    assert "tiny on here" in shown
    assert "2 cells x 2 seeds in runs/tiny" in shown


def test_a_narrow_terminal_gets_whole_words(tmp_path: Path):
    """Broken between words where that fits, else the lines as long as they are; never cut."""
    files = write_files(tmp_path, sweep=HERE)
    for columns in (80, 100):
        code, shown = on_a_terminal("plan", *files, columns=columns)
        assert code == 0
        assert {"94dcb425", "99e168d3", "evaluation", "seeds"} <= set(re.findall(r"\w+", shown))
        assert "\N{HORIZONTAL ELLIPSIS}" not in shown


@pytest.mark.slow
def test_a_terminal_gets_a_live_table_of_what_runs(tmp_path: Path):
    longer = ("updates: 4\n", "updates: 300\n"), ("every: 2", "every: 50")
    files = write_files(tmp_path, *longer, sweep=local(2).model_copy(update={"seeds": 1}))
    code, shown = on_a_terminal("run", *files, "--runs", str(tmp_path / "runs"))
    assert code == 0
    assert "deep, seed 0" in shown
    assert "####" in shown
    assert f"{tmp_path}/runs/tiny: 2 completed" in shown
