"""The labelled dataset of one run evaluated up to each puzzle's halting step.

Dimensions: `rule` (a halting rule at one threshold), `steps` (the most that a puzzle gets) and
`puzzle`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from trm_lab.core.evaluation import Outcomes

CELL = ("rule", "steps")
EACH = ("rule", "puzzle", "steps")


def halted_dataset(
    found: Sequence["Outcomes"],
    rules: Sequence[tuple[str, float | None]],
    step_flops: int,
    facts: Mapping[str, np.ndarray],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Label the outcomes under each rule, given by kind and threshold (None without one).

    `step_flops` are those of one supervision step of one puzzle; `facts` are known of each puzzle.
    """
    steps = found[0].steps
    taken = np.stack([np.minimum(o.halting_step[:, None], steps).mean(axis=0) for o in found])

    def each(name: str) -> np.ndarray:
        return np.stack([getattr(outcomes, name) for outcomes in found])

    data: dict[str, tuple[tuple[str, ...], np.ndarray, str, str]] = {
        "puzzle_accuracy": (CELL, each("puzzle_accuracy"), "Share of puzzles solved", "1"),
        "cell_accuracy": (CELL, each("mean_cell_accuracy"), "Mean share of right cells", "1"),
        "mean_steps": (CELL, taken, "Mean supervision steps per puzzle", "1"),
        "flops": (CELL, step_flops * taken, "Mean compute per puzzle, matrix products", "FLOP"),
        "solved": (EACH, each("solved").astype(np.uint8), "Answer right", "1"),
        "halt_logit": (EACH, each("halt_logit"), "Logit of halting", "1"),
        "unconverged": (
            EACH, each("unconverged").astype(np.uint8), "Implicit solve above the tolerance", "1",
        ),
        "halting_step": (
            EACH[:2], each("halting_step").astype(np.int16),
            "Supervision steps up to halting, or all", "1",
        ),
        "threshold": (
            CELL[:1], np.array([np.nan if at is None else at for _, at in rules]),
            "Threshold of the rule, NaN without one", "1",
        ),
    }  # fmt: skip
    for name, values in facts.items():
        data[name] = (("puzzle",), values, name, "1")
    variables = {
        name: xr.Variable(dims, values, {"long_name": text, "units": unit})
        for name, (dims, values, text, unit) in data.items()
    }
    variables["flops"].attrs["comment"] = "of an implicit gradient the most that it can take"
    return xr.Dataset(
        variables,
        coords={
            "rule": [_name(kind, at) for kind, at in rules],
            "steps": steps.astype(np.int64),
        },
        attrs=dict(attrs),
    ).set_coords("threshold")


def _name(kind: str, threshold: float | None) -> str:
    """Call a rule by its kind and threshold, all digits of it: names tell rules apart."""
    if threshold is None:
        return kind
    return f"{kind} {np.format_float_positional(threshold, trim='-')}"


def rows(halted: xr.Dataset) -> list[dict[str, Any]]:
    """Give one row per rule and number of steps; `unconverged` is a share of the puzzles."""
    names = ("flops", "mean_steps", "puzzle_accuracy", "cell_accuracy")
    return [
        {"rule": str(halted["rule"].values[r]), "steps": int(step)}
        | {name: float(halted[name][r, s]) for name in names}
        | {"unconverged": float(halted["unconverged"][r, :, s].mean())}
        for r in range(halted.sizes["rule"])
        for s, step in enumerate(halted["steps"].values)
    ]
