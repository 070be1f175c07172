"""Activation checkpointing: the same bits from fewer kept tensors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.instances import GRADIENTS, LAYOUTS, name
from tests.contract.tiny import (
    GEOMETRY,
    leaves,
    random_latents,
    scalar,
    tiny_batch,
    tiny_model,
    tiny_weights,
)
from trm_lab.config import Attention, Gradient, Layout, Mixer, Model, TokenMLP, WholeProgram
from trm_lab.core.core import Core
from trm_lab.core.recursion import Checkpointing


def graded(model: Model, checkpointing: Checkpointing, dtype: torch.dtype) -> list[Any]:
    weights, batch = tiny_weights(model, dtype), tiny_batch(3)
    core = Core(model, GEOMETRY, dtype, checkpointing=checkpointing)
    rows = weights.rows(batch.identifiers)
    assert rows is not None
    out = core.step(weights.params, random_latents(core, 3), batch.inputs, rows.requires_grad_())
    grads = torch.autograd.grad(scalar(out), leaves(weights, rows), allow_unused=True)
    return [*out.z, out.logits, out.halt, *grads]


@pytest.mark.parametrize("checkpointing", ["update", "cycle"])
@pytest.mark.parametrize("gradient", GRADIENTS, ids=name)
@pytest.mark.parametrize("layout", [LAYOUTS[1], LAYOUTS[5]], ids=name)
def test_checkpointing_changes_no_bit(
    layout: Layout, gradient: Gradient, checkpointing: Checkpointing
) -> None:
    model = tiny_model(layout=layout, gradient=gradient, n=2, T=3)
    plain = graded(model, None, torch.float32)
    for a, b in zip(plain, graded(model, checkpointing, torch.float32), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("mixer", [Attention(heads=4), TokenMLP()], ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_checkpointing_changes_no_bit_at_a_usual_width(mixer: Mixer, dtype: torch.dtype) -> None:
    model = tiny_model(
        mixer=mixer, width=64, layers=2, n=3, T=2, round_to=64, expansion=4.0,
        gradient=WholeProgram(),
    )  # fmt: skip
    plain = graded(model, None, dtype)
    for checkpointing in ("update", "cycle"):
        for a, b in zip(plain, graded(model, checkpointing, dtype), strict=True):
            assert a is None or torch.equal(a, b)


def kept(checkpointing: Checkpointing, T: int, n: int = 3) -> int:
    """Count the numbers that the graph of a whole program keeps, each storage once."""
    model = tiny_model(gradient=WholeProgram(), n=n, T=T, width=32, round_to=32, expansion=4.0)
    weights, batch = tiny_weights(model), tiny_batch(3)
    core = Core(model, GEOMETRY, checkpointing=checkpointing)
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = core.step(
            weights.params, random_latents(core, 3), batch.inputs, weights.rows(batch.identifiers)
        )
    parameters = sum(p.nbytes for p in weights.params.values())
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
