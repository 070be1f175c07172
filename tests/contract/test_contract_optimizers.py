"""Every optimiser and every schedule: formulas, state, values at given updates."""

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.contract.instances import ADAMS, OPTIMIZERS, SCHEDULES, name
from trm_lab.config import AdamATan2 as AdamATan2Setting
from trm_lab.config import AdamATan2Scaled, ConstantSchedule, CosineSchedule, Schedule
from trm_lab.config import AdamW as AdamWSetting
from trm_lab.config import Optimizer as OptimizerSetting
from trm_lab.training.optimizers import (
    Optimizer,
    average,
    build_optimizer,
    rate,
    sign_sgd,
)


def fresh(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (5,))
    return [
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for s in shapes
    ]


def gradients(update: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + update)
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype) * 10**-update
            for p in fresh()]  # fmt: skip


def build(setting: OptimizerSetting, params: list[torch.Tensor]) -> Optimizer:
    """Build over the tensors of `fresh`: a matrix of a net and a vector."""
    matrix, vector = params
    return build_optimizer(setting, {"net.0.layer.0.ffn.down": matrix, "head.halt.bias": vector})


def move(optimizer: Optimizer, params: list[torch.Tensor], updates: range) -> None:
    for update in updates:
        for p, g in zip(params, gradients(update, params[0].dtype), strict=True):
            p.grad = g
        optimizer.step()


def expected_step(setting: OptimizerSetting, p: float, history: list[float]) -> float:
    """Move one number by one update, from the whole history of its gradients."""
    (b1, b2), t = setting.betas, len(history)
    m = sum((1 - b1) * b1 ** (t - 1 - i) * g for i, g in enumerate(history))
    v = sum((1 - b2) * b2 ** (t - 1 - i) * g * g for i, g in enumerate(history))
    p *= 1 - setting.lr * setting.weight_decay
    if isinstance(setting, AdamATan2Setting):
        return p - setting.lr / (1 - b1**t) * math.atan2(m, math.sqrt(v) / math.sqrt(1 - b2**t))
    if isinstance(setting, AdamATan2Scaled):
        corrected = math.sqrt(v / (1 - b2**t))
        return p - setting.lr * 1.27 * math.atan2(m / (1 - b1**t), corrected)
    corrected = math.sqrt(v / (1 - b2**t)) + setting.eps
    return p - setting.lr * m / (1 - b1**t) / corrected


@pytest.mark.parametrize("setting", ADAMS, ids=name)
def test_an_optimiser_follows_its_formula(setting: OptimizerSetting) -> None:
    params = fresh(torch.float64)
    optimizer = build(setting, params)
    expected = [p.detach().numpy().copy() for p in params]
    for t in range(1, 6):
        move(optimizer, params, range(t, t + 1))
        for k, array in enumerate(expected):
            for index in np.ndindex(array.shape):
                history = [gradients(u, torch.float64)[k][index].item() for u in range(1, t + 1)]
                array[index] = expected_step(setting, array[index], history)
        for p, array in zip(params, expected, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), array, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("setting", OPTIMIZERS, ids=name)
def test_an_optimiser_goes_on_exactly_after_save_and_load(setting: OptimizerSetting) -> None:
    params = fresh()
    optimizer = build(setting, params)
    move(optimizer, params, range(1, 4))
    file = io.BytesIO()
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, file)
    move(optimizer, params, range(4, 8))

    file.seek(0)
    content = torch.load(file, weights_only=True)
    again = [p.detach().clone().requires_grad_() for p in content["params"]]
    other = build(setting, again)
    other.load_state_dict(content["optimizer"])
    move(other, again, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(params, again, strict=True))
    saved = [_flat(o.state_dict()) for o in (optimizer, other)]
    assert saved[0].keys() == saved[1].keys()
    for key, value in saved[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, saved[1][key])
            assert value.dtype == saved[1][key].dtype
        else:
            assert value == saved[1][key]


def _flat(state: Any, *path: Any) -> dict[tuple[Any, ...], Any]:
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {
        key: value
        for k, v in items
        for key, value in (
            _flat(v, *path, k) if isinstance(v, dict | list) else {(*path, k): v}
        ).items()
    }


@pytest.mark.parametrize("setting", ADAMS, ids=name)
def test_the_moments_of_every_parameter_are_saved(setting: OptimizerSetting) -> None:
    params = fresh()
    optimizer = build(setting, params)
    move(optimizer, params, range(1, 3))
    state = optimizer.state_dict()["state"]
    assert state.keys() == {0, 1}
    assert all(s.keys() == {"step", "exp_avg", "exp_avg_sq"} for s in state.values())


@pytest.mark.parametrize("setting", OPTIMIZERS, ids=name)
def test_a_fresh_optimiser_state_would_go_elsewhere(setting: OptimizerSetting) -> None:
    """Guard of the test above: the state matters."""
    params = fresh()
    optimizer = build(setting, params)
    move(optimizer, params, range(1, 4))
    again = [p.detach().clone().requires_grad_() for p in params]
    move(optimizer, params, range(4, 5))
    move(build(setting, again), again, range(4, 5))
    assert not torch.equal(params[0], again[0])


