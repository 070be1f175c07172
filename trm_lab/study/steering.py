"""Cancelling and retrying runs, with a driver at work or without."""

from collections.abc import Collection
from pathlib import Path

from trm_lab.runs import State
from trm_lab.study import slurm
from trm_lab.study.attempts import forgive, live_jobs
from trm_lab.study.overview import Row


def cancel(root: Path, rows: list[Row], *, driven: bool, others: Collection[str] = ()) -> None:
    """Stop runs; `others` names those of the study that are to go on.

    Workers see the word that is left in their folders.  Without a driver jobs are taken out of the
    queue here, but for those that hold one of the others, and runs on which nobody works are
    marked.

    Raises:
        slurm.SilentError: the queue does not answer; the word is left, and counts.
    """
    for row in rows:
        row.folder.ask_to_cancel()
    if driven:
        return
    wanted = {row.key for row in rows}
    live = live_jobs(root) if slurm.available() else {}
    slurm.cancel(
        job for job, (_, keys) in live.items() if wanted & {*keys} and not {*keys} & {*others}
    )
    for row in rows:
        if not row.folder.busy():
            # The word stays: a job that holds the run besides others may yet start.
            row.folder.mark(State.CANCELLED, "cancelled by hand")


def strays(root: Path, known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Give the study's jobs in the queue of whose runs none is known, each with its runs' keys.

    They are left where a study has lost a cell.  Nothing is told while the queue does not answer.
    """
    try:
        live = live_jobs(root)
    except slurm.SilentError:
        return {}
    return {job: keys for job, (_, keys) in live.items() if not {*keys} & {*known}}


def retry(rows: list[Row]) -> None:
    """Let runs wait for their turn again, with all attempts before them."""
    for row in rows:
        forgive(row.folder)
        row.folder.asked_to_cancel(clear=True)
        row.folder.mark(State.WAITING, "")
