"""Synthetic study folders in the format that training writes, without training anything."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

STEPS = (1, 2, 4)
FULL = 2**64 - 1


@dataclass(frozen=True)
class Cell:
    """One cell of a synthetic study; its accuracy is planted."""

    variant: str
    series: str = "TRM"
    n: int = 2
    T: int = 3
    layers: int = 2
    N_sup: int = 4
    baseline: bool = False
    accuracy: float | None = None
    """Mean test accuracy at N_sup; 0.9 - 0.8 exp(-effective depth / 20) if not given."""
    task_seed: int = 0
    """Another seed is another set of puzzles."""

    @property
    def effective_depth(self) -> int:
        return self.layers * self.T * (self.n + 1)

    @property
    def planted(self) -> float:
        if self.accuracy is not None:
            return self.accuracy
        return 0.9 - 0.8 * float(np.exp(-self.effective_depth / 20))

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.recipe_id[:8]}"

    @property
    def recipe_id(self) -> str:
        text = f"{self.variant}{self.series}{self.n}{self.T}{self.layers}{self.task_seed}"
        return (text.encode().hex() * 9)[-64:]

    def recipe(self, seed: int, updates: int) -> dict[str, Any]:
        gradient: dict[str, Any] = {"kind": "last_cycles", "c": 1}
        if self.series == "HRM":
            gradient = {"kind": "last_updates", "k": 2}
        return {
            "task": {"kind": "sudoku", "size": 6, "data_seed": self.task_seed, "augment": True},
            "model": {
                "layout": {"kind": "two_latents", "nets": 1},
                "layers": self.layers,
                "n": self.n,
                "T": self.T,
                "gradient": gradient,
                "puzzle": None if self.series == "HRM" else {"slots": 1, "dim": 16},
            },
            "supervision": {"N_sup": self.N_sup},
            "train": {"updates": updates, "optimizer": {"lr": 1e-4, "betas": [0.9, 0.95]}},
            "eval": {"every": updates // 4, "steps": [1, self.N_sup]},
            "seed": seed,
        }

    def accounting(self) -> dict[str, float]:
        return {
            "params": 10_000 * self.layers,
            "table_params": 16,
            "recurring_params": 9_000 * self.layers,
            "once_params": 1_000,
            "effective_depth": self.effective_depth,
            "max_depth": self.effective_depth * self.N_sup,
            "graph_updates": self.n + 1,
            "flops_per_update": 1e6 * self.effective_depth,
        }


DEPTHS = (
    Cell("n1T1", n=1, T=1),
    Cell("n2T2", n=2, T=2),
    Cell("n2T3", n=2, T=3, baseline=True),
    Cell("n5T3", n=5, T=3),
    Cell("n8T3", n=8, T=3),
)


def make_study(
    root: Path,
    cells: Sequence[Cell] = DEPTHS,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    name: str = "depth",
    plan: bool = True,
    states: Mapping[tuple[str, int], str] | None = None,
    updates: int = 400,
    records: int = 8,
    puzzles: int = 50,
    steps: Sequence[int] = STEPS,
    noise: float = 0.01,
    metric_steps: int | None = None,
    fits: Sequence[Mapping[str, Any]] = (),
    contrasts: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write runs/<name> and give its path.

    `states` says by (variant, seed) what became of a run; all others are completed.  Runs that
    are not completed end half-way and have no evaluation, and a waiting run has no folder.
    """
    study = root / name
    study.mkdir(parents=True)
    for cell in cells:
        for seed in seeds:
            state = (states or {}).get((cell.variant, seed), "completed")
            if state != "waiting":
                write_run(study, cell, seed, state, updates, records, puzzles, steps, noise)
    if plan:
        entries = [
            {
                "cell": cell.name,
                "recipe_id": cell.recipe_id,
                "variant": cell.variant,
                "series": cell.series,
                "baseline": cell.baseline,
                "accounting": cell.accounting(),
                "recipe": cell.recipe(0, updates),
            }
            for cell in cells
        ]
        write_json(
            study / "plan.json",
            {
                "study": name,
                "question": "Does depth help?",
                "hypothesis": "It saturates.",
                "sweep": "smoke",
                "metric": {"name": "puzzle_accuracy", "steps": metric_steps},
                "seeds": list(seeds),
                "cells": entries,
                "fits": list(fits),
                "contrasts": list(contrasts),
                "study_yaml": "question: Does depth help?\n",
                "sweep_yaml": "seeds: [0, 1, 2]\n",
            },
        )
    return study


