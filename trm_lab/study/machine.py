"""What this machine has: cores, GPUs and packages.  Torch-free."""

import os
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec

from trm_lab.config.execution import Execution
from trm_lab.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that limit the thread pools of a process, from its very start."""


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch-free."""
    told = os.environ.get(VISIBLE)
    if told is not None:
        return [name.strip() for name in told.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))]


def side_by_side(execution: Execution) -> int:
    """Count the runs that the cores have room for; torch takes all cores unless told."""
    return max(1, cores() // (execution.threads or cores()))


def installed(names: Iterable[str]) -> None:
    """Refuse trackers whose packages are not there, without importing them.

    Raises:
        ConfigError: the extra that brings each of them.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise ConfigError(
            f"execution.trackers: no package {', '.join(missing)}; pip install "
            f"'trm-lab[{','.join(missing)}]', or leave {'it' if len(missing) == 1 else 'them'} out"
        )
