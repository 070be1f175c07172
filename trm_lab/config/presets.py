"""Published configurations, and how a recipe file builds on one.

Values are those of the released code for Sudoku-Extreme: TRM at e7b6871 (README, "Sudoku-Extreme"),
HRM at 42410da (README, "Sudoku 1k").  The task is the bundled 9x9 Sudoku, whose geometry (81 cells,
11 tokens) is that of Sudoku-Extreme; point `task` at the official CSV files to train on those.
Updates are the released code's executed count: epochs x 1000 groups / 768.
"""

from typing import Any

from trm_lab.config.recipe import Recipe
from trm_lab.config.source import Source, merge, parse_yaml
from trm_lab.config.validate import suggest, validate
from trm_lab.errors import ConfigError

_SUDOKU_TRAIN: dict[str, Any] = {
    "updates": 65_100,
    "batch": 768,
    "optimizer": {"kind": "adam_atan2", "lr": 1e-4, "betas": [0.9, 0.95], "weight_decay": 1.0},
    "table_optimizer": {"lr": 1e-4, "weight_decay": 1.0},
    "schedule": {"kind": "constant", "warmup": 2000},
    "ema": 0.999,
    "dtype": "bfloat16",
}
_SUPERVISION: dict[str, Any] = {
    "N_sup": 16,
    "halting": {"kind": "confidence"},
    "exploration": 0.1,
    "halt_weight": 0.5,
    "loss": {"kind": "stablemax", "dtype": "float64"},
}
_TRM: dict[str, Any] = {
    "task": {"kind": "sudoku_bundled"},
    "model": {
        "layout": {"kind": "two_latents", "nets": 1},
        "layers": 2,
        "width": 512,
        "mixer": {"kind": "attention", "heads": 8},
        "positions": {"kind": "rope"},
        "puzzle": {"slots": 16, "dim": 512},
        "n": 6,
        "T": 3,
        "gradient": {"kind": "last_cycles", "c": 1},
    },
    "supervision": _SUPERVISION,
    "train": _SUDOKU_TRAIN,
    "eval": {"every": 6510, "steps": [16], "final_steps": [1, 2, 4, 8, 16]},
}

PRESETS: dict[str, dict[str, Any]] = {
    "trm_att": _TRM,
    "trm_mlp": merge(
        _TRM,
        {"model": {"mixer": {"kind": "token_mlp"}, "positions": {"kind": "none"}}},
    ),
    "hrm": merge(
        _TRM,
        {
            "model": {
                "layout": {"nets": 2},
                "layers": 4,
                "puzzle": {"slots": 1},
                "n": 2,
                "T": 2,
                "gradient": {"kind": "last_updates", "k": 2},
            },
            "supervision": {"halting": {"kind": "q_learning"}},
            "train": {"updates": 26_040, "ema": None},
            "eval": {"every": 2604},
        },
    ),
}
"""Nested settings by name."""


def preset(name: str, **changes: Any) -> Recipe:
    """Build a named recipe with changes laid over it: `preset("trm_mlp", model={"T": 2})`.

    Raises:
        ConfigError: an unknown name or an invalid change.
    """
    source = Source({"preset": name, **changes}, "preset()")
    return recipe_from(source)


def recipe_from(source: Source) -> Recipe:
    """Validate a mapping of recipe settings, laid over the preset it may name.

    Raises:
        ConfigError: every error, at its place.
    """
    return validate(Recipe, source, expand(source))


def expand(source: Source) -> dict[str, Any]:
    """Replace `preset: name` by what the preset says, with the other settings laid over it."""
    data = source.data
    if not isinstance(data, dict):
        raise ConfigError(f"{source.place(())}: expected a mapping of settings, found {data!r}")
    if "preset" not in data:
        return data
    name = data["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(
            f"{source.place(('preset',))}: preset: no preset {name!r}"
            + suggest(name, sorted(PRESETS))
        )
    rest = {key: value for key, value in data.items() if key != "preset"}
    merged: dict[str, Any] = merge(PRESETS[name], rest)
    return merged


def load_recipe(text: str, name: str) -> Recipe:
    """Read a recipe from YAML text; `name` is what errors call it."""
    return recipe_from(parse_yaml(text, name))
