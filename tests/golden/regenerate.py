"""Writes the golden files anew: `python -m tests.golden.regenerate`, which `make golden` calls.

A change of these files is a change of numbers: say so in the change log, and why.
"""

import json
import tempfile
from pathlib import Path

from tests.golden.recipes import identified, trained
from trm_lab.config import Recipe
from trm_lab.runs import RunFolder
from trm_lab.training import Execution, train

FOLDER = Path(__file__).parent
IDS, CURVES = FOLDER / "ids.json", FOLDER / "curves.json"
FIELDS = ("loss", "lm_loss", "halt_loss", "mean_steps", "examples")
EXECUTION = Execution(device="cpu", threads=1, log_every=1, checkpoint_seconds=1e9)


def ids() -> dict[str, str]:
    return {name: recipe.id for name, recipe in identified().items()}


def curve(recipe: Recipe, path: Path) -> dict[str, list[float | None]]:
    """Train a recipe and give its records of every update, field by field."""
    train(recipe, path, execution=EXECUTION)
    found = [r for r in RunFolder(path).records() if r["kind"] == "train"]
    return {field: [record[field] for record in found] for field in FIELDS}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        curves = {name: curve(recipe, Path(folder) / name) for name, recipe in trained().items()}
    for path, content in ((IDS, ids()), (CURVES, curves)):
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    main()
