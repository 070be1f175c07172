"""Products with named parameters, and the norm.

Parameters are cast to the activations' type where they are used.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Params = Mapping[str, Tensor]


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
