"""Benchmarks keep step with what they measure."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_bench_of_the_engine_runs_and_leaves_nothing_open() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "engine.py", "--cells", "30", "--real", "1"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if "open files" in line]
    assert len(lines) == 2
    for line in lines:
        before, after = (part.split()[-2] for part in line.split(";")[0].split(","))
        assert before == after
