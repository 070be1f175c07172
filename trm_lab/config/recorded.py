"""The recipe of a run, read back from its folder."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from trm_lab.config.recipe import Recipe
from trm_lab.config.source import read_yaml
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError


def recorded(file: Path, environment: Mapping[str, Any]) -> Recipe:
    """Read a run's recipe; `environment` is what status.json says that it ran in.

    Raises:
        ConfigError: every error, then the packages of its own parts that are not here as they were.
    """
    try:
        return validate(Recipe, read_yaml(file))
    except ConfigError as error:
        told = environment.get("own")
        absent = _absent(told) if isinstance(told, Mapping) else []
        raise ConfigError(
            "\n".join([str(error), *(f"{file}: {line}" for line in absent)])
        ) from None


def _absent(own: Mapping[str, Any]) -> list[str]:
    """Name the packages, of what `extension.sources` gave, that have not that version here."""
    found = []
    for kind, told in own.items():
        words = str(told.get("package") or "").split() if isinstance(told, Mapping) else []
        for name, version in zip(words[::2], words[1::2], strict=False):
            try:
                here = metadata.version(name)
            except metadata.PackageNotFoundError:
                here = ""
            if here != version:
                now = f"of which {here} is installed" if here else "which is not installed"
                found.append(f"{kind} was of {name} {version} when it ran, {now}")
    return found
