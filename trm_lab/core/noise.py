"""Normal numbers that are a function of their key: no generator, no order of drawing.

The word at place i of key k is SplitMix64's (Steele et al. 2014): `mix(k + (i + 1) * GAMMA)`, and a
word gives two normals by Box and Muller's transform.  A puzzle's noise is therefore the same in
every batch, on every device and in any order of work.  Shapes: K keys.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _signed(word: int) -> int:
    """Give the int64 with the bits of a 64-bit word; torch has no arithmetic on uint64."""
    return word - (1 << 64) if word >> 63 else word


GAMMA = _signed(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, made odd."""
_FACTORS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
"""Shifts and multipliers of SplitMix64's finaliser."""


def mix(words: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    """Scramble 64-bit words: SplitMix64's finaliser, a bijection; products wrap."""
    for shift, factor in _FACTORS:
        words = (words ^ _right(words, shift)) * factor
    return words ^ _right(words, 31)


def derive(keys: Int[Tensor, " K"], part: int | Int[Tensor, " K"]) -> Int[Tensor, " K"]:
    """Give the keys of a part (a step, a rollout, a latent) of what the keys stand for."""
    # A Python product would not wrap.
    return mix(mix(keys) + (torch.as_tensor(part, device=keys.device) + 1) * GAMMA)


def normal(keys: Int[Tensor, " K"], count: int) -> Float[Tensor, "K count"]:
    """Draw `count` standard normals per key, in float32."""
    places = torch.arange(1, (count + 1) // 2 + 1, device=keys.device)
    words = mix(keys.unsqueeze(-1) + places * GAMMA)
    # 32 bits each; half a unit keeps the uniform off 0, where the logarithm is.
    first = (_right(words, 32).float() + 0.5) * 2**-32
    angle = (words & 0xFFFFFFFF).float() * (2 * math.pi * 2**-32)
    radius = torch.sqrt(-2 * torch.log(first))
    pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return pairs.flatten(-2)[..., :count]


def _right(words: Int[Tensor, "*s"], shift: int) -> Int[Tensor, "*s"]:
    """Shift right and fill with zeros; torch's own shift copies the sign."""
    return (words >> shift) & ((1 << (64 - shift)) - 1)
