"""Memory of a training step by gradient scheme and activation checkpointing.

    python bench/memory.py

Each case runs in a process of its own: peak resident memory of two updates over what the process
held when the session stood ready, in MB of 10^6 bytes, and CPU seconds of the second update.  The
ratios are against the whole program without checkpointing, at the same size in the same run.  The
released modules' 1,465 MB (width 128, T 3, batch 16) count over a step of batch 1, not over the
start.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

WHOLE = {"kind": "whole_program"}
CASES = [
    # name, width, T, batch, gradient, checkpointing, MB asked
    ("whole program", 128, 3, 16, WHOLE, None, None),
    ("last cycle", 128, 3, 16, {"kind": "last_cycles", "c": 1}, None, None),
    ("  by update", 128, 3, 16, WHOLE, "update", 400),
    ("  by cycle", 128, 3, 16, WHOLE, "cycle", None),
    ("implicit", 128, 3, 16, {"kind": "implicit", "backward_iterations": 7}, None, None),
    ("whole program", 512, 6, 8, WHOLE, None, None),
    ("  by update", 512, 6, 8, WHOLE, "update", None),
    ("  by cycle", 512, 6, 8, WHOLE, "cycle", None),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, help="measure one case in this process")
    case = parser.parse_args().case
    if case is not None:
        print(json.dumps(measure(*CASES[case][1:6])))
        return
    print("token MLP, 81 cells and 16 slots, n 6, 2 layers, float32, one thread")
    base = (1.0, 1.0)
    for i, (name, width, T, batch, _, checkpointing, asked) in enumerate(CASES):
        told = subprocess.run(
            [sys.executable, __file__, "--case", str(i)],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        size = f"width {width}, T {T}, batch {batch}: {name:14}"
        if told.returncode:
            print(f"{size} failed with {told.returncode}: out of memory?")
            continue
        megabytes, seconds = json.loads(told.stdout)
        if name == "whole program" and checkpointing is None:
            base = (megabytes, seconds)
        note = f" (asked: under {asked} MB)" if asked else ""
        print(f"{size} {megabytes:6.0f} MB{note}, {seconds:.2f} s; against the whole program "
              f"{megabytes / base[0]:.2f}x memory, {seconds / base[1]:.2f}x time")  # fmt: skip


def measure(
    width: int, T: int, batch: int, gradient: dict[str, object], checkpointing: str | None
) -> tuple[float, float]:
    """Give the peak over the start and the CPU seconds of an update."""
    import torch
    from core import puzzles

    from trm_lab.config import preset
    from trm_lab.training.session import Session
    from trm_lab.training.stream import Stream

    torch.set_num_threads(1)
    recipe = preset(
        "trm_mlp",
        task={"kind": "sudoku", "size": 9, "clues": 40},
        model={"width": width, "T": T, "puzzle": {"slots": 16, "dim": width}, "gradient": gradient},
        train={"updates": 10**6, "batch": batch, "dtype": "float32"},
    )
    device = torch.device("cpu")
    stream = Stream(puzzles(9), batch, 0, device)
    session = Session.fresh(recipe, stream, device, checkpointing)  # type: ignore[arg-type]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    start, seconds = memory("VmRSS"), 0.0
    for _ in range(2):
        began = time.process_time()
        session.advance()
        seconds = time.process_time() - began
    return memory("VmHWM") - start, seconds


def memory(name: str) -> float:
    """Read a size of this process from Linux, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(name))
    return int(kibibytes) * 1024 / 1e6


if __name__ == "__main__":
    main()
