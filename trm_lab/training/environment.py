"""What a run is executed on.  None of it is part of a recipe."""

import platform
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import trm_lab
from trm_lab.config.execution import Execution
from trm_lab.errors import ConfigError
from trm_lab.training.distributed import SOLO, Group


def prepare(execution: Execution, group: Group = SOLO) -> torch.device:
    """Set threads and precision of this process; give the device, the group's own if it has one.

    Raises:
        ConfigError: CUDA asked for and not there.
    """
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    torch.set_float32_matmul_precision(execution.matmul_precision)
    if group.device is not None:
        return group.device
    available = torch.cuda.is_available()
    if execution.device == "cuda" and not available:
        raise ConfigError("device: cuda was asked for, but torch sees no CUDA device")
    return torch.device("cuda" if available and execution.device != "cpu" else "cpu")


def describe(device: torch.device) -> dict[str, Any]:
    """Record what decides the bits of a run beside its recipe."""
    commit, dirty = git_state()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "trm_lab": trm_lab.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.platform(),
        "executable": Path(sys.executable).name,
        "host": socket.gethostname(),
        "git_commit": commit,
        "git_dirty": dirty,
    }


@cache
def git_state() -> tuple[str, bool]:
    """Commit of the installed source and whether it was changed; ("", False) outside git."""
    root = Path(trm_lab.__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    # A package installed inside somebody else's repository says nothing about our source.
    if not commit or git("ls-files", "--error-unmatch", "__init__.py") is None:
        return "", False
    return commit, bool(git("status", "--porcelain", "--untracked-files=no", "--", "."))
