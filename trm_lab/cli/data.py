"""`trm-lab data`."""

from pathlib import Path
from typing import Annotated

import typer

from trm_lab.cli import output

app = typer.Typer(no_args_is_help=True)


@app.command()
def inspect(
    file: Annotated[
        Path, typer.Argument(help="Puzzles in the Sudoku-Extreme CSV format, or a recipe file.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a data set and print its distribution."""
    from trm_lab.tasks.describe import describe, spread

    if file.suffix in (".yaml", ".yml"):
        from trm_lab.config.presets import recipe_from
        from trm_lab.config.source import read_yaml
        from trm_lab.tasks.build import build

        built = build(recipe_from(read_yaml(file)).task)
        parts = {name: getattr(built, name) for name in ("train", "validation", "test")}
        if json:
            told = {name: spread(puzzles) for name, puzzles in parts.items()}
            output.as_json({"fingerprint": built.fingerprint, **told})
            return
        output.say(f"fingerprint {built.fingerprint}")
        for name, puzzles in parts.items():
            output.say(f"\n{name}: {len(puzzles)} puzzles\n\n{describe(puzzles)}")
        return
    from trm_lab.tasks import sudoku_csv

    puzzles = sudoku_csv.read(file)
    if json:
        output.as_json({"puzzles": spread(puzzles)})
        return
    output.say(f"{file}: {len(puzzles)} puzzles, all valid\n\n{describe(puzzles)}")


@app.command("build")
def build_csv(
    out: Annotated[Path, typer.Argument(help="Folder for train.csv and test.csv.")],
    clues: Annotated[int, typer.Option(help="Given cells of every puzzle.")] = 30,
    train: Annotated[int, typer.Option(min=1)] = 1000,
    test: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Generate 9x9 puzzles with one solution and write them as CSV."""
    from trm_lab.config.source import Source
    from trm_lab.config.task import GeneratedSudoku
    from trm_lab.config.validate import validate
    from trm_lab.tasks import sudoku_csv
    from trm_lab.tasks.build import build

    settings = {"kind": "sudoku", "size": 9, "clues": clues, "train": train, "validation": 1,
                "test": test, "data_seed": seed}  # fmt: skip
    made = build(validate(GeneratedSudoku, Source(settings, "data build")))
    out.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        sudoku_csv.write(out / f"{name}.csv", getattr(made, name))
        output.say(f"wrote {out / name}.csv")
