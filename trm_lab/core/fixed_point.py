"""Fixed points: a solver, and the gradient of what it finds.

Every puzzle is solved by itself: what one finds does not depend on its companions.
Shapes: B puzzles, S positions, D width, N numbers of a puzzle's unknown.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trm_lab.config.gradient import Implicit

State = Float[Tensor, "*B S D"]
Latents = tuple[State, ...]
Map = Callable[[Latents], Latents]


class Solve(NamedTuple):
    """How a solve ended, by puzzle."""

    residual: Float[Tensor, "*B"]
    """|F(z) - z| / |F(z)| at the last evaluation; NaN where there was none."""
    iterations: Int[Tensor, "*B"]
    """Evaluations of F until the puzzle was solved, or all of them."""
    unconverged: Bool[Tensor, "*B"]
    """Whether the residual is above the tolerance."""
    evaluations: int
    """Evaluations of F for all puzzles together: a solved one is computed until the last is."""


class Solves(NamedTuple):
    """The solves of one supervision step."""

    forward: Solve
    backward: list[Solve]
    """Empty until the backward pass has come by."""
    ahead: list[Solve]
    """That of the look ahead, for the halting rule that has one."""


class Solved(NamedTuple):
    """A cycle's fixed point, ready to be differentiated."""

    z: Latents
    """One cycle from the solution, with the implicit gradient."""
    before: Latents
    """The solution, detached."""
    after: Latents
    """One cycle from the solution, with that cycle's own graph."""
    solves: Solves


def squared_residual(before: Latents, after: Latents) -> Float[Tensor, "*B"]:
    """Give |after - before|^2 / |after|^2 over all latents of a puzzle, in at least float32."""
    return _ratio(_pack(after) - _pack(before), _pack(after))


def solve(
    f: Callable[[Float[Tensor, "*B N"]], Float[Tensor, "*B N"]],
    z: Float[Tensor, "*B N"],
    *,
    iterations: int,
    tolerance: float,
    memory: int,
    damping: float,
) -> tuple[Float[Tensor, "*B N"], Solve]:
    """Look for z = f(z) with at most so many evaluations; without gradient.

    Anderson acceleration of type II (Walker & Ni 2011) over the last `memory` steps, the plain
    iteration with 0: z becomes f(f(...f(z))), bit for bit where nothing is damped.  A puzzle whose
    residual is within the tolerance stays at its f(z).
    """
    done = torch.zeros(z.shape[:-1], dtype=torch.bool, device=z.device)
    count = done.int()
    residual = torch.full_like(z[..., 0], torch.nan)
    past: list[tuple[Tensor, Tensor]] = []
    evaluations = 0
    for _ in range(iterations):
        fz = f(z)
        evaluations += 1
        step = fz - z
        count = count + ~done
        residual = torch.where(done, residual, _ratio(step, fz).sqrt())
        mixed = torch.lerp(z, fz, damping)
        if past:
            mixed = mixed - _correction(past, z, step, damping)
        past = [*past, (z, step)][-memory:] if memory else []
        found = ~done & (residual <= tolerance)
        new = torch.where(mixed.isfinite().all(-1, keepdim=True), mixed, fz)
        new = torch.where(found.unsqueeze(-1), fz, new)
        z = torch.where(done.unsqueeze(-1), z, new)
        done = done | found
        # The only look at the data: a tolerance of 0 has none, so its cost is fixed.
        if tolerance > 0 and bool(done.all()):
            break
    # A residual that is no number is above the tolerance too, unless nothing was to be solved.
    return z, Solve(residual, count, (count > 0) & ~(residual <= tolerance), evaluations)


def _correction(
    past: list[tuple[Tensor, Tensor]], z: Tensor, step: Tensor, damping: float
) -> Tensor:
    """Give (dZ + damping dG) gamma, gamma the least squares solution of dG gamma = step."""
    points, steps = zip(*past, (z, step), strict=True)
    moves = torch.stack([b - a for a, b in pairwise(points)], dim=-2)
    turns = torch.stack([b - a for a, b in pairwise(steps)], dim=-2)
    # Normal equations with a ridge at rounding level: columns may vanish as a solve converges.
    gram = turns @ turns.mT
    info = torch.finfo(gram.dtype)
    ridge = info.eps * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + info.tiny
    gram = gram + ridge[..., None, None] * torch.eye(len(past), dtype=z.dtype, device=z.device)
    gamma, _ = torch.linalg.solve_ex(gram, turns @ step.unsqueeze(-1))
    correction: Tensor = (moves + damping * turns).mT @ gamma
    return correction.squeeze(-1)


class _Through(torch.autograd.Function):
    """The identity, whose gradient goes through a function."""

    @staticmethod
    def forward(ctx: Any, pull: Callable[[Latents], Latents], *z: Tensor) -> Latents:
        ctx.pull = pull
        return tuple(v.view_as(v) for v in z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.pull(v))


def fixed_point(setting: Implicit, plain: Map, kept: Map, z: Latents, cycles: int) -> Solved:
    """Solve z = F(z) with at most so many evaluations of F, from z.

    `plain` and `kept` are both F, the second with the graph that the gradient goes through.  The
    last evaluation is that of `kept`, at the solution: its gradient in parameters and inputs is
    that of the fixed point once the incoming v has been replaced by g = v + g J.  One graph serves
    both the products with J, from the solution as a leaf, and the gradient.
    """

    def search(f: Map, start: Latents, iterations: int, tolerance: float) -> tuple[Latents, Solve]:
        def packed(v: Tensor) -> Tensor:
            return _pack(f(_unpack(v, start)))

        memory, damping = setting.memory, setting.damping
        found, how = solve(
            packed, _pack(start),
            iterations=iterations, tolerance=tolerance, memory=memory, damping=damping,
        )  # fmt: skip
        return _unpack(found, start), how

    with torch.no_grad():
        before, how = search(plain, z, cycles - 1, setting.tolerance)
    backward: list[Solve] = []
    if torch.is_grad_enabled():
        leaves = tuple(v.detach().requires_grad_() for v in before)
        after = kept(leaves)

        def pull(v: Latents) -> Latents:
            def transposed(g: Latents) -> Latents:
                products = torch.autograd.grad(
                    after, leaves, g, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                return tuple(a + b for a, b in zip(v, products, strict=True))

            found, told = search(
                transposed, v, setting.backward_iterations, setting.backward_tolerance
            )
            backward.append(told)
            return found

        z = _Through.apply(pull, *after)  # type: ignore[no-untyped-call]
    else:
        z = after = plain(before)
    with torch.no_grad():
        residual = squared_residual(before, after).sqrt()
    unconverged = ~(residual <= setting.tolerance)
    told = Solve(residual, how.iterations + 1, unconverged, how.evaluations + 1)
    return Solved(z, before, after, Solves(told, backward, []))


def _ratio(part: Tensor, whole: Tensor) -> Float[Tensor, "*B"]:
    """Squared norm over squared norm, 0 over 0 being 0."""
    tiny = torch.finfo(whole.dtype).tiny
    return part.square().sum(-1) / whole.square().sum(-1).clamp(min=tiny)


def _pack(z: Latents) -> Float[Tensor, "*B N"]:
    wide = torch.promote_types(z[0].dtype, torch.float32)
    return torch.cat([v.flatten(-2) for v in z], dim=-1).to(wide)


def _unpack(v: Float[Tensor, "*B N"], like: Latents) -> Latents:
    parts = v.to(like[0].dtype).chunk(len(like), dim=-1)
    return tuple(part.reshape(old.shape) for part, old in zip(parts, like, strict=True))
