"""What a recursion does: residuals, Jacobian of the cycle, dimension of its states, gradients.

Everything is measured along supervision steps from a fresh start, at given parameters.  Inside a
step the program is T plain cycles; from step to step the latents move as the model moves them, or
start anew where it carries none.
Shapes: P puzzles, K supervision steps, U updates of a program, N numbers of a puzzle's latents.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.functional import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from trm_lab.config.gradient import WholeProgram
from trm_lab.config.loops import Uniform
from trm_lab.config.supervision import Supervision
from trm_lab.core.core import Core
from trm_lab.core.products import Params
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.recursion import Latents, write
from trm_lab.core.supervision import Batch, Carry, supervise

Vectors = Float[Tensor, "P N"]


class Diagnostics(NamedTuple):
    """What `diagnose` measures; see `trm_lab.training.diagnose` for the labelled form."""

    residual: Float[np.ndarray, "P K U"]
    """|new - old| / |new| of the latent that an update writes."""
    cosine: Float[np.ndarray, "P K U"]
    """Cosine between that latent before and after."""
    spectral_radius: Float[np.ndarray, "P K"]
    """Of the Jacobian of one cycle, all latents jointly, at the latents after the step."""
    lyapunov: Float[np.ndarray, "P K"]
    """Finite-time Lyapunov exponent: mean growth over the step's updates of the logarithm of a
    tangent vector that goes along with the latents: from the first step on, or from every start."""
    participation: Float[np.ndarray, "K Z"]
    """Participation ratio of each latent after the step, over puzzles and positions."""
    gradient_cosine: Float[np.ndarray, " K"]
    """Cosine between the gradient of the step's loss under the model's scheme and the gradient of
    the whole program of plain cycles, over all parameters."""
    gradient_norm_ratio: Float[np.ndarray, " K"]
    """Length of the former over that of the latter."""


def diagnose(
    reasoner: Reasoner,
    batch: Batch,
    supervision: Supervision,
    start: Latents,
    *,
    steps: int,
    iterations: int,
) -> Diagnostics:
    """Measure all diagnostics over the given supervision steps, in the core's precision.

    `iterations` are the Arnoldi iterations of the spectral radius, each one product with the
    Jacobian.  Gradients are those of the sum of the puzzles' losses.  Puzzles have identifier 0, as
    in evaluation.
    """
    core, weights = reasoner.core, reasoner.weights
    model, params = core.model, {k: p.detach() for k, p in weights.params.items()}
    rows = weights.rows(batch.identifiers)
    with torch.no_grad():
        x = core.embed(params, batch.inputs, rows)
    cycle, net = model.layout.cycle(model.n), core.net(params)

    def advance(z: Latents) -> Latents:
        for update in cycle:
            z = write(z, x, net, update)
        return z

    tangent = aim = _directions(start)
    kept: list[tuple[Tensor, ...]] = []
    z = start
    for step in range(1, steps + 1):
        moves, ends, growth = [], z, torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for _ in range(model.T):
            tangent, grown = grow(advance, ends, tangent)
            growth = growth + grown
            with torch.no_grad():
                for update in cycle:
                    old, ends = ends[update.write], write(ends, x, net, update)
                    moves.append(_compare(old, ends[update.write]))
        residual, cosine = (torch.stack(part, -1) for part in zip(*moves, strict=True))
        carry = Carry(z, torch.full_like(batch.identifiers, step - 1).int(),
                      torch.zeros_like(batch.identifiers, dtype=torch.bool), batch)  # fmt: skip
        likeness, ratio = compare_gradients(core, params, supervision, carry, rows)
        with torch.no_grad():
            read, z, _ = reasoner.step(z, start, batch.inputs)
            tangent = tangent if reasoner.carried else aim
        kept.append((
            residual, cosine, spectral_radius(advance, read.z, iterations),
            growth / (model.T * len(cycle)),
            torch.stack([participation_ratio(latent) for latent in read.z]), likeness, ratio,
        ))  # fmt: skip
    stacked = [torch.stack(part).double().cpu().numpy() for part in zip(*kept, strict=True)]
    return Diagnostics(*(np.moveaxis(v, 0, 1) for v in stacked[:4]), *stacked[4:])


def grow(
    advance: Callable[[Latents], Latents], z: Latents, tangent: Vectors
) -> tuple[Vectors, Float[Tensor, " P"]]:
    """Push unit tangent vectors through a map at z: unit vectors again, and the log of the growth.

    A vector that the map sends to zero grows by -inf and starts again as it was.
    """
    moved = _push(advance, z, tangent)
    length = moved.norm(dim=-1)
    unit = torch.where(length > 0, length, 1).unsqueeze(-1)
    return torch.where((length > 0).unsqueeze(-1), moved / unit, tangent), length.log()


def spectral_radius(
    advance: Callable[[Latents], Latents], z: Latents, iterations: int
) -> Float[Tensor, " P"]:
    """Give the largest absolute eigenvalue of each puzzle's Jacobian of a map at z, by Arnoldi.

    Power iteration does not settle where the largest eigenvalues are a complex pair; the
    eigenvalues of the Jacobian in the Krylov space of the same products do, and are exact once
    there are as many iterations as numbers in the latents.
    """
    basis = [_directions(z)]
    count = min(iterations, basis[0].shape[-1])
    hessenberg = basis[0].new_zeros(len(basis[0]), count, count)
    smallest = 100 * torch.finfo(hessenberg.dtype).eps
    for j in range(count):
        pushed = _push(advance, z, basis[j])
        scale, space = pushed.norm(dim=-1), torch.stack(basis, dim=-1)
        for _ in range(2):  # once leaves rounding errors along the basis
            along = (pushed.unsqueeze(-2) @ space).squeeze(-2)
            pushed = pushed - (space @ along.unsqueeze(-1)).squeeze(-1)
            hessenberg[:, : j + 1, j] += along
        length = pushed.norm(dim=-1)
        # In a space that the Jacobian maps to itself nothing is left over but rounding.
        ended = length <= smallest * scale
        length = torch.where(ended, 0, length)
        if j + 1 < count:
            hessenberg[:, j + 1, j] = length
            unit = torch.where(ended, 1, length).unsqueeze(-1)
            basis.append(torch.where(ended.unsqueeze(-1), 0, pushed / unit))
    radius: Tensor = torch.linalg.eigvals(hessenberg).abs().amax(-1)
    return radius


def participation_ratio(states: Float[Tensor, "P S D"]) -> Float[Tensor, ""]:
    """Give (sum of eigenvalues)^2 / (sum of their squares) of the covariance of the states.

    An effective dimension, 1 to D (HRM, arXiv 2506.21734, section 4); samples are all positions of
    all puzzles.  NaN where the states do not vary.
    """
    samples = states.double().flatten(0, 1)
    samples = samples - samples.mean(0)
    covariance = samples.mT @ samples
    return covariance.trace().square() / covariance.square().sum()


def compare_gradients(
    core: Core,
    params: Params,
    supervision: Supervision,
    carry: Carry,
    rows: Float[Tensor, "P dim"] | None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Give cosine and ratio of lengths of the model's gradient against the whole program's.

    Of several hypotheses the carry holds the first alone.  A step weighs one, whatever it weighs
    in training: under `last_only` most would weigh nothing.
    """
    alone = {"hypotheses": 1, "step_weights": Uniform()}
    supervision = supervision.model_copy(update=alone)
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    minimum = torch.zeros_like(carry.steps)

    def gradient(scheme: WholeProgram | None) -> Tensor:
        _, outcome = supervise(core, leaves, supervision, carry, rows, minimum, gradient=scheme)
        parts = torch.autograd.grad(
            outcome.loss, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten().double() for part in parts])

    own, whole = gradient(None), gradient(WholeProgram())
    return torch.dot(own, whole) / (own.norm() * whole.norm()), own.norm() / whole.norm()


