"""Studies on a real SLURM, undisturbed: through the command line, from sweep file to results."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.slurm.cluster import Cluster
from tests.slurm.processes import wait_for, which
from tests.slurm.studies import (
    CONTRASTS,
    MANY,
    VARIANTS,
    command,
    counting,
    in_process,
    inherited,
    prepare,
)
from tests.study.tiny import results, states

SINGLE = (
    (VARIANTS, "  - {name: only, series: TRM}\n"),
    (CONTRASTS, ""),
    ("seeds: [0, 1]", "seeds: [0]"),
)
"""What makes the tiny study a single run."""

SEARCH = (
    (VARIANTS, """\
  - {name: only, series: TRM}
search:
  parameters: {train.optimizer.lr: {low: 1e-3, high: 1e-1, log: true}}
  trials: 4
  sampler: qmc
  confirm: {seeds: [10, 11]}
"""),
    *SINGLE[1:],
)  # fmt: skip
"""What makes it a search whose suggestions do not depend on which trial ends first."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What 12 cells x 2 seeds give in one process."""
    return results(in_process(tmp_path_factory.mktemp("many"), MANY).root)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What 2 cells x 2 seeds give in one process."""
    return results(in_process(tmp_path_factory.mktemp("four")).root)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a single run gives in one process."""
    return results(in_process(tmp_path_factory.mktemp("single"), SINGLE).root)


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


def test_several_runs_share_a_job(slurm: Cluster, tmp_path: Path, four: dict[str, Any]) -> None:
    commands = prepare(tmp_path, pack=3)
    with counting(slurm) as sizes:
        done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert results(commands.root) == four
    assert sum(sizes.values()) == 2  # three runs and one


def test_a_search_runs_its_trials_and_then_its_winner_as_jobs(
    slurm: Cluster, tmp_path: Path
) -> None:
    here, there = in_process(tmp_path / "here", SEARCH), prepare(tmp_path / "there", SEARCH)
    with counting(slurm) as sizes:
        done = there.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 completed" in done.stdout
    assert sum(sizes.values()) == 6
    for part in ("trials", "."):
        found = results(there.root / part)
        assert len(found) == {"trials": 4 * 3, ".": 2 * 3}[part]
        assert found == results(here.root / part)
    assert sorted(row["seed"] for row in there.status() if "role" not in row) == [10, 11]
    assert there.run().returncode == 0
    assert len(there.status()) == 6


def test_a_driver_inside_a_job_sends_jobs_of_their_own_kind(
    slurm: Cluster, tmp_path: Path, single: dict[str, Any]
) -> None:
    commands, out = prepare(tmp_path, SINGLE), tmp_path / "out"
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
    assert "1 completed" in out.read_text()
    assert results(commands.root) == single
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

        wait_for("the study's folder", (commands.root / "plan.json").exists, 60)
        wait_for("reason", lambda: "PartitionDown" in reason(), 60, every=0.5)
        row = commands.status()[0]
        assert row["state"] == "waiting"
        assert row["job"] in slurm.jobs()
        cancelled = command("cancel", commands.root)
        assert (cancelled.returncode, cancelled.stderr) == (0, "")
        wait_for("an empty queue", lambda: not slurm.jobs(), 20)
        assert driver.wait(60) == 1
    assert commands.states() == ["cancelled"] * 4


def test_a_driver_killed_while_sbatch_answers_loses_and_doubles_no_run(
    slurm: Cluster, tmp_path: Path, four: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = prepare(tmp_path / "study")
    fatal = tmp_path / "bin" / "sbatch"
    fatal.parent.mkdir()
    fatal.write_text(f'#!/bin/bash\n{which("sbatch")} "$@"\nkill -KILL $PPID\n')
    fatal.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", inherited(fatal.parent))
        assert commands.run().returncode == -9
    # Those jobs cannot start: what they were to run was not in its place yet.
    done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["attempt"] for row in commands.status()} == {1}
    assert results(commands.root) == four


def test_a_driver_killed_between_sbatch_and_its_note_finds_its_jobs_again(
    slurm: Cluster, tmp_path: Path, four: dict[str, Any]
) -> None:
    commands = prepare(tmp_path)
    fatal = (
        "import os\nfrom trm_lab.cli import main\nfrom trm_lab.study.attempts import Batch\n"
        "Batch.submitted = lambda *_: os.kill(os.getpid(), 9)\nmain()"
    )
    with counting(slurm) as sizes:
        driver = subprocess.run([sys.executable, "-c", fatal, *commands.call("run")], timeout=60)
        assert driver.returncode == -9
        done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(sizes.values()) == 4
    assert {row["attempt"] for row in commands.status()} == {1}
    assert results(commands.root) == four


def test_detached_drivers_and_single_rounds_bring_a_study_to_its_end(
    slurm: Cluster, tmp_path: Path, single: dict[str, Any]
) -> None:
    detached, rounds = prepare(tmp_path / "a", SINGLE), prepare(tmp_path / "b", SINGLE)

    def sync() -> bool:
        assert rounds.run(verb="sync").returncode == 0
        return set(states(rounds.root).values()) == {"completed"}

    def finished() -> bool:
        return (detached.root / "results.nc").exists()

    with counting(slurm) as sizes:
        assert detached.run("--detach").returncode == 0
        wait_for("rounds", sync, 90)
        wait_for("the detached driver", finished, 60)
    assert results(detached.root) == single
    assert results(rounds.root) == single
    assert sum(sizes.values()) == 2


def test_a_driver_in_a_job_of_its_own_brings_a_study_to_its_end(
    slurm: Cluster, tmp_path: Path, single: dict[str, Any]
) -> None:
    commands = prepare(tmp_path, SINGLE)
    with counting(slurm) as sizes:
        sent = commands.run("--as-job")
        assert (sent.returncode, sent.stderr) == (0, "")
        wait_for("the results", (commands.root / "results.nc").exists, 120)
    assert sum(sizes.values()) == 2  # the driver's job and the run's
    assert results(commands.root) == single


def test_one_run_on_two_tasks_is_the_run_of_one_process(slurm: Cluster, tmp_path: Path) -> None:
    exact = (*SINGLE, ("    dtype: float32", "    dtype: float64"))
    commands = prepare(tmp_path / "two", exact, tasks_per_node=2)
    done = commands.run()
    assert (done.returncode, done.stderr) == (0, "")
    (status,) = (json.loads(p.read_text()) for p in commands.root.glob("*/*/status.json"))
    assert status["environment"]["processes"] == 2
    alone = in_process(tmp_path / "one", exact)
    pairs = zip(weights(commands.root), weights(alone.root), strict=True)
    for (name, ours), (other, theirs) in pairs:
        assert name == other
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=name)


def weights(root: Path) -> list[tuple[str, Any]]:
    """Give the weights of a study's only run."""
    (path,) = root.glob("*/*/weights.safetensors")
    return sorted(load_file(path).items())
