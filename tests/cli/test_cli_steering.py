"""The verbs that follow, steer and mend a study on this machine."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock

from tests.cli.conftest import TrmLab, in_a_process
from tests.study.tiny import DEEP, HERE, SHALLOW, trials, written
from trm_lab.cli import steering
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.study import checkup, driver_lock, slurm
from trm_lab.study import steering as study_steering
from trm_lab.study.attempts import attempted, in_vain
from trm_lab.study.driver_lock import driven as is_driven
from trm_lab.study.driver_lock import failure, holder, name_driver, sole_driver


@pytest.fixture
def driven(tmp_path: Path, undisturbed_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with the tiny study, driven to its end, and a sweep."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(written())
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(HERE.model_dump(mode="json")))
    shutil.copytree(undisturbed_runs, tmp_path / "runs")
    return tmp_path


@pytest.fixture
def root(driven: Path) -> Path:
    """The study's folder."""
    return driven / "runs" / "tiny"


def of_runs(root: Path) -> dict[str, tuple[float | None, dict[int, float]]]:
    """Give what the journal has of every run: its value, and those in between."""
    return {t.user_attrs["run"]: (t.value, t.intermediate_values) for t in trials(root)}


def findings(told: str) -> dict[str, tuple[str, str]]:
    return {f["what"]: (f["verdict"], f["detail"]) for f in json.loads(told)}


def test_watch_ends_where_nothing_is_left(driven: Path, root: Path, trm_lab: TrmLab):
    done = trm_lab("watch", str(root))
    assert (done.code, done.out, done.err) == (0, f"{root}: 4 completed\n", "")
    RunFolder(root / DEEP / "seed-1").mark(State.FAILED, "out of memory")
    assert trm_lab("watch", str(root)).code == 1


def test_watch_ends_where_nobody_works_on_what_is_left(driven: Path, root: Path, trm_lab: TrmLab):
    RunFolder(root / DEEP / "seed-1").mark(State.LOST, "killed")
    done = trm_lab("watch", str(root), "--every", "0.1")
    assert (done.code, done.out.splitlines()) == (1, [
        f"{root}: 3 completed, 1 lost",
        "no driver is at work and nothing is in the queue; `trm-lab run` goes on",
    ])  # fmt: skip