def write_run(
    study: Path,
    cell: Cell,
    seed: int,
    state: str,
    updates: int,
    records: int,
    puzzles: int,
    steps: Sequence[int],
    noise: float,
) -> Path:
    folder = study / cell.name / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(cell.recipe(seed, updates), sort_keys=False), encoding="utf-8"
    )
    rng = np.random.default_rng([seed, *cell.recipe_id.encode()])
    done = updates if state == "completed" else updates // 2
    accuracy = float(np.clip(cell.planted + noise * rng.standard_normal(), 0, 1))
    best = _write_metrics(folder, cell, state, done, updates, records, accuracy)
    if state == "completed":
        _write_evaluation(folder, cell, accuracy, done, puzzles, steps, rng)
    per_update = cell.accounting()["flops_per_update"]
    finished = None if state == "running" else "2025-01-01T00:10:00+00:00"
    write_json(
        folder / "status.json",
        {
            "schema": 1,
            "state": state,
            "study": study.name,
            "variant": cell.variant,
            "series": cell.series,
            "cell": cell.name,
            "recipe_id": cell.recipe_id,
            "seed": seed,
            "attempt": 1,
            "host": f"node{seed % 2}",
            "pid": 1,
            "started_utc": "2025-01-01T00:00:00+00:00",
            "updated_utc": "2025-01-01T00:10:00+00:00",
            "finished_utc": finished,
            "update": done,
            "updates": updates,
            "examples": done * 16,
            "flops": done * per_update,
            "seconds": done * 0.1,
            "cpu_seconds": done * 0.2,
            "best": best,
            "error": {"type": "FloatingPointError", "message": "loss is nan"}
            if state == "diverged"
            else None,
            "accounting": cell.accounting(),
            "data": {
                "fingerprint": f"data{cell.task_seed}",
                "train": 9,
                "validation": 9,
                "test": 9,
            },
            "environment": {
                "trm_lab": "0.1.0",
                "python": "3.11.9",
                "torch": "2.13.0",
                "numpy": "2.4.6",
                "device": "cpu",
                "threads": 2,
                "matmul_precision": "highest",
                "deterministic": True,
                "git_commit": "abc123",
                "git_dirty": seed == 1,
                "platform": "Linux",
            },
        },
    )
    return folder


def _write_metrics(
    folder: Path, cell: Cell, state: str, done: int, updates: int, records: int, accuracy: float
) -> dict[str, float]:
    per_update = cell.accounting()["flops_per_update"]
    every = max(updates // records, 1)
    best: dict[str, float] = {"update": 0, "puzzle_accuracy": -1.0}
    lines = []
    for update in range(every, done + 1, every):
        share = update / updates
        counters = {
            "examples": update * 16,
            "flops": update * per_update,
            "seconds": update * 0.1,
            "cpu_seconds": update * 0.2,
        }
        broken = state == "diverged" and update + every > done
        lines.append(
            {
                "kind": "train",
                "update": update,
                "loss": None if broken else 2.0 - share,
                "lm_loss": None if broken else 1.5 - share,
                "halt_loss": 0.5,
                "cell_accuracy": 0.5 * share,
                "puzzle_accuracy": None,
                "mean_steps": 2.0,
                "lr": 1e-4,
                **counters,
            }
        )
        if update % (updates // 4) == 0:
            lines.append(
                {
                    "kind": "evaluation",
                    "split": "validation",
                    "weights": "ema",
                    "update": update,
                    "puzzles": 100,
                    "steps": [1, cell.N_sup],
                    "puzzle_accuracy": [accuracy * share / 2, accuracy * share],
                    "cell_accuracy": [0.5, 0.5 + 0.5 * accuracy * share],
                    **counters,
                }
            )
            best = {"update": update, "puzzle_accuracy": accuracy * share}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return best


def _write_evaluation(
    folder: Path,
    cell: Cell,
    accuracy: float,
    update: int,
    puzzles: int,
    steps: Sequence[int],
    rng: np.random.Generator,
) -> None:
    (folder / "evaluation").mkdir()
    last = len(steps) - 1
    shares = [accuracy * (0.5 + 0.5 * (i / last if last else 1.0)) for i in range(len(steps))]
    order = rng.permutation(puzzles)
    solved = order[:, None] < np.round(np.array(shares) * puzzles)[None, :]
    np.savez(
        folder / "evaluation" / "last.npz",
        steps=np.array(steps, dtype=np.int32),
        solved=solved,
        cell_accuracy=np.where(solved, 1.0, 0.5).astype(np.float32),
        halt_logit=np.zeros(solved.shape, dtype=np.float32),
        clues=np.full(puzzles, 12, dtype=np.int16),
        guesses=np.full(puzzles, np.nan, dtype=np.float32),
        rating=np.arange(puzzles, dtype=np.float32),
        signature=np.uint64(FULL - 1000 * cell.task_seed) - np.arange(puzzles, dtype=np.uint64),
        update=np.int64(update),
        weights=np.str_("ema"),
    )


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def run_of(study: Path, cell: Cell = DEPTHS[0], seed: int = 0) -> Path:
    """Give the folder of one run."""
    return study / cell.name / f"seed-{seed}"


def one_run(root: Path) -> Path:
    """Write a study of one completed run."""
    return make_study(root, DEPTHS[:1], (0,))


def value(tree: xr.DataTree, name: str, run: int = 0) -> Any:
    """Give one variable of /runs for one run."""
    return tree["runs"].to_dataset()[name].values[run]
