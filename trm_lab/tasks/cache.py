"""Keeps generated puzzles on disk, so that the second run of a task starts at once.

Safe with several processes: a file appears whole or not at all, and whoever finds none makes it.
"""

import os
import zipfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np

from trm_lab.atomic import replacing
from trm_lab.errors import ConfigError, DiskFullError
from trm_lab.tasks.dataset import Puzzles

Splits = dict[str, Puzzles]


def default_folder() -> Path:
    """`$TRM_LAB_CACHE`, or `~/.cache/trm_lab`."""
    named = os.environ.get("TRM_LAB_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "trm_lab"


def cached(folder: Path, identity: str, make: Callable[[], Splits]) -> Splits:
    """Return the splits stored for this identity, or make and store them.

    An unreadable file is made again.
    """
    path = folder / f"{sha256(identity.encode()).hexdigest()[:24]}.npz"
    stored = _load(path)
    if stored is None:
        stored = make()
        _store(path, stored)
    return stored


def _load(path: Path) -> Splits | None:
    columns: dict[str, dict[str, np.ndarray]] = {}
    try:
        # Opened here, because np.load leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                split, column = key.split(".")
                columns.setdefault(split, {})[column] = archive[key]
        return {split: Puzzles(**arrays) for split, arrays in columns.items()} or None
    # What a missing, cut or overwritten file leads to inside numpy and zipfile.
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error):
        return None


def _store(path: Path, splits: Splits) -> None:
    arrays = {
        f"{split}.{column}": array
        for split, puzzles in splits.items()
        for column, array in puzzles.arrays().items()
    }
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            # A key has a dot, so none is taken for an option.
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except DiskFullError as error:
        raise ConfigError(
            f"{error}, or set TRM_LAB_CACHE, where generated puzzles are stored, to another folder"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: generated puzzles cannot be stored here ({error.strerror}); "
            "set TRM_LAB_CACHE to a folder that can be written"
        ) from error
