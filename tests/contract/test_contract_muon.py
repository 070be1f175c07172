"""Muon on the matrices of the nets, another optimiser on the rest; and our own against torch's."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny_run import tiny_recipe
from trm_lab.config import AdamATan2, AdamATan2Scaled, AdamW, Muon
from trm_lab.errors import ConfigError
from trm_lab.parameters import Geometry, parameters
from trm_lab.training.moments import Moments, published
from trm_lab.training.optimizers import Optimizer, build_optimizer, is_matrix, set_rates

SHAPES = {
    "embed.tokens": (6, 16),
    "net.0.layer.0.mixer.qkv": (48, 16),
    "net.0.layer.0.ffn.down": (16, 40),
    "head.halt.bias": (2,),
}
MATRICES = [name for name in SHAPES if name.startswith("net.")]


def fresh(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        name: torch.tensor(rng.normal(size=shape), dtype=torch.float32).requires_grad_()
        for name, shape in SHAPES.items()
    }


def move(optimizer: Optimizer, params: dict[str, torch.Tensor], update: int) -> None:
    for p, g in zip(params.values(), fresh(100 + update).values(), strict=True):
        p.grad = g.detach()
    optimizer.step()


def moved(setting: Any, updates: int) -> dict[str, torch.Tensor]:
    params = fresh()
    optimizer = build_optimizer(setting, params)
    for update in range(updates):
        move(optimizer, params, update)
    return {name: p.detach() for name, p in params.items()}


def test_a_muon_step_is_nearly_orthogonal_whatever_the_gradient() -> None:
    """Newton-Schulz puts singular values near 1; wide matrices step by lr, tall ones by more."""
    start, end = fresh(), moved(Muon(lr=0.5, weight_decay=0.0), 1)
    for name in MATRICES:
        tall = math.sqrt(max(1.0, SHAPES[name][0] / SHAPES[name][1]))
        values = torch.linalg.svdvals((end[name] - start[name].detach()) / (0.5 * tall))
        assert len(values) == 16
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_muons_adjustments_differ_by_their_factor() -> None:
    start = fresh()
    plain = moved(Muon(lr=0.1, weight_decay=0.0), 1)
    other = moved(Muon(lr=0.1, weight_decay=0.0, adjust="match_rms_adamw"), 1)
    for name in MATRICES:
        rows, columns = SHAPES[name]
        factor = 0.2 * math.sqrt(max(rows, columns)) / math.sqrt(max(1.0, rows / columns))
        expected = (plain[name] - start[name]) * factor
        torch.testing.assert_close(other[name] - start[name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rest", [AdamATan2(lr=0.3), AdamATan2Scaled(lr=0.3), AdamW(lr=0.3)])
def test_everything_else_moves_as_under_the_other_optimiser_alone(rest: Any) -> None:
    both, alone = moved(Muon(rest=rest), 3), moved(rest, 3)
    for name in SHAPES:
        assert torch.equal(both[name], alone[name]) == (name not in MATRICES)


def test_the_schedules_factor_multiplies_both_learning_rates() -> None:
    setting = Muon(lr=0.2, rest=AdamW(lr=0.01))
    optimizer = build_optimizer(setting, fresh())
    set_rates(optimizer, setting, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.005]
    zero, other = build_optimizer(setting, params := fresh()), build_optimizer(setting, fresh())
    set_rates(zero, setting, 0.0)
    move(zero, params, 1)
    assert all(torch.equal(p, q) for p, q in zip(params.values(), fresh().values(), strict=True))
    zero.load_state_dict(other.state_dict())
    assert [group["lr"] for group in zero.param_groups] == [0.2, 0.01]


def test_muon_takes_the_matrices_of_the_nets_of_a_model() -> None:
    recipe = tiny_recipe()
    table = parameters(recipe.model, Geometry.of(recipe.task))
    taken = {name for name, p in table.items() if is_matrix(name, torch.zeros(p.shape))}
    assert taken == {f"net.0.layer.0.{part}" for part in (
        "mixer.qkv", "mixer.out", "ffn.gate_up", "ffn.down")}  # fmt: skip


def test_an_older_torch_without_muon_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"muon needs torch 2\.9 or newer, this is "):
        build_optimizer(Muon(), fresh())


class TorchATan2(torch.optim.Optimizer):
    """The published arithmetic as a class of torch's, as checkpoints were first written by."""

    def __init__(self, params: Any, **group: Any) -> None:
        super().__init__(params, group)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, (b1, b2), decay = group["lr"], group["betas"], group["weight_decay"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                t = state["step"].item()
                m, v = state["exp_avg"], state["exp_avg_sq"]
                p.mul_(1 - lr * decay)
                m.lerp_(p.grad, 1 - b1)
                v.lerp_(p.grad * p.grad, 1 - b2)
                p.add_(torch.atan2(m, v.sqrt() / math.sqrt(1 - b2**t)), alpha=-lr / (1 - b1**t))


def test_our_own_class_gives_the_bits_of_torchs_and_reads_its_checkpoints() -> None:
    group = {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.5}
    ours, theirs = fresh(), fresh()
    mine, other = Moments(ours.values(), published, **group), TorchATan2(theirs.values(), **group)
    for update in range(4):
        move(mine, ours, update)
        move(other, theirs, update)
    assert all(torch.equal(ours[name], theirs[name]) for name in SHAPES)
    assert mine.state_dict()["param_groups"] == other.state_dict()["param_groups"]

    again = {name: p.detach().clone().requires_grad_() for name, p in theirs.items()}
    read = Moments(again.values(), published, **{**group, "lr": 9.0})
    read.load_state_dict(other.state_dict())
    move(read, again, 4)
    move(other, theirs, 4)
    assert all(torch.equal(again[name], theirs[name]) for name in SHAPES)


def test_a_state_that_was_taken_over_is_a_copy() -> None:
    params = fresh()
    first = build_optimizer(AdamATan2(), params)
    move(first, params, 0)
    second = build_optimizer(AdamATan2(), params)
    second.load_state_dict(first.state_dict())
    kept = first.state_dict()["state"][0]["exp_avg"].clone()
    move(second, params, 1)
    assert torch.equal(first.state_dict()["state"][0]["exp_avg"], kept)
    assert first.state_dict()["state"][0]["step"].item() == 1
