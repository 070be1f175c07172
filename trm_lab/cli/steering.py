"""The verbs that follow, steer and mend a study: watch, logs, cancel, retry, doctor, dashboard."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trm_lab.cli import output
from trm_lab.cli.outcomes import BAD, driver_failure, summary
from trm_lab.cli.planning import plan_of, root_of
from trm_lab.errors import ConfigError
from trm_lab.runs import NOT_IN_SWEEP, State

if TYPE_CHECKING:
    from trm_lab.study.overview import Row

Place = Annotated[Path, typer.Argument(help="A study file, or the folder of its results.")]
On = Annotated[Path | None, typer.Option("--on", help="How it runs: sweeps/<plan>.yaml.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A recipe setting for every cell.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the studies' results.")]
Only = Annotated[
    str | None, typer.Option("--only", help="One cell, by its variant or folder name.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="One seed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RUNS = Path("runs")

OPEN = (State.WAITING, State.RUNNING, State.LOST)
TAIL = 20
IDLE_LOOKS = 2
"""Looks at which nobody works before a study is left alone: a job that SLURM puts back, and a
driver that starts, are missed by one."""


def watch(
    study: Place,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
) -> None:
    """Follow a study until nothing is left to do, or nobody does it; exit code 1 if some runs
    ended badly or are left.
    """
    from rich.live import Live

    root = root_of(study, on, set_ or [], runs)
    idle = 0
    with Live(console=output.console, auto_refresh=False, transient=True) as live:
        said = ""
        while True:
            rows = _rows(root, None, None)
            text = summary(rows)
            going = [row for row in rows if row.in_sweep and row.state in OPEN]
            if output.console.is_terminal:
                live.update("\n".join([f"{root}: {text}", *_lines(going)]), refresh=True)
            elif text != said:
                output.say(f"{root}: {text}")
            said = text
            idle = idle + 1 if _abandoned(root, going) else 0
            if not going or idle == IDLE_LOOKS:
                break
            time.sleep(every)
    if output.console.is_terminal:
        output.say(f"{root}: {said}")
    if going:
        output.say("no driver is at work and nothing is in the queue; `trm-lab run` goes on")
        for line in driver_failure(root, going):
            output.say(line)
    raise typer.Exit(int(any(row.state in BAD for row in rows if row.in_sweep)))


def logs(
    study: Place,
    only: Only = None,
    seed: Seed = None,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="Last lines of each.")] = TAIL,
    json: Json = False,
) -> None:
    """Print the end of the logs: of the runs asked for, else of all that ended badly."""
    from trm_lab.study.driver_lock import driver_log, failure

    root = root_of(study, on, set_ or [], runs)
    rows = _rows(root, only, seed)
    told: list[dict[str, Any]] = []
    if only is None and seed is None:
        rows = [row for row in rows if row.state in BAD and row.state is not State.WAITING]
        if why := failure(root):
            words = driver_log(root)
            told.append({"cell": None, "seed": None, "state": "", "error": why,
                         "log": words and str(words), "lines": _tail(words, lines) if words else []
                        })  # fmt: skip
    for row in rows:
        log = _log(row)
        told.append({"cell": row.variant, "seed": row.seed, "state": row.state.value,
                     "error": row.error, "log": str(log), "lines": _tail(log, lines)})  # fmt: skip
    if json:
        output.as_json(told)
        return
    if not told:
        output.say(f"{root}: no run ended badly; --only CELL prints the log of any")
    for one in told:
        who = "driver" if one["cell"] is None else f"{one['cell']}, seed {one['seed']}"
        why = ": ".join([one["state"], *one["error"].splitlines()[:1]]).removeprefix(": ")
        output.say(f"==> {who}: {why} <==")
        said = "\n".join(one["lines"])
        if one["log"] is None:
            output.say("its words went where it ran, not into driver.log")
            continue
        output.say(f"{one['log']}:\n{said}" if said else f"{one['log']}: nothing was printed")


def cancel(
    study: Place,
    only: Only = None,
    seed: Seed = None,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
) -> None:
    """Stop runs, each with a checkpoint: `run` or `retry` takes them up again."""
    from trm_lab.study import slurm
    from trm_lab.study.driver_lock import driven
    from trm_lab.study.overview import chosen, overview
    from trm_lab.study.steering import cancel as cancel_rows
    from trm_lab.study.steering import strays

    root = root_of(study, on, set_ or [], runs)
    every = overview(root)
    rows = [r for r in chosen(every, only, seed) if r.state in OPEN and r.in_sweep]
    if only is not None and seed is not None and not rows:
        raise ConfigError(f"{_at(every, only, seed)}; nothing to cancel")
    others = {r.key for r in every if r.state in OPEN} - {r.key for r in rows}
    at_work = driven(root)
    cancel_rows(root, rows, driven=at_work, others=others)
    by = "the driver takes them out" * at_work or "no driver is at work"
    output.say(f"{root}: {output.several(len(rows), 'run')} cancelled; {by}")
    if only is None and seed is None and (left := strays(root, {r.key for r in every})):
        slurm.cancel(left)
        output.say(f"{root}: {output.several(len(left), 'job')} of runs that the study has no more "
                   f"taken out: {', '.join(left)}")  # fmt: skip


def retry(
    study: Place,
    only: Only = None,
    seed: Seed = None,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
) -> None:
    """Let runs that failed or were cancelled go on, from their checkpoints."""
    from trm_lab.study.driver_lock import driven
    from trm_lab.study.steering import retry as retry_rows

    root = root_of(study, on, set_ or [], runs)
    rows = _rows(root, only, seed)
    again = [row for row in rows if row.state.ended_badly]
    if only is not None and seed is not None and not again:
        raise ConfigError(f"{_at(rows, only, seed)}; nothing to retry")
    retry_rows(again)
    # A driver of other cells (--only) does not.
    next_ = "the driver sends its own, " * driven(root) + "`trm-lab run` or `sync` sends them"
    output.say(f"{root}: {output.several(len(again), 'run')} to go on; {next_}")


def doctor(
    study: Annotated[
        Path | None, typer.Argument(help="A study file, or the folder of its results.")
    ] = None,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Take what is damaged out of the journal and, given a study file, write it anew "
            "from the run folders, the file as it was being kept, and a plan that cannot be read.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Look for what may stand in the way: machine, queue, disk, a study's files and locks."""
    from dataclasses import asdict

    from trm_lab.study import checkup

    root = None if study is None else root_of(study, on, set_ or [], runs)
    if repair:
        if study is None or root is None:
            raise ConfigError("--repair: name the study whose journal is to be mended")
        if study.is_dir():
            _mend(root)
        else:
            _write_anew(study, on, set_ or [], runs)
    found = [*checkup.machine(), *checkup.place(root or runs)]
    found += checkup.study(root) if root is not None else ()
    if json:
        output.as_json([asdict(finding) for finding in found])
    else:
        output.table("checkup", [asdict(finding) for finding in found])
    raise typer.Exit(int(any(finding.verdict == "bad" for finding in found)))


