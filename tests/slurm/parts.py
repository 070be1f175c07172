"""A halting rule by which a test holds a run back, and sees in which job it works.

The folder in TRM_LAB_HOLD takes a line per supervision step: job, restart count, node, process,
GPUs.  Until the file `go` is in it every step takes 0.4 s; where `die` is in it the first step is
the last.  None of it changes what is computed.
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trm_lab.config.contracts import OwnHalting

if TYPE_CHECKING:
    from torch import Tensor

    from trm_lab.core.halting import Shown

HOLD = "TRM_LAB_HOLD"
STEP_SECONDS = 0.4


class Held(OwnHalting):
    """Halt where the head says so."""

    def wants_to_halt(self, shown: "Shown") -> "Tensor":
        return shown.halt[..., 0] > 0

    def losses(self, halt: "Tensor", correct: "Tensor") -> "tuple[Tensor, Tensor]":
        from torch.nn.functional import binary_cross_entropy_with_logits as bce

        hold(Path(os.environ[HOLD]))
        stop = bce(halt[..., 0], correct.to(halt.dtype), reduction="none")
        return stop, halt.new_zeros(len(halt))


class Step(NamedTuple):
    """Who made a supervision step."""

    job: str
    restart: str
    node: str
    pid: str
    gpus: str


def hold(folder: Path) -> None:
    """Note the step and take the time that the test wants."""
    variable = os.environ.get
    job = variable("SLURM_ARRAY_JOB_ID", variable("SLURM_JOB_ID", "none"))
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        job += "_" + os.environ["SLURM_ARRAY_TASK_ID"]
    step = Step(job, variable("SLURM_RESTART_COUNT", "0"), variable("SLURMD_NODENAME", "none"),
                str(os.getpid()), variable("CUDA_VISIBLE_DEVICES", "none"))  # fmt: skip
    with (folder / "steps").open("a") as file:
        file.write(" ".join(step) + "\n")
    if (folder / "die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if not (folder / "go").exists():
        time.sleep(STEP_SECONDS)


def steps(folder: Path) -> Sequence[Step]:
    """Read the steps so far, in order."""
    path = folder / "steps"
    return [Step(*line.split()) for line in path.read_text().splitlines()] if path.exists() else []
