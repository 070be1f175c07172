"""Speed of our training step against an eager transcription of the published structure.

    python bench/core.py

One thread, CPU time, the variants in turn within one process; ratios are medians over rounds of
(time of the transcription / our time), with the smallest and largest round.  Exact mode has the
published structure; lean has inner widths rounded to 32, no puzzle slots and the float32 loss.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from published import Trainer

from trm_lab.config import Recipe, preset
from trm_lab.tasks.dataset import Puzzles, TaskData
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

EXACT: dict[str, object] = {}
LEAN = {"round_to": 32, "puzzle": None}
CASES = [
    # width, rows of the grid, batch, variants; the ratios asked of this bench
    (64, 4, 64, {"exact": (EXACT, 0.95), "lean": (LEAN, 3.5)}),
    (64, 6, 64, {"exact": (EXACT, 0.95), "lean": (LEAN, 2.2)}),
    (128, 9, 16, {"exact": (EXACT, 0.95)}),
    (512, 9, 8, {"exact": (EXACT, 0.95)}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread, "
          f"{rounds} rounds, T 3, n 6, 2 layers, token MLP, float32")  # fmt: skip
    for width, rows, batch, variants in CASES:
        peer = Trainer(rows**2, rows + 2, width, batch)
        ours = {name: session(width, rows, batch, change) for name, (change, _) in variants.items()}
        times: dict[str, list[float]] = {name: [] for name in ("published", *ours)}
        steps: dict[str, Callable[[], None]] = {"published": peer.advance}
        steps |= {name: made.advance for name, made in ours.items()}
        for step in steps.values():
            step()
        for _ in range(rounds):
            for name, step in steps.items():
                began = time.process_time()
                step()
                times[name].append(time.process_time() - began)
        base = times["published"]
        print(f"width {width}, {rows**2} cells, batch {batch}: "
              f"published {statistics.median(base) * 1e3:.0f} ms")  # fmt: skip
        for name, made in ours.items():
            ratios = [a / b for a, b in zip(base, times[name], strict=True)]
            rate = account_flops(made.recipe) / statistics.median(times[name]) / 1e9
            print(f"  {name:6} {statistics.median(ratios):.2f}x "
                  f"({min(ratios):.2f} to {max(ratios):.2f}; asked {variants[name][1]}x), "
                  f"{statistics.median(times[name]) * 1e3:.0f} ms, {rate:.0f} GFLOP/s")  # fmt: skip


def session(width: int, rows: int, batch: int, change: dict[str, object]) -> Session:
    """Build our side of a case: the published recipe at this width, with a change."""
    model = {"width": width, "puzzle": {"slots": 16, "dim": width}, **change}
    loss = "float32" if change else "float64"
    recipe = preset(
        "trm_mlp",
        task={"kind": "sudoku", "size": rows, "clues": rows**2 // 2},
        model=model,
        supervision={"loss": {"kind": "stablemax", "dtype": loss}},
        train={"updates": 10**6, "batch": batch, "dtype": "float32"},
    )
    device = torch.device("cpu")
    return Session.fresh(recipe, Stream(puzzles(rows), batch, 0, device), device)


def puzzles(rows: int) -> TaskData:
    """Random tokens in the shape of puzzles: time does not depend on what they say."""
    rng = np.random.default_rng(0)
    cells, size = rows**2, 256
    labels = rng.integers(2, rows + 2, (size, cells), dtype=np.uint8)
    nothing = np.full(size, np.nan, np.float32)
    made = Puzzles(
        inputs=np.where(rng.random((size, cells)) < 0.5, labels, 1).astype(np.uint8),
        labels=labels, clues=np.zeros(size, np.int16), guesses=nothing,
        signature=np.arange(size, dtype=np.uint64), rating=nothing, source=np.full(size, "random"),
    )  # fmt: skip
    return TaskData(made, made, made, rows + 2, cells, 1, "random", None)


def account_flops(recipe: Recipe) -> int:
    """FLOPs of one update."""
    from trm_lab.accounting import account

    return account(recipe).flops_per_update


if __name__ == "__main__":
    main()
