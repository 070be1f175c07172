"""Activation checkpointing: the same bits from fewer kept tensors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.contract.instances import GRADIENTS, LAYOUTS, name
from tests.contract.tiny import tiny_model, tiny_step
from trm_lab.config import Attention, Gradient, Layout, Mixer, TokenMLP, WholeProgram
from trm_lab.core.recursion import Checkpointing


@pytest.mark.parametrize("checkpointing", ["update", "cycle"])
@pytest.mark.parametrize("gradient", GRADIENTS, ids=name)
@pytest.mark.parametrize("layout", [LAYOUTS[1], LAYOUTS[5]], ids=name)
def test_checkpointing_changes_no_bit(
    layout: Layout, gradient: Gradient, checkpointing: Checkpointing
) -> None:
    model = tiny_model(layout=layout, gradient=gradient, n=2, T=3)
    plain = tiny_step(model).everything()
    found = tiny_step(model, checkpointing=checkpointing).everything()
    for a, b in zip(plain, found, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("mixer", [Attention(heads=4), TokenMLP()], ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_checkpointing_changes_no_bit_at_a_usual_width(mixer: Mixer, dtype: torch.dtype) -> None:
    model = tiny_model(
        mixer=mixer, width=64, layers=2, n=3, T=2, round_to=64, expansion=4.0,
        gradient=WholeProgram(),
    )  # fmt: skip
    plain = tiny_step(model, dtype).everything()
    for checkpointing in ("update", "cycle"):
        found = tiny_step(model, dtype, checkpointing).everything()
        for a, b in zip(plain, found, strict=True):
            assert a is None or torch.equal(a, b)


def kept(checkpointing: Checkpointing, T: int, n: int = 3) -> int:
    """Count the numbers that the graph of a whole program keeps, each storage once."""
    model = tiny_model(gradient=WholeProgram(), n=n, T=T, width=32, round_to=32, expansion=4.0)
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out, leaves = tiny_step(model, checkpointing=checkpointing)
    parameters = sum(p.nbytes for p in leaves)
    assert out.logits.requires_grad
    return sum(sizes.values()) - parameters


def test_checkpointing_keeps_little_more_than_the_latents() -> None:
    """What a further cycle adds: all activations of its updates, or the latents alone."""
    whole, update, cycle = (kept(c, 6) - kept(c, 2) for c in (None, "update", "cycle"))
    assert update < whole / 20
    assert cycle < whole / 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_whole_program_trains_in_a_quarter_of_its_memory() -> None:
    """T 3, n 6, width 128, batch 16, 97 positions: about 1.5 GB without, under 400 MB by update."""
    bench = Path(__file__).parents[2] / "bench" / "memory.py"
    peaks = []
    for case in ("0", "2"):
        told = subprocess.run(
            [sys.executable, str(bench), "--case", case], capture_output=True, text=True, check=True
        )
        peaks.append(json.loads(told.stdout)[0])
    assert peaks[0] > 1000
    assert peaks[1] < 400
