"""Naive twins: the published models as plain loops, typed from their description.

The recursions are written over any net; the blocks in numpy, float64, one head and one puzzle at a
time.  Nothing here imports the package's own core.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Array = Any
"""A torch tensor in the recursions, a numpy array in the blocks."""
Net = Callable[[Array], Array]


def trm(y: Array, z: Array, x: Array, net: Net, n: int, T: int) -> tuple[Array, Array]:
    """TRM: T - 1 cycles without a graph, one with; a cycle is n of z, then one of y."""

    def cycle(y: Array, z: Array) -> tuple[Array, Array]:
        for _ in range(n):
            z = net(z + (y + x))
        y = net(y + z)
        return y, z

    with torch.no_grad():
        for _ in range(T - 1):
            y, z = cycle(y, z)
    return cycle(y, z)


def hrm(
    y: Array, z: Array, x: Array, net_z: Net, net_y: Net, n: int, T: int
) -> tuple[Array, Array]:
    """HRM: all without a graph but the very last update of z and the very last of y."""
    with torch.no_grad():
        for i in range(T):
            for j in range(n):
                if not (i == T - 1 and j == n - 1):
                    z = net_z(z + (y + x))
            if i != T - 1:
                y = net_y(y + z)
    z = net_z(z + (y + x))
    y = net_y(y + z)
    return y, z


def one_latent(z: Array, x: Array, net: Net, n: int, T: int) -> Array:
    """TRM with a single latent: n updates that see x, one that does not."""

    def cycle(z: Array) -> Array:
        for _ in range(n):
            z = net(z + x)
        return net(z)

    with torch.no_grad():
        for _ in range(T - 1):
            z = cycle(z)
    return cycle(z)


def six_latents(
    y: Array, zs: list[Array], x: Array, net: Net, n: int, T: int
) -> tuple[Array, list[Array]]:
    """TRM with a multi-scale z: step i writes latent i from the sum of all."""

    def total(zs: list[Array]) -> Array:
        h = zs[0]
        for other in zs[1:]:
            h = h + other
        return h

    def cycle(y: Array, zs: list[Array]) -> tuple[Array, list[Array]]:
        zs = list(zs)
        for i in range(n):
            zs[i] = net(total(zs) + (y + x))
        y = net(y + total(zs))
        return y, zs

    with torch.no_grad():
        for _ in range(T - 1):
            y, zs = cycle(y, zs)
    return cycle(y, zs)


def rms(h: Array, eps: float = 1e-5) -> Array:
    """Divide each row by its root mean square."""
    return np.stack([row / math.sqrt(np.mean(row**2) + eps) for row in h])


def swiglu(h: Array, gate_up: Array, down: Array) -> Array:
    """First half of the product is the gate, second half what it lets through."""
    inner = len(gate_up) // 2
    gate, up = h @ gate_up[:inner].T, h @ gate_up[inner:].T
    return (gate / (1 + np.exp(-gate)) * up) @ down.T


def rotate(h: Array, theta: float) -> Array:
    """Turn (h[i], h[i + half]) at position t by the angle t * theta^(-2 i / dim)."""
    half = h.shape[1] // 2
    out = np.empty_like(h)
    for t in range(len(h)):
        for i in range(half):
            angle = t * theta ** (-2 * i / (2 * half))
            a, b = h[t, i], h[t, i + half]
            out[t, i] = a * math.cos(angle) - b * math.sin(angle)
            out[t, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def attend(h: Array, qkv: Array, out: Array, heads: int, theta: float | None) -> Array:
    """Attention of every position to every position, one head after the other."""
    dim = len(qkv) // 3 // heads
    parts = []
    for i in range(heads):
        rows = [slice((s * heads + i) * dim, (s * heads + i + 1) * dim) for s in range(3)]
        q, k, v = (h @ qkv[r].T for r in rows)
        if theta is not None:
            q, k = rotate(q, theta), rotate(k, theta)
        score = q @ k.T / math.sqrt(dim)
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        parts.append(weight / weight.sum(axis=1, keepdims=True) @ v)
    return np.concatenate(parts, axis=1) @ out.T


def attention_block(h: Array, w: dict[str, Array], heads: int, theta: float | None) -> Array:
    """One post-norm block with attention, of one puzzle [S, D]."""
    h = rms(h + attend(h, w["mixer.qkv"], w["mixer.out"], heads, theta))
    return rms(h + swiglu(h, w["ffn.gate_up"], w["ffn.down"]))


def token_mlp_block(h: Array, w: dict[str, Array]) -> Array:
    """One post-norm block with a token MLP: its first norm runs over positions, per channel."""
    h = rms(h.T + swiglu(h.T, w["mixer.gate_up"], w["mixer.down"])).T
    return rms(h + swiglu(h, w["ffn.gate_up"], w["ffn.down"]))
