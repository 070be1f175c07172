"""`trm-lab eval`."""

from pathlib import Path
from typing import Any

from trm_lab.cli import output
from trm_lab.errors import ConfigError


def evaluate(
    run: Path,
    options: dict[str, Any],
    lists: dict[str, str],
    select: str | None,
    *,
    weights: str,
    split: str,
    limit: int | None,
    device: str,
    threads: int,
    figure: bool,
    json: bool,
) -> None:
    """Evaluate a run on the grid and print it."""
    from trm_lab.config.execution import Execution
    from trm_lab.config.source import Source
    from trm_lab.config.test_time import Rollouts, Subject
    from trm_lab.config.validate import validate

    given = {k: v for k, v in options.items() if v is not None}
    given |= {name: numbers(name, text) for name, text in lists.items()}
    if select is not None:
        given["select"] = [word.strip() for word in select.split(",")]
    setting = validate(Rollouts, Source(given, "eval"))
    which = {"weights": weights, "split": split, "limit": limit}
    subject = validate(Subject, Source(which, "eval"))
    execution = validate(Execution, Source({"device": device, "threads": threads}, "eval"))
    from trm_lab.results.grid import rows
    from trm_lab.study.cost import CPU_FLOPS
    from trm_lab.training.test_time import evaluate_run

    def announce(puzzles: int, flops: int) -> None:
        size = (puzzles, "puzzle"), (setting.rollouts[-1], "rollout"), (setting.steps[-1], "step")
        work = " x ".join(output.several(count, noun) for count, noun in size)
        output.announce(f"{work}, about {output.duration(flops / CPU_FLOPS)} of one core")

    found = evaluate_run(run, setting, subject, execution=execution, announce=announce)
    drawn: list[Path] = []
    if figure:
        from trm_lab.plots import rollouts, style

        drawn = style.save(rollouts.panels(found.grid), found.path.with_suffix(""))
    if json:
        output.as_json(
            {
                "file": str(found.path),
                "figures": [str(path) for path in drawn],
                **found.grid.attrs,
                "rows": rows(found.grid),
            }
        )
        return
    told = rows(found.grid)
    if not any(row["unconverged"] for row in told):  # nothing to tell, mostly nothing solved for
        told = [{k: v for k, v in row.items() if k != "unconverged"} for row in told]
    shown = [row | {"flops": output.engineering(row["flops"])} for row in told]
    attrs = found.grid.attrs
    output.table(
        f"{run}: puzzle accuracy on {attrs['puzzles']} {split} puzzles, {weights} weights, "
        f"n {attrs['n']}, T {attrs['T']}, noise {attrs['noise']:g}",
        [{"FLOP/puzzle" if k == "flops" else k: v for k, v in row.items()} for row in shown],
    )
    for path in (found.path, *drawn):
        output.say(f"wrote {path}")


def numbers(name: str, text: str) -> list[int]:
    """Read `1,2,4`.

    Raises:
        ConfigError: something in it is no whole number.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--{name}: expected whole numbers with commas between, as 1,2,4, not {text!r}"
        ) from None
