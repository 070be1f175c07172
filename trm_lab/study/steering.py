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
    wanted = {row.key for row in rows}
    jobs = [
        job
        for batch in batches(root)
        if batch.id is not None
        for job, keys in batch.jobs()
        if wanted & set(keys) and not set(keys) - wanted
    ]
    if jobs:
        slurm.cancel(jobs)
    for row in rows:
        if not row.folder.busy():
            row.folder.asked_to_cancel(clear=True)
            row.folder.mark(State.CANCELLED, "cancelled by hand")


def retry(rows: list[Row]) -> None:
    """Let runs wait for their turn again, with all attempts before them."""
    for row in rows:
        forgive(row.folder)
        row.folder.asked_to_cancel(clear=True)
        row.folder.mark(State.WAITING, "")
