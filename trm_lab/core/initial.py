"""Initial weights, drawn by name.

Each tensor has its own stream, keyed by (seed, name), so that two models of one seed start equal
wherever their parameters have the same name and shape: paired seeds are paired from the start.
"""

import hashlib
import math

import numpy as np
import torch
from scipy.special import erf, erfinv

from trm_lab.config.model import Model
from trm_lab.core.core import Weights
from trm_lab.parameters import Geometry, parameters, table_shape, untrained_latents

TRUNCATION = 2.0
"""Standard deviations at which the normal is cut, as JAX's and flax's initialisers do."""


def keyed(seed: int, *name: str | int) -> np.random.Generator:
    """Give the random generator of (seed, name): independent of every other name's."""
    words = "/".join(str(part) for part in name)
    digest = hashlib.sha256(words.encode()).digest()
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, int.from_bytes(digest[:8], "little")], np.uint64))
    )


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> torch.Tensor:
    """Draw from a normal cut at two standard deviations, rescaled so that its std is `std`."""
    c = TRUNCATION
    low, high = erf(-c / math.sqrt(2)), erf(c / math.sqrt(2))
    density = math.exp(-(c**2) / 2) / math.sqrt(2 * math.pi)
    # Standard deviation of the cut normal: sqrt(1 - 2 c phi(c) / Z), Z its mass.
    scale = std / math.sqrt(1 - 2 * c * density / ((high - low) / 2))
    values = erfinv(rng.uniform(low, high, shape)) * math.sqrt(2) * scale
    return torch.from_numpy(np.clip(values, -c * scale, c * scale))


def initial_weights(
    model: Model,
    geometry: Geometry,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    hypotheses: int = 1,
) -> Weights:
    """Draw the weights of a fresh model.

    Parameters are float32 (float64 if the activations are); the latents' initial vectors have
    std 1 and the precision of the activations; the puzzle table starts at zero.  Of several
    hypotheses every one has vectors of its own; those of the first do not depend on their number.
    """
    wide = torch.promote_types(dtype, torch.float32)

    def draw(name: str, shape: tuple[int, ...], std: float) -> torch.Tensor:
        return truncated_normal(keyed(seed, "initial", name), shape, std)

    params = {
        name: (
            draw(name, p.shape, p.std).to(wide)
            if p.std
            else torch.full(p.shape, p.constant, dtype=wide)
        ).to(device)
        for name, p in parameters(model, geometry).items()
    }

    def vector(name: str) -> torch.Tensor:
        return draw(name, (model.width,), 1.0).to(dtype).to(wide).to(device)

    names = untrained_latents(model)
    others = tuple(
        torch.stack([vector(f"hypothesis.{k}.{name}") for k in range(1, hypotheses)])
        for name in names
        if hypotheses > 1
    )
    shape = table_shape(model, geometry)
    table = torch.zeros(shape, dtype=wide, device=device) if shape else None
    return Weights(params, tuple(map(vector, names)), table, others)
