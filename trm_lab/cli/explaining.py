"""`trm-lab explain`."""

from pathlib import Path
from typing import TYPE_CHECKING

from trm_lab.cli import output
from trm_lab.errors import ConfigError

if TYPE_CHECKING:
    from trm_lab.config.recipe import Recipe


def explain(named: str, cell: str | None, json: bool) -> None:
    """Print every point with both sides, and the one that the recipe is on."""
    from trm_lab.discrepancies import POINTS

    recipe = _recipe(named, cell)
    stands = [(point, point.stand(recipe)) for point in POINTS]
    if json:
        output.as_json(
            {
                "recipe_id": recipe.id,
                "points": [
                    {
                        "point": f"D{point.number}",
                        "topic": point.topic,
                        "paper": point.paper,
                        "code": point.code,
                        "switch": point.switch or None,
                        "side": stand.side,
                        "value": stand.value,
                    }
                    for point, stand in stands
                ],
            }
        )
        return
    output.say(f"{named}: recipe {recipe.id[:8]}")
    for point, stand in stands:
        setting = f" ({point.switch})" if point.switch else ""
        output.say(f"D{point.number} {point.topic}{setting}: {stand.side}: {stand.value}")
        output.say(f"    paper: {point.paper}; code: {point.code}")
    sides = [stand.side for _, stand in stands]
    counts = (f"{sides.count(side)} {side}" for side in ("paper", "code", "both", "neither"))
    output.say(", ".join(counts))


def _recipe(named: str, cell: str | None) -> "Recipe":
    from trm_lab.config.presets import KNOWN, preset, recipe_from
    from trm_lab.config.source import read_yaml
    from trm_lab.config.validate import suggest
    from trm_lab.study.matrix import expand_study

    if named in KNOWN:
        _no_cells(named, cell)
        return preset(named)
    if not Path(named).suffix and not Path(named).exists():
        raise ConfigError(f"{named}: neither a preset nor a file" + suggest(named, sorted(KNOWN)))
    source = read_yaml(Path(named))
    if not (isinstance(source.data, dict) and "variants" in source.data):
        _no_cells(named, cell)
        return recipe_from(source)
    cells = expand_study(source).cells
    names = [c.variant for c in cells]
    if cell is None and len(cells) > 1:
        raise ConfigError(f"{named}: a study of {len(cells)} cells; --cell says which: "
                          + "; ".join(names))  # fmt: skip
    for found in cells:
        if cell in (None, found.variant, found.name):
            return found.recipe
    raise ConfigError(f"--cell {cell}: no such cell" + suggest(cell, names))


def _no_cells(named: str, cell: str | None) -> None:
    if cell is not None:
        raise ConfigError(f"--cell {cell}: {named} is one recipe and has no cells")
