"""Fixed points and their gradients, against direct solutions, unrolling and finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contract.instances import LAYOUTS, name
from tests.contract.tiny import (
    GEOMETRY,
    leaves,
    random_latents,
    scalar,
    tiny_batch,
    tiny_model,
    tiny_weights,
)
from trm_lab.config import (
    Attention,
    Implicit,
    LastCycles,
    Layout,
    ManyLatents,
    Mixer,
    NoPositions,
    OneLatent,
    Phantom,
    TokenMLP,
    TwoLatents,
    WholeProgram,
)
from trm_lab.core.core import Core
from trm_lab.core.fixed_point import solve, squared_residual
from trm_lab.core.recursion import Recursion, run

EXACT = Implicit(tolerance=1e-13, backward_tolerance=1e-13, backward_iterations=300)
PLAIN, ATTENTION = TwoLatents(), Attention(heads=1)
UNTIL_THE_END = {"tolerance": 0.0, "backward_tolerance": 0.0}


def affine(size: int, radius: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw a matrix of a given spectral radius and a vector."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix *= radius / torch.linalg.eigvals(matrix).abs().max()
    return matrix, torch.randn(size, generator=generator, dtype=torch.float64)


def found(matrix: Tensor, b: Tensor, **changes: Any) -> tuple[Tensor, Any]:
    given: dict[str, Any] = {"iterations": 60, "tolerance": 1e-13, "memory": 5, "damping": 1.0}
    return solve(lambda z: z @ matrix.T + b, torch.zeros_like(b), **(given | changes))


def test_a_linear_fixed_point_is_the_solution_of_the_linear_system() -> None:
    matrix, b = affine(8, 0.5)
    expected = torch.linalg.solve(torch.eye(8, dtype=torch.float64) - matrix, b)
    for memory, damping in ((5, 1.0), (0, 1.0), (0, 0.7), (3, 0.5)):
        z, how = found(matrix, b, memory=memory, damping=damping, iterations=200)
        torch.testing.assert_close(z, expected, rtol=1e-11, atol=1e-11)
        assert not how.unconverged
        assert 0 < how.residual <= 1e-13


def test_anderson_with_a_full_memory_solves_a_linear_system_in_as_many_steps_as_unknowns() -> None:
    """On linear maps it is essentially GMRES (Walker & Ni 2011), contraction or not."""
    for radius in (0.9, 3.0):
        matrix, b = affine(6, radius)
        expected = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - matrix, b)
        z, how = found(matrix, b, memory=10, tolerance=1e-9)
        assert how.iterations <= 6 + 3
        assert not how.unconverged
        torch.testing.assert_close(z, expected, rtol=1e-6, atol=1e-6)
    _, plain = found(matrix, b, memory=0)
    assert plain.unconverged
    assert plain.iterations == 60
    assert plain.residual > 0.5


def test_a_solve_that_runs_out_of_the_numbers_is_unconverged() -> None:
    matrix, b = affine(6, 3.0)
    _, how = found(matrix, b, memory=0, iterations=1000)
    assert how.residual.isnan()
    assert how.unconverged


def test_the_plain_iteration_gives_the_terms_of_the_neumann_series() -> None:
    matrix, b = affine(5, 0.8)
    z, how = found(matrix, b, memory=0, iterations=3, tolerance=0.0)
    expected = b + matrix @ b + matrix @ matrix @ b
    torch.testing.assert_close(z, expected, rtol=1e-13, atol=1e-13)
    assert how.iterations == 3
    before = b + matrix @ b
    torch.testing.assert_close(how.residual, (expected - before).norm() / expected.norm())


def test_every_puzzle_is_solved_by_itself() -> None:
    """Easy and hard ones together: each stops at its own count, with its own values."""
    pairs = [affine(6, radius, seed) for seed, radius in enumerate((0.1, 0.4, 0.95, 0.0))]
    matrices, b = (torch.stack(part) for part in zip(*pairs, strict=True))
    setting: dict[str, Any] = {"tolerance": 1e-10, "memory": 3, "damping": 1.0, "iterations": 40}
    together, how = solve(
        lambda z: (matrices @ z.unsqueeze(-1)).squeeze(-1) + b, torch.zeros_like(b), **setting
    )
    assert len(set(how.iterations.tolist())) == 4
    assert how.evaluations == how.iterations.max() < 40
    for i, (matrix, vector) in enumerate(pairs):
        alone, single = solve(
            lambda z, m=matrix, v=vector: m @ z + v, torch.zeros_like(vector), **setting
        )
        assert single.iterations == how.iterations[i]
        assert single.unconverged == how.unconverged[i]
        torch.testing.assert_close(together[i], alone, rtol=1e-9, atol=1e-9)


def test_nothing_to_change_is_a_squared_residual_of_zero() -> None:
    zero, one = (torch.zeros(2, 3, 4), torch.ones(2, 3, 4))
    assert squared_residual((zero,), (zero,)).tolist() == [0, 0]
    assert squared_residual((zero, one), (one, one)).tolist() == [0.5, 0.5]
    assert squared_residual((one,), (2 * one,)).tolist() == [0.25, 0.25]
    assert squared_residual((one.bfloat16(),), (2 * one.bfloat16(),)).dtype == torch.float32


class Tiny:
    """A tiny core in float64 whose cycle is a contraction: small weights in its nets."""

    def __init__(self, layout: Layout = PLAIN, mixer: Mixer = ATTENTION) -> None:
        self.model = tiny_model(layout=layout, mixer=mixer, n=2, T=3)
        self.weights = tiny_weights(self.model, torch.float64)
        self.core = Core(self.model, GEOMETRY, torch.float64)
        with torch.no_grad():
            for key, p in self.weights.params.items():
                p *= 0.1 if key.startswith("net") else 1.0
        self.batch = tiny_batch(2)
        rows = self.weights.rows(self.batch.identifiers)
        assert rows is not None
        self.rows = rows.requires_grad_()
        self.z = random_latents(self.core, 2)

    def recur(self, gradient: Any, T: int, params: dict[str, Tensor] | None = None) -> Recursion:
        params = self.weights.params if params is None else params
        return self.core.recur(params, self.z, self.batch.inputs, self.rows, T=T, gradient=gradient)

    def value(self, moved: Recursion, params: dict[str, Tensor] | None = None) -> Tensor:
        return scalar(self.core.read(self.weights.params if params is None else params, moved.z))

    def gradient(self, moved: Recursion) -> list[Tensor]:
        grads = torch.autograd.grad(
            self.value(moved), leaves(self.weights, self.rows), materialize_grads=True,
            allow_unused=True,
        )  # fmt: skip
        return list(grads)


@pytest.mark.slow
@pytest.mark.parametrize("mixer", [Attention(heads=1), TokenMLP()], ids=name)
@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_the_implicit_gradient_is_that_of_a_long_unrolled_program(
    layout: Layout, mixer: Mixer
) -> None:
    tiny = Tiny(layout, mixer)
    unrolled, implicit = tiny.recur(WholeProgram(), 500), tiny.recur(EXACT, 500)
    assert (squared_residual(unrolled.before, unrolled.after) < 1e-28).all()
    for a, b in zip(implicit.z, unrolled.z, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)
    ours, theirs = tiny.gradient(implicit), tiny.gradient(unrolled)
    assert implicit.solves is not None
    (backward,) = implicit.solves.backward
    for told in (implicit.solves.forward, backward):
        assert not told.unconverged.any()
        assert 5 < int(told.iterations.max()) < 300
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    # The truncated gradient is another one, so the comparison can fail.
    one = tiny.gradient(tiny.recur(LastCycles(), 500))
    assert max(float((a - b).abs().max()) for a, b in zip(one, theirs, strict=True)) > 1e-3


@pytest.mark.parametrize(
    "key", ["embed.tokens", "net.0.layer.0.ffn.down", "net.0.layer.0.mixer.qkv"]
)
def test_the_implicit_gradient_agrees_with_finite_differences(key: str) -> None:
    tiny = Tiny()
    direction = torch.randn(
        tiny.weights.params[key].shape,
        generator=torch.Generator().manual_seed(1), dtype=torch.float64,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(tiny.value(tiny.recur(EXACT, 500)), tiny.weights.params[key])
    h, values = 1e-5, []
    for sign in (1, -1):
        params = {**tiny.weights.params, key: tiny.weights.params[key] + sign * h * direction}
        with torch.no_grad():
            values.append(float(tiny.value(tiny.recur(EXACT, 500, params), params)))
    slope = (values[0] - values[1]) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_without_products_the_gradient_is_that_of_one_cycle_from_the_solution() -> None:
    tiny = Tiny()
    free = EXACT.model_copy(update={"backward_iterations": 0})
    moved = tiny.recur(free, 500)
    ours = tiny.gradient(moved)
    assert moved.solves is not None
    assert moved.solves.backward[0].residual.isnan().all()
    tiny.z = moved.before
    one = tiny.gradient(tiny.recur(LastCycles(), 1))
    for a, b in zip(ours, one, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_k_products_are_k_further_terms_of_the_series() -> None:
    """g = v (1 + J + J^2), with the Jacobian of the cycle written out."""
    tiny = Tiny(OneLatent())
    setting = Implicit(memory=0, backward_iterations=2, **UNTIL_THE_END)
    moved = tiny.recur(setting, 40)
    (key,) = (k for k in tiny.weights.params if k.endswith("ffn.down"))
    weight = tiny.weights.params[key]
    v = torch.randn(
        moved.z[0].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    (ours,) = torch.autograd.grad((v * moved.z[0]).sum(), weight)

    def cycle(z: Tensor, *params: Tensor) -> Tensor:
        changed = {**tiny.weights.params, **({key: params[0]} if params else {})}
        return tiny.core.recur(
            changed, (z,), tiny.batch.inputs, tiny.rows.detach(), T=1, gradient=WholeProgram()
        ).z[0]

    point = moved.before[0]
    jacobian = torch.autograd.functional.jacobian(cycle, point)
    jacobian = jacobian.reshape(point.numel(), point.numel())
    flat = v.flatten()
    g = flat + flat @ jacobian + flat @ jacobian @ jacobian
    in_weight = torch.autograd.functional.jacobian(lambda w: cycle(point, w), weight)
    expected = torch.tensordot(g.view_as(point), in_weight, dims=3)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mixer", [Attention(heads=1), TokenMLP()], ids=name)
@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_the_plain_solver_without_tolerance_has_the_values_of_the_program(
    layout: Layout, mixer: Mixer
) -> None:
    model = tiny_model(layout=layout, mixer=mixer, gradient=Implicit(memory=0, **UNTIL_THE_END))
    weights, batch = tiny_weights(model), tiny_batch(3)
    core, rows = Core(model, GEOMETRY), weights.rows(batch.identifiers)
    z = random_latents(core, 3)
    ours = core.recur(weights.params, z, batch.inputs, rows, T=4)
    program = core.recur(weights.params, z, batch.inputs, rows, T=4, gradient=WholeProgram())
    for a, b in zip(ours.z, program.z, strict=True):
        # Not bit for bit: the solver holds its unknowns in another memory layout.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_evaluation_has_the_values_of_training(dtype: torch.dtype) -> None:
    model = tiny_model(gradient=Implicit(tolerance=1e-2), T=6)
    weights, batch = tiny_weights(model, dtype), tiny_batch(3)
    core, rows = Core(model, GEOMETRY, dtype), weights.rows(batch.identifiers)
    z = random_latents(core, 3)
    trained = core.recur(weights.params, z, batch.inputs, rows)
    with torch.no_grad():
        evaluated = core.recur(weights.params, z, batch.inputs, rows)
    assert trained.solves is not None
    assert evaluated.solves is not None
    for a, b in zip(trained.z, evaluated.z, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == dtype
        assert a.grad_fn is not None
        assert b.grad_fn is None
    *ours, count = trained.solves.forward
    *theirs, again = evaluated.solves.forward
    assert count == again
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_a_solve_that_does_not_converge_says_so() -> None:
    """An expansive map, z <- 3 z + x: nothing to find by the plain iteration, forward or back."""
    x = torch.ones(2, 1, 1, dtype=torch.float64, requires_grad=True)
    z, cycle = (torch.zeros(2, 1, 1, dtype=torch.float64),), OneLatent().cycle(1)

    def go(**changes: Any) -> tuple[Any, Tensor]:
        setting = Implicit(**({"memory": 0} | changes))
        moved = run(z, x, lambda _, h: 3 * h, cycle, 12, setting)
        (slope,) = torch.autograd.grad(moved.z[0].sum(), x)
        assert moved.solves is not None
        return moved.solves, slope

    plain, _ = go()
    assert plain.forward.unconverged.all()
    assert plain.forward.iterations.tolist() == [12, 12]
    assert (plain.forward.residual > 0.5).all()
    assert plain.backward[0].unconverged.all()
    # Anderson does find the fixed point of z <- 3 (3 (z + x)): z = -9/8 x, one unknown at a time.
    anderson, slope = go(memory=1, tolerance=1e-10, backward_tolerance=1e-10)
    assert not anderson.forward.unconverged.any()
    assert not anderson.backward[0].unconverged.any()
    torch.testing.assert_close(slope, torch.full_like(slope, -9 / 8))


def test_latents_that_no_update_writes_are_constants_of_the_solve() -> None:
    layout = ManyLatents()
    tiny = Tiny(layout)
    assert len(layout.latents) > 3
    moved = tiny.recur(EXACT, 400)
    assert len(moved.before) == 3
    assert moved.solves is not None
    assert not moved.solves.forward.unconverged.any()
    for i in range(2, len(layout.latents) - 1):
        assert torch.equal(moved.z[i], tiny.z[i])


@pytest.mark.slow
@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_a_phantom_gradient_is_the_series_of_its_damped_cycles(damping: float) -> None:
    """At a fixed point with Jacobian J: sum over i < k of d ((1 - d) + d J)^i dF/dtheta (Geng)."""
    tiny = Tiny()
    point = tiny.recur(WholeProgram(), 500)
    tiny.z = tuple(v.detach() for v in point.z)
    k = 3
    ours = tiny.gradient(tiny.recur(Phantom(k=k, damping=damping), k + 1))
    plain = tiny.gradient(tiny.recur(LastCycles(c=k), k + 1))
    if damping == 1:
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    exact = tiny.gradient(tiny.recur(EXACT, 50))
    long = tiny.gradient(tiny.recur(Phantom(k=400, damping=damping), 400))
    for a, b in zip(long, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    # By hand on z <- w z + x at its fixed point z = x / (1 - w).
    w, x = torch.tensor(0.6, dtype=torch.float64, requires_grad=True), torch.ones(1, 1, 1).double()
    z = (x / 0.4,)
    cycle = OneLatent().cycle(1)[:1]
    moved = run(z, x / 0.6, lambda _, h: w * h, cycle, 5, Phantom(k=k, damping=damping))
    (slope,) = torch.autograd.grad(moved.z[0].sum(), w)
    series = sum(damping * (1 - damping + 0.6 * damping) ** i for i in range(k))
    torch.testing.assert_close(moved.z[0], z[0])
    # dF/dw at the fixed point is z + x / w = 2.5 + 1 / 0.6.
    assert float(slope) == pytest.approx(series * (2.5 + 1 / 0.6), rel=1e-10)


def test_damped_cycles_have_other_values_and_undamped_ones_have_not() -> None:
    model = tiny_model(T=3, positions=NoPositions())
    weights, batch = tiny_weights(model), tiny_batch(3)
    core, rows = Core(model, GEOMETRY), weights.rows(batch.identifiers)
    z = random_latents(core, 3)
    program, undamped, damped = (
        torch.stack(core.recur(weights.params, z, batch.inputs, rows, gradient=g).z)
        for g in (WholeProgram(), Phantom(k=2, damping=1.0), Phantom(k=2, damping=0.5))
    )
    assert torch.equal(program, undamped)
    assert not torch.allclose(program, damped)
