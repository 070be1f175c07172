"""Official names, and the only place that knows them.

Maps the configuration and the state-dict names of the released TRM (e7b6871) and HRM (42410da) code
to ours: H_cycles is T, L_cycles is n, halt_max_steps is N_sup, z_H is y, z_L is z.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from trm_lab.config.blocks import (
    Attention,
    LearnedPositions,
    NoPositions,
    Positions,
    Rope,
    TokenMLP,
)
from trm_lab.config.gradient import LastCycles, LastUpdates
from trm_lab.config.halting import Confidence, QLearning
from trm_lab.config.layout import Layout, Looped, ManyLatents, OneLatent, TwoLatents
from trm_lab.config.model import Model, PuzzleSlots
from trm_lab.config.supervision import Supervision
from trm_lab.core.core import Weights
from trm_lab.errors import ConfigError
from trm_lab.parameters import Geometry, parameters

ENDS = {
    "embed.tokens": "embed_tokens.embedding_weight",
    "embed.positions": "embed_pos.embedding_weight",
    "head.logits": "lm_head.weight",
    "head.halt.weight": "q_head.weight",
    "head.halt.bias": "q_head.bias",
}
BLOCK = {
    "mixer.qkv": "self_attn.qkv_proj.weight",
    "mixer.out": "self_attn.o_proj.weight",
    "mixer.gate_up": "mlp_t.gate_up_proj.weight",
    "mixer.down": "mlp_t.down_proj.weight",
    "ffn.gate_up": "mlp.gate_up_proj.weight",
    "ffn.down": "mlp.down_proj.weight",
}
TABLE = "puzzle_emb.weights"
PREFIX = "inner."
"""Of all names in a state dict."""
LEVELS = ("L_level", "H_level")
"""The nets by index: z has the first, y the second."""


def official_name(name: str) -> str:
    """Translate one of our parameter names."""
    if name in ENDS:
        return ENDS[name]
    _, net, _, layer, rest = name.split(".", 4)
    return f"{LEVELS[int(net)]}.layers.{layer}.{BLOCK[rest]}"


def official_initial(layout: Layout) -> tuple[str, ...]:
    """Name the buffers of initial states, in the order of the layout's latents."""
    match layout:
        case TwoLatents():
            return ("L_init", "H_init")
        case OneLatent():
            return ("L_init",)
        case Looped():
            return ("H_init",)
        case ManyLatents():
            return (*(f"L{i + 1}_init" for i in range(layout.k)), "H_init")


def layout_of(names: Collection[str]) -> Layout:
    """Tell by the names in a state dict which of the released models it is."""
    many = sum(f"{PREFIX}L{i}_init" in names for i in range(1, 65))
    if many:
        return ManyLatents(k=many)
    if f"{PREFIX}H_init" not in names:
        return OneLatent()
    return TwoLatents(nets=2 if any(LEVELS[1] in name for name in names) else 1)


def model_from(config: Mapping[str, Any], layout: Layout) -> Model:
    """Translate an official `arch` configuration; `layout` says which of the released models it is.

    Raises:
        ConfigError: unequal level depths, or a position code that the model does not know.
    """
    width, separate = int(config["hidden_size"]), layout.nets == 2
    layers = int(config["L_layers"])
    if separate and int(config["H_layers"]) != layers:
        raise ConfigError(
            f"H_layers {config['H_layers']} and L_layers {layers} differ; "
            "nets here have equal depth"
        )
    codes: dict[str, Positions] = {
        "rope": Rope(theta=float(config.get("rope_theta", 10000.0))),
        "learned": LearnedPositions(),
        "none": NoPositions(),
    }
    code, token_mlp = str(config["pos_encodings"]), bool(config.get("mlp_t", False))
    if code not in codes:
        raise ConfigError(f"pos_encodings {code!r} is not one of {', '.join(codes)}")
    dim = int(config["puzzle_emb_ndim"])
    slots = int(config.get("puzzle_emb_len", 0)) or -(-dim // width)
    return Model(
        layout=layout,
        layers=layers,
        width=width,
        expansion=float(config["expansion"]),
        mixer=TokenMLP() if token_mlp else Attention(heads=int(config["num_heads"])),
        # A token MLP has no use for rotary tables; the released code builds and ignores them.
        positions=NoPositions() if token_mlp and code == "rope" else codes[code],
        puzzle=PuzzleSlots(slots=slots, dim=dim) if dim else None,
        n=int(config["L_cycles"]),
        T=int(config["H_cycles"]),
        gradient=LastUpdates(k=2) if separate else LastCycles(c=1),
        norm_eps=float(config.get("rms_norm_eps", 1e-5)),
    )


def supervision_from(config: Mapping[str, Any], layout: Layout) -> Supervision:
    """Translate the halting part of an official `arch` configuration."""
    return Supervision(
        N_sup=int(config["halt_max_steps"]),
        halting=QLearning() if layout.nets == 2 else Confidence(),
        exploration=float(config["halt_exploration_prob"]),
    )


def geometry_from(config: Mapping[str, Any]) -> Geometry:
    """Translate the data part of an official `arch` configuration."""
    return Geometry(
        int(config["seq_len"]), int(config["vocab_size"]), int(config["num_puzzle_identifiers"])
    )


def weights_from(
    state: Mapping[str, np.ndarray],
    model: Model,
    geometry: Geometry,
) -> Weights:
    """Load an official state dict given as arrays, in float32.

    Raises:
        ConfigError: a tensor is missing, has another shape, or is not known; all are named.
    """
    shapes = {official_name(name): p.shape for name, p in parameters(model, geometry).items()}
    shapes |= dict.fromkeys(official_initial(model.layout), (model.width,))
    if model.puzzle:
        shapes[TABLE] = (geometry.identifiers, model.puzzle.dim)
    given = {key.removeprefix(PREFIX): value for key, value in state.items()}
    problems = [f"missing {PREFIX}{key}" for key in shapes if key not in given]
    problems += [f"unknown {PREFIX}{key}" for key in given if key not in shapes]
    problems += [
        f"{PREFIX}{key} is {given[key].shape}, expected {shape}"
        for key, shape in shapes.items()
        if key in given and given[key].shape != shape
    ]
    if problems:
        raise ConfigError("state dict does not fit the model: " + "; ".join(problems))

    def load(key: str) -> torch.Tensor:
        return torch.tensor(given[key]).float()

    return Weights(
        {name: load(official_name(name)) for name in parameters(model, geometry)},
        tuple(load(key) for key in official_initial(model.layout)),
        load(TABLE) if model.puzzle else None,
    )
