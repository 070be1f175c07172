"""Files that appear whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trm_lab.errors import DiskFullError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space, quota used up, file larger than may be."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    A reader, or a process killed at any moment, sees the old file or the new one.  With `keep`
    what was at `path` goes there; killed between the two renames, the old file is at `keep` alone.

    Raises:
        DiskFullError: no space; the old file is whole and no temporary is left.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with telling(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            flush(temporary)
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
            flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview, keep: Path | None = None) -> None:
    """Write bytes atomically; with `keep` what was at `path` goes there."""
    with replacing(path, keep) as temporary, temporary.open("wb") as file:
        file.write(content)


def append_text(path: Path, text: str) -> None:
    """Append text, all of it or nothing.

    Raises:
        DiskFullError: no space; the file is as it was.
    """
    with telling(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size, left = os.fstat(descriptor).st_size, memoryview(text.encode())
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: OSError) -> bool:
    """Say whether an error is that of a full disk."""
    return isinstance(error, DiskFullError) or error.errno in FULL


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn a full disk into an error that names the file and the free space."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskFullError) or not is_full(error):
            raise
        there = next(folder for folder in path.absolute().parents if folder.exists())
        free = shutil.disk_usage(there).free
        raise DiskFullError(
            f"{path}: cannot be written: {os.strerror(error.errno or 0)}; {free / 2**20:.1f} MiB "
            f"free on the file system of {there}; make room or raise the quota, then run again"
        ) from error
