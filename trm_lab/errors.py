"""Errors that a user can act on."""

from collections.abc import Iterable
from pathlib import Path


class ConfigError(ValueError):
    """Something in a file, an argument or a folder that the user can mend.

    The text names the place, the rule, the value and, where there is one, the near miss.  The
    command line prints it without a traceback and exits with code 2.
    """


def near_miss(word: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Give the name that a misspelt word most likely stands for, if one is near.

    Case does not count.  The whole name stands before the shortest that the word begins, and that
    before the most similar.  `cutoff`: least similarity, 0 to 1 (that of `difflib`).
    """
    from difflib import get_close_matches

    said = str(word).lower()
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(name.lower(), name)
    longer = [name for name in names if len(said) > 2 and name.startswith(said)]
    found = sorted(longer, key=len) or get_close_matches(said, names, n=1, cutoff=cutoff)
    return names[found[0]] if found else None


def near_path(path: Path) -> str:
    """Give "; did you mean ...?" for the nearest name beside a path, endings left out.

    A bare name is also looked for in studies/, sweeps/ and runs/.  Of equal names the one with the
    path's ending counts.
    """
    folders = [path.parent]
    if path.parent == Path():
        folders += [Path("studies"), Path("sweeps"), Path("runs")]
    there = [p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir())]
    if path.suffix:
        there.sort(key=lambda p: p.suffix != path.suffix)
    visible = {p.stem: p for p in reversed(there) if not p.name.startswith(".")}
    found = near_miss(path.stem, visible)
    return "" if found is None else f"; did you mean {visible[found]}?"


class RunBusyError(RuntimeError):
    """Another process holds the lock of this run folder."""


class DiskFullError(OSError):
    """There is no space for a file; what was there before is whole."""


class Superseded(BaseException):
    """Another process took the run over: this one must end and write nothing more.

    No Exception, since what starts runs answers an Exception by writing a result, and the result
    of a job that was started twice has one place.
    """


class RankLostError(RuntimeError):
    """Another process of a run on several is gone or does not answer."""
