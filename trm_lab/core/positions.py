"""Rotary positions.  Shapes: B puzzles, S positions, H heads."""

import torch
from jaxtyping import Float
from torch import Tensor

from trm_lab.config.blocks import Rope, Rope2D
from trm_lab.config.model import Model

Tables = tuple[Float[Tensor, "S half2"], Float[Tensor, "S half2"]]
"""Cosines and sines of the angles of every position."""


def rotary_tables(
    model: Model, positions: int, dtype: torch.dtype, device: torch.device
) -> Tables | None:
    """Give the tables of a model's position code, or None if it does not rotate."""
    match model.positions:
        case Rope():
            return rope_tables(positions, model.head_dim, model.positions.theta, dtype, device)
        case Rope2D():
            grid = model.positions.grid(positions - model.slots)
            return rope_2d_tables(
                grid, model.slots, model.head_dim, model.positions.theta, dtype, device
            )
        case _:
            return None


def rope_tables(
    positions: int, head_dim: int, theta: float, dtype: torch.dtype, device: torch.device
) -> Tables:
    """Cosines and sines of the rotary angles, in at least float32; frequencies repeat twice."""
    wide = torch.promote_types(dtype, torch.float32)
    index = torch.arange(0, head_dim, 2, dtype=wide, device=device)
    frequency = 1.0 / theta ** (index / head_dim)
    angle = torch.outer(torch.arange(positions, dtype=wide, device=device), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rope_2d_tables(
    grid: tuple[int, int],
    slots: int,
    head_dim: int,
    theta: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tables:
    """Cosines and sines for a grid of rows and columns below a row of puzzle slots.

    The first half of a head's pairs turns with the row, the second with the column, each with the
    frequencies of a head of half the width.
    """
    rows, columns = grid
    wide = torch.promote_types(dtype, torch.float32)
    cell = torch.arange(rows * columns, device=device)
    slot = torch.arange(slots, device=device)
    row = torch.cat((torch.zeros_like(slot), cell // columns + 1)).to(wide)
    column = torch.cat((slot, cell % columns)).to(wide)
    half = head_dim // 2
    frequency = 1.0 / theta ** (torch.arange(0, half, 2, dtype=wide, device=device) / half)
    angle = torch.cat((torch.outer(row, frequency), torch.outer(column, frequency)), dim=-1)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(
    h: Float[Tensor, "*B S H half2"],
    cos: Float[Tensor, "S half2"],
    sin: Float[Tensor, "S half2"],
) -> Float[Tensor, "*B S H half2"]:
    """Turn pairs (i, i + half) by their position's angle, computed in the tables' type."""
    wide = h.to(cos.dtype)
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (wide * cos.unsqueeze(-2) + turned * sin.unsqueeze(-2)).to(h.dtype)
