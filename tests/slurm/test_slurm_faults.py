"""Runs on a real SLURM that are preempted, killed, requeued, lost: each ends as if undisturbed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.parts import Step
from tests.slurm.processes import wait_for
from tests.slurm.studies import (
    ONE,
    TWO,
    UPDATES,
    Commands,
    Held,
    checkpointed,
    command,
    counting,
    in_process,
    prepare,
)
from tests.study.tiny import results

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the held run gives in one process."""
    place = tmp_path_factory.mktemp("undisturbed")
    Held(place).go()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRM_LAB_HOLD", str(place))
        return results(in_process(place / "runs", ONE).root)


@pytest.fixture(scope="module")
def undisturbed_pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two held runs give in one process."""
    place = tmp_path_factory.mktemp("pair")
    Held(place).go()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRM_LAB_HOLD", str(place))
        return results(in_process(place / "runs", TWO).root)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setenv("TRM_LAB_HOLD", str(tmp_path))
    return Held(tmp_path)


def let_start(slurm: Cluster, job: str) -> None:
    """Wait until a job is back in the queue, and let it start."""
    wait_for("requeue", lambda: slurm.job(job)[0] == "PENDING", 60)
    slurm.no_requeue_wait(job)


def went_on(held: Held, *workers: Step) -> None:
    """Make sure that the later workers did not start over."""
    counts = [sum(step.pid == worker.pid for step in held.steps()) for worker in workers]
    assert sum(counts) >= UPDATES
    assert max(counts[1:]) < UPDATES


def completed(commands: Commands, undisturbed: dict[str, Any]) -> None:
    assert commands.states() == ["completed"]
    assert results(commands.root) == undisturbed


def test_a_preempted_run_goes_on_from_its_checkpoint(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE, cpus=2, gpus=1, extra={"nodelist": "n2"})
    with commands.driving() as driver:
        first = held.worker()
        urgent = slurm.submit("-p", "high", "-w", "n2", "-c", "2", wrap="true")
        wait_for("the urgent job", lambda: urgent not in slurm.jobs(), 60)
        let_start(slurm, first.job)
        second = held.worker(first)
        held.go()
        assert driver.wait(60) == 0
    assert (second.job, second.restart) == (first.job, "1")  # put back, not sent again
    assert (first.gpus, second.gpus) == ("0", "0")
    went_on(held, first, second)
    completed(commands, undisturbed)


def test_a_run_longer_than_its_walltime_goes_on_in_the_next(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    # SLURM counts in minutes and looks twice a minute: the signal comes after 25 to 45 s.
    commands = prepare(tmp_path, ONE, timeout_min=1, signal_seconds=25, max_attempts=1,
                       gpus=1, gpu_flag="gres")  # fmt: skip
    with commands.driving() as driver:
        first = held.worker()
        let_start(slurm, first.job)
        second = held.worker(first)
        held.go()
        assert driver.wait(60) == 0
    assert (second.job, second.restart) == (first.job, "1")
    went_on(held, first, second)
    completed(commands, undisturbed)


def test_a_requeued_run_goes_on(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE)
    with commands.driving() as driver:
        first = held.worker()
        checkpointed(commands)
        slurm.run("scontrol", "requeue", first.job)
        let_start(slurm, first.job)
        second = held.worker(first)
        held.go()
        assert driver.wait(60) == 0
    assert (second.job, second.restart) == (first.job, "1")
    went_on(held, first, second)
    completed(commands, undisturbed)


def test_a_killed_worker_s_run_is_sent_again(
    either: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE)
    with commands.driving() as driver:
        first = held.worker()
        checkpointed(commands)
        os.kill(int(first.pid), signal.SIGKILL)
        second = held.worker(first)
        held.go()
        assert driver.wait(60) == 0
    assert second.job != first.job
    went_on(held, first, second)
    completed(commands, undisturbed)


def packed(commands: Commands, held: Held) -> tuple[Step, Step]:
    """Wait until both runs of a pack are at work, the first with a checkpoint; give their steps."""
    wait_for("two workers", lambda: len({step.pid for step in held.steps()}) == 2, 90)
    checkpointed(commands)
    (file,) = commands.root.glob("*/seed-0/status.json")
    pid = str(json.loads(file.read_text())["pid"])
    first = next(step for step in held.steps() if step.pid == pid)
    mate = held.worker(first)
    assert first.job == mate.job
    return first, mate


def test_a_killed_worker_of_a_pack_is_sent_again_while_its_mate_works(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed_pair: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, TWO, pack=2)
    with counting(slurm) as sizes, commands.driving() as driver:
        first, mate = packed(commands, held)
        os.kill(int(first.pid), signal.SIGKILL)
        second = held.worker(first, mate)
        assert slurm.job(mate.job)[0] == "RUNNING"
        # Put back, the pack leaves the run to the job that has it, and goes on with the other.
        slurm.run("scontrol", "requeue", mate.job)
        let_start(slurm, mate.job)
        again = held.worker(first, mate, second)
        held.go()
        assert driver.wait(90) == 0
    assert (again.job, again.restart) == (mate.job, "1")
    assert second.job != first.job
    assert len({step.pid for step in held.steps()}) == 4
    assert sum(sizes.values()) == 2
    went_on(held, first, second)
    assert commands.states() == ["completed"] * 2
    assert results(commands.root) == undisturbed_pair


def test_a_run_cancelled_out_of_a_pack_and_retried_does_not_wait_for_its_mate(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed_pair: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, TWO, pack=2)
    assert commands.run(verb="sync").returncode == 0
    first, mate = packed(commands, held)
    one = (commands.root, "--only", "held", "--seed", 0)
    assert command("cancel", *one).returncode == 0
    wait_for("its end", lambda: commands.states() == ["cancelled", "running"], 60, every=0.5)
    assert command("retry", *one).returncode == 0
    assert commands.run(verb="sync").returncode == 0
    second = held.worker(first, mate)
    assert second.job != first.job
    assert slurm.job(mate.job)[0] == "RUNNING"
    held.go()
    done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    went_on(held, first, second)
    assert results(commands.root) == undisturbed_pair


def test_a_run_whose_workers_always_die_has_failed_and_says_why(
    either: Cluster, tmp_path: Path, held: Held
) -> None:
    held.die()
    commands = prepare(tmp_path, ONE, max_attempts=2)
    with counting(either) as sizes:
        done = commands.run()
    assert done.returncode == 1
    assert sum(sizes.values()) == 2
    (row,) = commands.status()
    assert row["state"] == "failed"
    assert len(held.steps()) == 2
    assert either.jobs() == {}


def test_a_lost_node_s_run_goes_on_elsewhere(
    either: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE)
    with commands.driving() as driver:
        first = held.worker()
        checkpointed(commands)
        either.lose_node(first.node)
        let_start(either, first.job)
        second = held.worker(first)
        held.go()
        assert driver.wait(60) == 0
    assert second.node != first.node
    went_on(held, first, second)
    completed(commands, undisturbed)


def test_a_lost_node_s_job_that_may_not_be_requeued_is_sent_again(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE, extra={"requeue": False, "no-requeue": True})
    with commands.driving() as driver:
        first = held.worker()
        checkpointed(commands)
        slurm.lose_node(first.node)
        second = held.worker(first)
        held.go()
        assert driver.wait(60) == 0
    assert second.job != first.job
    went_on(held, first, second)
    completed(commands, undisturbed)


def test_two_jobs_of_one_run_at_once_do_not_disturb_each_other(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE)
    with commands.driving() as driver:
        first = held.worker()
        checkpointed(commands)
        slurm.part_node(first.node)  # the worker lives on, unseen
        let_start(slurm, first.job)
        wait_for("a second run", lambda: slurm.job(first.job)[0] == "RUNNING", 30)
        held.go()
        assert driver.wait(90) == 0
    completed(commands, undisturbed)
    assert len(held.steps()) >= UPDATES
    assert {row["attempt"] for row in commands.status()} <= {1, 2}


def test_a_job_that_somebody_cancels_is_cancelled_and_not_sent_again(
    either: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE)
    with counting(either) as sizes, commands.driving() as driver:
        first = held.worker()
        checkpointed(commands)
        either.run("scancel", first.job)
        assert driver.wait(60) == 1
    assert sum(sizes.values()) == 1
    assert commands.states() == ["cancelled"]
    held.go()
    retried = command("retry", commands.root)
    assert (retried.returncode, retried.stderr) == (0, "")
    done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    went_on(held, first, held.worker(first))
    completed(commands, undisturbed)


def test_a_driver_that_is_killed_finds_its_jobs_again(
    slurm: Cluster, tmp_path: Path, held: Held, undisturbed: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, ONE, gpus=1, gpu_flag="gpus")
    with counting(slurm) as sizes:
        with commands.driving():
            first = held.worker()
        assert slurm.job(first.job)[0] == "RUNNING"
        held.go()
        done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(sizes.values()) == 1
    assert {(step.pid, step.gpus) for step in held.steps()} == {(first.pid, "0")}
    completed(commands, undisturbed)
