"""The recursion and the blocks against naive twins typed from the description."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.contract.tiny import GEOMETRY, recurse, tiny_model, tiny_weights
from tests.parity import twins
from trm_lab.config import (
    Attention,
    LastCycles,
    LastUpdates,
    Layout,
    LearnedPositions,
    ManyLatents,
    Mixer,
    NoPositions,
    OneLatent,
    Positions,
    PuzzleSlots,
    Rope,
    TokenMLP,
    TwoLatents,
)
from trm_lab.core.core import Core

B, S, D = 3, 5, 8
COUNTS = [(1, 1), (1, 3), (2, 2), (6, 3), (4, 1)]


@pytest.fixture
def nets() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], list[Tensor]]:
    """Two small nets, in float32 so that the order of additions shows in the last bits."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(D, D, generator=generator).requires_grad_() for _ in range(2)]

    def net(w: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda h: torch.nn.functional.rms_norm(h + torch.tanh(h @ w), (D,))

    return net(weights[0]), net(weights[1]), weights


def draw(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(B, S, D, generator=generator) for _ in range(count)]


def same(ours: Tensor, theirs: Tensor, weights: list[Tensor]) -> None:
    """Values and gradients are equal bit for bit."""
    assert torch.equal(ours, theirs)
    push = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    a, b = (torch.autograd.grad((y * push).sum(), weights) for y in (ours, theirs))
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(("n", "T"), COUNTS)
def test_trm_is_two_latents_with_one_net_and_the_last_cycle(nets, n: int, T: int) -> None:
    net, _, weights = nets
    y, z, x = draw(3)
    x.requires_grad_()
    found = recurse((z, y), x, lambda _, h: net(h), TwoLatents().cycle(n), T, LastCycles())
    expected = twins.trm(y, z, x, net, n, T)
    assert torch.equal(found[0], expected[1])
    same(found[1], expected[0], [weights[0], x])


@pytest.mark.parametrize(("n", "T"), COUNTS)
def test_hrm_is_two_latents_with_two_nets_and_the_last_two_updates(nets, n: int, T: int) -> None:
    low, high, weights = nets
    y, z, x = draw(3)
    x.requires_grad_()
    found = recurse(
        (z, y), x, lambda i, h: (low, high)[i](h), TwoLatents(nets=2).cycle(n), T, LastUpdates()
    )
    expected = twins.hrm(y, z, x, low, high, n, T)
    assert torch.equal(found[0], expected[1])
    same(found[1], expected[0], [*weights, x])


@pytest.mark.parametrize(("n", "T"), COUNTS)
def test_one_latent_sees_x_in_all_but_the_last_update_of_a_cycle(nets, n: int, T: int) -> None:
    net, _, weights = nets
    z, x = draw(2)
    x.requires_grad_()
    (found,) = recurse((z,), x, lambda _, h: net(h), OneLatent().cycle(n), T, LastCycles())
    same(found, twins.one_latent(z, x, net, n, T), [weights[0], x])


@pytest.mark.parametrize(("n", "T"), COUNTS)
def test_many_latents_is_the_multi_scale_z(nets, n: int, T: int) -> None:
    net, _, weights = nets
    y, x, *zs = draw(8)
    x.requires_grad_()
    found = recurse((*zs, y), x, lambda _, h: net(h), ManyLatents().cycle(n), T, LastCycles())
    expected, latents = twins.six_latents(y, zs, x, net, n, T)
    for ours, theirs in zip(found, latents, strict=False):
        assert torch.equal(ours, theirs)
    same(found[-1], expected, [weights[0], x])


def test_many_latents_start_over_after_the_last() -> None:
    assert [update.write for update in ManyLatents(k=3).cycle(7)] == [0, 1, 2, 0, 1, 2, 0, 3]


def test_the_order_of_additions_shows_in_the_bits(nets) -> None:
    """Guard: with another order of additions the twin is not equal, so equality says something."""
    net, _, _ = nets
    y, z, x = draw(3)
    found = recurse((z, y), x, lambda _, h: net(h), TwoLatents().cycle(6), 3, LastCycles())
    for _ in range(3):
        for _ in range(6):
            z = net((z + y) + x)
        y = net(y + z)
    assert not torch.equal(found[1], y)
    torch.testing.assert_close(found[1], y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("mixer", "positions"),
    [
        (Attention(heads=1), Rope()),
        (Attention(heads=2), Rope(theta=50.0)),
        (Attention(heads=3, head_dim=4), Rope()),
        (Attention(heads=2), NoPositions()),
        (TokenMLP(), NoPositions()),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [TwoLatents(), TwoLatents(nets=2)], ids=str)
def test_blocks_are_those_of_the_description(
    layout: Layout, mixer: Mixer, positions: Positions
) -> None:
    model = tiny_model(layout=layout, mixer=mixer, positions=positions, width=8, layers=2)
    core = Core(model, GEOMETRY, torch.float64)
    params = tiny_weights(model, torch.float64).params
    h = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for index in range(layout.nets):
        for puzzle, ours in zip(h, core.net(params)(index, h), strict=True):
            theirs = puzzle.numpy()
            for layer in range(2):
                prefix = f"net.{index}.layer.{layer}."
                w = {
                    k.removeprefix(prefix): p.detach().numpy()
                    for k, p in params.items()
                    if k.startswith(prefix)
                }
                if isinstance(mixer, Attention):
                    theta = positions.theta if isinstance(positions, Rope) else None
                    theirs = twins.attention_block(theirs, w, mixer.heads, theta)
                else:
                    theirs = twins.token_mlp_block(theirs, w)
            np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("positions", [Rope(), LearnedPositions()], ids=str)
@pytest.mark.parametrize("slots", [0, 1, 2])
def test_inputs_are_embedded_as_described(positions: Positions, slots: int) -> None:
    puzzle = PuzzleSlots(slots=slots, dim=2 * slots + 1) if slots else None
    model = tiny_model(positions=positions, puzzle=puzzle)
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    params = {k: p.detach().numpy() for k, p in weights.params.items()}
    inputs = torch.tensor([[1, 0, 5, 2], [3, 3, 4, 1]], dtype=torch.int32)
    identifiers = torch.tensor([2, 0])
    found = core.embed(weights.params, inputs, weights.rows(identifiers))
    for i in range(2):
        rows = []
        if puzzle:
            row = np.zeros(slots * 4)
            row[: puzzle.dim] = weights.table[identifiers[i]].numpy()
            rows.append(row.reshape(slots, 4))
        rows.append(params["embed.tokens"][inputs[i].numpy()])
        x = np.concatenate(rows)
        if isinstance(positions, LearnedPositions):
            x = (x + params["embed.positions"]) * 0.707106781
        np.testing.assert_allclose(found[i].detach().numpy(), x * np.sqrt(4), rtol=1e-14)
