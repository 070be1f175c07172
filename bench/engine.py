"""What the engine itself costs: the driver per run, its memory, its journal, and `trm-lab status`.

    python bench/engine.py [--cells 1000] [--real 40] [--profile FILE]

Runs of one update on 4x4 Sudoku.  `--real` many are driven as processes of this machine; then
`--cells` many with an executor that writes completed run folders itself, so that the driver is
measured and not the workers' imports; its own time is not counted.  Each part runs in a process
and a session of its own.  Open files and processes are counted before and after: a leak shows.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STUDY = """\
name: engine
question: What does the engine cost?
hypothesis: Little.
base:
  task: {{kind: sudoku, size: 4, clues: 8, train: 32, validation: 8, test: 12}}
  model: {{layers: 1, width: 16, round_to: 8, mixer: token_mlp, positions: none, puzzle: null, n: 1,
          T: 1}}
  supervision: {{N_sup: 1}}
  train: {{updates: 1, batch: 8, optimizer: {{kind: adam_atan2, lr: 1e-2}},
          schedule: {{kind: constant, warmup: 0}}}}
  eval: {{every: 1, steps: [1], final_steps: [1]}}
variants:
  - {{name: cell, series: TRM}}
factors:
  train.optimizer.lr: {rates}
seeds: [0]
"""
ASKED_STATUS = 2.0
"""Seconds that `trm-lab status` may take at 1,000 runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--real", type=int, default=40, help="runs in processes; at least 1")
    parser.add_argument("--profile", help="write the driver's profile (pstats) to this file")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(part(args.part[0], Path(args.part[1]), args)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("real", args.real), ("stub", args.cells)):
            told = apart(name, folder, args)
            print(f"{count} {'processes' if name == 'real' else 'runs that end at once'}: driver "
                  f"{told['cpu'] / count * 1e3:.1f} ms CPU and {told['wall'] / count * 1e3:.1f} ms "
                  f"wall per run, {told['plan']:.1f} s CPU before to plan; peak "
                  f"{told['peak']:.0f} MB, {told['peak'] - told['imports']:.0f} MB over the "
                  f"imports; journal {told['journal'] / 1e3:.0f} kB")  # fmt: skip
            print(f"  open files {told['files'][0]} before, {told['files'][1]} after; processes "
                  f"{told['processes'][0]} before, {told['processes'][1]} after")  # fmt: skip
        taken = [status(Path(folder) / "stub" / "engine", args.cells) for _ in range(5)]
        walls, cpus = zip(*taken, strict=True)
        print(f"trm-lab status at {args.cells} runs: {statistics.median(walls):.2f} s "
              f"({min(walls):.2f} to {max(walls):.2f}; asked {ASKED_STATUS} s), "
              f"{statistics.median(cpus):.2f} s of it CPU")  # fmt: skip


def apart(name: str, folder: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure a part in a process and a session of its own."""
    command = [sys.executable, __file__, "--cells", str(args.cells), "--real", str(args.real)]
    if args.profile and name == "stub":
        command += ["--profile", args.profile]
    told = subprocess.run(
        [*command, "--part", name, folder],
        stdout=subprocess.PIPE, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    return dict(json.loads(told.stdout.splitlines()[-1]))


def part(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Drive a study and give what it cost; times in seconds, memory in MB, sizes in bytes."""
    from trm_lab.config.execution import Execution, Local, Sweep
    from trm_lab.config.source import parse_yaml
    from trm_lab.runs import State
    from trm_lab.study import driver
    from trm_lab.study.plan import make_plan
    from trm_lab.tasks.build import build

    count = args.real if name == "real" else args.cells
    rates = [round(1e-3 + 1e-6 * i, 6) for i in range(count)]
    sweep = Sweep(
        name="bench", executor=Local(), execution=Execution(device="cpu", threads=1, log_every=1)
    )
    imports, began = peak(), time.process_time()
    plan = make_plan(
        parse_yaml(STUDY.format(rates=rates), "engine"), sweep=sweep, runs=folder / name
    )
    planning = time.process_time() - began
    build(next(plan.runs()).recipe.task)
    stub = Stub(next((folder / "real" / "engine").glob("*/seed-0"), None))
    if name == "stub":
        driver.build_executor = lambda *_: stub
    before = open_files(), processes()
    cpu, wall = time.process_time(), time.perf_counter()
    if args.profile:
        import cProfile

        profile = cProfile.Profile()
        counts = profile.runcall(driver.drive, plan)
        profile.dump_stats(args.profile)
    else:
        counts = driver.drive(plan)
    cpu, wall = time.process_time() - cpu - stub.cpu, time.perf_counter() - wall - stub.wall
    assert counts == {State.COMPLETED: count}, counts
    return {
        "cpu": cpu,
        "wall": wall,
        "plan": planning,
        "peak": peak(),
        "imports": imports,
        "journal": (plan.root / "optuna.journal").stat().st_size,
        "files": (before[0], open_files()),
        "processes": (before[1], processes()),
    }


class Stub:
    """An executor whose runs are completed when they are sent: copies of one that was real."""

    max_attempts, poll_seconds, silence, unsure = 3, 0.0, "", ()

    def __init__(self, model: Path | None) -> None:
        self.model, self.cpu, self.wall = model, 0.0, 0.0

    def submit(self, runs: Sequence[Any]) -> dict[str, Any]:
        cpu, wall = time.process_time(), time.perf_counter()
        for run in runs:
            self._complete(run)
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall
        return {run.key: Ended() for run in runs}

    def _complete(self, run: Any) -> None:
        assert self.model is not None
        folder = run.folder
        for path in (folder.evaluation("last"), folder.metrics_file, folder.path / ".lock"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((self.model / path.relative_to(folder.path)).read_bytes())
        told = json.loads((self.model / "status.json").read_text())
        told |= {"recipe_id": run.recipe.id, "cell": run.cell.name, "variant": run.cell.variant}
        folder.status_file.write_text(json.dumps(told))

    def room(self, jobs: Collection[Any]) -> int:
        return 8 - len(jobs)

    def adopt(self, runs: Sequence[Any], again: bool) -> dict[str, Any]:
        del again
        from trm_lab.study.dispatch import orphans

        return orphans(runs)

    def refresh(self) -> dict[str, Any]:
        return {}


class Ended:
    """A job that is over."""

    id, log = "stub", ""

    def done(self) -> bool:
        return True

    def waits(self) -> str:
        return ""

    def failure(self) -> str:
        return ""

    def cancelled(self) -> bool:
        return False

    def cancel(self) -> None:
        return None


def status(root: Path, cells: int) -> tuple[float, float]:
    """Seconds of the wall, and of CPU, that `trm-lab status` takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-m", "trm_lab.cli", "status", str(root)],
        stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seconds = time.perf_counter() - began
    assert f"{cells} completed" in told.stdout, told.stdout[-200:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def peak() -> float:
    """Peak resident memory of this process (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def open_files() -> int:
    """Count the open files of this process, but for the one that the counting opens."""
    return len(os.listdir("/proc/self/fd")) - 1


def processes() -> int:
    """Count the processes of this session."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            session = int(path.read_text().rpartition(")")[2].split()[3])
        except (OSError, IndexError):  # it has just ended
            continue
        found += session == os.getsid(0)
    return found


if __name__ == "__main__":
    main()
