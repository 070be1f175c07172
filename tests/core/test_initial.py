"""Initial weights: their distribution, and that they are drawn by name."""

import math

import numpy as np
import pytest
import torch

from trm_lab.config import (
    ManyLatents,
    Model,
    NoPositions,
    OneLatent,
    PuzzleSlots,
    TokenMLP,
    TwoLatents,
)
from trm_lab.core.core import Weights
from trm_lab.core.initial import initial_weights, keyed, truncated_normal
from trm_lab.parameters import Geometry

GEOMETRY = Geometry(81, 11, 3)


def draw(model: Model, seed: int = 0, dtype: torch.dtype = torch.float32) -> Weights:
    return initial_weights(model, GEOMETRY, seed, dtype, torch.device("cpu"))


def small(**changes: object) -> Model:
    return Model(**({"width": 64, "puzzle": PuzzleSlots(slots=2, dim=64)} | changes))


def test_the_truncated_normal_has_its_spread_and_its_ends() -> None:
    values = truncated_normal(keyed(0, "x"), (400, 500), 0.3).numpy()
    # 200,000 draws: the standard error of the spread is 0.0005, of the mean 0.0007.
    assert values.std() == pytest.approx(0.3, abs=0.002)
    assert values.mean() == pytest.approx(0, abs=0.003)
    ends = 2 / 0.8796256610342398 * 0.3
    assert np.abs(values).max() <= ends
    assert np.abs(values).max() == pytest.approx(ends, rel=1e-3)
    # A normal cut at two of its own standard deviations, here 0.3 / 0.8796.
    inside = (np.abs(values) < 0.3 / 0.8796256610342398).mean()
    assert inside == pytest.approx(math.erf(1 / math.sqrt(2)) / math.erf(math.sqrt(2)), abs=0.005)


@pytest.mark.parametrize("mixer", ["attention", "token_mlp"])
def test_weights_have_the_spread_of_their_fan_in(mixer: str) -> None:
    if mixer == "token_mlp":
        weights = draw(small(mixer=TokenMLP(), positions=NoPositions()))
    else:
        weights = draw(small())
    for name, p in weights.params.items():
        assert p.dtype == torch.float32
        if name == "head.halt.weight":
            assert not p.any()
        elif name == "head.halt.bias":
            assert p.tolist() == [-5.0, -5.0]
        else:
            assert p.std().item() == pytest.approx(p.shape[-1] ** -0.5, rel=0.06), name
            assert p.abs().max() <= 2.2736945 * p.shape[-1] ** -0.5
    assert weights.table is not None
    assert weights.table.shape == (3, 64)
    assert not weights.table.any()


def test_initial_vectors_have_unit_spread_and_the_precision_of_the_activations() -> None:
    model = small(width=512, layers=1, expansion=0.1)
    weights = draw(model, dtype=torch.bfloat16)
    for vector in weights.initial:
        assert vector.shape == (512,)
        assert vector.dtype == torch.float32
        assert torch.equal(vector, vector.bfloat16().float())
        assert vector.std().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(*weights.initial)
    exact = draw(model).initial[0]
    assert not torch.equal(exact, exact.bfloat16().float())
    torch.testing.assert_close(exact, weights.initial[0], rtol=2**-8, atol=0)


def test_a_seed_gives_its_own_weights_and_gives_them_again() -> None:
    a, b, c = draw(small()), draw(small()), draw(small(), seed=1)
    for name in a.params:
        assert torch.equal(a.params[name], b.params[name])
        constant = name.startswith("head.halt")
        assert torch.equal(a.params[name], c.params[name]) == constant
    assert all(torch.equal(p, q) for p, q in zip(a.initial, b.initial, strict=True))
    assert not torch.equal(a.initial[0], c.initial[0])


def test_models_of_one_seed_start_equal_wherever_their_tensors_agree() -> None:
    base = draw(small())
    for other in (
        small(layout=TwoLatents(nets=2), layers=4, n=2, T=2),
        small(layout=OneLatent()),
        small(layout=ManyLatents()),
        small(mixer=TokenMLP(), positions=NoPositions()),
        small(puzzle=None),
    ):
        params = draw(other).params
        shared = [k for k in params if k in base.params and params[k].shape == base.params[k].shape]
        assert {"embed.tokens", "net.0.layer.1.ffn.down"} <= set(shared)
        assert all(torch.equal(params[k], base.params[k]) for k in shared)
    first = base.params["net.0.layer.0.ffn.down"]
    assert not torch.equal(first, base.params["net.0.layer.1.ffn.down"])


def test_float64_weights_are_the_float32_ones_before_rounding() -> None:
    wide, narrow = draw(small(), dtype=torch.float64), draw(small())
    for name, p in wide.params.items():
        assert p.dtype == torch.float64
        assert torch.equal(p.float(), narrow.params[name])
    table = wide.table
    assert table is not None
    assert table.dtype == torch.float64


def test_draws_are_keyed_by_every_part_of_their_name() -> None:
    names = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 2)]
    drawn = {keyed(*name).random() for name in names}
    assert len(drawn) == len(names)
    assert keyed(0, "a", 1).random() == keyed(0, "a", 1).random()
