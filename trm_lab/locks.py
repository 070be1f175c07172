"""Locks on files, and an answer where the file system has none.

The same `flock` as filelock's, so that either sees the other.  Not filelock itself: where there are
no locks it makes a file stand for one, which outlives a killed process.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.02
CONTENDED = (errno.EACCES, errno.EAGAIN)
"""What file systems answer where another holds the lock."""


class LocksUnknown(OSError):
    """The file system has no locks, or we may not look at this one."""


class Lock:
    """A file held by this process; without a descriptor, one that nothing keeps from others."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Let go; a second time does nothing."""
        held, self.descriptor = self.descriptor, None
        if held is not None:
            with suppress(OSError):  # as on a file system that went away: closing lets go too
                fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)


def hold(path: Path, patience: float) -> Lock:
    """Lock a file for this process alone, waiting up to `patience` seconds for others.

    Raises:
        TimeoutError: another process holds it.
        LocksUnknown: the file system has no locks.
    """
    deadline = time.monotonic() + patience
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _taken(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path}: held by another process")
            time.sleep(POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def is_held(path: Path) -> bool:
    """Say whether a process holds a file; whoever may read it may ask.

    Raises:
        LocksUnknown: the file system has no locks, or the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise LocksUnknown(*error.args) from None
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)  # shared: those who ask do not see each other
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in CONTENDED:
            return False
        raise LocksUnknown(*error.args) from None
    return True
