"""The verb `validate`: files held to what their keys say they are."""

from pathlib import Path
from typing import Any

from trm_lab.cli import output
from trm_lab.errors import ConfigError


def validate(files: list[Path], yes_really: bool, json: bool) -> int:
    """Say of each file what it is, what is wrong with it, and what will not act as written."""
    checked = [_checked(path, yes_really) for path in files]
    errors = [line for one in checked for line in one["errors"]]
    if json:
        output.as_json(checked)
        return 2 if errors else 0
    for one in checked:
        if not one["errors"]:
            output.say(f"{one['file']}: {one['is']}, valid")
        for line in one["warnings"]:
            output.say(f"{one['file']}: warning: {line}")
    if errors:
        raise ConfigError("\n".join(errors))
    return 0


def _checked(path: Path, yes_really: bool) -> dict[str, Any]:
    what, warnings, errors = "", list[str](), list[str]()
    try:
        what, warnings = _read(path, yes_really)
    except ConfigError as error:
        errors = str(error).split("\n")
    return {"file": str(path), "is": what, "warnings": warnings, "errors": errors}


def _read(path: Path, yes_really: bool) -> tuple[str, list[str]]:
    """Give what a file is, and warnings.

    Raises:
        ConfigError: every error of it.
    """
    from trm_lab.config.presets import recipe_from
    from trm_lab.config.remarks import remarks
    from trm_lab.config.source import read_yaml
    from trm_lab.paths import PROFILE, STUDY, SWEEP, kind_of_data
    from trm_lab.study.combinations import MOST_CELLS
    from trm_lab.study.matrix import expand_study
    from trm_lab.study.plan import load_sweep
    from trm_lab.study.profiles import check

    source = read_yaml(path)
    match kind_of_data(source.data):
        case kind if kind == STUDY:
            matrix = expand_study(source, most=None if yes_really else MOST_CELLS)
            what = f"a study of {output.several(len(matrix.cells), 'cell')}"
            return what, matrix.remarks() + matrix.twins()
        case kind if kind == SWEEP:
            sweep = load_sweep(path)
            sweep.check_set()
            return kind, sweep.sweep.remarks()
        case kind if kind == PROFILE:
            check(source)
            return kind, []
    recipe = recipe_from(source)
    return f"recipe {recipe.id[:8]}", remarks(recipe)
