"""What was sent where: batches of a study, and attempts at a run.

A batch is written before its jobs are submitted and completed with their id afterwards, so that a
driver that was killed in between finds them again by the batch's name.  An attempt is a line in the
run folder.  An attempt is in vain if the next one starts from the same checkpoint; only those in
vain are counted, so that a run of many short jobs never runs out of attempts.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trm_lab.atomic import write_text
from trm_lab.runs import RunFolder, now
from trm_lab.study import slurm
from trm_lab.study.slurm import Queued

FOLDER = "jobs"
"""Folder of the batches below the study's."""
TAIL_LINES = 20


@dataclass(frozen=True)
class Batch:
    """Jobs that were submitted together."""

    name: str
    """The jobs' name in the queue; no two batches share one."""
    tasks: tuple[tuple[str, ...], ...]
    """Keys of the runs of each job."""
    id: str | None = None
    """What the queue calls them; null until they are submitted."""
    utc: str = ""
    number: int = 0
    """Place among the study's batches; the clock may stand still or go back."""

    def jobs(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give the id of each job and its runs; of an array 12 they are 12_0, 12_1, ..."""
        for index, keys in enumerate(self.tasks):
            yield (f"{self.id}_{index}" if len(self.tasks) > 1 else str(self.id)), keys

    def write(self, root: Path) -> None:
        """Write the batch's file."""
        write_text(root / FOLDER / f"{self.name}.json", json.dumps(asdict(self)) + "\n")

    def remove(self, root: Path) -> None:
        """Forget a batch that was not taken."""
        (root / FOLDER / f"{self.name}.json").unlink(missing_ok=True)

    def submitted(self, id: str) -> "Batch":
        """Give the batch with its id."""
        return replace(self, id=id)


def new_batch(root: Path, study: str, tasks: list[list[str]]) -> Batch:
    """Name a batch of a study's folder."""
    number = 1 + max((batch.number for batch in batches(root)), default=0)
    name = f"trm-{study}-{number}-{secrets.token_hex(4)}"
    return Batch(name, tuple(map(tuple, tasks)), utc=now(), number=number)


def batches(root: Path) -> list[Batch]:
    """Read the batches of a study, oldest first; those that cannot be read are in `damaged`."""
    read = (_read(path) for path in (root / FOLDER).glob("*.json"))
    return sorted((batch for batch in read if batch), key=lambda batch: batch.number)


def damaged(root: Path) -> list[Path]:
    """Name the batch files that cannot be read; the jobs' name is the file's."""
    return [path for path in (root / FOLDER).glob("*.json") if _read(path) is None]


def _read(path: Path) -> Batch | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        tasks = tuple(tuple(keys) for keys in told["tasks"])
        return Batch(told["name"], tasks, told["id"], told["utc"], int(told["number"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def newest_jobs(root: Path) -> dict[str, str]:
    """Give the id of the newest job of every run, by the run's key."""
    return {
        key: job
        for batch in batches(root)
        if batch.id is not None
        for job, keys in batch.jobs()
        for key in keys
    }


def live_jobs(root: Path) -> dict[str, tuple[Queued, tuple[str, ...]]]:
    """Give the study's jobs that live in the queue, by id, each with its runs' keys.

    The queue is asked only if jobs were sent.  An id may have become that of another job, so the
    name counts too.

    Raises:
        slurm.SilentError: no answer.
    """
    sent = batches(root)
    if not sent:
        return {}
    seen = slurm.queue()
    ids = slurm.ids_by_name(seen)
    known = (batch.submitted(batch.id or ids.get(batch.name, "")) for batch in sent)
    jobs = ((batch.name, job, keys) for batch in known for job, keys in batch.jobs())
    return {
        job: (seen[job], keys)
        for name, job, keys in jobs
        if job in seen and seen[job].live and seen[job].name == name
    }


def attempted(folder: RunFolder, job: str, log: str, start: int) -> None:
    """Note that a run was sent as a job.

    `log` is the path of the job's own output, `start` the progress before it was sent.
    """
    _append(folder, {"job": job, "log": log, "from": start, "utc": now()})


def forgive(folder: RunFolder) -> None:
    """Start to count anew, because a user asks for the run again."""
    if (folder.path / "attempts.jsonl").exists():
        _append(folder, {"forgiven": True, "utc": now()})


def forgiven_since(folder: RunFolder, job: str) -> bool:
    """Say whether a run was asked for again after it was sent as a job."""
    lines = attempts(folder)
    sent = max((i for i, line in enumerate(lines) if line.get("job") == job), default=-1)
    return any(line.get("forgiven") for line in lines[sent + 1 :])


def sent_since(folder: RunFolder, job: str) -> bool:
    """Say whether a run was sent once more, as another job, after it was sent as a job."""
    sent = [line["job"] for line in attempts(folder) if "job" in line]
    return job in sent and sent[-1] != job


def last_job(folder: RunFolder) -> str:
    """Give the id of the job whose process last worked on a run; empty if none has."""
    return str(((folder.status() or {}).get("job") or {}).get("id", ""))


def in_vain(folder: RunFolder) -> int:
    """Count the last attempts that started from where the run still is."""
    here, count = progress(folder), 0
    for line in reversed(attempts(folder)):
        if line.get("forgiven") or line.get("from") != here:
            break
        count += 1
    return count


def attempts(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the attempts at a run, oldest first."""
    try:
        text = (folder.path / "attempts.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        if isinstance(told, dict):
            found.append(told)
    return found


def progress(folder: RunFolder) -> int:
    """Give the update of the newest checkpoint."""
    return int((folder.status() or {}).get("checkpointed") or 0)


def tail(folder: RunFolder, job_log: str) -> str:
    """Give the last lines of the run's log, or else of its job's."""
    for path in (folder.log, Path(job_log)):
        if path.is_file() and (text := path.read_text(encoding="utf-8", errors="replace").strip()):
            return "\n".join(text.splitlines()[-TAIL_LINES:])
    return ""


def _append(folder: RunFolder, line: dict[str, Any]) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / "attempts.jsonl").open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
        torn = file.read() not in (b"", b"\n")  # by a kill: ours must not end up on that line
        file.write(b"\n" * torn + json.dumps(line).encode() + b"\n")
