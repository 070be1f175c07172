"""Every mixer and every position code: shapes, types, and what they are blind to."""

import pytest
import torch

from tests.contract.instances import MIXERS, POSITIONS, name
from tests.contract.tiny import GEOMETRY, random_latents, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Attention,
    Convolution,
    LearnedPositions,
    Mixer,
    Model,
    NoPositions,
    Positions,
    Rope,
    Rope2D,
    TokenMLP,
)
from trm_lab.core.core import Core
from trm_lab.core.nets import build_mixer

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def wide_model(mixer: Mixer, positions: Positions | None = None) -> Model:
    return tiny_model(mixer=mixer, positions=positions or NoPositions(), width=8, puzzle=None)


def mixed(model: Model, h: torch.Tensor) -> torch.Tensor:
    """Apply the mixer of the first block, with its residual and norm."""
    params = tiny_weights(model, torch.float64).params
    mix = build_mixer(model, h.shape[-2], h.dtype, torch.device("cpu"))
    return mix(params, "net.0.layer.0.mixer", h).detach()


def states(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 8, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mixer", MIXERS, ids=name)
def test_a_mixer_keeps_shape_and_type(mixer: Mixer, dtype: torch.dtype) -> None:
    out = mixed(wide_model(mixer), states(dtype))
    assert out.shape == (3, 4, 8)
    assert out.dtype == dtype


@pytest.mark.parametrize("mixer", MIXERS, ids=name)
def test_a_mixer_in_bfloat16_is_near_the_float64_one(mixer: Mixer) -> None:
    exact = mixed(wide_model(mixer), states())
    rough = mixed(wide_model(mixer), states(torch.bfloat16)).double()
    # 8 bits of mantissa through about four roundings of values of unit size.
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("mixer", MIXERS, ids=name)
def test_a_mixer_mixes_positions_but_not_puzzles(mixer: Mixer) -> None:
    model, h = wide_model(mixer), states()
    out = mixed(model, h)
    changed = h.clone()
    changed[1, 2] += 1
    other = mixed(model, changed)
    assert torch.equal(out[[0, 2]], other[[0, 2]])
    reached = torch.tensor([not isinstance(mixer, Convolution), True, True, True])
    assert torch.equal((out[1] != other[1]).any(-1), reached)  # a convolution: neighbours alone
    for i in range(3):
        torch.testing.assert_close(mixed(model, h[i : i + 1])[0], out[i], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mixer", MIXERS, ids=name)
def test_attention_alone_is_blind_to_order(mixer: Mixer) -> None:
    model, h, order = wide_model(mixer), states(), [2, 0, 3, 1]
    moved = mixed(model, h[:, order])
    blind = torch.allclose(moved, mixed(model, h)[:, order], rtol=1e-12, atol=1e-13)
    assert blind == isinstance(mixer, Attention)


@pytest.mark.parametrize("mixer", MIXERS, ids=name)
def test_a_mixer_ends_in_a_norm_over_its_own_axis(mixer: Mixer) -> None:
    out = mixed(wide_model(mixer), 50 * states())
    axis = -2 if isinstance(mixer, TokenMLP) else -1
    size = out.square().mean(axis)
    # eps 1e-5 against squares of hundreds.
    torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("positions", POSITIONS, ids=name)
def test_a_position_code_tells_positions_apart(positions: Positions) -> None:
    """Equal cells give equal states unless there is a position code."""
    model = tiny_model(mixer=Attention(heads=1), positions=positions, puzzle=None, n=1, T=1)
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    inputs = torch.tensor([[1, 2, 1, 2]], dtype=torch.int32)
    logits = core.step(weights.params, core.start(weights, 1), inputs).logits
    # The initial vectors are the same everywhere, so only the code can tell cell 0 from cell 2.
    same = torch.allclose(logits[0, 0], logits[0, 2], rtol=1e-9, atol=1e-12)
    assert same == isinstance(positions, NoPositions)


@pytest.mark.parametrize("positions", POSITIONS, ids=name)
def test_a_position_code_has_parameters_only_if_learned(positions: Positions) -> None:
    model = tiny_model(mixer=Attention(heads=1), positions=positions)
    params = tiny_weights(model).params
    learned = isinstance(positions, LearnedPositions)
    assert ("embed.positions" in params) == learned
    if learned:
        assert params["embed.positions"].shape == (GEOMETRY.cells + 1, 4)


@pytest.mark.parametrize("theta", [100.0, 10000.0])
def test_rope_2d_depends_on_the_distance_in_rows_and_columns_alone(theta: float) -> None:
    model = wide_model(Attention(heads=2), Rope2D(theta=theta, columns=5))
    params = tiny_weights(model, torch.float64).params
    mix = build_mixer(model, 20, torch.float64, torch.device("cpu"))

    def at(row: int, column: int) -> torch.Tensor:
        """Put two states of the grid below and right of each other, with nothing around."""
        h = torch.zeros(1, 4, 5, 8, dtype=torch.float64)
        h[0, row, column], h[0, row + 1, column + 2] = states()[0, :2]
        out = mix(params, "net.0.layer.0.mixer", h.flatten(1, 2)).view(4, 5, 8)
        return torch.stack((out[row, column], out[row + 1, column + 2]))

    for place in [(0, 1), (1, 0), (2, 2)]:
        torch.testing.assert_close(at(*place), at(0, 0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("theta", [100.0, 10000.0])
def test_rope_depends_on_the_distance_alone(theta: float) -> None:
    model = wide_model(Attention(heads=2), Rope(theta=theta))
    params = tiny_weights(model, torch.float64).params
    mix = build_mixer(model, 12, torch.float64, torch.device("cpu"))
    h = torch.zeros(1, 12, 8, dtype=torch.float64)
    # Two equal groups of states, five positions apart, with nothing around them.
    h[0, 1:4] = h[0, 6:9] = states()[0, :3]
    out = mix(params, "net.0.layer.0.mixer", h)
    shifted = mix(params, "net.0.layer.0.mixer", h.roll(1, dims=1))
    torch.testing.assert_close(shifted[0, 2:12], out[0, 1:11], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS, ids=name)
def test_a_step_treats_every_puzzle_alone(mixer: Mixer) -> None:
    model = tiny_model(mixer=mixer, n=2, T=2)
    core, weights = Core(model, GEOMETRY, torch.float64), tiny_weights(model, torch.float64)
    batch, z = tiny_batch(4), random_latents(core, 4)
    rows = weights.rows(batch.identifiers)
    out = core.step(weights.params, z, batch.inputs, rows)
    order = [3, 1, 0, 2]
    moved = core.step(weights.params, tuple(s[order] for s in z), batch.inputs[order], rows[order])
    torch.testing.assert_close(moved.logits, out.logits[order], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(moved.halt, out.halt[order], rtol=1e-9, atol=1e-11)
