"""Jobs of SLURM with commands that are stand-ins: what is asked, and what is made of the answers.

tests/slurm does the same on a real one.
"""

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import in_a_process
from tests.study.tiny import EXECUTION, LESS, ORDER, planned, runs_by_key
from trm_lab.config.execution import Execution, InProcess, Slurm, Sweep
from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study import attempts, slurm
from trm_lab.study.checkup import study as study_findings
from trm_lab.study.cluster import Cluster
from trm_lab.study.dispatch import Job
from trm_lab.study.driver import drive
from trm_lab.study.driver_lock import sole_driver
from trm_lab.study.jobs import send_driver, text
from trm_lab.study.overview import overview
from trm_lab.study.plan import Plan, Run, load_sweep
from trm_lab.study.steering import cancel, retry

SBATCH = """#!/bin/sh
cp "$1" {0}/submitted-$(ls {0}/submitted-* 2>/dev/null | wc -l)
env > {0}/environment
[ -e {0}/refusal ] && {{ cat {0}/refusal >&2; exit 1; }}
n=$(cat {0}/next); echo $((n + 1)) > {0}/next
echo "Submitted batch job $n"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of a cluster that answer from files."""
    folder = tmp_path / "site"
    (folder / "bin").mkdir(parents=True)
    (folder / "next").write_text("17\n")
    (folder / "queue").write_text("")
    scripts = {
        "sbatch": SBATCH.format(folder),
        "squeue": f"#!/bin/sh\ncat {folder}/queue || exit 1\n",
        "scancel": f'#!/bin/sh\necho "$@" >> {folder}/cancelled\n',
        "scontrol": "#!/bin/sh\necho 'MaxArraySize            = 3'\n",
        "sacct": f"#!/bin/sh\ncat {folder}/accounts 2>/dev/null || exit 1\n",
        "srun": "#!/bin/sh\n",
    }
    for name, script in scripts.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(tmp_path / "runs")


def cluster(plan: Plan, **settings: Any) -> Cluster:
    plan.root.mkdir(parents=True, exist_ok=True)
    return Cluster(Slurm(**settings), EXECUTION, plan.root, "tiny")


def show(site: Path, *jobs: tuple[str, str], reason: str = "None", name: str = "") -> None:
    """Let the queue show jobs: id and state; without a name under that of the newest batch."""
    sent = sorted(site.glob("submitted-*"))
    found = re.search(r"--job-name=(\S+)", sent[-1].read_text()) if sent else None
    name = name or (found[1] if found else "x")
    lines = [f"{id}|{state}|{reason}|n1|{name}" for id, state in jobs]
    (site / "queue").write_text("".join(line + "\n" for line in lines))


def test_the_queue_is_read_with_names_that_hold_the_separator(site: Path):
    (site / "queue").write_text("12_3|PENDING|Priority||trm|a\n13|RUNNING|None|n[1-2]|b\n")
    found = slurm.queue()
    assert found["12_3"] == slurm.Queued("12_3", "PENDING", "Priority", "", "trm|a")
    assert (found["12_3"].live, found["12_3"].pending) == (True, True)
    assert (found["13"].live, found["13"].pending) == (True, False)
    assert (found["12_3"].waits, found["13"].waits) == ("pending: Priority", "")
    assert slurm.array_limit() == 3


def test_silence_is_no_empty_queue(site: Path):
    (site / "queue").unlink()
    with pytest.raises(slurm.SilentError, match=r"^squeue: "):
        slurm.queue()


def test_what_a_command_says_is_cut_to_the_line_that_tells(site: Path):
    said = "squeue: error: resolve_ctls: unknown host\nsqueue: fatal: no configuration source\n"
    (site / "bin" / "squeue").write_text(f"#!/bin/sh\nprintf '{said}' >&2; exit 1\n")
    with pytest.raises(slurm.SilentError) as caught:
        slurm.queue()
    assert str(caught.value) == "squeue: fatal: no configuration source"


def test_accounts_name_the_state_alone_and_may_be_off(site: Path):
    assert slurm.accounted("12", "a") == ""
    assert not slurm.accounting()
    (site / "accounts").write_text("12_0|CANCELLED by 1000|a\n12_1|OUT_OF_MEMORY|a|b\n")
    assert slurm.accounted("12_0", "a") == "CANCELLED"
    assert slurm.accounted("12_1", "a|b") == "OUT_OF_MEMORY"
    assert slurm.accounted("12_1", "a") == ""  # an id of another time
    assert slurm.accounting()


