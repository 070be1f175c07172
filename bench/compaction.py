"""Speed of evaluation to the halting step against evaluation with all steps.

    python bench/compaction.py

One thread, CPU time, both in turn within one process, on random weights and puzzles.  The rule is
made so that a planted share of the puzzles halts at each step, with a mean near 2.  The ratio is a
median over rounds; beside it stands what the halting steps alone would give, 16 over their mean.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import fields
from unittest import mock

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from trm_lab.config import Confidence, preset
from trm_lab.core import compaction
from trm_lab.core.compaction import evaluate_when_halted
from trm_lab.core.core import Core
from trm_lab.core.evaluation import Outcomes, evaluate
from trm_lab.core.halting import Shown
from trm_lab.core.initial import initial_weights
from trm_lab.core.reasoner import Reasoner
from trm_lab.parameters import Geometry

N_SUP = 16
CASES = [
    # preset, width, rows of the grid, puzzles, slots
    ("trm_mlp", 64, 4, 1000, 64),
    ("trm_att", 64, 9, 400, 32),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {rounds} rounds, T 1, n 6, 2 layers, float32")
    for name, width, rows, count, batch in CASES:
        case(name, width, rows, count, batch, rounds)


def case(name: str, width: int, rows: int, count: int, batch: int, rounds: int) -> None:
    """Measure one case and print it."""
    cpu = torch.device("cpu")
    geometry = Geometry(rows**2, rows + 2, 1)
    recipe = preset(
        name,
        model={"width": width, "puzzle": {"slots": 1, "dim": width}, "round_to": 32, "T": 1},
    )
    core = Core(recipe.model, geometry, torch.float32, cpu)
    weights = initial_weights(recipe.model, geometry, 0, torch.float32, cpu)
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(0, rows + 2, (2, count, rows**2), dtype=np.uint8)
    what = (Reasoner(core, weights, carried=True), inputs, labels)
    options = {"rule": Confidence(), "steps": (1, N_SUP), "batch": batch}
    runs: dict[str, Callable[[], Outcomes]] = {
        "all steps": lambda: evaluate(*what, steps=(1, N_SUP), batch=batch),
        "when halted": lambda: evaluate_when_halted(*what, **options),
    }
    times: dict[str, list[float]] = {key: [] for key in runs}
    with mock.patch.object(compaction, "wants_to_halt", planted):
        slow = evaluate_when_halted(*what, **options, compact=False)
        for _ in range(rounds):
            for key, run in runs.items():
                began = time.process_time()
                found = run()
                times[key].append(time.process_time() - began)
    equal = all(np.array_equal(getattr(slow, f.name), getattr(found, f.name)) for f in fields(slow))
    ratios = [a / b for a, b in zip(times["all steps"], times["when halted"], strict=True)]
    mean = found.halting_step.mean()
    print(f"{name}, width {width}, {rows**2} cells, {count} puzzles in {batch} slots: "
          f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}; asked 6x), "
          f"mean halting step {mean:.2f} of {N_SUP} alone gives {N_SUP / mean:.2f}x; "
          f"bits equal to the uncompacted: {equal}")  # fmt: skip


def planted(_: Confidence, shown: Shown) -> Bool[Tensor, " B"]:
    """Halt about half of the puzzles at each step, by low bits of what they computed."""
    bits = shown.after[:, 0, :].float().contiguous().view(torch.int32).sum(-1)
    return (bits // 7) % 20 >= 11


if __name__ == "__main__":
    main()
