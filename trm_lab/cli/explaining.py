"""`trm-lab explain`."""

from pathlib import Path
from typing import TYPE_CHECKING

from trm_lab.cli import output
from trm_lab.errors import ConfigError

if TYPE_CHECKING:
    from trm_lab.config.recipe import Recipe
    from trm_lab.discrepancies import Point, Side, Stand

GROUPS: tuple[tuple["Side", str], ...] = (
    ("paper", "as the paper, unlike the code"),
    ("code", "as the code, unlike the paper"),
    ("both", "as both"),
    ("neither", "other: unlike both, or beyond them"),
)
WORDS = (
    "paper: TRM (arXiv 2510.04871) and HRM (arXiv 2506.21734); code: their released code",
    "D1 to D33: the points where paper and code differ or are silent; -: silent",
    "(in brackets): the setting that moves the recipe; without one it is a fact of this bench",
)


def explain(named: str, cell: str | None, every: bool, json: bool) -> None:
    """Print where the recipe stands, by side; points that do not apply to it only if asked."""
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
                        "applies": stand.applies,
                    }
                    for point, stand in stands
                ],
            }
        )
        return
    output.say(f"{named}: recipe {recipe.id[:8]}")
    for side, title in GROUPS:
        rows = [(p, s) for p, s in stands if s.side == side and s.applies]
        output.say(f"\n{title}: {len(rows)}")
        for point, stand in rows:
            _say(point, stand)
    apart = [(p, s) for p, s in stands if not s.applies]
    output.say(f"\nnot about this recipe: {len(apart)}{'' if every else ', shown with --all'}")
    for point, stand in apart if every else ():
        _say(point, stand)
    output.say("")
    for line in WORDS:
        output.say(line)


def _say(point: "Point", stand: "Stand") -> None:
    """Print what the recipe has, and below it the sides that it is not on."""
    setting = f" ({point.switch})" if point.switch else ""
    output.say(f"  D{point.number} {point.topic}: {stand.value}{setting}")
    sides = {"paper": point.paper, "code": point.code}
    others = [
        f"{name}: {says}"
        for name, says in sides.items()
        if stand.side != "both" and name != stand.side
    ]
    if others:
        output.say(f"      {'; '.join(others)}")


def _recipe(named: str, cell: str | None) -> "Recipe":
    from trm_lab.config.presets import KNOWN, preset, recipe_from
    from trm_lab.config.source import read_yaml
    from trm_lab.config.validate import suggest
    from trm_lab.paths import RECIPE, RUN, STUDY, expect
    from trm_lab.runs import RunFolder
    from trm_lab.study.matrix import expand_study, no_cell

    if named in KNOWN:
        _no_cells(named, cell)
        return preset(named)
    expect(Path(named), RECIPE, STUDY, RUN)
    if Path(named).is_dir():
        _no_cells(named, cell)
        return RunFolder(named).recipe()
    if not Path(named).suffix and not Path(named).exists():
        raise ConfigError(
            f"{named}: neither a preset nor a file nor a run folder" + suggest(named, sorted(KNOWN))
        )
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
    raise no_cell("--cell", str(cell), cells)


def _no_cells(named: str, cell: str | None) -> None:
    if cell is not None:
        raise ConfigError(f"--cell {cell}: {named} is one recipe and has no cells")
