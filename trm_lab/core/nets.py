"""Blocks as functions over named parameters.

A block is post-norm, `h <- rms(h + mixer(h))`, `h <- rms(h + feed_forward(h))`, or pre-norm,
`h <- h + mixer(rms(h))` and so on, with a norm at the end of a net.  Parameters are cast to the
activations' type where they are used.  Shapes: B puzzles, S positions, D width, H heads.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trm_lab.config.blocks import Attention, Convolution, Mixer, TokenMLP
from trm_lab.config.contracts import OwnMixer
from trm_lab.config.model import Model
from trm_lab.core.feed_forward import build_feed_forward
from trm_lab.core.own import addend
from trm_lab.core.positions import rotary_tables, rotate
from trm_lab.core.products import Params, linear, rms_norm, swiglu

Mix = Callable[[Params, str, Tensor], Tensor]
"""Mixes positions: (parameters, prefix of their names, h) to h with its mix added, normed."""
Block = Callable[[Params, str, Tensor], Tensor]
"""Applies one block: (parameters, prefix of their names, h)."""


def residual(model: Model, h: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """Add s f(h) to h, normed over the last axis after the sum or, pre-norm, before f."""
    inner = h if model.norm == "post" else rms_norm(h, model.norm_eps)
    added = f(inner)
    if model.residual_scale != 1:
        added = model.residual_scale * added
    return rms_norm(h + added, model.norm_eps) if model.norm == "post" else h + added


def attention(
    model: Model, setting: Attention, positions: int, dtype: torch.dtype, device: torch.device
) -> Mix:
    """Build multi-head attention with a fused projection, heads in the order q, k, v."""
    heads, head_dim = setting.heads, model.head_dim
    tables = rotary_tables(model, positions, dtype, device)

    def attend(params: Params, prefix: str, h: Tensor) -> Tensor:
        qkv = linear(h, params[f"{prefix}.qkv"]).view(*h.shape[:-1], 3 * heads, head_dim)
        q, k, v = torch.split(qkv, heads, dim=-2)
        if tables is not None:
            q, k = rotate(q, *tables), rotate(k, *tables)
        out = F.scaled_dot_product_attention(
            q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3)
        )
        return linear(out.transpose(-2, -3).flatten(-2), params[f"{prefix}.out"])

    return lambda params, prefix, h: residual(model, h, lambda a: attend(params, prefix, a))


def token_mlp(model: Model) -> Mix:
    """Build SwiGLU over positions; its norm runs over positions too, per channel."""

    def mix(params: Params, prefix: str, h: Tensor) -> Tensor:
        # A copy for the product: without one torch multiplies puzzle by puzzle where weights need
        # no gradient.  The sum keeps the transposed layout, which fixes the rounding of the norm.
        across = residual(
            model, h.transpose(-1, -2), lambda a: swiglu(params, prefix, a.contiguous())
        )
        return across.transpose(-1, -2)

    return mix


def convolution(model: Model) -> Mix:
    """Build the convolution of width 3 as one product over the three neighbours side by side."""

    def convolve(params: Params, prefix: str, h: Tensor) -> Tensor:
        wide = F.pad(h, (0, 0, 1, 1))
        near = torch.cat((wide[..., :-2, :], h, wide[..., 2:, :]), dim=-1)
        return linear(near, params[f"{prefix}.conv"])

    return lambda params, prefix, h: residual(model, h, lambda a: convolve(params, prefix, a))


def own_mixer(
    model: Model, setting: OwnMixer, positions: int, dtype: torch.dtype, device: torch.device
) -> Mix:
    """Build somebody else's mixer; the residual sum and its norm are ours.

    What it gives is refused (ConfigError) where it would change the shape or type of h.
    """
    names, who = setting.parameters(model, positions), f"model.mixer: {setting.kind}: the mix"
    mixed = setting.build(model, positions, dtype, device)

    def mix(params: Params, prefix: str, h: Tensor) -> Tensor:
        weights = {name: params[f"{prefix}.{name}"].to(h.dtype) for name in names}
        return residual(model, h, lambda a: addend(mixed(weights, a), a, who))

    return mix


def build_mixer(model: Model, positions: int, dtype: torch.dtype, device: torch.device) -> Mix:
    """Build the model's mixer for a number of positions, S."""
    setting: Mixer = model.mixer
    match setting:
        case Attention():
            return attention(model, setting, positions, dtype, device)
        case TokenMLP():
            return token_mlp(model)
        case Convolution():
            return convolution(model)
        case OwnMixer():
            return own_mixer(model, setting, positions, dtype, device)


def build_block(model: Model, positions: int, dtype: torch.dtype, device: torch.device) -> Block:
    """Build one block: the mixer, then the feed-forward."""
    mix = build_mixer(model, positions, dtype, device)
    feed_forward = build_feed_forward(model)

    def block(params: Params, prefix: str, h: Tensor) -> Tensor:
        h = mix(params, f"{prefix}.mixer", h)
        return residual(model, h, lambda a: feed_forward(params, f"{prefix}.ffn", a))

    return block


def apply_net(
    model: Model, block: Block, params: Params, prefix: str, h: Tensor, layers: int | None = None
) -> Tensor:
    """Run the blocks of one net, and a last norm where blocks norm first.

    `layers` defaults to the model's.
    """
    for layer in range(model.layers if layers is None else layers):
        h = block(params, f"{prefix}.layer.{layer}", h)
    return h if model.norm == "post" else rms_norm(h, model.norm_eps)
