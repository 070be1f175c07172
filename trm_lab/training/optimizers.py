"""Optimisers of the trunk and of the puzzle table, schedules, averaged weights."""

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trm_lab.config import training as settings
from trm_lab.errors import ConfigError
from trm_lab.training.moments import Moments, published, scaled


class Optimizer(Protocol):
    """What a run asks of an optimiser: torch's interface without closures."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with its learning rate `lr`."""

    def step(self) -> None:
        """Apply one update to every parameter that has a gradient."""

    def state_dict(self) -> dict[str, Any]:
        """Give everything that resuming needs."""

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take over a state."""


class Split:
    """Muon on the matrices of the nets and another optimiser on the rest."""

    def __init__(self, matrices: Optimizer, rest: Optimizer) -> None:
        self.parts = {"matrices": matrices, "rest": rest}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of both, matrices first."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def step(self) -> None:
        """Apply one update of both."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Give both states by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take over both states."""
        for name, part in self.parts.items():
            part.load_state_dict(content[name])


def build_optimizer(setting: settings.Optimizer, params: Mapping[str, Tensor]) -> Optimizer:
    """Build the trunk's optimiser over its parameters by name.

    Raises:
        ConfigError: Muon asked for, and the installed torch has none.
    """
    match setting:
        case settings.AdamATan2():
            return Moments(params.values(), published, **_adam(setting))
        case settings.AdamATan2Scaled():
            group = {**_adam(setting), "a": setting.a, "b": setting.b}
            return Moments(params.values(), scaled, **group)
        case settings.AdamW():
            made: Any = torch.optim.AdamW(params.values(), eps=setting.eps, **_adam(setting))
            return cast(Optimizer, made)
        case settings.Muon():
            return _muon(setting, params)


def set_rates(optimizer: Optimizer, setting: settings.Optimizer, factor: float) -> None:
    """Set the learning rate of every group: the setting's own times the schedule's factor."""
    rates = [setting.lr] + ([setting.rest.lr] if isinstance(setting, settings.Muon) else [])
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr * factor


def is_matrix(name: str, p: Tensor) -> bool:
    """Say whether Muon takes a parameter: a matrix of a net, not of an embedding or a head."""
    return name.startswith("net.") and p.ndim == 2


def _muon(setting: settings.Muon, params: Mapping[str, Tensor]) -> Optimizer:
    kept = getattr(torch.optim, "Muon", None)
    if kept is None:
        raise ConfigError(
            f"train.optimizer: muon needs torch 2.9 or newer, this is {torch.__version__}; "
            "upgrade torch or take adam_atan2"
        )
    matrices = kept(
        [p for name, p in params.items() if is_matrix(name, p)],
        lr=setting.lr,
        weight_decay=setting.weight_decay,
        momentum=setting.momentum,
        nesterov=setting.nesterov,
        adjust_lr_fn=setting.adjust,
    )
    others = {name: p for name, p in params.items() if not is_matrix(name, p)}
    return Split(matrices, build_optimizer(setting.rest, others))


def _adam(setting: settings.Adam) -> dict[str, Any]:
    return {"lr": setting.lr, "betas": setting.betas, "weight_decay": setting.weight_decay}


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
