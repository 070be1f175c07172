"""`trm-lab eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.cli import output
from trm_lab.errors import ConfigError

if TYPE_CHECKING:
    from trm_lab.config.test_time import Halted, Rollouts

HEADS = {"flops": "FLOP/puzzle"}
"""Columns of the table that are not headed by their name."""


def evaluate(
    run: Path,
    options: dict[str, Any],
    lists: dict[str, str],
    select: str | None,
    *,
    rule: str | None,
    threshold: str | None,
    weights: str,
    split: str,
    limit: int | None,
    device: str,
    threads: int,
    figure: bool,
    json: bool,
) -> None:
    """Evaluate a run on the grid, or up to where a rule halts each puzzle, and print it."""
    from trm_lab.config.execution import Execution
    from trm_lab.config.source import Source
    from trm_lab.config.test_time import Rollouts, Subject
    from trm_lab.config.validate import validate

    given = {k: v for k, v in options.items() if v is not None}
    given |= {name: numbers(name, text) for name, text in lists.items()}
    if select is not None:
        given["select"] = [word.strip() for word in select.split(",")]
    setting = validate(Rollouts, Source(given, "eval"))
    halted = _halted(setting, rule, threshold, figure=figure)
    which = {"weights": weights, "split": split, "limit": limit}
    subject = validate(Subject, Source(which, "eval"))
    execution = validate(Execution, Source({"device": device, "threads": threads}, "eval"))
    from trm_lab.results import grid, halting
    from trm_lab.study.cost import CPU_FLOPS
    from trm_lab.training.halted import evaluate_halted
    from trm_lab.training.test_time import evaluate_run

    def announce(puzzles: int, flops: int) -> None:
        each = (len(halted.rules), "rule") if halted else (setting.rollouts[-1], "rollout")
        size = (puzzles, "puzzle"), each, (setting.steps[-1], "step")
        work = " x ".join(output.several(count, noun) for count, noun in size)
        most = ", at most" if halted else ", about"
        output.announce(f"{work}{most} {output.duration(flops / CPU_FLOPS)} of one core")

    if halted:
        found = evaluate_halted(run, halted, subject, execution=execution, announce=announce)
        told = halting.rows(found.grid)
    else:
        found = evaluate_run(run, setting, subject, execution=execution, announce=announce)
        told = grid.rows(found.grid)
    drawn: list[Path] = []
    if figure:
        from trm_lab.plots import rollouts, style

        drawn = style.save(rollouts.panels(found.grid), found.path.with_suffix(""))
    attrs = found.grid.attrs
    if json:
        files = {"file": str(found.path), "figures": [str(path) for path in drawn]}
        output.as_json({**files, **attrs, "rows": told})
        return
    if not any(row["unconverged"] for row in told):  # nothing to tell, mostly nothing solved for
        told = [{k: v for k, v in row.items() if k != "unconverged"} for row in told]
    shown = [row | {"flops": output.engineering(row["flops"])} for row in told]
    how = (
        "up to each one's halting step"
        if halted
        else f"n {attrs['n']}, T {attrs['T']}, {grid.perturbation(attrs)}"
    )
    output.table(
        f"{run}: puzzle accuracy on {attrs['puzzles']} {split} puzzles, {weights} weights, {how}",
        [{HEADS.get(k, k.replace("_", " ")): v for k, v in row.items()} for row in shown],
    )
    for path in (found.path, *drawn):
        output.say(f"wrote {path}")


def _halted(
    setting: "Rollouts", rule: str | None, threshold: str | None, *, figure: bool
) -> "Halted | None":
    """Give the rule at its thresholds, if one is asked for.

    Raises:
        ConfigError: no such rule or thresholds, or something is asked for that acts on rollouts.
    """
    from trm_lab.config.source import Source
    from trm_lab.config.test_time import Halted, Rollouts
    from trm_lab.config.validate import validate

    if rule is None:
        if threshold is not None:
            raise ConfigError("--threshold: of which rule? give --rule confidence or residual too")
        return None
    plain = Rollouts(steps=setting.steps)
    idle = [
        name for name in Rollouts.model_fields if getattr(setting, name) != getattr(plain, name)
    ]
    if idle := idle + ["figure"] * figure:
        raise ConfigError(
            "--rule: stops the plain evaluation of the model as it is; leave out --"
            + ", --".join(idle)
        )
    rules: list[dict[str, Any]] = [{"kind": rule}]
    if threshold is not None:
        rules = [{"kind": rule, "threshold": at} for at in numbers("threshold", threshold, float)]
    said = f"--rule {rule}" + f" --threshold {threshold}" * (threshold is not None)
    for some in (rules[:1], rules):  # what is wrong with the rule is said once
        given = {"steps": list(setting.steps), "rules": some}
        made = validate(Halted, Source(given, "eval", arguments={("rules",): said}))
    return made


def numbers(name: str, text: str, kind: type[Any] = int) -> list[Any]:
    """Read `1,2,4` as whole numbers, or `0,0.5` as numbers of any kind.

    Raises:
        ConfigError: something in it is no such number.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        like = (
            "whole numbers with commas between, as 1,2,4"
            if kind is int
            else "numbers with commas between, as 0,0.5"
        )
        raise ConfigError(f"--{name}: expected {like}, not {text!r}") from None