@pytest.mark.parametrize("who", ["a driver", "a worker"])
def test_watch_goes_on_while_somebody_works(
    driven: Path, root: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch, who: str
):
    run = RunFolder(root / DEEP / "seed-1")
    run.mark(State.WAITING, "")
    lock = run.lock() if who == "a worker" else FileLock(root / ".driver.lock")
    if isinstance(lock, FileLock):
        lock.acquire(timeout=0)
    looks = 0

    def look(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 5:
            run.mark(State.COMPLETED, "")

    monkeypatch.setattr(steering, "time", SimpleNamespace(sleep=look))
    done = trm_lab("watch", str(root))
    lock.release()
    assert (done.code, looks, done.out.splitlines()[-1]) == (0, 5, f"{root}: 4 completed")


def test_a_queue_that_does_not_answer_is_no_traceback(
    driven: Path, root: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch
):
    def silent(*_: object, **__: object) -> None:
        raise slurm.SilentError("scancel: Unable to contact slurm controller")

    monkeypatch.setattr(study_steering, "cancel", silent)
    done = trm_lab("cancel", str(root))
    assert (done.code, done.err) == (
        1, "error: SLURM does not answer: scancel: Unable to contact slurm controller\n",
    )  # fmt: skip


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_doctor_says_that_drivers_need_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    def refuse(*_: object) -> None:
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    verdict, detail = {f.what: (f.verdict, f.detail) for f in checkup.place(tmp_path)}["locks"]
    assert (verdict, "No locks available" in detail) == ("bad", True)
    assert detail.endswith("drivers need file locks here; put runs/ on another file system")
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert {f.what: f.verdict for f in checkup.place(tmp_path)}["locks"] == "bad"


def test_logs_are_those_of_runs_that_ended_badly_unless_one_is_named(
    driven: Path, root: Path, trm_lab: TrmLab
):
    assert "no run ended badly" in trm_lab("logs", str(root)).out
    for cell in (DEEP, SHALLOW):
        (root / cell / "seed-1" / "worker.log").write_text("\n".join(map(str, range(50))))
    RunFolder(root / DEEP / "seed-1").mark(State.FAILED, "out of memory")
    told = trm_lab("logs", str(root), "-n", "2").out.splitlines()
    assert told[0] == "==> deep, seed 1: failed: out of memory <=="
    assert told[1:] == [f"{root / DEEP / 'seed-1' / 'worker.log'}:", "48", "49"]
    named = trm_lab("logs", str(root), "--only", "shallow", "--seed", "1", "-n", "1").out
    assert named.splitlines()[0] == "==> shallow, seed 1: completed <=="
    assert named.splitlines()[-1] == "49"


def test_cancel_without_a_driver_marks_what_nobody_works_on(
    driven: Path, root: Path, trm_lab: TrmLab
):
    idle, busy = RunFolder(root / DEEP / "seed-1"), RunFolder(root / SHALLOW / "seed-1")
    for run in (idle, busy):
        run.mark(State.RUNNING, "")
    lock = busy.lock()
    done = trm_lab("cancel", str(root))
    assert (done.code, done.out) == (0, f"{root}: 2 runs cancelled; no driver is at work\n")
    assert (idle.state(), idle.asked_to_cancel()) == (State.CANCELLED, True)
    assert (busy.state(), busy.asked_to_cancel()) == (State.RUNNING, True)  # its worker hears
    lock.release()


def test_retry_gives_a_failed_run_all_its_attempts(driven: Path, root: Path, trm_lab: TrmLab):
    run = RunFolder(root / DEEP / "seed-1")
    for _ in range(3):
        attempted(run, "local 1", "", 4)
    run.mark(State.FAILED, "3 attempts came no further")
    assert in_vain(run) == 3
    done = trm_lab("retry", str(root))
    assert done.out == f"{root}: 1 run to go on; `trm-lab run` or `sync` sends them\n"
    assert (run.state(), in_vain(run)) == (State.WAITING, 0)
    again = trm_lab("retry", str(root), "--only", "deep", "--seed", "0")
    assert (again.code, "is completed; nothing to retry" in again.err) == (2, True)
    missed = trm_lab("retry", str(root), "--only", "depe")
    assert (missed.code, missed.err) == (
        2, "error: --only depe: no such cell; did you mean deep?\n",
    )  # fmt: skip


def test_sync_does_one_round_and_leaves_failed_runs_alone(
    driven: Path, root: Path, trm_lab: TrmLab
):
    RunFolder(root / DEEP / "seed-1").mark(State.FAILED, "by itself")
    done = trm_lab("sync", "tiny.yaml", "--on", "here.yaml")
    assert done.code == 1
    assert done.out.splitlines()[-1] == "runs/tiny: 3 completed, 1 failed"
    trm_lab("retry", str(root))
    assert trm_lab("sync", "tiny.yaml", "--on", "here.yaml").code == 0


def test_doctor_finds_a_result_that_is_cut_short_and_run_makes_it_again(
    driven: Path, root: Path, trm_lab: TrmLab
):
    path = RunFolder(root / DEEP / "seed-1").evaluation("last")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    told = trm_lab("doctor", str(root), "--json")
    assert told.code == 1
    assert findings(told.out)["result"] == (
        "bad", f"{path}: missing or damaged; `trm-lab run` evaluates the run again"
    )  # fmt: skip
    assert trm_lab("run", driven / "tiny.yaml", "--on", driven / "here.yaml").code == 0
    assert path.read_bytes() == whole
    assert "result" not in findings(trm_lab("doctor", str(root), "--json").out)


@pytest.mark.parametrize("verb", ["status", "watch", "logs", "collect"])
def test_a_study_file_that_is_no_longer_what_was_run_is_told(
    driven: Path, root: Path, trm_lab: TrmLab, verb: str
):
    study = driven / "tiny.yaml"
    assert "is not what was run" not in trm_lab(verb, study).err
    study.write_text(study.read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    done = trm_lab(verb, study)
    assert done.code == 0
    assert f"{study}: is not what was run, runs/tiny/study.yaml, which is what follows" in done.err


def test_doctor_finds_a_torn_journal_and_mends_it(driven: Path, root: Path, trm_lab: TrmLab):
    found = findings(trm_lab("doctor", str(root), "--json").out)
    assert found["journal"] == ("ok", "whole")
    assert found["locks"] == ("ok", "a file that is locked stays locked on this machine")
    assert found["runs"] == ("ok", "4 folders, 0 unreadable, 0 without a worker")
    journal = root / "optuna.journal"
    lines = journal.read_bytes().count(b"\n")
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    (root / DEEP / "seed-1" / "status.json").write_text("{")
    told = trm_lab("doctor", str(root), "--json")
    assert told.code == 1
    found = findings(told.out)
    assert found["journal"] == (
        "bad", f"{journal}:{lines + 1}: cut short; `--repair` mends it",
    )  # fmt: skip
    assert found["status"][0] == "bad"
    assert "dropped a last line cut short" in trm_lab("doctor", str(root), "--repair").out
    assert findings(trm_lab("doctor", str(root), "--json").out)["journal"][0] == "ok"
    (kept,) = root.glob("optuna.journal.damaged-*")
    assert kept.read_bytes().endswith(b'{"op_code": 5, "wor')


def test_doctor_does_not_call_a_journal_whole_that_it_took_away(
    driven: Path, root: Path, trm_lab: TrmLab
):
    journal = root / "optuna.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b'{"op_code":4,"wo\n', *lines[4:]]))
    told = trm_lab("doctor", str(root), "--repair")
    assert told.code == 0
    assert "1 unreadable line; a driver writes it anew from the run folders" in told.out
    found = findings(trm_lab("doctor", str(root), "--json").out)
    assert found["journal"] == ("note", "none; a driver writes it from the run folders")
    assert trm_lab("sync", driven / "tiny.yaml", "--on", driven / "here.yaml").code == 0
    assert findings(trm_lab("doctor", str(root), "--json").out)["journal"] == ("ok", "whole")


def test_a_repair_leaves_the_word_of_the_last_driver(driven: Path, root: Path, trm_lab: TrmLab):
    with pytest.raises(OSError, match="full"), sole_driver(root):
        raise OSError(errno.ENOSPC, "disk full")
    before = failure(root)
    assert before.endswith("disk full")
    study = (driven / "tiny.yaml", "--on", driven / "here.yaml")
    for named in ((str(root),), study):
        trm_lab("doctor", *named, "--repair")
        assert failure(root) == before


def test_doctor_tells_of_a_sweep_that_cannot_be_read(driven: Path, root: Path, trm_lab: TrmLab):
    (root / "sweep.yaml").write_text("name: [")
    told = trm_lab("doctor", str(root), "--json")
    verdict, why = findings(told.out)["sweep"]
    assert (told.code, verdict) == (1, "bad")
    assert why.startswith(f"{root / 'sweep.yaml'}:1:8: ")
    assert why.endswith("`trm-lab run` writes it anew")


@pytest.mark.parametrize("file", ["plan.json", "sweep.yaml"])
def test_doctor_finds_a_torn_plan_and_writes_it_anew_for_a_study_file(
    driven: Path, root: Path, trm_lab: TrmLab, file: str
):
    study = (driven / "tiny.yaml", "--on", driven / "here.yaml")
    assert trm_lab("sync", *study).code == 0
    whole = (root / file).read_bytes()
    trm_lab("doctor", driven / "tiny.yaml", "--repair")  # of another sweep: it is not torn
    assert (root / file).read_bytes() == whole
    (root / file).write_bytes(whole[:700] if file == "plan.json" else b"name: [")
    told = trm_lab("doctor", root, "--repair", "--json")  # the folder alone does not say it
    assert told.code == 1
    verdict, why = findings(told.out[told.out.index("[\n") :])[file.split(".")[0]]
    assert verdict == "bad"
    assert why.startswith(str(root / file))
    assert "trm-lab run" in why
    assert why.endswith("writes it anew")
    done = trm_lab("doctor", *study, "--repair")
    assert done.code == 0
    assert "runs/tiny: the plan could not be read, and is written anew" in done.out
    assert (root / file).read_bytes() == whole
    assert trm_lab("status", root).out.splitlines()[-1] == "4 completed"


def test_doctor_finds_damaged_results_and_batches(driven: Path, root: Path, trm_lab: TrmLab):
    assert trm_lab("collect", root).code == 0
    assert not {"dataset", "batch"} & set(findings(trm_lab("doctor", root, "--json").out))
    results, batch = root / "results.nc", root / "jobs" / "trm-tiny-1-0a.json"
    results.write_bytes(results.read_bytes()[: results.stat().st_size // 2])
    batch.parent.mkdir()
    batch.write_text('{"name": "trm-')
    told = trm_lab("doctor", root, "--json")
    assert told.code == 1
    found = findings(told.out)
    assert found["dataset"][0] == found["batch"][0] == "bad"
    assert found["dataset"][1].startswith(f"{results}: not a readable netCDF file (")
    assert found["dataset"][1].endswith(f"; `trm-lab collect {root}` makes it anew")
    assert found["batch"][1] == (
        f"{batch}: cannot be read, so it is not known which runs the jobs named trm-tiny-1-0a "
        "hold; take them out of the queue if they are in it, then remove the file"
    )
    assert trm_lab("collect", root).code == 0
    batch.unlink()
    assert not {"dataset", "batch"} & set(findings(trm_lab("doctor", root, "--json").out))


def test_doctor_writes_a_journal_anew_for_a_study_file(driven: Path, root: Path, trm_lab: TrmLab):
    journal, before = root / "optuna.journal", of_runs(root)
    assert len(before) == 4
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b'{"op_code":4,"wo\n', *lines[4:]]))
    told = trm_lab("doctor", driven / "tiny.yaml", "--on", driven / "here.yaml", "--repair")
    assert told.code == 0
    assert "runs/tiny: the trials are those of the run folders" in told.out
    assert findings(trm_lab("doctor", str(root), "--json").out)["journal"] == ("ok", "whole")
    assert of_runs(root) == before


def test_watching_and_looking_write_nothing(driven: Path, root: Path, trm_lab: TrmLab):
    lock = root / ".driver.lock"
    lock.unlink(missing_ok=True)
    assert trm_lab("watch", str(root)).code == 0
    trm_lab("doctor", str(root))
    assert not lock.exists()
    assert not is_driven(root)
    with sole_driver(root):
        assert is_driven(root)
    assert not is_driven(root)


def test_a_dashboard_needs_its_package(driven: Path, root: Path, trm_lab: TrmLab):
    done = trm_lab("dashboard", str(root))
    assert done.code == 2
    assert "pip install 'trm-lab[dashboard]'" in done.err


def test_a_driver_that_died_is_told_where_something_is_left(
    driven: Path, root: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch
):
    assert failure(root) == ""
    with pytest.raises(ConfigError), sole_driver(root):
        raise ConfigError("tiny.yaml:4:9: no such data\nand more")
    who = holder(root)
    assert failure(root) == f"{who}: tiny.yaml:4:9: no such data\nand more"
    words = f"the last driver ended badly: {who}: tiny.yaml:4:9: no such data"
    assert "driver ended" not in trm_lab("status", root).out  # nothing is left
    RunFolder(root / DEEP / "seed-1").mark(State.WAITING, "")
    assert trm_lab("status", root).out.splitlines()[-1] == words
    assert trm_lab("watch", root, "--every", "0.1").out.splitlines()[-1] == words
    (root / "driver.log").write_text("a\nb\nerror: tiny.yaml:4:9: no such data\n")
    # The log is an earlier driver's: this one printed here.
    assert trm_lab("status", root).out.splitlines()[-1] == words
    assert trm_lab("logs", root).out.splitlines() == [
        f"==> driver: {who}: tiny.yaml:4:9: no such data <==",
        "its words went where it ran, not into driver.log",
    ]
    assert json.loads(trm_lab("logs", root, "--json").out)[0]["log"] is None
    name_driver(root, os.getpid(), logged=True, ended="tiny.yaml:4:9: no such data\nand more")
    assert trm_lab("status", root).out.endswith(f"{words}; `trm-lab logs` shows its words\n")
    assert trm_lab("logs", root, "-n", "2").out.splitlines() == [
        f"==> driver: {who}: tiny.yaml:4:9: no such data <==",
        f"{root / 'driver.log'}:",
        "b",
        "error: tiny.yaml:4:9: no such data",
    ]
    told = trm_lab("doctor", root, "--json")
    assert told.code == 1
    assert findings(told.out)["driver"] == (
        "bad", f"the last one ended badly: {failure(root)}; `trm-lab run` goes on"
    )  # fmt: skip
    with sole_driver(root):
        assert failure(root) == ""  # one is at work
    assert failure(root) == ""


def test_a_driver_that_was_killed_is_told_and_one_that_was_interrupted_is_not(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), sole_driver(tmp_path):
        raise KeyboardInterrupt
    assert failure(tmp_path) == ""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    name_driver(tmp_path, gone.pid)
    assert failure(tmp_path) == ""  # it may only begin
    gone.wait()
    assert failure(tmp_path) == f"{holder(tmp_path)}: was killed, or could not begin"
    (tmp_path / ".driver.json").write_text(json.dumps({"pid": gone.pid, "host": "elsewhere"}))
    assert failure(tmp_path) == ""  # nobody here can know


def test_a_driver_that_ended_on_a_full_disk_is_not_called_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    with sole_driver(tmp_path):
        assert (tmp_path / ".driver.json").exists()
        monkeypatch.setattr(driver_lock, "name_driver", full)
    monkeypatch.setattr(driver_lock.os, "kill", full)  # as if it had left
    assert failure(tmp_path) == ""


def test_a_driver_in_the_background_that_cannot_go_on_is_told(driven: Path):
    study, runs = driven / "tiny.yaml", driven / "away"
    (runs / "tiny" / "optuna.journal").mkdir(parents=True)
    arguments = (study, "--runs", runs)
    assert in_a_process("run", *arguments, "--detach").code == 0
    deadline = time.monotonic() + 60
    while not failure(runs / "tiny") and time.monotonic() < deadline:
        time.sleep(0.1)
    done = in_a_process("logs", *arguments)
    assert done.out.startswith("==> driver: process ")
    assert "\nerror: " in done.out


def test_no_driver_is_detached_while_slurm_is_silent(
    driven: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch
):
    away = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    for name in ("sbatch", "squeue"):
        (driven / name).write_text(f"#!/bin/sh\n{away}\n")
        (driven / name).chmod(0o755)
    Path("there.yaml").write_text("name: there\nexecutor: {kind: slurm}\n")
    arguments = ("run", "tiny.yaml", "--on", "there.yaml", "--runs", "away")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(driven))
        for how in ("--detach", "--as-job"):
            assert trm_lab(*arguments, how) == (
                1, "", "error: SLURM does not answer: squeue: slurm_load_jobs error: Unable to "
                "contact slurm controller\n",
            )  # fmt: skip
        patch.setenv("PATH", "/nowhere")
        done = trm_lab(*arguments, "--detach")
    assert done.code == 2
    assert done.err.startswith("error: executor slurm: no sbatch and squeue on this machine; ")
    assert not Path("away").exists()


