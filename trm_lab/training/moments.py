"""Adam with atan2 in place of the division (Everett et al. 2024, arXiv 2407.05872).

An optimiser of our own and not torch's class: building one of those imports torch's compiler, which
costs every worker more than a second of CPU.  The state dict has torch's form.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Move = Callable[[Tensor, Tensor, Tensor, float, dict[str, Any]], None]
"""Moves a parameter in place: (p, first moment, second moment, step from 1, group)."""

MOMENTS = ("exp_avg", "exp_avg_sq")


def published(p: Tensor, m: Tensor, v: Tensor, t: float, group: dict[str, Any]) -> None:
    """`p -= lr / (1 - b1^t) * atan2(m, sqrt(v) / sqrt(1 - b2^t))`, decoupled decay before.

    The arithmetic of the published CUDA kernel (package `adam-atan2` 0.0.3): the first-moment
    correction stands *outside* the arctangent; there is no epsilon and no scale.
    """
    lr, (b1, b2) = group["lr"], group["betas"]
    p.mul_(1 - lr * group["weight_decay"])
    p.add_(torch.atan2(m, v.sqrt() / math.sqrt(1 - b2**t)), alpha=-lr / (1 - b1**t))


def scaled(p: Tensor, m: Tensor, v: Tensor, t: float, group: dict[str, Any]) -> None:
    """`p -= lr * a * atan2(m / (1 - b1^t), b * sqrt(v / (1 - b2^t)))`, decoupled decay before.

    Both corrections stand inside, as in the paper and in the package `adam-atan2-pytorch`.
    """
    lr, (b1, b2) = group["lr"], group["betas"]
    p.mul_(1 - lr * group["weight_decay"])
    step = torch.atan2(m / (1 - b1**t), group["b"] * (v / (1 - b2**t)).sqrt())
    p.add_(step, alpha=-lr * group["a"])


class Moments:
    """Keeps Adam's two moments per parameter and leaves the step to `move`."""

    def __init__(self, params: Iterable[Tensor], move: Move, **group: Any) -> None:
        self.params = list(params)
        self.move = move
        self.param_groups: list[dict[str, Any]] = [group]
        self.state: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Apply one update to every parameter that has a gradient."""
        (group,) = self.param_groups
        b1, b2 = group["betas"]
        for index, p in enumerate(self.params):
            if p.grad is None:
                continue
            if index not in self.state:
                zeros = {name: torch.zeros_like(p) for name in MOMENTS}
                self.state[index] = {"step": torch.tensor(0.0), **zeros}
            state = self.state[index]
            state["step"] += 1
            m, v = (state[name] for name in MOMENTS)
            m.lerp_(p.grad, 1 - b1)
            v.lerp_(p.grad * p.grad, 1 - b2)
            self.move(p, m, v, state["step"].item(), group)

    def state_dict(self) -> dict[str, Any]:
        """Give the state as torch's optimisers do, tensors by the parameter's index."""
        (group,) = self.param_groups
        groups = [{**group, "params": list(range(len(self.params)))}]
        return {"state": {i: dict(s) for i, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take over a state; moments in the type and on the device of their parameter."""
        (group,) = content["param_groups"]
        assert len(group["params"]) == len(self.params), "the state is of other parameters"
        self.param_groups = [{k: v for k, v in group.items() if k != "params"}]
        self.state = {
            index: {
                "step": state["step"].detach().clone().cpu(),
                **{name: state[name].to(self.params[index], copy=True) for name in MOMENTS},
            }
            for index, state in content["state"].items()
        }
