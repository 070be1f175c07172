"""Cluster profiles: what a sweep leaves to the site.

A profile is a YAML file with fields of the `slurm` executor.  A sweep names it, and its own fields
overrule the profile's.  Profiles live beside the sweep or in ~/.config/trm_lab/, so that a study
moves from cluster to cluster without an edit.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from trm_lab.config.execution import Slurm
from trm_lab.config.source import Source, read_yaml
from trm_lab.config.validate import mapping, suggest, validate
from trm_lab.errors import ConfigError
from trm_lab.paths import SWEEP, kind_of


def folder() -> Path:
    """Give the user's folder of profiles."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "trm_lab"


def with_profile(sweep: Source, beside: Path) -> Source:
    """Lay a sweep's executor over the profile that it names; `beside` is the sweep's folder.

    Raises:
        ConfigError: no such profile, or an error in it.
    """
    data = sweep.data
    executor = data.get("executor") if isinstance(data, dict) else None
    if not (isinstance(executor, dict) and isinstance(executor.get("profile"), str)):
        return sweep
    source = _found(executor["profile"], beside, sweep.place(("executor", "profile")))
    check(source)
    below = source.data | {"kind": "slurm"}
    # What comes from the profile stands where the profile says it.
    at = {("executor", *path): source.place(path) for path in source.places if path}
    own = set(sweep.places)
    arguments = {path: place for path, place in at.items() if path not in own}
    merged: dict[str, Any] = {**data, "executor": {**below, **executor}}
    return replace(sweep, data=merged, arguments={**arguments, **sweep.arguments})


def check(profile: Source) -> None:
    """Validate a profile.

    Raises:
        ConfigError: every error in it.
    """
    data = mapping(profile)
    for key in ("profile", "kind"):
        if key in data and data[key] != "slurm":
            raise ConfigError(f"{profile.place((key,))}: {key}: has no place in a profile")
    validate(Slurm, profile, data | {"kind": "slurm"})


def _found(name: str, beside: Path, place: str) -> Source:
    folders = (beside, folder())
    for path in (folder_ / f"{name}.yaml" for folder_ in folders):
        # A sweep may be named like the profile that it names, and lies where profiles may.
        if path.is_file() and kind_of(path) != SWEEP:
            return read_yaml(path)
    files = [path for at in folders if at.is_dir() for path in at.glob("*.yaml")]
    there = sorted({path.stem for path in files if kind_of(path) != SWEEP})
    looked = " and ".join(str(at) for at in folders)
    raise ConfigError(
        f"{place}: executor.profile: no profile {name!r} in {looked}" + suggest(name, there)
    )
