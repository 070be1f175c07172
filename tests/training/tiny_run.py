"""Training runs that take a third of a second."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from trm_lab.config import Recipe, recipe_from
from trm_lab.config.source import Source, merge
from trm_lab.runs import RunFolder
from trm_lab.training import Execution

BASE: dict[str, Any] = {
    "task": {"kind": "sudoku", "size": 4, "clues": 8, "train": 24, "validation": 8, "test": 10},
    "model": {
        "layout": {"kind": "two_latents"},
        "layers": 1,
        "width": 16,
        "round_to": 8,
        "mixer": {"kind": "attention", "heads": 2},
        "positions": {"kind": "rope"},
        "puzzle": {"slots": 1, "dim": 16},
        "n": 2,
        "T": 2,
    },
    "supervision": {"N_sup": 3, "exploration": 0.5, "halting": {"kind": "confidence"}},
    "train": {
        "updates": 12,
        "batch": 4,
        "optimizer": {"kind": "adam_atan2", "lr": 1e-2},
        "schedule": {"kind": "cosine", "warmup": 3, "min_ratio": 0.1},
        "ema": 0.9,
        "dtype": "float32",
    },
    "eval": {"every": 5, "steps": [1, 3], "final_steps": [1, 2, 3], "best": True},
}
TOKEN_MLP = {"model": {"mixer": {"kind": "token_mlp"}, "positions": {"kind": "none"}}}
HRM = {
    "model": {
        "layout": {"nets": 2},
        "gradient": {"kind": "last_updates", "k": 2},
    },
    "supervision": {"halting": {"kind": "q_learning"}},
    "train": {"ema": None},
}
EXECUTION = Execution(device="cpu", threads=1, log_every=2, checkpoint_seconds=0)
"""A checkpoint at every record."""
CLOCK = ("seconds", "cpu_seconds")
"""What two runs of the same bits may differ in."""


def tiny_recipe(*layers: dict[str, Any], **changes: Any) -> Recipe:
    """Give a recipe on 4x4 Sudoku with every part: puzzle slot, exploration, EMA, best."""
    data = BASE
    for layer in (*layers, changes):
        data = merge(data, layer)
    return recipe_from(Source(data, "tiny"))


def records(path: Path) -> list[dict[str, Any]]:
    """Read the records of a run without its clock."""
    lines = RunFolder(path).metrics_file.read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCK} for line in lines]


def results(path: Path) -> dict[str, Any]:
    """Everything that a run found, without its clock; arrays as bytes, so that NaN equals NaN."""
    folder = RunFolder(path)
    found: dict[str, Any] = {
        f"weights/{k}": (v.dtype, v.shape, v.tobytes())
        for k, v in load_file(folder.weights).items()
    }
    for which in ("last", "best"):
        with np.load(folder.evaluation(which)) as archive:
            for k in archive.files:
                found[f"{which}/{k}"] = (archive[k].dtype, archive[k].shape, archive[k].tobytes())
    status = folder.status()
    kept = ("state", "recipe_id", "seed", "update", "examples", "flops", "best", "data", "error")
    found["status"] = {k: status[k] for k in kept}
    found["records"] = records(path)
    found["file"] = folder.weights.read_bytes()
    return found
