"""What may stand in a study's way: the machine, the queue, the disk, the journal, what was left.

Each finding says what is so and, where something can be done, what.
"""

import fcntl
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.study import slurm
from trm_lab.study.attempts import damaged, live_jobs
from trm_lab.study.overview import last_sweep, read_plan
from trm_lab.study.trials import TRIALS

LOW_DISK_BYTES = 2 * 2**30
NEEDED = "drivers need file locks here; put runs/ on another file system"
PACKAGES = ("torch", "optuna", "submitit", "xarray", "netCDF4")

Verdict = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    detail: str


def machine() -> Iterator[Finding]:
    """Look at Python, packages, cores, GPUs and the queue of this machine."""
    from trm_lab.study.machine import cores, gpus

    yield Finding("python", "ok", f"{platform.python_version()} on {platform.node()}")
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "bad", f"not installed; pip install {package}")
    found = gpus()
    yield Finding("cores", "ok", str(cores()))
    yield Finding("gpus", "ok", ", ".join(found) or "none")
    yield from queue()


def queue() -> Iterator[Finding]:
    """Look at SLURM, if this machine submits to one."""
    if not slurm.available():
        yield Finding("slurm", "note", "no sbatch and squeue here; studies run on this machine")
        return
    try:
        jobs = slurm.queue()
    except slurm.SilentError as error:
        # Bad for a study that is sent there only: see `study`.
        told = f"its commands are here, but no controller answers: {_line(error)}"
        yield Finding("slurm", "note", told)
        return
    live = sum(job.live for job in jobs.values())
    yield Finding("slurm", "ok", f"{live} jobs of yours in the queue")
    limit = slurm.array_limit()
    yield Finding("arrays", "ok", "limit not told" if limit is None else f"up to {limit} jobs")
    on = slurm.accounting()
    told = "on" if on else "off; states come from run folders and squeue, which suffices"
    yield Finding("accounting", "ok" if on else "note", told)


def place(folder: Path) -> Iterator[Finding]:
    """Look at the disk that a study is written to: space, writing, locks."""
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    low = free < LOW_DISK_BYTES
    yield Finding("disk", "bad" if low else "ok", f"{free / 2**30:.1f} GiB free at {there}")
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".trm-lab-") as name:
            yield _locks(Path(name) / "lock")
    except OSError as error:
        yield Finding("writing", "bad", f"{there}: {error}")


def _locks(path: Path) -> Finding:
    """Try whether a second taker of a lock is refused."""
    # Not by filelock, which on some systems without locks makes a file stand for one.
    with path.open("wb") as first, path.open("wb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Finding("locks", "bad", f"no file locks here ({error}); {NEEDED}")
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return Finding("locks", "ok", "a file that is locked stays locked on this machine")
    return Finding("locks", "bad", f"file locks have no effect here; {NEEDED}")


def study(root: Path) -> Iterator[Finding]:
    """Look at a study's folder: driver, plan, journal, results, run folders, jobs."""
    from trm_lab.study.driver_lock import driven, failure, holder

    at_work = driven(root)
    who = holder(root) if (root / ".driver.json").exists() else "none so far"
    if why := failure(root):
        yield Finding("driver", "bad", f"the last one ended badly: {why}; `trm-lab run` goes on")
    else:
        told = f"{who}, at work" if at_work else f"none at work (last: {who})"
        yield Finding("driver", "ok", told)
    try:
        if (root / "plan.json").exists():
            read_plan(root)
    except ConfigError as error:
        yield Finding("plan", "bad", _line(error))
    sweep = dict[str, Any]()
    try:
        sweep = last_sweep(root)
    except ConfigError as error:
        yield Finding("sweep", "bad", f"{_line(error)}; `trm-lab run` writes it anew")
    yield _storage(root, sweep.get("storage"))
    yield from _dataset(root)
    for path in damaged(root):
        yield Finding("batch", "bad", f"{path}: cannot be read, so it is not known which runs the "
                                      f"jobs named {path.stem} hold; take them out of the queue "
                                      "if they are in it, then remove the file")  # fmt: skip
    folders = (*root.glob("*/seed-*"), *root.glob(f"{TRIALS}/*/seed-*"))
    runs = [RunFolder(path) for path in sorted(folders)]
    spoilt = [run for run in runs if run.status_file.exists() and run.status() is None]
    for run in spoilt:
        yield Finding("status", "bad", f"{run.status_file}: unreadable; running again mends it")
    for run in runs:
        if run.state() is State.COMPLETED and not is_zipfile(run.evaluation("last")):
            yield Finding("result", "bad", f"{run.evaluation('last')}: missing or damaged; "
                                           "`trm-lab run` evaluates the run again")  # fmt: skip
    stale = [run for run in runs if run.state() is State.RUNNING and not run.busy()]
    alive, silent = set[str](), False
    try:
        alive.update(_queued(root, sweep.get("executor")))
    except slurm.SilentError as error:
        silent = True
        yield Finding("queue", "bad", f"the study runs on SLURM, which is silent: {_line(error)}")
    for run in [] if silent else stale:
        if run.path.relative_to(root).as_posix() not in alive:
            yield Finding("run", "bad", f"{run.path}: says running, but nobody works on it; "
                                        "`trm-lab run` goes on from its checkpoint")  # fmt: skip
    yield Finding("runs", "ok", f"{len(runs)} folders, {len(spoilt)} unreadable, {len(stale)} "
                                "without a worker")  # fmt: skip


def _storage(root: Path, setting: str | None) -> Finding:
    """Look at the journal file, or whether the database answers."""
    from trm_lab.study.journal import damage
    from trm_lab.study.storage import JOURNAL, opened

    if setting is None:
        if not (root / JOURNAL).exists() and any(root.glob("*/seed-*")):
            return Finding("journal", "note", "none; a driver writes it from the run folders")
        bad = damage(root / JOURNAL)
        mended = "; `--repair` mends it" if bad else ""
        return Finding("journal", "bad" if bad else "ok", ("; ".join(bad) or "whole") + mended)
    try:
        with opened(setting, root):
            return Finding("storage", "ok", f"{setting} answers")
    except ConfigError as error:
        return Finding("storage", "bad", str(error))


def _dataset(root: Path) -> Iterator[Finding]:
    """Look whether results.nc can be read, all of it."""
    from trm_lab.results import open_results

    if not (root / "results.nc").exists():
        return
    try:
        open_results(root)
    except ConfigError as error:
        yield Finding("dataset", "bad", _line(error))


def _queued(root: Path, executor: Any) -> Iterator[str]:
    """Name the runs of a study whose jobs are in the queue; `executor` is its last sweep's.

    Raises:
        slurm.SilentError: it is to be sent there, and the queue does not answer.
    """
    if not slurm.available():
        return
    kind = executor.get("kind") if isinstance(executor, dict) else executor
    if kind == "slurm":
        slurm.queue()  # before anything is sent there its silence counts too
    for _, keys in live_jobs(root).values():
        yield from keys


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
