"""Official names and configurations."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.contract.instances import LAYOUTS, name
from trm_lab import official
from trm_lab.config import (
    Attention,
    Confidence,
    LastCycles,
    LastUpdates,
    Layout,
    LearnedPositions,
    ManyLatents,
    Model,
    NoPositions,
    OneLatent,
    PuzzleSlots,
    QLearning,
    Rope,
    TokenMLP,
    TwoLatents,
)
from trm_lab.errors import ConfigError
from trm_lab.parameters import Geometry, parameters

ARCH: dict[str, Any] = {
    "hidden_size": 64, "num_heads": 4, "expansion": 4, "H_cycles": 3, "L_cycles": 6,
    "H_layers": 2, "L_layers": 2, "halt_max_steps": 16, "halt_exploration_prob": 0.1,
    "puzzle_emb_ndim": 64, "puzzle_emb_len": 16, "pos_encodings": "rope", "mlp_t": False,
    "seq_len": 81, "vocab_size": 11, "num_puzzle_identifiers": 1,
}  # fmt: skip
GEOMETRY = Geometry(4, 5, 2)


def small(layout: Layout, **changes: Any) -> Model:
    base = {"layout": layout, "width": 8, "mixer": Attention(heads=2), "round_to": 4}
    return Model(**(base | {"puzzle": PuzzleSlots(slots=1, dim=8)} | changes))


def state(model: Model) -> dict[str, np.ndarray]:
    """An official state dict whose tensors are told apart by their values."""
    shapes = {official.official_name(k): p.shape for k, p in parameters(model, GEOMETRY).items()}
    shapes |= dict.fromkeys(official.official_initial(model.layout), (model.width,))
    if model.puzzle:
        shapes["puzzle_emb.weights"] = (GEOMETRY.identifiers, model.puzzle.dim)
    return {f"inner.{k}": np.full(s, i, np.float32) for i, (k, s) in enumerate(shapes.items())}


def test_names_are_those_of_the_released_checkpoints() -> None:
    names = [official.official_name(k) for k in parameters(small(TwoLatents(nets=2)), GEOMETRY)]
    assert names[0] == "embed_tokens.embedding_weight"
    assert names[1:5] == [
        "L_level.layers.0.self_attn.qkv_proj.weight",
        "L_level.layers.0.self_attn.o_proj.weight",
        "L_level.layers.0.mlp.gate_up_proj.weight",
        "L_level.layers.0.mlp.down_proj.weight",
    ]
    assert names[9] == "H_level.layers.0.self_attn.qkv_proj.weight"
    assert names[-3:] == ["lm_head.weight", "q_head.weight", "q_head.bias"]
    mlp = small(TwoLatents(), mixer=TokenMLP(), positions=LearnedPositions())
    names = [official.official_name(k) for k in parameters(mlp, GEOMETRY)]
    assert names[1] == "embed_pos.embedding_weight"
    assert names[2:4] == [
        "L_level.layers.0.mlp_t.gate_up_proj.weight",
        "L_level.layers.0.mlp_t.down_proj.weight",
    ]


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_every_tensor_of_a_state_dict_lands_in_its_own_place(layout: Layout) -> None:
    model = small(layout)
    given = state(model)
    weights = official.weights_from(given, model, GEOMETRY)
    for ours, p in weights.params.items():
        assert p.dtype == torch.float32
        assert (p.numpy() == given[f"inner.{official.official_name(ours)}"]).all()
    values = [p.flatten()[0].item() for p in weights.params.values()]
    values += [v[0].item() for v in weights.initial] + [weights.table[0, 0].item()]
    assert sorted(values) == list(range(len(given)))


def test_initial_states_are_in_the_order_of_the_latents() -> None:
    assert official.official_initial(TwoLatents()) == ("L_init", "H_init")
    assert official.official_initial(OneLatent()) == ("L_init",)
    six = official.official_initial(ManyLatents())
    assert six == ("L1_init", "L2_init", "L3_init", "L4_init", "L5_init", "L6_init", "H_init")


def test_a_state_dict_is_not_changed_through_the_weights() -> None:
    model = small(TwoLatents())
    given = state(model)
    weights = official.weights_from(given, model, GEOMETRY)
    weights.params["head.logits"].zero_()
    weights.initial[0].zero_()
    assert all((v == i).all() for i, v in enumerate(given.values()))


def test_all_that_does_not_fit_is_named_at_once() -> None:
    model = small(TwoLatents())
    given = state(model)
    del given["inner.q_head.bias"]
    given["inner.H_init"] = np.zeros(9, np.float32)
    given["inner.rotary_emb.cos_cached"] = np.zeros(2, np.float32)
    with pytest.raises(ConfigError) as error:
        official.weights_from(given, model, GEOMETRY)
    assert str(error.value) == (
        "state dict does not fit the model: missing inner.q_head.bias; "
        "unknown inner.rotary_emb.cos_cached; inner.H_init is (9,), expected (8,)"
    )


def test_the_released_trm_is_our_model() -> None:
    model = official.model_from(ARCH, TwoLatents())
    assert model == Model(
        layers=2, width=64, mixer=Attention(heads=4), positions=Rope(), n=6, T=3,
        puzzle=PuzzleSlots(slots=16, dim=64), gradient=LastCycles(c=1),
    )  # fmt: skip
    assert official.geometry_from(ARCH) == Geometry(81, 11, 1)
    supervision = official.supervision_from(ARCH, TwoLatents())
    assert (supervision.N_sup, supervision.exploration) == (16, 0.1)
    assert supervision.halting == Confidence()


def test_the_released_hrm_is_our_model() -> None:
    arch = ARCH | {"puzzle_emb_len": 0, "H_cycles": 2, "L_cycles": 2, "puzzle_emb_ndim": 65}
    layout = TwoLatents(nets=2)
    model = official.model_from(arch, layout)
    assert model.puzzle == PuzzleSlots(slots=2, dim=65)
    assert model.gradient == LastUpdates(k=2)
    assert (model.n, model.T) == (2, 2)
    assert official.supervision_from(arch, layout).halting == QLearning()


def test_the_released_mixers_and_position_codes_are_ours() -> None:
    def model(**changes: Any) -> Model:
        return official.model_from(ARCH | changes, TwoLatents())

    assert model(mlp_t=True, pos_encodings="none").mixer == TokenMLP()
    # The released code builds rotary tables beside a token MLP and does not use them.
    assert model(mlp_t=True).positions == NoPositions()
    assert model(pos_encodings="learned").positions == LearnedPositions()
    assert model(rope_theta=500.0).positions == Rope(theta=500.0)
    assert model(rms_norm_eps=1e-6).norm_eps == 1e-6
    assert model(puzzle_emb_ndim=0, puzzle_emb_len=0).puzzle is None
    with pytest.raises(ConfigError) as error:
        model(pos_encodings="RoPE")
    assert str(error.value) == "pos_encodings 'RoPE' is not one of rope, learned, none"
    # TRM ignores the depth of the level that it does not have.
    assert model(H_layers=7).layers == 2
