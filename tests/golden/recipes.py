"""The recipes whose identity and whose losses are pinned."""

from tests.training.tiny_run import HRM, TOKEN_MLP, tiny_recipe
from trm_lab.config import PRESETS, Recipe, preset, recipe_from
from trm_lab.config.source import Source

CSV = {"kind": "sudoku_csv", "name": "sudoku-extreme", "train_csv": "a.csv", "test_csv": "b.csv"}


def identified() -> dict[str, Recipe]:
    """Recipes by name: presets, each axis of ablation, each task, and one that has all defaults."""
    variants = {
        "one latent": {"model": {"layout": "one_latent"}},
        "six latents": {"model": {"layout": "many_latents"}},
        "two nets": {"model": {"layout": {"nets": 2}}},
        "whole program": {"model": {"gradient": "whole_program"}},
        "one step": {"model": {"gradient": {"kind": "last_updates", "k": 2}}},
        "fixed": {"supervision": {"halting": "fixed"}},
        "softmax": {"supervision": {"loss": "softmax"}},
        "adamw": {"train": {"optimizer": "adamw"}},
        "cosine": {"train": {"schedule": "cosine"}},
        "without ema": {"train": {"ema": None}},
        "without slots": {"model": {"puzzle": None}},
        "generated": {"task": "sudoku"},
        "csv": {"task": CSV},
    }
    defaults = {"task": "sudoku_bundled", "model": {}, "train": {"updates": 3000}}
    return {
        **{name: preset(name) for name in PRESETS},
        **{f"trm_att, {name}": preset("trm_att", **v) for name, v in variants.items()},
        "defaults": recipe_from(Source(defaults, "golden")),
    }


def trained() -> dict[str, Recipe]:
    """Recipes by name whose first 20 updates are pinned.

    In float64: float32 losses of 20 updates differ between GEMM libraries by more than 1e-6,
    because recursion and scale-free steps enlarge the last bits.
    """
    short = {
        "train": {"updates": 20, "dtype": "float64"},
        "eval": {"every": 20, "steps": [1], "final_steps": [1], "best": False},
    }
    return {
        "trm_att": tiny_recipe(short),
        "trm_mlp": tiny_recipe(TOKEN_MLP, short),
        "hrm": tiny_recipe(HRM, short, train={"optimizer": {"kind": "adamw", "lr": 1e-2}}),
    }
