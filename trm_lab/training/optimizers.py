"""Optimisers of the trunk and of the puzzle table, schedules, averaged weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trm_lab.config import training as settings


class AdamATan2(torch.optim.Optimizer):
    """Adam with atan2 in place of the division (Everett et al. 2024, arXiv 2407.05872).

    The arithmetic is that of the published CUDA kernel (package `adam-atan2` 0.0.3): decoupled
    decay first, then moments, then `p -= lr / (1 - b1^t) * atan2(m, sqrt(v) / sqrt(1 - b2^t))`.
    The first-moment correction stands *outside* the arctangent; there is no epsilon and no scale.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Apply one update to every parameter that has a gradient."""
        assert closure is None, "AdamATan2 evaluates nothing again"
        for group in self.param_groups:
            lr, (b1, b2), decay = group["lr"], group["betas"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
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
        return None


def build_optimizer(setting: settings.Optimizer, params: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Build the trunk's optimiser."""
    common: dict[str, Any] = {
        "lr": setting.lr, "betas": setting.betas, "weight_decay": setting.weight_decay,
    }  # fmt: skip
    match setting:
        case settings.AdamATan2():
            return AdamATan2(params, **common)
        case settings.AdamW():
            return torch.optim.AdamW(params, eps=setting.eps, **common)


@torch.no_grad()
def sign_sgd(
    table: Float[Tensor, "ids dim"],
    identifiers: Int[Tensor, " B"],
    gradient: Float[Tensor, "B dim"],
    lr: float,
    weight_decay: float,
) -> None:
    """Move, in place, the rows of the table that are in the batch: `p(1 - lr wd) - lr sign(sum g)`.

    Gradients of equal identifiers are summed first; other rows neither move nor decay.
    """
    total = torch.zeros_like(table).index_add_(0, identifiers.long(), gradient.to(table.dtype))
    touched = torch.zeros(len(table), 1, dtype=torch.bool, device=table.device)
    touched[identifiers.long()] = True
    moved = table * (1 - lr * weight_decay) - lr * total.sign()
    table.copy_(torch.where(touched, moved, table))


def rate(schedule: settings.Schedule, update: int, updates: int) -> float:
    """Give the factor on the learning rate at an update counted from 1.

    Linear up to `warmup`, then constant or half a cosine from 1 to `min_ratio` at the last update.
    """
    if update < schedule.warmup:
        return update / schedule.warmup
    match schedule:
        case settings.ConstantSchedule():
            return 1.0
        case settings.CosineSchedule():
            progress = (update - schedule.warmup) / max(1, updates - schedule.warmup)
            r = schedule.min_ratio
            return r + max(0.0, (1 - r) * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def average(shadow: dict[str, Tensor], params: dict[str, Tensor], decay: float) -> None:
    """Move the averaged weights, in place: `decay * shadow + (1 - decay) * p`."""
    for name, kept in shadow.items():
        kept.mul_(decay).add_(params[name], alpha=1 - decay)
