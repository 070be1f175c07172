"""Published configurations as data.

Values are those of the released code for Sudoku-Extreme: TRM at e7b6871 (README, "Sudoku-Extreme"),
HRM at 42410da (README, "Sudoku 1k").  The task is the bundled 9x9 Sudoku, whose geometry (81 cells,
11 tokens) is that of Sudoku-Extreme; point `task` at the official CSV files to train on those.
Updates are the released code's executed count: epochs x 1000 groups / 768.
"""

from typing import Any

from trm_lab.config.source import merge

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

_TRM_MLP = merge(_TRM, {"model": {"mixer": {"kind": "token_mlp"}, "positions": {"kind": "none"}}})
_HRM = merge(
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
)
# HRM's baseline of equal size: one evaluation of eight blocks in a supervision step.  Its code
# halts where q_halt > q_continue, and nothing trains q_continue: a bias of -5 that only weight
# decay shrinks.  `looped` halts at q_halt > 0.
_LOOPED = merge(
    _HRM,
    {
        "model": {
            "layout": {"kind": "looped"},
            "layers": 8,
            "n": 1,
            "T": 1,
            "gradient": {"kind": "whole_program"},
        },
        "supervision": {"halting": {"kind": "confidence"}},
    },
)
_DIRECT = merge(
    _LOOPED,
    {
        "supervision": {"N_sup": 1, "halting": {"kind": "fixed"}, "exploration": 0.0},
        "eval": {"steps": [1], "final_steps": [1]},
    },
)

PRESETS: dict[str, dict[str, Any]] = {
    "trm_att": _TRM,
    "trm_mlp": _TRM_MLP,
    "hrm": _HRM,
    "direct": _DIRECT,
    "direct_12_heads": merge(_DIRECT, {"model": {"mixer": {"heads": 12, "head_dim": 42}}}),
    "looped": _LOOPED,
    "singlez": merge(_TRM_MLP, {"model": {"layout": {"kind": "one_latent"}}}),
    "multiz": merge(_TRM_MLP, {"model": {"layout": {"kind": "many_latents", "k": 6}}}),
    "urm": merge(
        _TRM,
        {
            "model": {
                "layout": {"kind": "looped"},
                "layers": 4,
                "ffn": {"kind": "conv_swiglu", "kernel": 2},
                "T": 2,
            }
        },
    ),
    "eqr": merge(_TRM_MLP, {"model": {"initial": {"kind": "random", "std": 1.0}, "puzzle": None}}),
}
"""Nested settings by name.

`direct` has the 8 heads of the parameter counts that the papers give, `direct_12_heads` those of
the released file.  `singlez` and `multiz` are the rows of TRM's Table 2.  `urm` has the loops of
the script for ARC-AGI-2 that URM (arXiv 2512.14693) released, with the optimisation of TRM; `eqr`
is EqR (arXiv 2605.21488) without its path noise and damping: its released code makes every update
`z <- 0.05 z + 0.95 net(...) + 0.01 e` with e standard normal, in training and in evaluation alike
(`lambda_` 0.95, `noise_scale` 0.01), for which there is no setting here; and it has the optimiser,
head and schedule of TRM.  `trm-lab eval --noise` adds noise once per supervision step.
"""

BASES: dict[str, str] = {
    "trm_mlp": "trm_att",
    "hrm": "trm_att",
    "direct": "looped",
    "direct_12_heads": "direct",
    "looped": "hrm",
    "singlez": "trm_mlp",
    "multiz": "trm_mlp",
    "urm": "trm_att",
    "eqr": "trm_mlp",
}
"""The preset that each one changes; `trm_att` is written out."""
