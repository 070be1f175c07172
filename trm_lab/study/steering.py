"""Cancelling and retrying runs, with a driver at work or without."""

from pathlib import Path

from trm_lab.runs import State
from trm_lab.study import slurm
from trm_lab.study.attempts import batches, forgive
from trm_lab.study.overview import Row


def cancel(root: Path, rows: list[Row], *, driven: bool) -> None:
    """Stop runs.

    Workers see the word that is left in their folders.  Without a driver jobs are taken out of the
    queue here, but for those that hold runs that are to go on, and runs on which nobody works are
    marked.

    Raises:
        slurm.SilentError: the queue does not answer; the word is left, and counts.
    """
    for row in rows:
        row.folder.ask_to_cancel()
    if driven:
        return
    jobs = _jobs_of(root, {row.key for row in rows})
    if jobs:
        slurm.cancel(jobs)
    for row in rows:
        if not row.folder.busy():
            # The word stays: a job that holds the run besides others may yet start.
            row.folder.mark(State.CANCELLED, "cancelled by hand")


def _jobs_of(root: Path, wanted: set[str]) -> list[str]:
    """Name the jobs in the queue that hold these runs and no others."""
    sent = batches(root)
    if not sent or not slurm.available():
        return []
    seen = {id: job for id, job in slurm.queue().items() if job.live}
    named = {job.name: id.split("_")[0] for id, job in seen.items()}
    found = []
    for batch in sent:
        known = batch if batch.id else batch.submitted(named.get(batch.name, ""))
        for job, keys in known.jobs():
            ours = job in seen and seen[job].name == batch.name
            if ours and wanted & set(keys) and not set(keys) - wanted:
                found.append(job)
    return found


def retry(rows: list[Row]) -> None:
    """Let runs wait for their turn again, with all attempts before them."""
    for row in rows:
        forgive(row.folder)
        row.folder.asked_to_cancel(clear=True)
        row.folder.mark(State.WAITING, "")
