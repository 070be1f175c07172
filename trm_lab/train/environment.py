"""How a run is executed, and what it was executed on.  None of it is part of a recipe."""

import platform
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

import trm_lab
from trm_lab.config.base import Setting
from trm_lab.errors import ConfigError


class Execution(Setting):
    """Where and how to run.  Equal settings on an equal machine give equal bits."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; null leaves them as they are."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """torch's float32 matmul precision; below "highest" rounding may differ by machine."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Least time between checkpoints, beside those at evaluations."""
    log_every: int = Field(default=25, ge=1)
    """Updates per training record."""

    def prepare(self) -> torch.device:
        """Set threads and precision of this process; give the device.

        Raises:
            ConfigError: CUDA asked for and not there.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul_precision)
        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise ConfigError("device: cuda was asked for, but torch sees no CUDA device")
        return torch.device("cuda" if available and self.device != "cpu" else "cpu")


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