@pytest.mark.parametrize("setting", OPTIMIZERS, ids=name)
def test_parameters_without_a_gradient_neither_move_nor_decay(setting: OptimizerSetting) -> None:
    params = fresh()
    before = params[1].detach().clone()
    optimizer = build(setting, params)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1], before)
    saved = _flat(optimizer.state_dict())
    assert not any(
        value.shape == before.shape for value in saved.values() if isinstance(value, torch.Tensor)
    )


def test_atan2_knows_no_scale() -> None:
    """All gradients a thousand times as large give the same steps."""
    setting = AdamATan2Setting(lr=0.1, weight_decay=0.0)
    moved = []
    for scale in (1.0, 1024.0):
        params = fresh(torch.float64)
        optimizer = build(setting, params)
        for update in (1, 2, 3):
            for p, g in zip(params, gradients(update, torch.float64), strict=True):
                p.grad = g * scale
            optimizer.step()
        moved.append(params)
    for a, b in zip(*moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_zero_gradients_are_no_step_for_atan2_but_decay() -> None:
    (p, _) = params = fresh(torch.float64)
    before = p.detach().clone()
    optimizer = build(AdamATan2Setting(lr=0.1, weight_decay=0.5), params)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(p.detach(), before * 0.95, rtol=1e-14, atol=0)


def test_adamw_is_given_all_its_settings() -> None:
    setting = AdamWSetting(lr=0.3, betas=(0.5, 0.6), weight_decay=0.7, eps=0.1)
    (group,) = build(setting, fresh()).param_groups
    found = {k: group[k] for k in ("lr", "betas", "weight_decay", "eps")}
    assert found == {"lr": 0.3, "betas": (0.5, 0.6), "weight_decay": 0.7, "eps": 0.1}


def test_sign_sgd_sums_equal_identifiers_and_leaves_absent_rows_alone() -> None:
    table = torch.tensor([[1.0, -1.0], [0.1, 0.2], [3.0, 3.0], [1 / 3, -1 / 7]])
    before = table.clone()
    gradient = torch.tensor([[5.0, -1.0], [2.0, 1.0], [-2.0, -3.0], [1.0, 2.0]])
    sign_sgd(table, torch.tensor([0, 2, 2, 2]), gradient, lr=0.25, weight_decay=0.5)
    keep = 1 - 0.25 * 0.5
    assert table[0].tolist() == [1.0 * keep - 0.25, -1.0 * keep + 0.25]
    # Sums 2 - 2 + 1 = 1 and 1 - 3 + 2 = 0: one by one the signs would not cancel.
    assert table[2].tolist() == [3.0 * keep - 0.25, 3.0 * keep]
    assert torch.equal(table[[1, 3]], before[[1, 3]])


def test_sign_sgd_in_one_row_is_the_sign_of_the_batch() -> None:
    table = torch.zeros(1, 3)
    gradient = torch.tensor([[1e-9, -2.0, 0.0], [1e-9, 1.0, 0.0]])
    sign_sgd(table, torch.zeros(2, dtype=torch.int64), gradient, lr=0.5, weight_decay=1.0)
    assert table.tolist() == [[-0.5, 0.5, 0.0]]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_a_schedule_warms_up_and_stays_within_its_range(schedule: Schedule) -> None:
    factors = [rate(schedule, u, 12) for u in range(1, 13)]
    for update in range(1, schedule.warmup):
        assert factors[update - 1] == update / schedule.warmup
    assert factors[max(schedule.warmup, 1) - 1] == pytest.approx(1.0, abs=0.02)
    after = factors[max(schedule.warmup, 1) - 1 :]
    assert all(a >= b for a, b in itertools.pairwise(after))
    assert all(0 <= f <= 1 for f in factors)


def test_schedules_at_given_updates() -> None:
    constant = ConstantSchedule(warmup=4)
    assert [rate(constant, u, 100) for u in (1, 2, 3, 4, 5, 100)] == [0.25, 0.5, 0.75, 1, 1, 1]
    cosine = CosineSchedule(warmup=4, min_ratio=0.2)
    # Update 12 is half of the way from 4 to 20: 0.2 + 0.8 / 2; update 8 a quarter of it.
    found = [rate(cosine, u, 20) for u in (2, 4, 8, 12, 20)]
    quarter = 0.2 + 0.4 * (1 + math.sqrt(0.5))
    assert found == pytest.approx([0.5, 1.0, quarter, 0.6, 0.2], rel=1e-12)
    assert rate(ConstantSchedule(warmup=0), 1, 10) == 1.0
    assert rate(CosineSchedule(warmup=0, min_ratio=1.0), 7, 10) == 1.0
    assert rate(CosineSchedule(warmup=0), 10, 10) == 0.0


def test_averaging_follows_its_formula() -> None:
    shadow = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([4.0])}
    kept = shadow["a"]
    average(shadow, {"a": torch.tensor([3.0, -2.0]), "b": torch.tensor([0.0])}, 0.75)
    assert shadow["a"].tolist() == [1.5, 1.0]
    assert shadow["b"].tolist() == [3.0]
    assert shadow["a"] is kept
    average(shadow, {"a": torch.tensor([3.0, -2.0]), "b": torch.tensor([0.0])}, 0.75)
    assert shadow["a"].tolist() == [1.875, 0.25]
