"""How a recipe file builds on a published configuration.

`preset` names one of `PRESETS` or, as `table_1/no_ema`, a row of TRM's tables.
"""

from dataclasses import replace
from typing import Any

from trm_lab.config.changes import Change, Layer, blame, layered
from trm_lab.config.configurations import PRESETS as PRESETS
from trm_lab.config.recipe import Recipe
from trm_lab.config.source import Source, merge, parse_yaml
from trm_lab.config.tables import TABLE_ROWS
from trm_lab.config.validate import mapping, suggest, validate
from trm_lab.errors import ConfigError, near_miss

KNOWN: dict[str, dict[str, Any]] = PRESETS | {n: row.settings for n, row in TABLE_ROWS.items()}
"""Settings by every name that a recipe may build on."""


def preset(name: str, **changes: Any) -> Recipe:
    """Build a named recipe with changes laid over it: `preset("trm_mlp", model={"T": 2})`.

    Raises:
        ConfigError: an unknown name or an invalid change.
    """
    source = Source({"preset": name, **changes}, "preset()")
    return recipe_from(source)


def recipe_from(source: Source, changes: tuple[Change, ...] = ()) -> Recipe:
    """Validate a mapping of recipe settings, laid over the preset it may name.

    `changes` are laid over it.

    Raises:
        ConfigError: every error, at its place.
    """
    settings = replace(source, data=expand(source))
    layers = layered([Layer(settings, source.place(()))], changes)
    try:
        return validate(Recipe, layers[-1].settings)
    except ConfigError:
        raise ConfigError("\n".join(line for line, _ in blame(layers, _problems))) from None


def _problems(settings: Source) -> list[str]:
    try:
        validate(Recipe, settings)
    except ConfigError as error:
        return str(error).split("\n")
    return []


def expand(source: Source) -> dict[str, Any]:
    """Replace `preset: name` by what the preset says, with the other settings laid over it."""
    data = mapping(source)
    if "preset" not in data:
        for key in data.keys() - Recipe.model_fields.keys():
            if near_miss(key, ["preset"]):
                raise ConfigError(
                    f"{source.place((key,))}: {key}: unknown setting; did you mean preset?"
                )
        return data
    name = data["preset"]
    if not isinstance(name, str) or name not in KNOWN:
        raise ConfigError(
            f"{source.place(('preset',))}: preset: no preset {name!r}"
            + suggest(name, sorted(KNOWN))
        )
    rest = {key: value for key, value in data.items() if key != "preset"}
    merged: dict[str, Any] = merge(KNOWN[name], rest)
    return merged


def load_recipe(text: str, name: str) -> Recipe:
    """Read a recipe from YAML text; `name` is what errors call it."""
    return recipe_from(parse_yaml(text, name))
