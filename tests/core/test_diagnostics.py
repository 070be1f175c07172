"""Diagnostics against Jacobians written out, finite differences and planted truths."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.contract.instances import LAYOUTS, name
from tests.contract.tiny import (
    GEOMETRY,
    random_latents,
    tiny_batch,
    tiny_model,
    tiny_weights,
)
from trm_lab.config import (
    Attention,
    LastCycles,
    LastUpdates,
    Layout,
    Mixer,
    NoCarry,
    Supervision,
    TokenMLP,
    TwoLatents,
    WholeProgram,
)
from trm_lab.core.core import Core
from trm_lab.core.diagnostics import (
    Diagnostics,
    diagnose,
    grow,
    participation_ratio,
    spectral_radius,
)
from trm_lab.core.losses import puzzle_losses
from trm_lab.core.reasoner import Reasoner
from trm_lab.training.diagnose import DIMS

F64 = torch.float64
BOTH = [Attention(heads=1), TokenMLP()]
PLAIN = Supervision(N_sup=3)


class Tiny:
    """A tiny core in float64 on two puzzles."""

    def __init__(self, **changes: Any) -> None:
        self.model = tiny_model(n=2, T=2, **changes)
        self.weights = tiny_weights(self.model, F64)
        self.batch = tiny_batch(2)._replace(identifiers=torch.zeros(2, dtype=torch.int64))
        self.core = Core(self.model, GEOMETRY, F64)
        self.start = random_latents(self.core, 2)
        self.rows = self.weights.rows(self.batch.identifiers)

    def cycle(self, *z: Tensor) -> tuple[Tensor, ...]:
        """One cycle, by the core itself."""
        params = {k: p.detach() for k, p in self.weights.params.items()}
        moved = self.core.recur(
            params, z, self.batch.inputs, self.rows, T=1, gradient=WholeProgram()
        )
        return moved.z

    def jacobian(self, z: tuple[Tensor, ...], puzzle: int) -> Tensor:
        """The Jacobian of a cycle, of one puzzle, written out."""
        parts = torch.autograd.functional.jacobian(self.cycle, z)
        return torch.cat([
            torch.cat([block[puzzle].flatten(0, 1)[..., puzzle, :, :].flatten(1) for block in row],
                      dim=1)
            for row in parts
        ])  # fmt: skip

    def diagnosed(self, supervision: Supervision = PLAIN, **changes: Any) -> Diagnostics:
        given: dict[str, Any] = {"steps": 2, "iterations": 64, **changes}
        return diagnose(
            Reasoner(self.core, self.weights, supervision.carried), self.batch, supervision,
            self.start, **given,
        )  # fmt: skip


@pytest.mark.parametrize("mixer", BOTH, ids=name)
@pytest.mark.parametrize("layout", [LAYOUTS[1], LAYOUTS[2], LAYOUTS[3]], ids=name)
def test_the_spectral_radius_is_that_of_the_jacobian_written_out(
    layout: Layout, mixer: Mixer
) -> None:
    tiny = Tiny(layout=layout, mixer=mixer)
    found = spectral_radius(lambda z: tiny.cycle(*z), tiny.start, 64)
    for puzzle in range(2):
        exact = torch.linalg.eigvals(tiny.jacobian(tiny.start, puzzle)).abs().max()
        assert 0.01 < exact < 10
        assert float(found[puzzle]) == pytest.approx(float(exact), rel=1e-6)


def test_the_spectral_radius_of_a_rotation_is_found_where_power_iteration_turns_round() -> None:
    """The largest eigenvalues are the pair 0.9 exp(+-i), among small ones."""
    turn = 0.9 * torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]], dtype=F64)
    matrix = torch.block_diag(turn, torch.diag(torch.linspace(-0.5, 0.5, 38, dtype=F64)))
    mixed = torch.linalg.qr(torch.randn(40, 40, dtype=F64, generator=torch.Generator())).Q
    matrix = mixed @ matrix @ mixed.T
    start = (torch.zeros(3, 4, 10, dtype=F64),)
    found = spectral_radius(lambda z: ((z[0].flatten(1) @ matrix.T).view(z[0].shape),), start, 20)
    torch.testing.assert_close(found, torch.full((3,), 0.9, dtype=F64), rtol=1e-4, atol=0)


def test_a_map_of_low_rank_ends_the_iteration_without_harm() -> None:
    matrix = torch.zeros(6, 6, dtype=F64)
    matrix[0, 0] = 0.7
    found = spectral_radius(lambda z: (z[0] @ matrix,), (torch.zeros(2, 1, 6, dtype=F64),), 30)
    torch.testing.assert_close(found, torch.full((2,), 0.7, dtype=F64))


@pytest.mark.slow
@pytest.mark.parametrize("mixer", BOTH, ids=name)
def test_the_lyapunov_exponent_is_the_growth_under_the_product_of_jacobians(mixer: Mixer) -> None:
    tiny = Tiny(mixer=mixer)
    found = tiny.diagnosed().lyapunov
    generator = torch.Generator().manual_seed(0)
    sizes = sum(v[0].numel() for v in tiny.start)
    vectors = torch.randn(2, sizes, generator=generator, dtype=F64)
    vectors /= vectors.norm(dim=-1, keepdim=True)
    z, before = tiny.start, torch.zeros(2, dtype=F64)
    product = [torch.eye(sizes, dtype=F64)] * 2
    for step in range(2):
        for _ in range(2):
            product = [tiny.jacobian(z, p) @ product[p] for p in range(2)]
            z = tuple(v.detach() for v in tiny.cycle(*z))
        total = torch.stack([(product[p] @ vectors[p]).norm().log() for p in range(2)])
        expected = (total - before) / (2 * 3)
        np.testing.assert_allclose(found[:, step], expected, rtol=1e-6)
        before = total


def test_tangents_agree_with_finite_differences() -> None:
    tiny = Tiny()
    size = sum(v[0].numel() for v in tiny.start)
    tangent = torch.randn(2, size, dtype=F64, generator=torch.Generator().manual_seed(4))
    tangent /= tangent.norm(dim=-1, keepdim=True)
    unit, growth = grow(lambda z: tiny.cycle(*z), tiny.start, tangent)
    h, ends = 1e-6, []
    for sign in (1, -1):
        flat = torch.cat([v.flatten(1) for v in tiny.start], 1) + sign * h * tangent
        halves = flat.chunk(2, dim=1)
        moved = tiny.cycle(*(p.reshape(v.shape) for p, v in zip(halves, tiny.start, strict=True)))
        ends.append(torch.cat([v.flatten(1) for v in moved], 1).detach())
    slope = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close(unit * growth.exp().unsqueeze(-1), slope, rtol=1e-5, atol=1e-8)


def test_a_tangent_that_vanishes_starts_again() -> None:
    z, tangent = (torch.ones(2, 1, 3, dtype=F64),), torch.eye(3, dtype=F64)[:2]
    unit, growth = grow(lambda z: (z[0] * torch.tensor([0.0, 2.0, 1.0], dtype=F64),), z, tangent)
    assert growth.tolist() == [-math.inf, pytest.approx(math.log(2))]
    assert torch.equal(unit, tangent)


def test_the_participation_ratio_counts_the_directions_of_equal_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.zeros(500, 20, 8, dtype=F64)
    states[..., :3] = torch.randn(500, 20, 3, generator=generator, dtype=F64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=F64)).Q
    assert float(participation_ratio(states @ rotation + 5)) == pytest.approx(3, rel=0.01)
    one = torch.linspace(0, 1, 10, dtype=F64).view(1, 10, 1) * torch.ones(1, 1, 4, dtype=F64)
    assert float(participation_ratio(one)) == pytest.approx(1)
    # Eigenvalues 4 and 1, by hand: 25 / 17.
    corners = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]], dtype=F64).unsqueeze(0)
    assert float(participation_ratio(corners)) == pytest.approx(25 / 17)
    drawn = torch.randn(3, 5, 4, generator=generator, dtype=F64)
    eigenvalues = np.linalg.eigvalsh(np.cov(drawn.reshape(-1, 4).numpy().T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert float(participation_ratio(drawn)) == pytest.approx(expected)
    assert participation_ratio(torch.ones(2, 3, 4)).isnan()


def test_residuals_and_cosines_are_those_of_every_update() -> None:
    tiny = Tiny(layout=TwoLatents(nets=2))
    found = tiny.diagnosed()
    assert found.residual.shape == found.cosine.shape == (2, 2, 6)
    params = {k: p.detach() for k, p in tiny.weights.params.items()}
    x, net = tiny.core.embed(params, tiny.batch.inputs, tiny.rows), tiny.core.net(params)
    z, y = tiny.start
    for step in range(2):
        for update in range(6):
            if update % 3 < 2:
                old, new = z, net(0, z + (y + x))
                z = new
            else:
                old, new = y, net(1, y + z)
                y = new
            for p in range(2):
                a, b = old[p].flatten(), new[p].flatten()
                change = float((b - a).norm() / b.norm())
                cosine = float(a @ b / (a.norm() * b.norm()))
                assert found.residual[p, step, update] == pytest.approx(change, rel=1e-10)
                assert found.cosine[p, step, update] == pytest.approx(cosine, rel=1e-10)


@pytest.mark.parametrize("gradient", [LastUpdates(), LastCycles(), WholeProgram()], ids=name)
def test_the_gradient_is_compared_with_that_of_the_whole_program(gradient: Any) -> None:
    tiny = Tiny(gradient=gradient)
    found = tiny.diagnosed()
    z = tiny.start
    for step in range(2):
        grads = []
        for scheme in (gradient, WholeProgram()):
            params = tiny.weights.params
            moved = tiny.core.recur(params, z, tiny.batch.inputs, tiny.rows, gradient=scheme)
            out = tiny.core.read(params, moved.z)
            loss = puzzle_losses(Supervision().loss, out.logits, tiny.batch.labels).sum()
            right = out.logits.argmax(-1) == tiny.batch.labels
            correct = (right | (tiny.batch.labels == -100)).all(-1).double()
            halt = torch.nn.functional.binary_cross_entropy_with_logits(
                out.halt[:, 0], correct, reduction="sum"
            )
            parts = torch.autograd.grad(
                loss + 0.5 * halt, list(tiny.weights.params.values()),
                allow_unused=True, materialize_grads=True,
            )  # fmt: skip
            grads.append(torch.cat([p.flatten() for p in parts]))
        own, whole = grads
        cosine = float(own @ whole / own.norm() / whole.norm())
        assert found.gradient_cosine[step] == pytest.approx(cosine, rel=1e-9)
        ratio = float(own.norm() / whole.norm())
        assert found.gradient_norm_ratio[step] == pytest.approx(ratio, rel=1e-9)
        assert (cosine > 1 - 1e-12) == isinstance(gradient, WholeProgram)
        z = tuple(v.detach() for v in out.z)


@pytest.mark.slow
def test_without_a_carry_every_step_is_the_first_one() -> None:
    tiny = Tiny()
    anew = Supervision(N_sup=3, loop=NoCarry())
    first, every = tiny.diagnosed(steps=1), tiny.diagnosed(anew, steps=3)
    for field, expected in first._asdict().items():
        axis = DIMS[field].index("step")
        found = getattr(every, field)
        assert found.shape[axis] == 3
        assert np.array_equal(found, np.repeat(expected, 3, axis)), field
    carried = tiny.diagnosed(steps=3)
    assert not np.isclose(carried.residual[:, 0], carried.residual[:, 1]).any()


def test_the_labels_of_the_states_are_in_place() -> None:
    tiny = Tiny()
    found = tiny.diagnosed(steps=1)
    z = tiny.core.step(tiny.weights.params, tiny.start, tiny.batch.inputs, tiny.rows).z
    expected = [float(participation_ratio(v.detach())) for v in z]
    np.testing.assert_allclose(found.participation, [expected])
    radius = spectral_radius(lambda v: tiny.cycle(*v), tuple(v.detach() for v in z), 64)
    np.testing.assert_allclose(found.spectral_radius[:, 0], radius, rtol=1e-8)
