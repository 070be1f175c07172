"""Feed-forward parts of a block.  Shapes: B puzzles, S positions, D width, K experts."""

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trm_lab.config.blocks import (
    ConvSwiGLU,
    FeedForward,
    MixtureOfExperts,
    NormGateSwiGLU,
    SwiGLU,
)
from trm_lab.config.model import Model
from trm_lab.core.products import Params, linear, rms_norm, swiglu

Feed = Callable[[Params, str, Tensor], Tensor]
"""Applies a feed-forward: (parameters, prefix of their names, h)."""


def build_feed_forward(model: Model) -> Feed:
    """Build the model's feed-forward."""
    setting: FeedForward = model.ffn
    match setting:
        case SwiGLU():
            return swiglu
        case ConvSwiGLU():
            return conv_swiglu
        case NormGateSwiGLU():
            return lambda params, prefix, h: norm_gate_swiglu(params, prefix, h, model.norm_eps)
        case MixtureOfExperts():
            return lambda params, prefix, h: mixture(params, prefix, h, setting.active)


def conv_swiglu(params: Params, prefix: str, h: Tensor) -> Tensor:
    """SwiGLU with a convolution over positions and a second SiLU before the last product."""
    gate, up = linear(h, params[f"{prefix}.gate_up"]).chunk(2, dim=-1)
    local = depthwise(F.silu(gate) * up, params[f"{prefix}.conv"])
    return linear(F.silu(local), params[f"{prefix}.down"])


def depthwise(h: Float[Tensor, "*B S C"], kernel: Float[Tensor, "C 1 K"]) -> Tensor:
    """Convolve each channel over positions with zeros outside: `sum_j k_j h_(s + j - K // 2)`.

    As shifts and products, element by element: no matrix product, and in the type of h.
    """
    size, S = kernel.shape[-1], h.shape[-2]
    left = size // 2
    wide = F.pad(h, (0, 0, left, size - 1 - left))
    taps = kernel.to(h.dtype).squeeze(-2).unbind(-1)
    return reduce(torch.add, (tap * wide[..., j : j + S, :] for j, tap in enumerate(taps)))


def norm_gate_swiglu(params: Params, prefix: str, h: Tensor, eps: float) -> Tensor:
    """SwiGLU whose gate has unit root mean square over the inner channels."""
    gate, up = linear(h, params[f"{prefix}.gate_up"]).chunk(2, dim=-1)
    return linear(F.silu(rms_norm(gate, eps)) * up, params[f"{prefix}.down"])


def mixture(params: Params, prefix: str, h: Tensor, active: int) -> Tensor:
    """Sum of SwiGLU experts, weighted by the router; see `MixtureOfExperts`."""
    weight = routing(linear(h, params[f"{prefix}.router"]), active)
    both = linear(h, params[f"{prefix}.gate_up"])
    gate, up = both.view(*weight.shape, -1).chunk(2, dim=-1)  # one row of channels per expert
    return linear((weight.unsqueeze(-1) * F.silu(gate) * up).flatten(-2), params[f"{prefix}.down"])


def routing(logits: Float[Tensor, "*B S K"], active: int) -> Float[Tensor, "*B S K"]:
    """Softmax in at least float32, all but the `active` largest set to 0; not summed to 1 again."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = wide.softmax(-1)
    kept = torch.zeros_like(weight).scatter(-1, weight.topk(active, dim=-1).indices, 1.0)
    return (weight * kept).to(logits.dtype)