@pytest.mark.parametrize("given", [0.0004, 0, -1])
def test_memory_that_rounds_to_the_whole_node_is_refused(given: float):
    with pytest.raises(ValueError, match="memory_gb"):
        Slurm(memory_gb=given)
    assert "--mem=1M" in text(Slurm(memory_gb=1 / 1024), EXECUTION, Path(), "tiny", 1)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"gpus": 2}, ["--gpus-per-node=2"]),
        ({"gpus": 2, "gpu_flag": "gres"}, ["--gres=gpu:2"]),
        ({"gpus": 2, "gpu_flag": "gpus", "nodes": 2}, ["--gpus=4", "--nodes=2"]),
        ({"gpus": 2, "gpu_flag": "none"}, []),
        ({}, []),
        ({"partition": "gpu", "account": "a", "qos": "q", "constraint": "h100"},
         ["--partition=gpu", "--account=a", "--qos=q", "--constraint=h100"]),
        ({"memory_gb": 1.5, "cpus": 8, "timeout_min": 30}, ["--mem=1536M", "--cpus-per-task=8",
                                                              "--time=30"]),
        ({"extra": {"reservation": "tuesday", "exclusive": True}},
         ["--reservation=tuesday", "--exclusive"]),
        ({"pack": 4}, ["--cpus-per-task=4"]),
        ({"signal_seconds": 30}, ["--signal=B:USR2@30"]),
        ({"use_srun": True}, ["--signal=USR2@90"]),
    ],
)  # fmt: skip
def test_what_sbatch_gets(tmp_path: Path, settings: dict[str, Any], lines: list[str]):
    got = text(Slurm(**settings), EXECUTION, tmp_path, "tiny", 3).splitlines()
    assert [f"#SBATCH {line}" for line in lines if f"#SBATCH {line}" not in got] == []
    asked = [line for line in got if "gpus" in line or "gres" in line]
    assert len(asked) == sum("gpus" in line or "gres" in line for line in lines)
    assert "#SBATCH --requeue" in got
    assert not any("wckey" in line for line in got)
    assert f"#SBATCH --array=0-2%{min(3, 500)}" in got
    command = next(line for line in got if "submitit.core._submit" in line)
    # Without srun the worker takes the shell's place, or the signal would never reach it.
    by_srun = settings.get("use_srun") or settings.get("nodes", 1) > 1
    assert command.split()[0] == ("srun" if by_srun else "exec")


def test_set_up_lines_come_before_the_command_and_threads_before_them(tmp_path: Path):
    setting = Slurm(setup=("module load cuda",))
    got = text(setting, Execution(threads=3), tmp_path, "tiny", 1).splitlines()
    places = [got.index(line) for line in ("export OMP_NUM_THREADS=3", "module load cuda")]
    assert places == sorted(places)
    assert got.index("module load cuda") < next(i for i, line in enumerate(got) if "exec" in line)


def test_runs_are_sent_in_arrays_of_the_clusters_size(site: Path, plan: Plan):
    sent = cluster(plan).submit(list(plan.runs()))
    assert [job.id for job in sent.values()] == ["17_0", "17_1", "17_2", "18"]
    assert list(sent) == [run.key for run in plan.runs()]
    arrays = [line for i in (0, 1) for line in (site / f"submitted-{i}").read_text().splitlines()
              if "--array" in line]  # fmt: skip
    assert arrays == ["#SBATCH --array=0-2%3"]  # one job alone is no array
    assert attempts.newest_jobs(plan.root) == {key: job.id for key, job in sent.items()}


def test_a_driver_s_job_hands_no_limit_of_threads_on_to_its_runs(site: Path, tmp_path: Path):
    assert send_driver(Slurm(cpus=4, pack=2), tmp_path, "tiny", ("run", "tiny.yaml")) == "17"
    lines = (site / "submitted-0").read_text().splitlines()
    assert "#SBATCH --cpus-per-task=1" in lines
    assert not [line for line in lines if "NUM_THREADS" in line]


