"""A sign of life that does not wait for the next record."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trm_lab.lease import Lease
from trm_lab.runs import RunFolder, State
from trm_lab.training.stop import BY_HAND, Stop

HEARTBEAT_SECONDS = 5.0
"""Least time between two writings of status.json while training, and between two heartbeats."""


@contextmanager
def beating(
    folder: RunFolder, lease: Lease, stop: Stop, seconds: float | None = None
) -> Iterator[None]:
    """Touch the folder's heartbeat all the while, also through data building and evaluation.

    At every beat, and at the first, a word left in the folder that the run is to stop is heeded.
    It stays, for a job that is put back: who takes it back is a driver, or a user's retry.

    Whoever watches looks whether its time changes (`RunFolder.pulse`).  It tells that the process
    lives, not that it gets on; how far it got is in status.json.  A file of its own, so that the
    thread never writes what the main thread writes.
    """
    ended = threading.Event()
    folder.heartbeat.touch()
    _heed(folder, stop)

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS if seconds is None else seconds):
            # A folder that cannot be reached for a while beats again when it can.
            with suppress(OSError):
                if not lease.held():
                    return
                os.utime(folder.heartbeat)
                _heed(folder, stop)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if lease.held():
            folder.heartbeat.unlink(missing_ok=True)


def _heed(folder: RunFolder, stop: Stop) -> None:
    if folder.asked_to_cancel():
        stop.request(State.CANCELLED, BY_HAND)
