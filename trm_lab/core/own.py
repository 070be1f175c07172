"""Holds what somebody else's code computes to its contract.

A wrong shape is often not an error: it is broadcast, and trains something else.  Shapes: B slots, S
positions, D width.
"""

from typing import Any

import torch
from torch import Tensor

from trm_lab.errors import ConfigError


def per_slot(found: Any, like: Tensor, who: str, *, flags: bool = False) -> Tensor:
    """Give back what is a floating-point number of each slot, or a flag: [B], the shape of `like`.

    Raises:
        ConfigError: it is something else; begins with `who`.
    """
    if isinstance(found, Tensor) and found.shape == like.shape:
        right = found.dtype == torch.bool if flags else found.is_floating_point()
        if right:
            return found
    wanted = "bool" if flags else _name(like.dtype)
    raise ConfigError(
        f"{who} gives {_said(found)}, not {wanted} of shape {tuple(like.shape)}: one of each slot"
    )


def addend(found: Any, h: Tensor, who: str) -> Tensor:
    """Give back what can be added to h [B, S, D] and leave its shape and type: an axis may be 1.

    Raises:
        ConfigError: it is something else; begins with `who`.
    """
    if isinstance(found, Tensor) and found.ndim == h.ndim:
        # Without the first condition [B, D] would be added where there are B positions.
        sizes = zip(found.shape, h.shape, strict=True)
        if all(size in (1, whole) for size, whole in sizes) and (
            torch.promote_types(found.dtype, h.dtype) == h.dtype
        ):
            return found
    raise ConfigError(
        f"{who} gives {_said(found)}, which cannot be added to {_said(h)} (an axis may be 1)"
    )


def _said(found: Any) -> str:
    if not isinstance(found, Tensor):
        return type(found).__name__
    return f"{_name(found.dtype)} of shape {tuple(found.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
