"""A synthetic study with the layout of results.nc, whose every number is known.

Accuracies are given per variant and seed; everything else follows by simple formulas.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
import xarray as xr

STATES = ["waiting", "running", "completed", "diverged", "failed", "cancelled", "pruned", "lost"]
UPDATES = 600
STEPS = np.arange(1, 17)


@dataclass(frozen=True)
class Arm:
    """One variant of the study: where it stands and what its seeds reach."""

    variant: str
    series: str
    T: int
    n: int
    accuracy: tuple[float, ...]
    layers: int = 2
    nets: int = 1
    gradient: str = "last_cycles"
    states: Mapping[int, str] = field(default_factory=dict)
    """Seeds that are not completed."""
    crossed: bool = False
    """Whether `layers` is a factor of the study, not the arm's own."""

    @property
    def label(self) -> str:
        return f"{self.variant}, model.layers={self.layers}" if self.crossed else self.variant

    @property
    def depth(self) -> int:
        return self.layers * self.T * (self.n + 1)

    @property
    def graph_updates(self) -> int:
        return 2 if self.gradient == "last_updates" else self.n + 1

    @property
    def flops_per_update(self) -> float:
        return 1e9 * (self.T * (self.n + 1) + 2 * self.graph_updates)

    @property
    def cell(self) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")
        return f"{slug}-{crc32(slug.encode()):08x}"


DEMO = (
    Arm("TRM (1,1)", "TRM", 1, 1, (0.14, 0.16, 0.153)),
    Arm("TRM (1,2)", "TRM", 1, 2, (0.34, 0.31, 0.402)),
    Arm("TRM (2,2)", "TRM", 2, 2, (0.68, 0.561, 0.62)),
    Arm("TRM (3,2)", "TRM", 3, 2, (0.82, 0.79, 0.847)),
    Arm(
        "TRM (2,2) one-step gradient",
        "TRM one-step gradient",
        2,
        2,
        (0.61, 0.55, 0.57),
        gradient="last_updates",
    ),
    Arm("HRM (1,1)", "HRM", 1, 1, (0.12, 0.1, 0.17), nets=2, gradient="last_updates"),
    Arm("HRM (2,2)", "HRM", 2, 2, (0.48, 0.53, 0.42), nets=2, gradient="last_updates"),
)
CONTRASTS = (
    {
        "name": "gradient",
        "title": "One-step gradient",
        "baseline": "TRM (2,2)",
        "against": ["TRM (2,2) one-step gradient"],
    },
    {
        "name": "family",
        "title": "HRM against TRM",
        "baseline": "TRM (2,2)",
        "against": ["HRM (2,2)"],
    },
)
FITS = (
    {
        "name": "depth-trm",
        "law": "saturating",
        "x": "effective_depth",
        "y": "puzzle_accuracy",
        "series": "TRM",
        "variants": None,
        "cluster": "seed",
    },
)


