"""What a path is that somebody gives: a study, sweep or recipe, one run, a study's results.

Errors about a path are made here, so that all verbs answer alike: the near miss where there is one,
and the command that makes what is missing or takes what was given.
"""

import errno
import os
from pathlib import Path
from typing import Any

from trm_lab.errors import ConfigError, near_path

STUDY, SWEEP, RECIPE, PROFILE = "a study", "a sweep", "a recipe", "a profile of a cluster"
RUN, RESULTS = "one run", "a study's folder of results"
TAKEN = {
    STUDY: "`trm-lab plan`, `run`, `status`, `collect`, `fit` and `report` take it",
    SWEEP: "it goes with a study, as `--on {path}`",
    RECIPE: "`trm-lab train {path} --out FOLDER` and `trm-lab explain {path}` take it",
    PROFILE: "a sweep names it, as `executor: {{kind: slurm, profile: {path.stem}}}`",
    RUN: "`trm-lab eval {path}`, `diagnose` and `explain` take it",
    RESULTS: "`trm-lab status`, `collect`, `fit` and `report` take it",
    "a file of results": "`trm-lab fit` and `trm-lab report` take it",
    "a folder": "nothing in it is known to trm-lab",
}
"""What can be done with each kind."""


def kind_of_data(data: Any) -> str:
    """Say what the content of a YAML file is, by its keys; empty if that cannot be said."""
    keys = set(data) if isinstance(data, dict) else set()
    if keys & {"variants", "question", "hypothesis", "base"}:
        return STUDY
    if keys & {"task", "model", "preset", "train", "supervision"}:
        return RECIPE
    if keys & {"name", "executor", "execution"}:
        return SWEEP
    from trm_lab.config.execution import Slurm

    return PROFILE if keys & Slurm.model_fields.keys() else ""


def kind_of(path: Path) -> str:
    """Say what a path is; empty if it is missing or cannot be told."""
    if path.is_dir():
        if (path / "recipe.yaml").exists():
            return RUN
        results = any((path / name).exists() for name in ("plan.json", "results.nc"))
        return RESULTS if results or any(path.glob("*/seed-*")) else "a folder"
    if path.suffix == ".nc":
        return "a file of results" if path.is_file() else ""
    from trm_lab.config.source import read_yaml

    try:
        return kind_of_data(read_yaml(path).data)
    except ConfigError:
        return ""


def expect(path: Path, *wanted: str) -> None:
    """Refuse a path that is plainly something else; whoever reads it refuses what is missing.

    Raises:
        ConfigError: what it is, and which verb takes it.
    """
    found = kind_of(path)
    if not found or found in wanted:
        return
    text = f"{path}: is {found}, not {' or '.join(wanted)}"
    inside = [p.parent for p in sorted(path.glob("*/recipe.yaml"))] if found == "a folder" else []
    if RUN in wanted and (inside or found == RESULTS):
        runs = inside or sorted(path.glob("*/seed-*"))
        raise ConfigError(text + (f"; its runs lie below, as {runs[0]}" if runs else ""))
    if inside and RESULTS in wanted:
        raise ConfigError(
            f"{text}: {inside[0]} is {RUN}, and results are gathered from CELL/seed-K; "
            f"`trm-lab train RECIPE --out {path}/CELL/seed-0` makes such a run"
        )
    raise ConfigError(f"{text}; {TAKEN[found].format(path=path)}")


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder that could not be made, or not be written to, without making it.

    Raises:
        OSError: as making it would.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    code = errno.EACCES if nearest.is_dir() else errno.ENOTDIR
    if code == errno.ENOTDIR or not os.access(nearest, os.W_OK):
        raise OSError(code, os.strerror(code), str(folder))


def missing(path: Path, what: str, made_by: str) -> ConfigError:
    """Make the error of a path that is not there: the command that makes it, and the near miss."""
    return ConfigError(f"{path}: no such {what}; {made_by}{near_path(path)}")
