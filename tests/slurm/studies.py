"""Studies, sweeps and drivers for a cluster, through the command line."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.slurm.cluster import Cluster
from tests.slurm.parts import Step, steps
from tests.slurm.processes import wait_for
from tests.study.tiny import HERE, study, written
from trm_lab.study.driver import drive
from trm_lab.study.plan import Plan, make_plan

VARIANTS = """\
  - {name: shallow, series: TRM}
  - {name: deep, series: TRM, set: {model.n: 2}}
"""
CONTRASTS = """\
contrasts:
  - {name: depth, title: Latent updates, baseline: shallow, against: [deep]}
"""
MANY = (
    (VARIANTS, "  - {name: small, series: TRM}\n"),
    (
        CONTRASTS,
        "factors: {model.n: [1, 2, 3], model.T: [1, 2], train.optimizer.lr: [1e-2, 2e-2]}\n",
    ),
)
"""What makes the tiny study one of 12 cells."""
UPDATES = 200
ONE = (
    (VARIANTS, "  - {name: held, series: TRM}\n"),
    (CONTRASTS, ""),
    ("{N_sup: 2, ", '{N_sup: 2, halting: {kind: "tests.slurm.parts:Held"}, '),
    ("updates: 4", f"updates: {UPDATES}"),
    ("every: 2", f"every: {UPDATES}"),
    ("seeds: [0, 1]", "seeds: [0]"),
)
"""What makes it one run, which lasts 80 s or until the test lets it go."""
TWO = ONE[:-1]
"""What makes it two of them."""
Replacements = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Commands:
    """The files of a study and a sweep, and the commands that take them."""

    folder: Path

    @property
    def root(self) -> Path:
        """The folder of the study's results."""
        return self.folder / "runs" / "tiny"

    def run(self, *more: str, verb: str = "run") -> "subprocess.CompletedProcess[str]":
        """Drive the study to its end, or do what another verb does with study and sweep."""
        return command(*self.call(verb), *more)

    @contextmanager
    def driving(self) -> Iterator["subprocess.Popen[str]"]:
        """Drive the study in the background; a driver that is left at the end is killed."""
        with open(self.folder / "driver.log", "a") as log:
            driver = subprocess.Popen(
                [sys.executable, "-m", "trm_lab.cli", *self.call("run")],
                stdout=log, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
            )  # fmt: skip
            try:
                yield driver
            except BaseException as error:
                error.add_note((self.folder / "driver.log").read_text())
                raise
            finally:
                driver.kill()
                driver.wait()

    def status(self) -> list[dict[str, Any]]:
        """Ask for the rows of `trm-lab status`."""
        done = command("status", self.root, "--json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def states(self) -> list[str]:
        """Give the state of every run."""
        return [row["state"] for row in self.status()]

    def call(self, verb: str) -> list[str]:
        """Give a verb's command line with study and sweep."""
        study, sweep = str(self.folder / "tiny.yaml"), str(self.folder / "cluster.yaml")
        return [verb, study, "--on", sweep, "--runs", str(self.folder / "runs")]


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Call `trm-lab` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "trm_lab.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def prepare(folder: Path, *changes: Replacements, **executor: Any) -> Commands:
    """Write a changed tiny study and a sweep for the cluster with changed settings."""
    setting = {"kind": "slurm", "partition": "low", "timeout_min": 60, "cpus": 1,
               "memory_gb": 0.2, "signal_seconds": 30, "poll_seconds": 0.5}  # fmt: skip
    execution = {"device": "cpu", "threads": 1, "log_every": 1, "checkpoint_seconds": 0.5}
    sweep = {"name": "cluster", "executor": setting | executor, "execution": execution}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(written(*_flat(changes)))
    (folder / "cluster.yaml").write_text(yaml.safe_dump(sweep))
    return Commands(folder)


def in_process(runs: Path, *changes: Replacements) -> Plan:
    """Drive the study in this process, undisturbed."""
    plan = make_plan(study(*_flat(changes)), sweep=HERE, runs=runs)
    drive(plan)
    return plan


def _flat(changes: Sequence[Replacements]) -> list[tuple[str, str]]:
    return [pair for change in changes for pair in change]


@contextmanager
def counting(slurm: Cluster) -> Iterator[dict[str, int]]:
    """Count the tasks of every job and array that is submitted meanwhile."""
    before, sizes = set(slurm.submitted()), defaultdict[str, int](int)
    yield sizes
    for job in set(slurm.submitted()) - before:
        sizes[job.split("_")[0]] += 1


@dataclass(frozen=True)
class Held:
    """A run that a test holds: the folder that holds it, and the steps seen there."""

    folder: Path

    def steps(self, *others: Step) -> list[Step]:
        """Give the steps, those of some workers excepted."""
        pids = {other.pid for other in others}
        return [step for step in steps(self.folder) if step.pid not in pids]

    def worker(self, *before: Step, timeout: float = 60) -> Step:
        """Wait for a worker other than those before, and give its first step."""
        wait_for("a worker", lambda: self.steps(*before), timeout)
        return self.steps(*before)[0]

    def go(self) -> None:
        """Let it go to its end."""
        (self.folder / "go").touch()

    def die(self) -> None:
        """Let every worker die at its first step."""
        (self.folder / "die").touch()


def checkpointed(commands: Commands) -> None:
    """Wait until the first seed of a study has a checkpoint of some update; one is of none."""

    def progress() -> int:
        files = list(commands.root.glob("*/seed-0/status.json"))
        return max([json.loads(f.read_text()).get("checkpointed") or 0 for f in files], default=0)

    wait_for("a checkpoint", lambda: progress() >= 2, 60)


def inherited(*folders: Path) -> str:
    """Give a PATH that finds programs in the folders first."""
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])
