"""Combinations of mixer, position code and feed-forward that mean nothing are refused."""

from typing import Any

import pytest

from trm_lab.config import preset
from trm_lab.errors import ConfigError

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"mixer": "conv"},
        "positions: rope acts inside attention only and would be ignored by mixer: conv; use "
        "positions: none or learned",
    ),
    (
        {"mixer": "token_mlp", "positions": "rope_2d"},
        "positions: rope_2d acts inside attention only",
    ),
    (
        {"positions": "rope_2d", "mixer": {"kind": "attention", "heads": 8, "head_dim": 42}},
        "positions: rope_2d splits a head into four, and heads of width 42 do not split; give "
        "mixer.heads or mixer.head_dim so that they are a multiple of 4",
    ),
    (
        {"positions": {"kind": "rope_2d", "columns": 10}},
        "model.positions: rope_2d: 81 cells do not fill rows of 10; give positions.columns that "
        "divides them, or use positions: rope",
    ),
    ({"ffn": {"kind": "moe", "experts": 2, "active": 3}}, "active 3 is more than experts 2"),
    ({"ffn": {"kind": "moe", "experts": 1}}, "model.ffn.experts"),
    ({"ffn": {"kind": "conv_swiglu", "kernel": 1}}, "model.ffn.kernel"),
    ({"residual_scale": 0}, "model.residual_scale"),
    ({"initial": {"kind": "random", "std": 0}}, "model.initial.std"),
    (
        {"initial": "learned"},
        "model.initial: learned needs a gradient that reaches the start of a step; model.gradient: "
        "last_cycles leaves 14 of 21 updates without one; use whole_program, or initial: fixed",
    ),
    ({"norm": "sandwich"}, "model.norm"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_a_combination_without_meaning_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preset("trm_att", model=model)
    assert message in str(caught.value)


def test_a_grid_that_is_not_square_needs_its_columns() -> None:
    from trm_lab.config import Rope2D

    assert Rope2D().grid(81) == (9, 9)
    assert Rope2D(columns=27).grid(81) == (3, 27)
    with pytest.raises(ValueError, match="80 cells do not fill a square"):
        Rope2D().grid(80)
    assert Rope2D(columns=8).grid(80) == (10, 8)