def recipe(arm: Arm) -> dict[str, Any]:
    gradient = {"kind": arm.gradient} | ({"k": 2} if arm.gradient == "last_updates" else {"c": 1})
    return {
        "task": {"kind": "sudoku", "box_rows": 2, "box_columns": 3},
        "model": {
            "layout": {"kind": "two_latents", "nets": arm.nets},
            "layers": arm.layers,
            "n": arm.n,
            "T": arm.T,
            "gradient": gradient,
        },
        "supervision": {"N_sup": 1},
        "train": {"updates": UPDATES, "batch": 64},
    }


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _leaves(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def plan(arms: Sequence[Arm], seeds: Sequence[int], contrasts: Any, fits: Any) -> dict[str, Any]:
    return {
        "study": "recursion",
        "question": "Does recursion depth pay at a fixed number of updates, and at fixed compute?",
        "hypothesis": "Accuracy rises with effective depth.",
        "sweep": "laptop",
        "metric": {"name": "puzzle_accuracy", "steps": None},
        "seeds": list(seeds),
        "cells": [
            {
                "cell": arm.cell,
                "recipe_id": arm.cell * 4,
                "variant": arm.label,
                "arm": arm.variant,
                "factors": {"model.layers": str(arm.layers)} if arm.crossed else {},
                "series": arm.series,
                "baseline": arm.variant == "TRM (2,2)",
                "accounting": {},
                "recipe": recipe(arm),
            }
            for arm in arms
        ],
        "fits": list(fits),
        "contrasts": list(contrasts),
        "study_yaml": "name: recursion\n",
        "sweep_yaml": "name: laptop\n",
    }


def _at(accuracy: float, update: np.ndarray) -> np.ndarray:
    """Accuracy while training: nothing for a fifth, then a straight rise to the end."""
    rise = np.clip((update / UPDATES - 0.2) / 0.8, 0, 1)
    return accuracy * rise * (1 + 0.04 * np.sin(update / 37.0) * (update < UPDATES))


def study_tree(
    arms: Sequence[Arm] = DEMO,
    contrasts: Any = CONTRASTS,
    fits: Any = FITS,
    seeds: Sequence[int] = (0, 1, 2),
) -> xr.DataTree:
    """Build the tree; a seed that is not completed has no final numbers and a shorter curve."""
    rows = [(arm, seed) for arm in arms for seed in seeds]
    states = [arm.states.get(seed, "completed") for arm, seed in rows]
    done = np.array([state == "completed" for state in states])
    reached = np.array([arm.accuracy[seed] for arm, seed in rows])
    rate = np.array([arm.flops_per_update for arm, _ in rows])
    last = np.array(
        [{"completed": UPDATES, "waiting": 0}.get(state, UPDATES // 2) for state in states]
    )
    nan = np.where(done, 1.0, np.nan)
    run = [f"{arm.cell}/seed-{seed}" for arm, seed in rows]
    labels = {
        "run": ("run", run),
        "cell": ("run", [arm.cell for arm, _ in rows]),
        "recipe_id": ("run", [arm.cell * 4 for arm, _ in rows]),
        "variant": ("run", [arm.label for arm, _ in rows]),
        "series": ("run", [arm.series for arm, _ in rows]),
        "seed": ("run", [seed for _, seed in rows]),
    }

    def per_run(values: Any, units: str = "1", **more: str) -> Any:
        return ("run", np.asarray(values), {"units": units, "long_name": "synthetic", **more})

    flat = [_leaves(recipe(arm)) for arm, _ in rows]
    leaves: dict[str, Any] = {}
    for name in sorted({key for leaf in flat for key in leaf}):
        column = [leaf.get(name) for leaf in flat]
        if any(isinstance(value, str) for value in column):
            leaves[name] = per_run([value or "" for value in column], source="recipe")
        elif all(value is not None for value in column):
            leaves[name] = per_run(column, source="recipe")
        else:
            numbers = [np.nan if value is None else value for value in column]
            leaves[name] = per_run(numbers, source="recipe")
    state = per_run(np.array([STATES.index(state) for state in states], dtype=np.int8))
    state[2].update(
        flag_values=np.arange(len(STATES), dtype=np.int8), flag_meanings=" ".join(STATES)
    )
    params = [150_000 * arm.nets for arm, _ in rows]
    runs = xr.Dataset(
        {
            "state": state,
            "planned": per_run(np.ones(len(rows), dtype=np.uint8)),
            "error": per_run(
                ["FloatingPointError: loss is nan" * (s == "diverged") for s in states]
            ),
            "data_fingerprint": per_run(["5f1c0ffee0"] * len(rows)),
            "device": per_run(["cpu"] * len(rows)),
            "host": per_run(["example"] * len(rows)),
            "threads": per_run([1.0] * len(rows)),
            "recipe": per_run([json.dumps(recipe(arm)) for arm, _ in rows]),
            **leaves,
            "params": per_run(params),
            "effective_depth": per_run([arm.depth for arm, _ in rows]),
            "max_depth": per_run([arm.depth for arm, _ in rows]),
            "graph_updates": per_run([arm.graph_updates for arm, _ in rows]),
            "flops_per_update": per_run(rate, "FLOP"),
            "puzzle_accuracy": per_run(reached * nan),
            "cell_accuracy": per_run((0.5 + reached / 2) * nan),
            "updates": per_run(last.astype(float)),
            "flops": per_run(rate * last, "FLOP"),
            "seconds": per_run(rate * last / 1e11, "s"),
        },
        coords=labels,
    )

    update = np.arange(10, UPDATES + 1, 10)
    check = np.arange(50, UPDATES + 1, 50)
    loss = np.where(
        update <= last[:, None], 2.0 - 1.8 * np.array([_at(a, update) for a in reached]), np.nan
    )
    validation = np.where(
        check <= last[:, None], np.array([_at(a, check) for a in reached]), np.nan
    )
    by_step = np.stack([validation, np.minimum(1.0, validation * 1.3)], axis=-1)
    curves = xr.Dataset(
        {
            "loss": (("run", "update"), loss),
            "flops": (("run", "update"), np.where(np.isnan(loss), np.nan, rate[:, None] * update)),
            "validation_puzzle_accuracy": (
                ("run", "validation_update", "validation_step"),
                by_step,
            ),
            "validation_cell_accuracy": (
                ("run", "validation_update", "validation_step"),
                0.5 + by_step / 2,
            ),
            "validation_flops": (
                ("run", "validation_update"),
                np.where(np.isnan(validation), np.nan, rate[:, None] * check),
            ),
        },
        coords={
            "run": run,
            "update": update,
            "validation_update": check,
            "validation_step": [1, 4],
        },
    )
    gain = 1 - np.exp(-(STEPS - 1) / 2.0)
    last_step = reached[:, None] + (0.95 - reached[:, None]) * gain * 0.8
    steps = np.stack([last_step * nan[:, None], np.full_like(last_step, np.nan)], axis=1)
    evaluation = xr.Dataset(
        {
            "puzzle_accuracy": (("run", "weights", "step"), steps),
            "cell_accuracy": (("run", "weights", "step"), 0.5 + steps / 2),
            "puzzles": (("run", "weights"), np.where(np.isnan(steps[..., 0]), 0, 1000)),
        },
        coords={"run": run, "weights": ["last", "best"], "step": STEPS},
    )
    puzzles = xr.Dataset(
        {"clues": (("test_set", "puzzle"), np.zeros((1, 1000), dtype=np.int16))},
        coords={"fingerprint": ("test_set", ["5f1c0ffee0"])},
    )
    text = json.dumps(plan(arms, seeds, contrasts, fits))
    root = xr.Dataset(
        attrs={
            "title": "recursion",
            "schema_version": 1,
            "created_utc": "2026-01-02T03:04:05Z",
            "study": "recursion",
            "question": json.loads(text)["question"],
            "hypothesis": json.loads(text)["hypothesis"],
            "metric": "puzzle_accuracy",
            "metric_steps": 0,
            "study_yaml": "name: recursion\n",
            "plan_json": text,
            "trm_lab_version": "0.1.0",
            "git_commit": "0123abc",
            "git_dirty": 0,
            "python": "3.11",
            "torch": "2.9.0",
            "hosts": "example",
            "history": "",
        }
    )
    groups = {"/": root, "/runs": runs, "/curves": curves, "/eval": evaluation}
    return xr.DataTree.from_dict(groups | {"/puzzles": puzzles})


def fit_dataset(name: str = "depth-trm", status: str = "converged") -> xr.Dataset:
    """A fitted law with a band, as a fit file holds it."""
    grid = np.geomspace(4, 18, 40)
    curve = 0.9 * (1 - np.exp(-grid / 9.0))
    return xr.Dataset(
        {
            "coefficients": ("param", [0.9, 9.0]),
            "ci": (("param", "bound"), [[0.8, 1.0], [7.5, 11.0]]),
            "effective_depth": ("row", [4.0, 6.0, 12.0, 18.0]),
            "y": ("row", [0.15, 0.35, 0.62, 0.82]),
            "grid_x": ("grid", grid),
            "curve": ("grid", curve),
            "band": (("grid", "bound"), np.stack([curve * 0.9, np.minimum(1, curve * 1.1)], -1)),
        },
        coords={"param": ["ceiling", "scale"], "bound": ["lower", "upper"]},
        attrs={
            "name": name,
            "law": "Saturating(effective_depth)",
            "law_name": "saturating",
            "series": "TRM",
            "formula": "y = ceiling (1 - exp(-x / scale))",
            "x_name": "effective_depth",
            "y_name": "puzzle_accuracy",
            "status": status,
            "interval": "cluster bootstrap percentile",
            "level": 0.95,
            "n_points": 12,
            "n_clusters": 3,
            "cluster": "seed",
            "descriptive": 1,
            "note": "fewer than 8 distinct cells",
            "data_hash": "abc",
            "rmse": 0.03,
            "seed": 0,
        },
    )
