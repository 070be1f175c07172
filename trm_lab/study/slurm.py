"""What SLURM's own commands say: the queue, the accounts, the limits.  Nothing of submitit.

Accounting may be off, and the controller may not answer for a while; both are told apart from a job
that is gone.  With `squeue -t all` finished jobs stay visible for the site's MinJobAge.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from trm_lab.errors import ConfigError

COMMAND_SECONDS = 30
"""Time limit of a command; a controller that is down lets clients wait for 9 s and more."""

LIVE = frozenset({
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_FED",
    "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT",
    "STOPPED",
})  # fmt: skip
"""States of a job that runs or may run again by itself."""
OWN = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_", "SUBMITIT_")
"""Variables of the job that we may be in ourselves, which must not shape the jobs that we send."""


@dataclass(frozen=True)
class Queued:
    """A job as the queue shows it."""

    id: str
    state: str
    reason: str
    """Why it waits, in SLURM's word: Priority, Resources, QOSMaxJobsPerUserLimit."""
    nodes: str
    name: str

    @property
    def live(self) -> bool:
        """Whether it runs, waits, or is about to be put back."""
        return self.state in LIVE

    @property
    def pending(self) -> bool:
        """Whether it waits for its turn."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")

    @property
    def waits(self) -> str:
        """Why it waits for its turn; empty if it does not."""
        return f"{self.state.lower()}: {self.reason}" if self.pending else ""


class SilentError(RuntimeError):
    """The controller, or the command, did not answer: nothing is known of the jobs."""


def queue() -> dict[str, Queued]:
    """Give all jobs of this user that the controller remembers, by id (arrays as 12_3).

    Raises:
        SilentError: no answer.
    """
    # -a: jobs in hidden partitions are otherwise not shown, and would count as gone.
    user = str(os.getuid())
    text = _ask("squeue", "-a", "-h", "-r", "-t", "all", "-u", user, "-o", "%i|%T|%r|%N|%j")
    found = {}
    for line in text.splitlines():
        parts = line.split("|", 4)
        if len(parts) == 5:
            found[parts[0]] = Queued(*parts)
    return found


def ids_by_name(jobs: dict[str, Queued]) -> dict[str, str]:
    """Give the id of jobs by their name; jobs of an array share both: 12_3 is of 12."""
    return {job.name: id.split("_")[0] for id, job in jobs.items()}


def accounted(id: str, name: str) -> str:
    """Give the last state of a job from the accounts; empty where they know none of that name."""
    try:
        text = _ask("sacct", "-X", "-n", "-P", "-j", id, "-o", "JobID,State,JobName")
    except SilentError:
        return ""
    for line in text.splitlines():
        job, state, there = (*line.split("|", 2), "", "")[:3]
        if (job, there) == (id, name) and state:
            return state.split()[0]  # "CANCELLED by 1000" is said of a cancelled job
    return ""


def array_limit() -> int | None:
    """Give the most jobs of one array on this cluster, None if it is not told."""
    try:
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"))
    except SilentError:
        return None
    # The size is one more than the largest index, and indices start at 0.
    return max(1, int(found[1])) if found else None


def accounting() -> bool:
    """Say whether the cluster keeps accounts that we may read."""
    try:
        _ask("sacct", "-X", "-n", "-P", "-j", "1", "-o", "JobID")
    except SilentError:
        return False
    return True


def cancel(ids: Iterable[str]) -> None:
    """Take jobs out of the queue, running or not; those already gone are let be.

    Raises:
        SilentError: no answer.
    """
    wanted = sorted(ids)
    if wanted:
        _ask("scancel", "--quiet", *wanted)


def available() -> bool:
    """Say whether this machine can submit."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def expect() -> None:
    """Refuse a machine that cannot submit.

    Raises:
        ConfigError: what to do instead.
    """
    if not available():
        raise ConfigError("executor slurm: no sbatch and squeue on this machine; run where "
                          "jobs are submitted, or use `executor: local`")  # fmt: skip


@contextmanager
def outside() -> Iterator[None]:
    """Forget for a while the job that we are in; where SLURM is configured stays known."""
    hidden = {k: v for k, v in os.environ.items() if k.startswith(OWN) and k != "SLURM_CONF"}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def rendezvous() -> dict[str, str]:
    """Say where the tasks of this job meet, in the variables that torchrun would set."""
    variable = os.environ
    first = "127.0.0.1"
    if int(variable.get("SLURM_NNODES", "1")) > 1:
        command = ["scontrol", "show", "hostnames", variable["SLURM_JOB_NODELIST"]]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        first = told.stdout.split()[0]
    return {
        "WORLD_SIZE": variable["SLURM_NTASKS"],
        "RANK": variable["SLURM_PROCID"],
        "LOCAL_RANK": variable["SLURM_LOCALID"],
        "MASTER_ADDR": first,
        # Below the ephemeral ports, and another one for every job of a node.
        "MASTER_PORT": str(15000 + int(variable["SLURM_JOB_ID"]) % 15000),
    }


def _ask(*command: str) -> str:
    # A user's own filters and formats are for the user's own eyes.
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SACCT_"))}
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, env=plain
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SilentError(f"{command[0]}: {error}") from None
    if told.returncode != 0:
        # The last line tells; those before it are the ways that it tried.
        words = told.stderr.strip().rpartition("\n")[2].removeprefix(f"{command[0]}: ")
        raise SilentError(f"{command[0]}: {words or told.returncode}")
    return told.stdout
