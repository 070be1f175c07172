"""Depth and breadth at test time, measured on three small runs: the tables of docs/test_time.md.

    python bench/test_time.py [--only demo|sets] [--out runs/bench_test_time]

One seed, one thread; the runs take about four minutes of CPU in all and are resumed, or left as
they are, when the command is given again.
"""

import argparse
from pathlib import Path
from typing import Any

import xarray as xr

from trm_lab import Recipe, Rollouts, evaluate_run, preset, train
from trm_lab.config.test_time import SELECTORS, Subject
from trm_lab.results.grid import SETS
from trm_lab.training import Execution

EXECUTION = Execution(device="cpu", threads=1)
BREADTHS = (1, 2, 4, 8)


def recipe(width: int, updates: int, task: dict[str, Any], **supervision: Any) -> Recipe:
    """Give the demo's recipe with T = 2, n = 2 and N_sup = 4 on another task."""
    return preset(
        "trm_mlp",
        task=task,
        model={"width": width, "round_to": 16, "puzzle": None, "T": 2, "n": 2},
        supervision={"N_sup": 4, "loss": {"kind": "stablemax", "dtype": "float32"}, **supervision},
        train={
            "updates": updates,
            "batch": 32,
            "optimizer": {"kind": "adam_atan2", "lr": 3e-3, "weight_decay": 0.1},
            "schedule": {"kind": "constant", "warmup": 40},
            "ema": 0.99,
            "dtype": "float32",
        },
        eval={"every": 200, "steps": [1, 4], "final_steps": [1, 2, 4, 8]},
    )


DEMO = {"kind": "sudoku", "size": 6, "clues": 12, "train": 2000, "validation": 300, "test": 1000}
MULTI = {"kind": "sudoku_multi", "size": 4, "fewest": 2, "most": 8,
         "train": 1000, "validation": 200, "test": 300}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("demo", "sets"))
    parser.add_argument("--out", type=Path, default=Path("runs/bench_test_time"))
    given = parser.parse_args()
    if given.only != "sets":
        demo(given.out)
    if given.only != "demo":
        sets(given.out)


def demo(out: Path) -> None:
    """Print puzzle accuracy on 300 puzzles of the demo's task, without noise and with two."""
    train(recipe(64, 600, DEMO), out / "demo", execution=EXECUTION)
    for noise in (0.3, 1.0):
        grid = measured(
            out / "demo", Rollouts(steps=(2, 4, 16), rollouts=BREADTHS, noise=noise), 300
        )
        for steps in (2, 4, 16):
            for K in (1, 8):
                print(f"demo task, noise {noise:g}, {steps} steps, K {K}: {row(grid, steps, K)}")


def sets(out: Path) -> None:
    """Print accuracy and what is found of the exact sets, on 200 puzzles of several solutions."""
    for name, hypotheses in (("one state", 1), ("hypotheses: 4", 4)):
        path = out / f"sets-{hypotheses}"
        train(recipe(48, 800, MULTI, hypotheses=hypotheses), path, execution=EXECUTION)
        grid = measured(path, Rollouts(steps=(4,), rollouts=BREADTHS, noise=0.5), 200)
        for K in (1, 8) if hypotheses == 1 else (1, 4, 8):
            found = ", ".join(f"{m} {float(grid[m].sel(rollouts=K, steps=4)):.3f}" for m in SETS)
            print(f"several solutions, {name}, K {K}: {row(grid, 4, K)}, {found}")


def measured(path: Path, setting: Rollouts, puzzles: int) -> xr.Dataset:
    return evaluate_run(path, setting, Subject(limit=puzzles), execution=EXECUTION).grid


def row(grid: xr.Dataset, steps: int, K: int) -> str:
    """Give the accuracy of each selector in per cent."""
    cell = grid["puzzle_accuracy"].sel(steps=steps, rollouts=K)
    return ", ".join(f"{s} {100 * float(cell.sel(selector=s)):.1f}" for s in SELECTORS)


if __name__ == "__main__":
    main()