def test_logs_of_a_run_that_printed_nothing_say_so_also_as_json(
    driven: Path, root: Path, trm_lab: TrmLab
):
    run = RunFolder(root / DEEP / "seed-1")
    run.log.write_text("")
    asked = ("logs", root, "--only", "deep", "--seed", "1")
    assert trm_lab(*asked).out.splitlines() == [
        "==> deep, seed 1: completed <==", f"{run.log}: nothing was printed"
    ]  # fmt: skip
    run.log.write_text("1\n2\n3\n")
    assert json.loads(trm_lab(*asked, "-n", "2", "--json").out) == [
        {"cell": "deep", "seed": 1, "state": "completed", "error": "", "log": str(run.log),
         "lines": ["2", "3"]}
    ]  # fmt: skip
    assert json.loads(trm_lab("logs", root, "--json").out) == []


def test_a_run_that_is_over_cannot_be_cancelled(driven: Path, root: Path, trm_lab: TrmLab):
    done = trm_lab("cancel", root, "--only", "deep", "--seed", "1")
    assert (done.code, done.err) == (
        2, f"error: {root / DEEP / 'seed-1'}: is completed; nothing to cancel\n"
    )  # fmt: skip
    assert not RunFolder(root / DEEP / "seed-1").asked_to_cancel()
    assert trm_lab("cancel", root).code == 0