def _mend(root: Path) -> None:
    """Mend the journal of a folder of results."""
    from trm_lab.study.driver_lock import sole_driver
    from trm_lab.study.journal import repair

    with sole_driver(root, drives=False):
        remarks = repair(root / "optuna.journal")
    output.say("\n".join(remarks) or f"{root}: the journal is whole")


def _write_anew(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Mend what holds a study's trials, and write from the run folders what it lacks."""
    from trm_lab.study.index import reindex

    plan = plan_of(study, on, settings, runs)
    reindex(plan, output.say)
    output.say(f"{plan.root}: the trials are those of the run folders")


def dashboard(
    study: Place,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Show the study's trials in a browser, through optuna-dashboard (an extra)."""
    root = root_of(study, on, set_ or [], runs)
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ConfigError(
            "dashboard: needs optuna-dashboard; pip install 'trm-lab[dashboard]'"
        ) from None
    from trm_lab.study.overview import last_sweep
    from trm_lab.study.storage import JOURNAL, opened

    setting = last_sweep(root).get("storage")
    if setting is None and not (root / JOURNAL).exists():
        raise ConfigError(f"{root / JOURNAL}: no trials yet; `trm-lab run` makes them")
    with opened(setting, root) as storage:
        output.say(f"{root}: http://{host}:{port} (Ctrl-C ends)")
        run_server(storage, host=host, port=port)


def _rows(root: Path, only: str | None, seed: int | None) -> "list[Row]":
    from trm_lab.study.overview import chosen, overview

    return chosen(overview(root), only, seed)


def _at(rows: "list[Row]", only: str, seed: int) -> str:
    """Say how one run stands."""
    from trm_lab.study.overview import chosen

    row = chosen(rows, only, seed)[0]
    return f"{row.folder.path}: is {row.state.value if row.in_sweep else NOT_IN_SWEEP}"


def _abandoned(root: Path, going: "list[Row]") -> bool:
    """Say whether nobody works on the runs that are left, nor will."""
    from trm_lab.study.driver_lock import driven

    return not (any(row.live or row.folder.busy() for row in going) or driven(root))


def _lines(rows: "list[Row]") -> Iterator[str]:
    """Describe runs that are under way, and the first that wait."""
    running = [row for row in rows if row.state is State.RUNNING]
    waiting = [row for row in rows if row.state is not State.RUNNING]
    for row in running[:TAIL]:
        share = (row.told.get("update") or 0) / row.of
        bar = "#" * round(20 * share) + "." * (20 - round(20 * share))
        yield f"{bar} {share:4.0%}  {row.variant}, seed {row.seed}"
    for row in waiting[:5]:
        yield f"{row.state.value:>20}       {row.variant}, seed {row.seed}  {row.reason}"
    if len(rows) > len(running[:TAIL]) + len(waiting[:5]):
        yield f"... {len(rows)} in all"


def _log(row: "Row") -> Path:
    """Give the run's own log, or its last job's output where only that has words."""
    from trm_lab.study.attempts import attempts

    told = [Path(str(line.get("log", ""))) for line in attempts(row.folder)]
    return next((path for path in (row.folder.log, *told[-1:]) if _tail(path, 1)), row.folder.log)


def _tail(path: Path, lines: int) -> list[str]:
    """Give the last lines of a log; none where there is no such file."""
    if not path.is_file():
        return []
    return path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-lines:]
