"""The throwaway cluster itself: what the other tests here rely on."""

import re
import shutil
from pathlib import Path

import pytest

from tests.slurm.cluster import PACKAGES, Cluster, cluster, missing
from tests.slurm.configuration import Options
from tests.slurm.processes import alive, wait_for

pytestmark = pytest.mark.slow

HOLD = "while [ ! -e {stop} ]; do sleep 0.05; done"
"""A job that lasts as long as the test wants."""


def over(slurm: Cluster, job: str) -> bool:
    return job not in slurm.jobs()


def runs_of(slurm: Cluster, job: str, started: Path, count: int) -> None:
    """Wait until a job that notes its node at every start has started so often."""
    wait_for(f"start {count} of {job}", lambda: len(read(started)) >= count, 30)


def read(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def held(slurm: Cluster, folder: Path, *options: str) -> tuple[str, Path, Path]:
    """Start a job that lasts until a file is there; give its id, its list of starts, the file."""
    started, stop = folder / "started", folder / "stop"
    line = f"echo $SLURMD_NODENAME >> {started}; " + HOLD.format(stop=stop)
    job = slurm.submit(*options, wrap=line)
    runs_of(slurm, job, started, 1)
    return job, started, stop


def test_a_job_runs_on_its_node(either: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = either.submit("-w", "n2", wrap=f"echo $SLURMD_NODENAME > {out}")
    wait_for("end", lambda: over(either, job), 20)
    assert read(out) == ["n2"]
    assert either.state(job) == "COMPLETED"


def test_six_jobs_of_one_gpu_get_six_different_ones(slurm: Cluster, tmp_path: Path) -> None:
    line = (f"echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES > {tmp_path}/$SLURM_JOB_ID; "
            + HOLD.format(stop=tmp_path / "stop"))  # fmt: skip
    dialects = ("--gpus-per-node=1", "--gres=gpu:1", "--gpus=1")
    jobs = [slurm.submit(dialects[i % 3], wrap=line) for i in range(6)]
    wait_for("six at once", lambda: all(read(tmp_path / job) for job in jobs), 30)
    (tmp_path / "stop").touch()
    got = sorted((tmp_path / job).read_text().strip() for job in jobs)
    assert got == [f"n{node} {gpu}" for node in (1, 2, 3) for gpu in (0, 1)]


def test_arrays_may_be_as_long_as_max_array_size_and_no_longer(
    slurm: Cluster, tmp_path: Path
) -> None:
    line = f"touch {tmp_path}/$SLURM_ARRAY_TASK_ID"
    slurm.submit("--array=0-5", wrap=line)
    wait_for("tasks", lambda: not slurm.jobs(), 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4", "5"]
    refused = slurm.run("sbatch", "--array=0-6", "--wrap", line)
    assert refused.returncode == 1
    assert "Invalid job array specification" in refused.stderr


def test_a_preempted_job_gets_its_signal_and_may_requeue_itself(
    slurm: Cluster, tmp_path: Path
) -> None:
    started, stop, script = (tmp_path / name for name in ("started", "stop", "job"))
    script.write_text(
        "#!/bin/bash\ntrap 'scontrol requeue $SLURM_JOB_ID' USR2\n"
        f"echo $SLURMD_NODENAME >> {started}\n{HOLD.format(stop=stop)}\n"
    )
    where = ("-w", "n2", "-c", "2")
    # B: is for a job without srun: the signal is meant for the batch script.
    low = ("--parsable", "-o", "/dev/null", "-p", "low", "--signal=B:USR2@30", *where)
    job = slurm.run("sbatch", *low, str(script)).stdout.strip()
    runs_of(slurm, job, started, 1)
    urgent = slurm.submit("-p", "high", *where, wrap="true")
    wait_for("the urgent job", lambda: over(slurm, urgent), 30)
    slurm.no_requeue_wait(job)
    runs_of(slurm, job, started, 2)
    assert slurm.job(job)[::2] == ("RUNNING", "n2")
    stop.touch()
    wait_for("end", lambda: over(slurm, job), 20)
    assert slurm.state(job) == "COMPLETED"


def test_a_job_of_a_lost_node_runs_again_elsewhere(either: Cluster, tmp_path: Path) -> None:
    job, started, stop = held(either, tmp_path)
    (first,) = read(started)
    either.lose_node(first)
    assert either.job_processes(first) == []
    wait_for("requeue", lambda: either.job(job)[1] == "BeginTime", 20)
    either.no_requeue_wait(job)
    runs_of(either, job, started, 2)
    assert read(started)[1] != first
    stop.touch()
    wait_for("end", lambda: over(either, job), 20)
    either.start_node(first)


def test_a_job_of_a_parted_node_runs_twice_at_once(slurm: Cluster, tmp_path: Path) -> None:
    job, started, stop = held(slurm, tmp_path)
    (first,) = read(started)
    slurm.part_node(first)
    wait_for("requeue", lambda: slurm.job(job)[1] == "BeginTime", 20)
    slurm.no_requeue_wait(job)
    runs_of(slurm, job, started, 2)
    assert slurm.job_processes(first, job)
    slurm.start_node(first)  # slurmd finds the old run and ends it
    wait_for("one run", lambda: not slurm.job_processes(first, job), 30)
    stop.touch()


def test_a_closed_partition_keeps_jobs_waiting_and_says_why(slurm: Cluster) -> None:
    job = slurm.submit("-p", "closed", wrap="true")
    wait_for("reason", lambda: slurm.job(job) == ("PENDING", "PartitionDown", ""), 10)


def test_sacct_says_that_accounting_is_disabled(slurm: Cluster) -> None:
    said = slurm.run("sacct")
    assert (said.returncode, said.stderr.strip()) == (1, "Slurm accounting storage is disabled")


def test_sacct_has_every_run_of_a_requeued_job(accounted: Cluster, tmp_path: Path) -> None:
    job, started, stop = held(accounted, tmp_path)
    accounted.run("scontrol", "requeue", job)
    wait_for("requeue", lambda: accounted.job(job)[1] == "BeginTime", 20)
    accounted.no_requeue_wait(job)
    runs_of(accounted, job, started, 2)
    stop.touch()
    wait_for("history", lambda: accounted.history(job) == ["REQUEUED", "COMPLETED"], 20)


def test_a_stopped_cluster_leaves_neither_process_nor_file(tmp_path: Path) -> None:
    options = Options(nodes=1)
    if missing(options):
        pytest.skip(missing(options))
    with cluster(options) as slurm:
        job = slurm.submit(wrap=f"touch {tmp_path}/up; setsid sleep 1000")
        wait_for("a process", lambda: (tmp_path / "up").exists(), 20)
        wait_for("its child", lambda: len(slurm.job_processes(job=job)) >= 2, 20)
        ours = slurm.processes()
        assert len(ours) >= 6  # munged, slurmctld, slurmd, slurmstepd, shell, sleep
    assert [pid for pid in ours if alive(pid)] == []
    assert slurm.processes() == []
    assert not slurm.folder.exists()


def _found(name: str, path: str) -> str | None:
    return None if "slurm" in name else name


def test_what_is_missing_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", _found)
    assert missing(Options(accounting=True)) == (
        "no slurmctld, slurmd, slurmdbd: apt-get install --no-install-recommends munge slurm-wlm "
        "slurmdbd mariadb-server-core"
    )


def test_make_installs_what_the_fixture_names() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    (packages,) = re.findall(r"^TEST_PACKAGES := (.*)$", makefile, re.MULTILINE)
    assert set(PACKAGES.split()) <= set(packages.split())
