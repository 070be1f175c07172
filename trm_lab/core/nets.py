"""Blocks as functions over named parameters.

A block is post-norm: `h <- rms(h + mixer(h))`, `h <- rms(h + swiglu(h))`.  Parameters are cast to
the activations' type where they are used.  Shapes: B puzzles, S positions, D width, H heads.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trm_lab.config.model import Attention, Mixer, Model, Rope, TokenMLP

Params = Mapping[str, Tensor]
Mix = Callable[[Params, str, Tensor], Tensor]
"""Mixes positions: (parameters, prefix of their names, h) to the normed sum of h and its mix."""


def linear(h: Tensor, weight: Tensor) -> Tensor:
    """Apply a weight [out, in] in the type of h."""
    return F.linear(h, weight.to(h.dtype))


def rms_norm(h: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square over the last axis; no gain.

    Computed in at least float32, returned in the type of h.
    """
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(h.dtype)


def swiglu(params: Params, prefix: str, h: Tensor) -> Tensor:
    """SwiGLU over the last axis (Shazeer 2020, arXiv 2002.05202), gate first in one product."""
    gate, up = linear(h, params[f"{prefix}.gate_up"]).chunk(2, dim=-1)
    return linear(F.silu(gate) * up, params[f"{prefix}.down"])


def rope_tables(
    positions: int, head_dim: int, theta: float, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "S half2"], Float[Tensor, "S half2"]]:
    """Cosines and sines of the rotary angles, in at least float32; frequencies repeat twice."""
    wide = torch.promote_types(dtype, torch.float32)
    index = torch.arange(0, head_dim, 2, dtype=wide, device=device)
    frequency = 1.0 / theta ** (index / head_dim)
    angle = torch.outer(torch.arange(positions, dtype=wide, device=device), frequency)
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


def attention(
    model: Model, setting: Attention, positions: int, dtype: torch.dtype, device: torch.device
) -> Mix:
    """Build multi-head attention with a fused projection, heads in the order q, k, v."""
    heads, head_dim = setting.heads, model.head_dim
    rope = model.positions
    tables = (
        rope_tables(positions, head_dim, rope.theta, dtype, device)
        if isinstance(rope, Rope)
        else None
    )

    def mix(params: Params, prefix: str, h: Tensor) -> Tensor:
        qkv = linear(h, params[f"{prefix}.qkv"]).view(*h.shape[:-1], 3 * heads, head_dim)
        q, k, v = torch.split(qkv, heads, dim=-2)
        if tables is not None:
            q, k = rotate(q, *tables), rotate(k, *tables)
        out = F.scaled_dot_product_attention(
            q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3)
        )
        out = out.transpose(-2, -3).flatten(-2)
        return rms_norm(h + linear(out, params[f"{prefix}.out"]), model.norm_eps)

    return mix


def token_mlp(model: Model) -> Mix:
    """Build SwiGLU over positions; its residual norm runs over positions too, per channel."""

    def mix(params: Params, prefix: str, h: Tensor) -> Tensor:
        across = h.transpose(-1, -2)
        # A copy for the product: without one torch multiplies puzzle by puzzle where weights need
        # no gradient.  The sum keeps the transposed layout, which fixes the rounding of the norm.
        mixed = swiglu(params, prefix, across.contiguous())
        across = rms_norm(across + mixed, model.norm_eps)
        return across.transpose(-1, -2)

    return mix


def build_mixer(model: Model, positions: int, dtype: torch.dtype, device: torch.device) -> Mix:
    """Build the model's mixer for a number of positions, S."""
    setting: Mixer = model.mixer
    match setting:
        case Attention():
            return attention(model, setting, positions, dtype, device)
        case TokenMLP():
            return token_mlp(model)


def apply_net(params: Params, prefix: str, layers: int, mix: Mix, eps: float, h: Tensor) -> Tensor:
    """Run the blocks of one net."""
    for layer in range(layers):
        block = f"{prefix}.layer.{layer}"
        h = mix(params, f"{block}.mixer", h)
        h = rms_norm(h + swiglu(params, f"{block}.ffn", h), eps)
    return h
