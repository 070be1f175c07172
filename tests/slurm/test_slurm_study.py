"""Studies on a real SLURM, undisturbed: through the command line, from sweep file to results."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.processes import wait_for
from tests.slurm.studies import (
    MANY,
    ONE,
    UPDATES,
    Commands,
    Held,
    command,
    counting,
    in_process,
    inherited,
    prepare,
)
from tests.study.tiny import results, states

SHORT = ((f"updates: {UPDATES}", "updates: 2"), (f"every: {UPDATES}", "every: 2"))

pytestmark = pytest.mark.xdist_group("slurm")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What 12 cells x 2 seeds give in one process."""
    return results(in_process(tmp_path_factory.mktemp("many"), MANY).root)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What 2 cells x 2 seeds give in one process."""
    return results(in_process(tmp_path_factory.mktemp("four")).root)


@pytest.mark.slow
def test_twelve_cells_come_back_exactly_in_arrays_no_longer_than_allowed(
    slurm: Cluster, tmp_path: Path, many: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, MANY)
    with counting(slurm) as sizes:
        done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "24 completed" in done.stdout
    assert results(commands.root) == many
    assert sum(sizes.values()) == 24
    assert 4 <= len(sizes) <= 5
    assert max(sizes.values()) <= slurm.options.max_array
    assert (commands.root / "results.nc").exists()


@pytest.mark.slow
def test_several_runs_share_a_job(either: Cluster, tmp_path: Path, four: dict[str, Any]) -> None:
    commands = prepare(tmp_path, pack=3)
    with counting(either) as sizes:
        done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert results(commands.root) == four
    assert sum(sizes.values()) == 2  # three runs and one


@pytest.mark.slow
def test_a_driver_inside_a_job_sends_jobs_of_their_own_kind(
    slurm: Cluster, tmp_path: Path, four: dict[str, Any]
) -> None:
    commands, out = prepare(tmp_path, pack=4), tmp_path / "out"
    arguments = ("tiny.yaml", "--on", "cluster.yaml", "--runs", "runs")
    line = " ".join([sys.executable, "-m", "trm_lab.cli", "run", *arguments])
    options = ("-p", "high", "-c", "2", "--mem", "300", "-w", "n1", "-D", str(tmp_path))
    outer = slurm.submit(*options, wrap=f"export SBATCH_PARTITION=closed; {line} > {out} 2>&1")
    # Where the driver's job has SLURM_CPUS_PER_TASK=2 and more, its runs' job has not.
    seen: dict[str, str] = {}

    def ended() -> bool:
        for job in slurm.jobs():
            seen[job] = slurm.ask("scontrol", "show", "job", job)
        return outer not in slurm.jobs()

    wait_for("the driver", ended, 120)
    assert "4 completed" in out.read_text()
    assert results(commands.root) == four
    (inner,) = (text for job, text in seen.items() if job != outer)
    for wanted in ("Partition=low", "NumCPUs=1 ", "CPUs/Task=1 ", "MinMemoryNode=205M"):
        assert wanted in inner


def test_a_bad_partition_is_told_in_sbatch_s_words_with_a_hint(
    slurm: Cluster, tmp_path: Path
) -> None:
    commands = prepare(tmp_path, partition="nope")
    with counting(slurm) as sizes:
        done = commands.run()
    assert done.returncode == 2
    assert "invalid partition specified: nope" in done.stderr
    assert "Traceback" not in done.stderr
    assert "sinfo -s" in done.stderr
    assert sizes == {}
    assert set(commands.states()) == {"waiting"}


def test_a_waiting_job_s_reason_is_shown_and_it_can_be_cancelled(
    slurm: Cluster, tmp_path: Path
) -> None:
    commands = prepare(tmp_path, partition="closed")
    with commands.driving() as driver:

        def reason() -> str:
            return str(commands.status()[0].get("reason"))

        wait_for("reason", lambda: "PartitionDown" in reason(), 60, every=0.5)
        row = commands.status()[0]
        assert row["state"] == "waiting"
        assert row["job"] in slurm.jobs()
        cancelled = command("cancel", commands.root)
        assert (cancelled.returncode, cancelled.stderr) == (0, "")
        wait_for("an empty queue", lambda: not slurm.jobs(), 20)
        assert driver.wait(60) == 1
    assert commands.states() == ["cancelled"] * 4


@pytest.mark.slow
def test_a_driver_killed_between_sbatch_and_its_note_leaves_no_run_lost_or_doubled(
    slurm: Cluster, tmp_path: Path, four: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = prepare(tmp_path / "study")
    real = slurm.ask("which", "sbatch")
    fatal = tmp_path / "bin" / "sbatch"
    fatal.parent.mkdir()
    fatal.write_text(f'#!/bin/bash\n{real} "$@"\nkill -KILL $PPID\n')
    fatal.chmod(0o755)
    with counting(slurm) as sizes:
        with monkeypatch.context() as patch:
            patch.setenv("PATH", inherited(fatal.parent))
            assert commands.run().returncode == -9
        assert len(slurm.jobs()) == 4
        done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(sizes.values()) == 4
    assert results(commands.root) == four


@pytest.mark.slow
def test_detached_drivers_and_single_rounds_bring_a_study_to_its_end(
    slurm: Cluster, tmp_path: Path, four: dict[str, Any]
) -> None:
    detached, rounds = prepare(tmp_path / "a", pack=4), prepare(tmp_path / "b", pack=4)
    with counting(slurm) as sizes:
        assert detached.run("--detach").returncode == 0

        def sync() -> bool:
            assert rounds.run(verb="sync").returncode in (0, 1)
            return set(states(rounds.root).values()) == {"completed"}

        wait_for("rounds", sync, 90)
        wait_for("detached", lambda: set(detached.states()) == {"completed"}, 60, every=0.5)
    assert results(detached.root) == four
    assert results(rounds.root) == four
    assert sum(sizes.values()) == 2


@pytest.mark.slow
def test_each_dialect_gives_a_run_its_gpu(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(tmp_path)
    held.go()
    monkeypatch.setenv("TRM_LAB_HOLD", str(tmp_path))
    got: dict[str, set[str]] = {}
    for flag in ("gpus_per_node", "gres", "gpus", "none"):
        before = held.steps()
        commands: Commands = prepare(
            tmp_path / flag, ONE, SHORT,
            gpus=1, gpu_flag=flag,
        )  # fmt: skip
        done = commands.run()
        assert (done.returncode, done.stderr) == (0, "")
        got[flag] = {step.gpus for step in held.steps(*before)}
    assert got == {"gpus_per_node": {"0"}, "gres": {"0"}, "gpus": {"0"}, "none": {"none"}}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