def _push(advance: Callable[[Latents], Latents], z: Latents, tangent: Vectors) -> Vectors:
    """Give the product of the Jacobian of a map at z with one vector per puzzle."""
    parts = torch.split(tangent, [v[0].numel() for v in z], dim=-1)
    tangents = tuple(part.view(v.shape) for part, v in zip(parts, z, strict=True))
    z = tuple(v.detach().contiguous() for v in z)
    # The fused kernels of attention cannot be differentiated twice, which this product needs.
    with sdpa_kernel(SDPBackend.MATH):
        pushed = jvp(lambda *v: advance(v), z, tangents)[1]  # type: ignore[no-untyped-call]
    return torch.cat([part.flatten(1) for part in pushed], dim=-1)


def _directions(z: Latents) -> Vectors:
    """Draw one unit vector per puzzle, always the same."""
    size = sum(v[0].numel() for v in z)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(z[0]), size, generator=generator, dtype=torch.float64)
    unit = torch.nn.functional.normalize(drawn, dim=-1)
    return unit.to(z[0].dtype).to(z[0].device)


def _compare(old: Tensor, new: Tensor) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Give relative change and cosine of a latent before and after an update, by puzzle."""
    old, new = old.flatten(1), new.flatten(1)
    change = torch.linalg.vector_norm(new - old, dim=-1) / torch.linalg.vector_norm(new, dim=-1)
    return change, torch.cosine_similarity(old, new, dim=-1)