def test_a_refused_driver_s_job_is_told_once_with_a_hint(
    site: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (site / "refusal").write_text("sbatch: error: invalid partition specified: gpuu\n")
    with pytest.raises(ConfigError) as caught:
        send_driver(Slurm(partition="gpuu"), tmp_path, "tiny", ("run", "tiny.yaml"))
    assert str(caught.value) == (
        "sbatch: error: invalid partition specified: gpuu; `sinfo -s` lists the partitions"
    )
    assert capfd.readouterr() == ("", "")


def test_several_runs_share_a_job(site: Path, plan: Plan):
    sent = cluster(plan, pack=3).submit(list(plan.runs()))
    assert [job.id for job in sent.values()] == ["17_0", "17_0", "17_0", "17_1"]


def test_a_driver_inside_a_job_hides_that_job_from_its_own(
    site: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLURM_CPU_BIND", "mask_cpu:0x1")
    monkeypatch.setenv("SBATCH_PARTITION", "wrong")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    cluster(plan).submit(list(plan.runs())[:1])
    names = {line.split("=")[0] for line in (site / "environment").read_text().splitlines()}
    assert "SLURM_CONF" in names
    assert not {"SLURM_CPU_BIND", "SBATCH_PARTITION"} & names
    assert os.environ["SBATCH_PARTITION"] == "wrong"  # here it is as before


def test_a_refusal_is_told_in_sbatchs_words_with_a_hint_and_leaves_nothing(site: Path, plan: Plan):
    words = "sbatch: error: invalid partition specified: gpuu\n"
    (site / "refusal").write_text(words + "sbatch: error: Batch job submission failed: x\n")
    with pytest.raises(ConfigError) as caught:
        cluster(plan, partition="gpuu").submit(list(plan.runs()))
    assert str(caught.value) == (
        "sbatch: error: invalid partition specified: gpuu; error: Batch job submission failed: x; "
        "`sinfo -s` lists the partitions"
    )
    assert list((plan.root / "jobs").iterdir()) == []


def test_a_limit_is_waited_for_if_a_job_of_the_users_is_there_or_some_were_taken(
    site: Path, plan: Plan
):
    executor, runs = cluster(plan), list(plan.runs())
    refusal = "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
    (site / "refusal").write_text(refusal)
    with pytest.raises(ConfigError, match="QOSMaxSubmitJobPerUserLimit"):
        executor.submit(runs)
    assert list((plan.root / "jobs").iterdir()) == []
    show(site, ("9", "RUNNING"), name="trm-other-1-00000000")
    executor.refresh()
    assert executor.submit(runs) == {}
    executor.refresh()
    assert "QOSMaxSubmitJobPerUserLimit" in executor.silence
    later = cluster(plan)
    (site / "refusal").unlink()
    later.submit(runs[:1])
    (site / "refusal").write_text(refusal)
    show(site, ("17", "COMPLETED"))
    later.refresh()
    assert later.submit(runs[1:]) == {}


@pytest.mark.parametrize(
    "words",
    [
        "Unable to contact slurm controller (connect failure)",
        "Zero Bytes were transmitted or received",
        "Slurm backup controller in standby mode",
        "Protocol authentication error",
        "Required partition not available (inactive or drained)",
        "Resource temporarily unavailable",
    ],
)
def test_a_controller_that_is_away_is_waited_for_with_nothing_of_ours_there(
    site: Path, plan: Plan, words: str
):
    executor = cluster(plan)
    (site / "refusal").write_text(f"sbatch: error: Batch job submission failed: {words}\n")
    assert executor.submit(list(plan.runs())) == {}
    assert executor.silence.startswith(f"sbatch: error: Batch job submission failed: {words}")
    assert set(executor.unsure) == set(ORDER[2:] + ORDER[:1])  # an array of 3
    assert len(list((plan.root / "jobs").iterdir())) == 1  # it may have been taken


def test_sbatch_is_left_alone_the_longer_the_more_often_it_could_not(
    site: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    now, tries, executor = 1000.0, [], cluster(plan)
    monkeypatch.setattr("trm_lab.study.cluster.time.monotonic", lambda: now)
    (site / "refusal").write_text("sbatch: error: Resource temporarily unavailable\n")
    for second in range(0, 3600, 15):
        now = 1000.0 + second
        before = len(list(site.glob("submitted-*")))
        executor.submit(list(plan.runs()))
        if len(list(site.glob("submitted-*"))) > before:
            tries.append(second)
        executor.refresh()
    assert tries == [0, 60, 180, 420, 900, 1500, 2100, 2700, 3300]
    (site / "refusal").unlink()
    now += 600
    assert len(executor.submit(list(plan.runs()))) == 4
    assert executor.silence == ""


def test_what_was_sent_before_a_refusal_is_told_and_the_refusal_comes_next(site: Path, plan: Plan):
    executor, runs = cluster(plan), list(plan.runs())
    (site / "bin" / "sbatch").write_text(
        f"#!/bin/sh\n[ -e {site}/once ] && {{ echo 'sbatch: error: invalid qos' >&2; exit 1; }}\n"
        f"touch {site}/once; echo Submitted batch job 17\n"
    )
    sent = executor.submit(runs)
    assert [job.id for job in sent.values()] == ["17_0", "17_1", "17_2"]
    assert [batch.id for batch in attempts.batches(plan.root)] == ["17"]
    with pytest.raises(ConfigError, match="invalid qos"):
        executor.submit(runs[3:])


def test_a_job_is_gone_only_after_two_looks_without_it(site: Path, plan: Plan):
    executor = cluster(plan)
    (job,) = executor.submit(list(plan.runs())[:1]).values()

    def look(*jobs: tuple[str, str], reason: str = "None") -> bool:
        show(site, *jobs, reason=reason)
        executor.refresh()
        return job.done()

    assert not look(("17", "PENDING"), reason="Priority")
    assert not look(("17", "RUNNING"))
    assert not look(("17", "NODE_FAIL"))  # which SLURM is about to run again
    assert not look(("17", "PENDING"), reason="BeginTime")
    assert not look(("17", "RUNNING"))
    assert not look()
    (site / "queue").unlink()
    executor.refresh()
    assert not job.done()  # silence says nothing
    assert look(("17", "COMPLETED"))
    assert job.failure() == ""


def test_a_job_that_ended_says_how(site: Path, plan: Plan):
    executor = cluster(plan)
    (job,) = executor.submit(list(plan.runs())[:1]).values()
    for _ in range(2):
        show(site, ("17", "OUT_OF_MEMORY"))
        executor.refresh()
        ended = job.done()
    assert ended
    assert (job.failure(), job.cancelled()) == ("SLURM says OUT_OF_MEMORY", False)
    show(site)
    executor.refresh()
    (site / "accounts").write_text("17|CANCELLED by 0|jupyter\n")  # whose id it is by now
    assert (job.failure(), job.cancelled()) == ("SLURM says OUT_OF_MEMORY", False)
    name = attempts.batches(plan.root)[0].name
    (site / "accounts").write_text(f"17|CANCELLED by 0|{name}\n")
    assert (job.failure(), job.cancelled()) == ("SLURM says CANCELLED", True)


def test_a_run_whose_heart_beats_is_not_lost_though_the_queue_forgot_it(site: Path, plan: Plan):
    executor = cluster(plan)
    run = next(plan.runs())
    (job,) = executor.submit([run]).values()
    run.folder.path.mkdir(parents=True)
    for beat in range(6):
        run.folder.heartbeat.touch()
        os.utime(run.folder.heartbeat, ns=(beat, beat))  # a clock that is wrong matters not
        executor.refresh()
        assert not job.done()
    for _ in range(4):
        executor.refresh()
        ended = job.done()
    assert ended


def test_a_driver_killed_after_sbatch_finds_its_jobs_by_their_name(site: Path, plan: Plan):
    runs = list(plan.runs())
    lost = attempts.new_batch(plan.root, "tiny", [[run.key] for run in runs[:2]])
    lost.write(plan.root)  # and was killed before the id was written
    show(site, ("41_0", "RUNNING"), ("41_1", "COMPLETED"), name=lost.name)
    found = cluster(plan).adopt(runs, True)
    assert {key: job.id for key, job in found.items()} == {runs[0].key: "41_0"}  # the other ended
    assert attempts.newest_jobs(plan.root)[runs[1].key] == "41_1"


@pytest.mark.parametrize(
    ("state", "by_round", "asked_again"),
    [
        ("RUNNING", True, True),
        ("NODE_FAIL", True, True),  # SLURM is about to run it again
        ("PREEMPTED", True, True),
        ("CANCELLED", True, False),
        ("COMPLETED", True, False),
        ("OUT_OF_MEMORY", True, False),
        (None, True, False),  # forgotten
    ],
)
def test_what_a_new_driver_hears_of_an_older_ones_job(
    site: Path, plan: Plan, state: str | None, by_round: bool, asked_again: bool
):
    run = next(plan.runs())
    (job,) = cluster(plan).submit([run]).values()
    attempts.attempted(run.folder, job.id, job.log, 0)
    show(site, *([("17", state)] if state else []))
    assert bool(cluster(plan).adopt([run], False)) == by_round
    assert bool(cluster(plan).adopt([run], True)) == asked_again
    show(site, ("17", "RUNNING"), name="jupyter")  # an id of another time
    assert cluster(plan).adopt([run], True) == {}


def test_what_was_asked_for_again_is_not_told_as_cancelled(site: Path, plan: Plan):
    run = next(plan.runs())
    (job,) = cluster(plan).submit([run]).values()
    attempts.attempted(run.folder, job.id, job.log, 0)
    show(site, ("17", "CANCELLED"))
    assert list(cluster(plan).adopt([run], False)) == [run.key]
    attempts.forgive(run.folder)
    assert cluster(plan).adopt([run], False) == {}


def test_a_run_that_failed_in_a_pack_does_not_wait_for_the_others(site: Path, plan: Plan):
    runs = list(plan.runs())
    cluster(plan, pack=4).submit(runs)
    show(site, ("17", "RUNNING"))
    runs[0].folder.mark(State.FAILED, "by itself")
    assert list(cluster(plan).adopt(runs, True)) == [run.key for run in runs[1:]]


def in_a_pack(site: Path, plan: Plan) -> tuple[Cluster, list[Run], list[Job]]:
    """Let a pack of two be at work; give the executor, its runs and their jobs."""
    executor, runs = cluster(plan, pack=2), list(plan.runs())[:2]
    jobs = list(executor.submit(runs).values())
    for run, job in zip(runs, jobs, strict=True):
        attempts.attempted(run.folder, job.id, job.log, 0)
        run.folder.write_status({"state": "running", "job": {"id": job.id}})
    show(site, ("17", "RUNNING"))
    executor.refresh()
    return executor, runs, jobs


@pytest.mark.parametrize("state", [State.CANCELLED, State.FAILED, State.LOST])
def test_a_run_that_is_retried_does_not_wait_for_the_pack_in_which_it_ended(
    site: Path, plan: Plan, state: State
):
    _, runs, _ = in_a_pack(site, plan)
    plan.write()
    runs[0].folder.mark(state, "by itself")
    row = next(row for row in overview(plan.root) if row.key == runs[0].key)
    assert row.state is state
    retry([row])
    assert list(cluster(plan).adopt(runs, False)) == [runs[1].key]
    lock = runs[0].folder.lock()  # its process is still there
    assert set(cluster(plan).adopt(runs, False)) == {run.key for run in runs}
    lock.release()
    show(site, ("17", "PENDING"))  # the job's next turn takes the run
    assert set(cluster(plan).adopt(runs, False)) == {run.key for run in runs}


def test_a_run_that_its_pack_has_yet_to_begin_with_is_waited_for(site: Path, plan: Plan):
    _, runs, _ = in_a_pack(site, plan)
    for run in runs:
        run.folder.write_status({"state": "waiting", "job": {"id": "9"}})  # an earlier one
        attempts.forgive(run.folder)
    runs[1].folder.mark(State.LOST, "of that earlier one")
    assert [job.done() for job in cluster(plan).adopt(runs, True).values()] == [False, False]


def test_a_run_that_is_lost_to_a_pack_leaves_it_alone(site: Path, plan: Plan):
    executor, runs, jobs = in_a_pack(site, plan)
    plan.write()
    assert [job.done() for job in jobs] == [False, False]
    runs[0].folder.mark(State.LOST, "killed by signal 9")
    show(site, ("17", "COMPLETING"))
    executor.refresh()
    assert [job.done() for job in jobs] == [False, False]  # somebody may have cancelled it
    show(site, ("17", "RUNNING"))
    executor.refresh()
    assert [job.done() for job in jobs] == [True, False]
    assert (jobs[0].failure(), jobs[0].cancelled()) == ("killed by signal 9", False)
    assert [row.state for row in overview(plan.root)][:2] == [State.LOST, State.RUNNING]
    # What its end was counts for a round of a new driver, and not if a user asks again.
    assert set(cluster(plan).adopt(runs, False)) == {run.key for run in runs}
    assert list(cluster(plan).adopt(runs, True)) == [runs[1].key]
    jobs[0].cancel()
    assert not (site / "cancelled").exists()
    runs[1].folder.ask_to_cancel()
    jobs[0].cancel()
    assert (site / "cancelled").read_text() == "--quiet 17\n"


def test_a_pack_does_not_stay_for_a_run_that_another_job_has_by_now(site: Path, plan: Plan):
    _, runs, jobs = in_a_pack(site, plan)
    attempts.attempted(runs[1].folder, "18", "", 0)
    jobs[0].cancel()
    assert (site / "cancelled").read_text() == "--quiet 17\n"


def test_a_driver_sends_the_killed_run_of_a_pack_again_and_lets_its_mates_work(
    site: Path, tmp_path: Path
):
    executor = Slurm(poll_seconds=0.01, pack=4, max_attempts=2)
    sweep = Sweep(name="c", executor=executor, execution=EXECUTION)
    plan, looks = planned(tmp_path / "runs", sweep=sweep), list[int]()
    runs, names = runs_by_key(plan), list[str]()
    first = runs[ORDER[0]].folder

    def tick() -> None:
        looks.append(1)
        assert len(looks) < 500
        texts = [path.read_text() for path in sorted(site.glob("submitted-*"))]
        names[:] = re.findall(r"--job-name=(\S+)", "\n".join(texts))
        queue = [f"{17 + i}|RUNNING|None|n1|{name}\n" for i, name in enumerate(names)]
        (site / "queue").write_text("".join(queue))
        sent = [line["job"] for line in attempts.attempts(first)]
        if len(looks) == 1:
            for run in runs.values():
                run.folder.write_status({"state": "running", "job": {"id": "17"}})
            first.mark(State.LOST, "killed by signal 9")
        elif sent == ["17", "18"] and first.state() is State.LOST:
            first.mark(State.LOST, "killed by signal 11", job={"id": "18"})
        elif first.state() is State.FAILED:
            for key in ORDER[1:]:
                runs[key].folder.mark(State.DIVERGED, "")

    assert drive(plan, tick=tick) == {State.FAILED: 1, State.DIVERGED: 3}
    told = first.status()
    assert told is not None
    assert told["error"]["message"] == "killed by signal 11; 2 attempts came no further"
    assert len(names) == 2
    assert not (site / "cancelled").exists()


def test_a_single_round_sends_again_what_it_finds_lost(site: Path, tmp_path: Path):
    sweep = Sweep(name="c", executor=Slurm(poll_seconds=0.01, pack=2), execution=EXECUTION)
    plan = planned(tmp_path / "runs", sweep=sweep)
    _, runs, _ = in_a_pack(site, plan)
    for run in plan.runs():
        run.folder.mark(State.LOST if run.key in {r.key for r in runs} else State.DIVERGED, "")
    drive(plan, once=True, again=False)
    assert [[line["job"] for line in attempts.attempts(run.folder)] for run in runs] == [
        ["17", "18"], ["17", "18"],
    ]  # fmt: skip


def test_a_run_of_a_pack_that_is_retried_at_once_is_sent_though_the_driver_saw_it_cancelled(
    site: Path, tmp_path: Path
):
    sweep = Sweep(name="c", executor=Slurm(poll_seconds=0.01, pack=4), execution=EXECUTION)
    plan, looks = planned(tmp_path / "runs", sweep=sweep), list[int]()
    runs = runs_by_key(plan)
    first = runs[ORDER[0]].folder

    def tick() -> None:
        looks.append(1)
        assert len(looks) < 500
        if len(looks) == 1:
            show(site, ("17", "RUNNING"))
            for run in runs.values():
                run.folder.write_status({"state": "running", "job": {"id": "17"}})
            first.ask_to_cancel()
        if len(looks) == 3:  # heeded, and taken back before the driver looks again
            first.mark(State.CANCELLED, "cancelled by hand")
            retry([row for row in overview(plan.root) if row.folder.path == first.path])
        if len(list(site.glob("submitted-*"))) == 2:
            for run in runs.values():
                run.folder.mark(State.DIVERGED, "")

    assert drive(plan, tick=tick) == {State.DIVERGED: 4}
    assert [line.get("job", "forgiven") for line in attempts.attempts(first)] == [
        "17", "forgiven", "18",
    ]  # fmt: skip


def test_a_batch_file_that_cannot_be_read_stops_a_driver_while_its_jobs_live(
    site: Path, plan: Plan
):
    runs = list(plan.runs())
    cluster(plan).submit(runs[:2])
    (path,) = (plan.root / "jobs").iterdir()
    path.write_text("{")
    show(site, ("17_0", "RUNNING"))
    with pytest.raises(ConfigError, match=rf"{path}: cannot be read.*scancel 17`"):
        cluster(plan).adopt(runs, True)
    show(site)
    assert cluster(plan).adopt(runs, True) == {}


def test_batches_are_in_the_order_in_which_they_were_sent(site: Path, plan: Plan):
    runs = list(plan.runs())[:1]
    ids = [next(iter(cluster(plan).submit(runs).values())).id for _ in range(12)]
    assert [batch.id for batch in attempts.batches(plan.root)] == ids
    assert attempts.newest_jobs(plan.root) == {runs[0].key: ids[-1]}


def timed_out(site: Path, executor: Cluster, runs: list[Run]) -> str:
    """Let sbatch say nothing of an array of runs; give the jobs' name."""
    (site / "refusal").write_text("sbatch: error: Socket timed out on send/recv operation\n")
    assert executor.submit(runs) == {}
    (site / "refusal").unlink()
    return max(attempts.batches(executor.root), key=lambda batch: batch.number).name


@pytest.mark.parametrize("taken", [True, False])
def test_a_batch_of_which_sbatch_said_nothing_is_looked_for(
    site: Path, plan: Plan, taken: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trm_lab.study.cluster.FIRST_PAUSE", 0.0)
    runs, executor = list(plan.runs()), cluster(plan)
    executor.poll_seconds = 0.0  # looks alone count
    executor.submit(runs[:1])
    show(site, ("17", "RUNNING"))
    name = timed_out(site, executor, runs[1:])
    assert "Socket timed out" in executor.silence
    for _ in range(3):
        assert executor.refresh() == {}
    (site / "queue").rename(site / "away")
    for _ in range(9):
        assert executor.refresh() == {}  # silence says nothing
    (site / "away").rename(site / "queue")
    assert list(executor.unsure) == [run.key for run in runs[1:]]
    assert executor.submit(runs[1:]) == {}
    if taken:
        show(site, ("30_0", "RUNNING"), ("30_1", "PENDING"), ("30_2", "PENDING"), name=name)
    sent = executor.refresh()
    assert list(executor.unsure) == []
    if not taken:
        assert sent == {}
        sent = executor.submit(runs[1:])
    assert [job.id for job in sent.values()] == (
        ["30_0", "30_1", "30_2"] if taken else ["18_0", "18_1", "18_2"]
    )
    assert len(list(site.glob("submitted-*"))) == (2 if taken else 3)
    assert len(attempts.batches(plan.root)) == 2
    assert executor.silence == ""


def test_a_single_round_leaves_a_batch_in_doubt_to_the_next(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trm_lab.study.driver.time.sleep", lambda _: None)
    sweep = Sweep(name="c", executor=Slurm(poll_seconds=15), execution=EXECUTION)
    plan = planned(tmp_path / "runs", sweep=sweep)
    (site / "refusal").write_text("sbatch: error: Socket timed out on send/recv operation\n")
    assert drive(plan, once=True) == {State.WAITING: 4}
    (batch,) = attempts.batches(plan.root)
    assert (batch.id, len(batch.tasks)) == (None, 3)
    (site / "refusal").unlink()
    jobs = [(f"30_{i}", "PENDING") for i in range(3)]
    show(site, *jobs, name=batch.name)  # taken all the same
    drive(plan, once=True)
    found, *rest = attempts.batches(plan.root)
    assert (found.id, found.tasks) == ("30", batch.tasks)
    assert {one.tasks for one in rest} == {((ORDER[3],),)}  # none of the first is sent again


@pytest.mark.parametrize("count", [1, 4])
def test_runs_cancelled_while_their_batch_is_in_doubt_leave_the_queue(
    site: Path, tmp_path: Path, count: int
):
    sweep = Sweep(name="c", executor=Slurm(poll_seconds=0.01), execution=EXECUTION)
    plan, told = planned(tmp_path / "runs", sweep=sweep), []
    runs, looks = runs_by_key(plan), []
    (site / "refusal").write_text("sbatch: error: Socket timed out on send/recv operation\n")

    def tick() -> None:
        looks.append(1)
        if len(looks) == 1:
            for key in ORDER[:count]:
                runs[key].folder.ask_to_cancel()
        if len(looks) == 2:  # it was taken all the same, and is found
            (site / "refusal").unlink()
            show(site, ("30_0", "PENDING"), ("30_1", "RUNNING"), ("30_2", "RUNNING"))
        if len(looks) == 4:
            show(site, ("30_0", "CANCELLED"), ("30_1", "CANCELLED"), ("30_2", "CANCELLED"))
        if len(looks) == 6 and count == 1:
            raise KeyboardInterrupt

    drive_ = partial(drive, plan, tick=tick, say=told.append)
    if count == 4:
        assert drive_() == {State.CANCELLED: 4}
    else:
        with pytest.raises(KeyboardInterrupt):
            drive_()
    said = (site / "cancelled").read_text().split()
    assert {word for word in said if word != "--quiet"} == {f"30_{i}" for i in range(min(count, 3))}
    assert runs[ORDER[0]].folder.state() is State.CANCELLED
    assert told == [
        f"{plan.root}: sbatch: error: Socket timed out on send/recv operation",
        f"{plan.root}: SLURM answers again",
    ]
    assert [line["job"] for line in attempts.attempts(runs[ORDER[1]].folder)] == ["30_1"]


def test_the_room_is_counted_in_jobs(site: Path, plan: Plan):
    executor = cluster(plan, pack=3, max_jobs=2)
    assert executor.room([]) == 6
    jobs = list(executor.submit(list(plan.runs())).values())
    assert executor.room(jobs) == 0  # 3 runs in one and 1 in the other
    assert executor.room(jobs[:1]) == executor.room(jobs[:3]) == 3


def test_jobs_of_hidden_partitions_are_seen_and_ones_own_filters_ignored(
    site: Path, monkeypatch: pytest.MonkeyPatch
):
    (site / "bin" / "squeue").write_text(
        f'#!/bin/sh\necho "$@" > {site}/asked\nenv >> {site}/asked\n'
    )
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    slurm.queue()
    asked = (site / "asked").read_text().splitlines()
    assert "-a" in asked[0].split()
    assert not any(line.startswith("SQUEUE_") for line in asked)


def test_cancelling_takes_only_live_jobs_that_are_ours(site: Path, plan: Plan):
    runs = list(plan.runs())
    cluster(plan).submit(runs[:2])
    cluster(plan).submit(runs[3:])
    show(site, ("17_0", "COMPLETED"), ("17_1", "PENDING"), name=attempts.batches(plan.root)[0].name)
    lost = attempts.new_batch(plan.root, "tiny", [[runs[2].key]])
    lost.write(plan.root)  # without its id
    with (site / "queue").open("a") as file:
        file.write(f"18|RUNNING|None|n1|jupyter\n44|PENDING|None||{lost.name}\n")
    plan.write()
    cancel(plan.root, overview(plan.root), driven=False)
    assert (site / "cancelled").read_text() == "--quiet 17_1 44\n"
    assert all(run.folder.asked_to_cancel() for run in runs)
    assert {run.folder.state() for run in runs} == {State.CANCELLED}


def test_jobs_of_a_cell_that_the_study_has_lost_are_named_and_taken_out(site: Path, tmp_path: Path):
    sweep = Sweep(name="c", executor=Slurm(poll_seconds=0.01, pack=2), execution=EXECUTION)
    plan, told = planned(tmp_path, sweep=sweep), []
    cluster(plan, pack=2).submit([runs_by_key(plan)[key] for key in ORDER])
    show(site, ("17_0", "PENDING"), ("17_1", "PENDING"))
    less = planned(tmp_path, *LESS, sweep=sweep)
    drive(less, say=told.append, once=True)
    assert told == [
        f"{plan.root}: in the queue, but not in this plan: {ORDER[0]} and 1 more; "
        "`scancel 17_0` takes out what is not wanted"
    ]
    assert in_a_process("cancel", str(plan.root), "--only", "shallow").out.count("cancelled") == 1
    assert (site / "cancelled").read_text() == "--quiet 17_1\n"
    with sole_driver(plan.root):
        assert in_a_process("cancel", str(plan.root)).out.splitlines()[-1] == (
            f"{plan.root}: 1 job of runs that the study has no more taken out: 17_0"
        )
    assert (site / "cancelled").read_text() == "--quiet 17_1\n--quiet 17_0\n"


def test_a_driver_of_another_sweep_tells_of_the_studys_jobs_in_the_queue(
    site: Path, finished: Plan
):
    runs, told = list(finished.runs()), list[str]()
    cluster(finished, pack=2).submit(runs)
    show(site, ("17_0", "PENDING"), ("17_1", "RUNNING"))
    for only in (None, "deep"):
        drive(finished, only, say=told.append)
    assert (
        told
        == [
            f"{finished.root}: in the queue, but not waited for here: {ORDER[0]} and 3 more; "
            "`scancel 17_0 17_1` takes out what is not wanted"
        ]
        * 2
    )
    show(site, ("17_0", "COMPLETED"), ("17_1", "COMPLETED"))
    drive(finished, say=told.append)
    assert len(told) == 2


def test_a_pack_is_taken_out_unless_another_of_its_runs_is_to_go_on(site: Path, plan: Plan):
    runs = list(plan.runs())
    cluster(plan, pack=2).submit(runs)
    show(site, ("17_0", "RUNNING"), ("17_1", "RUNNING"))
    plan.write()
    rows = {row.key: row for row in overview(plan.root)}
    mate = runs[1].key
    cancel(plan.root, [rows[runs[0].key]], driven=False, others={mate})
    assert not (site / "cancelled").exists()
    cancel(plan.root, [rows[runs[0].key]], driven=False, others=())  # its mate has ended
    assert (site / "cancelled").read_text() == "--quiet 17_0\n"


@pytest.mark.parametrize("each", [0.0, 11.0])  # refused at once, or given up after its time-out
def test_without_an_answer_nothing_is_submitted_after_a_minute(
    site: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, each: float
):
    now = 1000.0

    def asked() -> dict[str, slurm.Queued]:
        nonlocal now
        now += each
        raise slurm.SilentError("squeue: Unable to contact slurm controller")

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    executor = cluster(plan)
    monkeypatch.setattr(slurm, "queue", asked)
    monkeypatch.setattr("trm_lab.study.cluster.time.monotonic", lambda: now)
    monkeypatch.setattr("trm_lab.study.cluster.time.sleep", sleep)
    told = "squeue: Unable to contact slurm controller; nothing was submitted"
    with pytest.raises(slurm.SilentError, match=f"^{told}$"):
        executor.adopt(list(plan.runs()), True)
    assert 60 <= now - 1000 <= 60 + each


@pytest.mark.parametrize("once", [True, False])
def test_a_study_at_its_end_needs_no_answer(site: Path, finished: Plan, once: bool):
    for name in ("squeue", "scontrol"):
        (site / "bin" / name).write_text(f"#!/bin/sh\necho {name} >> {site}/asked\nexit 1\n")
    sweep = Sweep(name="c", executor=Slurm(), execution=EXECUTION)
    plan, told = planned(finished.root.parent, sweep=sweep), list[str]()
    attempts.new_batch(plan.root, "tiny", [list(ORDER)]).submitted("17").write(plan.root)
    assert drive(plan, say=told.append, once=once) == {State.COMPLETED: 4}
    assert told == []
    assert (site / "asked").read_text() == "squeue\n"  # each lasts 10 s while nobody answers


def test_only_attempts_from_the_same_checkpoint_are_in_vain(plan: Plan):
    folder = runs_by_key(plan)[ORDER[0]].folder
    for _ in range(2):
        attempts.attempted(folder, "17", "", 0)
    assert attempts.in_vain(folder) == 2
    folder.write_status({"state": "lost", "checkpointed": 5})
    assert attempts.in_vain(folder) == 0
    attempts.attempted(folder, "18", "", 5)
    with (folder.path / "attempts.jsonl").open("a") as file:
        file.write('{"job": "19", "fr')  # cut short by a kill
    assert attempts.in_vain(folder) == 1
    attempts.forgive(folder)
    assert attempts.in_vain(folder) == 0


Written = Callable[[str, str], Path]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return write


SWEEP = "name: here\nexecutor: {kind: slurm, profile: mylab, timeout_min: 30}\n"


def test_a_sweep_overrules_the_profile_that_it_names(written: Written):
    written("home/trm_lab/mylab.yaml", "partition: gpu\ntimeout_min: 600\nextra: {nice: 5}\n")
    executor = load_sweep(written("sweep.yaml", SWEEP)).sweep.executor
    assert executor == Slurm(
        profile="mylab", partition="gpu", timeout_min=30, extra={"nice": 5}
    )  # fmt: skip
    # One beside the sweep comes first.
    written("mylab.yaml", "partition: near\n")
    found = load_sweep(written("sweep.yaml", SWEEP)).sweep
    assert isinstance(found, Sweep)
    assert isinstance(found.executor, Slurm)
    assert found.executor.partition == "near"


@pytest.mark.parametrize(
    ("profile", "error"),
    [
        ("partitoin: gpu\n", "mylab.yaml:1:1: partitoin: unknown setting; did you mean partition?"),
        ("gpus: many\n", "mylab.yaml:1:1: gpus: input should be a valid integer, not 'many'"),
        ("profile: other\n", "mylab.yaml:1:1: profile: has no place in a profile"),
        ("- gpu\n", "mylab.yaml:1:1: expected a mapping of settings, found ['gpu']"),
        ("signal_seconds: 9000\n", "mylab.yaml:1:1: signal_seconds 9000 must be less than"),
    ],
)
def test_an_error_in_a_profile_stands_where_it_is(written: Written, profile: str, error: str):
    written("home/trm_lab/mylab.yaml", profile)
    with pytest.raises(ConfigError) as caught:
        load_sweep(written("sweep.yaml", SWEEP))
    assert error in str(caught.value)


def test_a_profile_that_is_not_there_is_named_with_the_near_miss(written: Written):
    written("home/trm_lab/mylabs.yaml", "partition: gpu\n")
    path = written("sweep.yaml", SWEEP)
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(f"{path}:2:25: executor.profile: no profile 'mylab' in ")
    assert str(caught.value).endswith("; did you mean mylabs?")


def test_a_sweep_named_like_its_profile_is_no_profile(written: Written):
    path = written("mylab.yaml", SWEEP)
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    looked = f"{path.parent} and {path.parent / 'home' / 'trm_lab'}"
    assert str(caught.value) == (
        f"{path}:2:25: executor.profile: no profile 'mylab' in {looked}"
    )  # fmt: skip
    written("home/trm_lab/mylab.yaml", "partition: gpu\n")
    executor = load_sweep(path).sweep.executor
    assert executor == Slurm(profile="mylab", partition="gpu", timeout_min=30)


def test_a_cluster_without_commands_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="no sbatch and squeue on this machine"):
        cluster(plan)


def test_the_batch_file_names_every_run_of_every_job(site: Path, plan: Plan):
    cluster(plan, pack=3).submit(list(plan.runs()))
    (path,) = (plan.root / "jobs").iterdir()
    told = json.loads(path.read_text())
    assert told["id"] == "17"
    assert [len(task) for task in told["tasks"]] == [3, 1]
    assert f"#SBATCH --job-name={told['name']}" in (site / "submitted-0").read_text()
    assert {run.folder.state() for run in plan.runs()} == {State.WAITING}


def test_status_takes_the_queues_word_for_a_run_whose_lock_is_not_seen(site: Path, plan: Plan):
    executor = cluster(plan)
    plan.write()
    sent = executor.submit(list(plan.runs()))
    pending, running, lost, gone = sent
    for key in sent:
        runs_by_key(plan)[key].folder.mark(State.RUNNING, "")
    runs_by_key(plan)[lost].folder.mark(State.LOST, "")
    queue = [(sent[pending].id, "PENDING"), (sent[running].id, "RUNNING"),
             (sent[lost].id, "RUNNING")]  # fmt: skip
    arrays = attempts.batches(plan.root)[0].name
    show(site, *queue, reason="Priority", name=arrays)
    told = {row.key: (row.state, row.reason, row.live) for row in overview(plan.root)}
    assert told == {
        pending: (State.WAITING, "pending: Priority", True),
        running: (State.RUNNING, "", True),
        lost: (State.WAITING, "", True),
        gone: (State.LOST, "", False),
    }
    show(site, *queue, reason="Priority", name="jupyter")  # the ids are others' by now
    assert {(row.state, row.live) for row in overview(plan.root)} == {(State.LOST, False)}
    assert sum(f.what == "run" for f in study_findings(plan.root)) == 3  # one says lost itself
    show(site, *queue, name=arrays)
    assert sum(f.what == "run" for f in study_findings(plan.root)) == 1


def test_a_silent_queue_is_bad_for_a_study_that_is_sent_there_alone(site: Path, tmp_path: Path):
    here, there = (
        planned(tmp_path / name, sweep=Sweep(name=name, executor=executor, execution=EXECUTION))
        for name, executor in (("here", InProcess()), ("there", Slurm()))
    )
    (site / "queue").unlink()
    for plan, said in ((here, []), (there, ["the study runs on SLURM, which is silent: "])):
        plan.root.mkdir(parents=True)
        plan.write()
        found = [f for f in study_findings(plan.root) if f.what == "queue"]
        assert [f.verdict for f in found] == ["bad"] * len(said)
        assert all(f.detail.startswith(text) for f, text in zip(found, said, strict=True))
    run = next(there.runs()).folder
    run.mark(State.RUNNING, "")  # whether its job lives is not known
    assert not [f for f in study_findings(there.root) if f.what == "run"]


def test_status_leaves_runs_as_they_are_recorded_while_the_queue_is_silent(site: Path, plan: Plan):
    executor = cluster(plan)
    plan.write()
    first, *_ = executor.submit(list(plan.runs()))
    runs_by_key(plan)[first].folder.mark(State.RUNNING, "")
    (site / "queue").unlink()
    row = next(row for row in overview(plan.root) if row.key == first)
    assert (row.state, row.live) == (State.RUNNING, True)
    assert row.reason.startswith("SLURM does not answer: ")
