"""Where trials are kept: the journal file, a real PostgreSQL server, and what does not answer."""

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from tests.cli.conftest import in_a_process
from tests.study.postgres import PASSWORD, Server, programs, server
from tests.study.search_study import arms, confirmed, scripted, searching
from tests.study.tiny import HERE, local, planned, states, statuses, write_files
from trm_lab.config.execution import Sweep
from trm_lab.config.source import parse_yaml
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study.driver import Event, drive
from trm_lab.study.storage import opened


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; skipped without one, or failed with REQUIRE_POSTGRES=1."""
    binaries = programs()
    if binaries is None:
        reason = "no PostgreSQL: `make test-deps` installs it"
        if os.environ.get("REQUIRE_POSTGRES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with server(binaries) as running:
        yield running


def on(url: str | None) -> Sweep:
    return HERE.model_copy(update={"storage": url})


@pytest.fixture
def database(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LAB_PASSWORD", PASSWORD)
    return f"postgresql://lab:${{LAB_PASSWORD}}@127.0.0.1:{postgres.port}/postgres"


@pytest.mark.slow
def test_a_search_on_postgres_is_the_search_on_a_journal(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch)
    journal, plan = searching(tmp_path / "a"), searching(tmp_path / "b", sweep=on(database))
    assert drive(journal) == drive(plan) == Counter({State.COMPLETED: 16})
    for name, trials in arms(journal).items():
        there = arms(plan)[name]
        assert [(t.params, t.values, t.state) for t in there] == [
            (t.params, t.values, t.state) for t in trials
        ]
        assert [t.intermediate_values for t in there] == [t.intermediate_values for t in trials]
    assert len(confirmed(plan)) == 4
    assert not (plan.root / "optuna.journal").exists()
    executor = scripted(monkeypatch)
    assert drive(plan) == Counter({State.COMPLETED: 16})
    assert executor.sent == []
    assert [len(trials) for trials in arms(plan).values()] == [6, 6]


@pytest.mark.slow
def test_a_search_on_postgres_whose_driver_was_killed_goes_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    executor = scripted(monkeypatch)
    plan = searching(tmp_path, sweep=on(database))

    def killed(event: object) -> None:
        if len(executor.sent) > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(plan, listen=killed)
    executor.jobs = []
    assert drive(plan) == Counter({State.COMPLETED: 16})
    assert [len(trials) for trials in arms(plan).values()] == [6, 6]
    assert all(t.state is TrialState.COMPLETE for found in arms(plan).values() for t in found)


@pytest.mark.slow
def test_a_matrix_on_postgres_and_two_folders_of_one_name_do_not_meet(
    database: str, tmp_path: Path
):
    for name in ("one", "two"):
        plan = planned(tmp_path / name, sweep=on(database))
        assert drive(plan, only="shallow") == Counter({State.COMPLETED: 2})
        assert drive(plan, only="shallow") == Counter({State.COMPLETED: 2})
    for name in ("one", "two"):
        plan = planned(tmp_path / name, sweep=on(database))
        assert [t.state for t in confirmed(plan)] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_no_secret_is_written_beside_the_results_or_shown(database: str, tmp_path: Path):
    files = write_files(tmp_path / "files", sweep=on(database))
    runs = ["--runs", str(tmp_path / "runs")]
    shown = in_a_process("run", *files, *runs, "--only", "shallow")
    assert shown.code == 0
    written = [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert {p.name for p in written} >= {"plan.json", "sweep.yaml", "results.nc"}
    for text in (shown.out, shown.err, *(p.read_bytes().decode("latin-1") for p in written)):
        assert PASSWORD not in text
    copy = yaml.safe_load((tmp_path / "runs" / "tiny" / "sweep.yaml").read_text())
    assert copy["storage"] == database


def test_a_wrong_password_is_refused_in_the_servers_words_without_it(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LAB_PASSWORD", "wr0ng@")
    with pytest.raises(ConfigError) as caught, opened(database, tmp_path):
        pass
    assert 'password authentication failed for user "lab"' in str(caught.value)
    assert str(caught.value).startswith(f"storage {database}: ")
    assert "wr0ng" not in str(caught.value)


@pytest.mark.slow
def test_a_database_that_is_away_for_a_while_is_waited_for(
    postgres: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trm_lab.study.storage.AGAIN_SECONDS", 0.1)
    plan, told = planned(tmp_path, sweep=on(database)), []

    def restart(event: Event) -> None:
        if event.state is State.RUNNING and not told:
            postgres.stop()
            threading.Timer(1.0, postgres.start).start()

    assert drive(plan, listen=restart, say=told.append) == Counter({State.COMPLETED: 4})
    assert len(told) == 1
    assert told[0].startswith(f"storage {database}: connection ")
    assert told[0].endswith("; tried again for 300 s")
    assert [t.state for t in confirmed(plan)] == [TrialState.COMPLETE] * 4


@pytest.mark.slow
def test_a_database_that_stays_away_ends_the_driver_in_words_and_leaves_its_runs_waiting(
    postgres: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trm_lab.study.storage.AWAY_SECONDS", 0.0)
    sweep = local(1).model_copy(update={"storage": database})
    plan = planned(tmp_path, ("updates: 4\n", "updates: 4000\n"), sweep=sweep)
    stopped = []

    def away() -> None:
        if not stopped and "running" in states(plan.root).values():
            postgres.stop()
            stopped.append(True)

    try:
        with pytest.raises(ConfigError) as caught:
            drive(plan, tick=away)
    finally:
        postgres.start()
    assert str(caught.value).startswith(f"storage {database}: connection ")
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    begun = statuses(plan.root).values()
    assert [(t["state"], t["error"]["message"]) for t in begun] == [
        ("waiting", "its driver failed")
    ]


@pytest.fixture
def nobody_listens() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_a_clear_error(
    nobody_listens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("LAB_PASSWORD", "secret")
    url = f"postgresql://lab:${{LAB_PASSWORD}}@127.0.0.1:{nobody_listens}/lab"
    files = write_files(tmp_path / "files", sweep=on(url))
    shown = in_a_process("run", *files, "--runs", tmp_path / "runs")
    assert shown.code == 2
    assert f"storage {url}: " in shown.err
    assert "refused" in shown.err
    assert "secret" not in shown.out + shown.err
    assert not list((tmp_path / "runs").rglob("status.json"))


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LAB_PASSWORD", raising=False)
    url = "postgresql://lab:${LAB_PASSWORD}@db/lab"
    with pytest.raises(ConfigError) as caught, opened(url, tmp_path):
        pass
    assert str(caught.value) == f"storage {url}: the environment has no variable LAB_PASSWORD"


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("mysql://db/lab", "pymysql", "mysql"), ("postgresql://db/lab", "psycopg", "postgres"),
     ("grpc://db:1", "grpc", "grpc")],
)  # fmt: skip
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    url: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as caught, opened(url, tmp_path):
        pass
    assert str(caught.value) == (
        f"storage {url}: needs the package {module}; pip install 'trm-lab[{extra}]' brings it"
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://lab:hunter2@db/lab", "a password in a file"),
        ("postgresql://db/lab?user=lab&password=hunter2", "a password in a file"),
        ("mysql://u@h/db?passwd=hunter2", "a password in a file"),
        ("mysql://u@h/db?charset=utf8&Pwd=hunter2", "a password in a file"),
        ("mysql://u@h/db?pass=hunter2", "a password in a file"),
        ("mysql://u@h/db?pass%77d=hunter2", "a password in a file"),
        ("sqlite:///hunter2.db", "'sqlite' is no storage"),
        ("redis://hunter2", "'redis' is no storage"),
        ("optuna.journal", "'optuna.journal' is no storage"),
    ],
)
def test_what_is_no_storage_or_holds_a_password_is_refused_at_its_place(url: str, said: str):
    source = parse_yaml(f"name: x\nstorage: {url}\n", "x.yaml")
    with pytest.raises(ConfigError) as caught:
        validate(Sweep, source)
    assert str(caught.value).startswith(f"x.yaml:2:1: storage: {said}")
    assert "hunter2" not in str(caught.value)


def test_passwords_from_the_environment_are_accepted_in_both_places():
    for url in (
        "postgresql://lab:${A}@db/lab", "postgresql+psycopg://db/lab?password=${B}",
        "mysql://db/lab?passwd=${B}", "mysql://u@h/db?bypass=1",
        "mysql://${USER_NAME}:${A}@db/lab", "grpc://db:13000", "postgresql://db/lab",
    ):  # fmt: skip
        assert Sweep(name="x", storage=url).storage == url


def test_planning_imports_no_optuna(tmp_path: Path):
    files = write_files(tmp_path, sweep=HERE)
    code = (
        "import sys\nfrom trm_lab.cli import main\n"
        f"sys.argv = ['trm-lab', 'plan', *{files!r}]\n"
        "try:\n    main()\nfinally:\n    print('optuna' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
