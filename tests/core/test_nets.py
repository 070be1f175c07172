"""Norm, rotary positions and SwiGLU: formulas, and in which type they are computed."""

import math

import pytest
import torch

from trm_lab.core.positions import rope_tables, rotate
from trm_lab.core.products import linear, rms_norm, swiglu

CPU = torch.device("cpu")


def states(dtype: torch.dtype = torch.float64, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = shape or (2, 5, 8)
    return (3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_the_norm_of_float64_is_the_float64_formula(eps: float) -> None:
    h = states()
    found = rms_norm(h, eps)
    assert found.dtype == torch.float64
    for i in range(2):
        for j in range(5):
            size = math.sqrt(sum(v * v for v in h[i, j].tolist()) / 8 + eps)
            expected = [v / size for v in h[i, j].tolist()]
            # A float32 step in between would show at 1e-7.
            assert found[i, j].tolist() == pytest.approx(expected, rel=1e-14)


def test_the_norm_of_bfloat16_is_computed_in_float32() -> None:
    h = states(torch.bfloat16)
    found = rms_norm(h, 1e-5)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, rms_norm(h.float(), 1e-5).bfloat16())
    naive = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-5)
    assert not torch.equal(found, naive)


def test_rotary_tables_of_float64_are_the_float64_formula() -> None:
    cos, sin = rope_tables(7, 6, 10000.0, torch.float64, CPU)
    assert cos.dtype == sin.dtype == torch.float64
    assert cos.shape == sin.shape == (7, 6)
    for t in range(7):
        for i in range(6):
            angle = t * 10000.0 ** (-2 * (i % 3) / 6)
            assert cos[t, i].item() == pytest.approx(math.cos(angle), rel=1e-14, abs=1e-15)
            assert sin[t, i].item() == pytest.approx(math.sin(angle), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_rotary_tables_are_float32_at_least(dtype: torch.dtype) -> None:
    cos, sin = rope_tables(100, 8, 10000.0, dtype, CPU)
    assert cos.dtype == sin.dtype == torch.float32
    exact = rope_tables(100, 8, 10000.0, torch.float64, CPU)
    # Angles up to 100 have a float32 spacing of 4e-6.
    torch.testing.assert_close(cos.double(), exact[0], rtol=0, atol=2e-5)


def test_rotation_keeps_float64() -> None:
    h = states(torch.float64, 2, 7, 3, 6)
    tables = rope_tables(7, 6, 100.0, torch.float64, CPU)
    found = rotate(h, *tables)
    assert found.dtype == torch.float64
    for t in range(7):
        for i in range(3):
            angle = t * 100.0 ** (-2 * i / 6)
            a, b = h[..., t, :, i], h[..., t, :, i + 3]
            c, s = math.cos(angle), math.sin(angle)
            torch.testing.assert_close(found[:, t, :, i], a * c - b * s, rtol=1e-14, atol=1e-14)
            torch.testing.assert_close(found[:, t, :, i + 3], b * c + a * s, rtol=1e-14, atol=1e-14)


def test_rotation_of_bfloat16_is_computed_in_float32() -> None:
    h = states(torch.bfloat16, 2, 7, 3, 6)
    tables = rope_tables(7, 6, 100.0, torch.bfloat16, CPU)
    found = rotate(h, *tables)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, rotate(h.float(), *tables).bfloat16())
    rounded = [t.bfloat16() for t in tables]
    assert not torch.equal(found, rotate(h, *rounded))


def test_rotation_keeps_lengths() -> None:
    h = states(torch.float64, 2, 7, 3, 6)
    found = rotate(h, *rope_tables(7, 6, 10000.0, torch.float64, CPU))
    torch.testing.assert_close(found.norm(dim=-1), h.norm(dim=-1), rtol=1e-13, atol=0)
    assert torch.equal(found[:, 0], h[:, 0])


def test_parameters_are_cast_where_they_are_used() -> None:
    h = states(torch.bfloat16, 3, 4)
    weight = states(torch.float32, 5, 4)
    found = linear(h, weight)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.nn.functional.linear(h, weight.bfloat16()))


def test_swiglu_gates_with_the_first_half() -> None:
    h = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    gate_up = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    down = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    out = swiglu({"p.gate_up": gate_up, "p.down": down}, "p", h)
    hidden = 1 / (1 + math.exp(-1)) * -6
    assert out[0].tolist() == pytest.approx([2 * hidden, -hidden], rel=1e-15)
