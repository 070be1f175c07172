"""The verbs that work on studies and recipes."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.cli import output
from trm_lab.errors import ConfigError
from trm_lab.formatting import between
from trm_lab.runs import NOT_IN_SWEEP, State

if TYPE_CHECKING:
    from trm_lab.config.recipe import Recipe
    from trm_lab.config.source import Source
    from trm_lab.runs import RunFolder
    from trm_lab.study.plan import Plan

BAD = (State.FAILED, State.LOST, State.CANCELLED, State.WAITING, State.RUNNING)
"""States after a drive that make the exit code 1; a diverged run is a result."""


def demo(out: Path, workers: int | None) -> int:
    """Run the embedded study, collect, fit, report, and say what was found."""
    from trm_lab.config.execution import Execution, Local, Sweep
    from trm_lab.demo import study
    from trm_lab.study.plan import make_plan

    execution = Execution(device="cpu", threads=1)
    sweep = Sweep(name="demo", executor=Local(workers=workers), execution=execution)
    made = make_plan(study(), sweep=sweep, runs=out)
    code = _drive(made, None)
    answer = _conclude(made.root)
    output.say("")
    for sentence in answer:
        output.say(sentence)
    output.say(f"\nreport: {made.root / 'report' / 'report.html'}")
    return code


def validate(files: list[Path]) -> int:
    """Check each file as what its keys say it is; warn of what will not act as written."""
    from trm_lab.config.execution import Sweep
    from trm_lab.config.presets import recipe_from
    from trm_lab.config.remarks import remarks
    from trm_lab.config.source import read_yaml
    from trm_lab.config.validate import validate as check
    from trm_lab.study.matrix import expand_study

    problems = []
    for path in files:
        warnings: list[str] = []
        try:
            source = read_yaml(path)
            keys = set(source.data) if isinstance(source.data, dict) else set()
            if keys & {"variants", "question", "base"}:
                matrix = expand_study(source)
                output.say(f"{path}: a study of {len(matrix.cells)} cells, valid")
                warnings = matrix.remarks() + matrix.twins()
            elif "name" in keys and not keys & {"task", "model", "preset"}:
                check(Sweep, source)
                output.say(f"{path}: a sweep, valid")
            else:
                recipe = recipe_from(source)
                output.say(f"{path}: recipe {recipe.id[:8]}, valid")
                warnings = remarks(recipe)
        except ConfigError as error:
            problems.append(str(error))
        for line in warnings:
            output.say(f"{path}: warning: {line}")
    if problems:
        raise ConfigError("\n".join(problems))
    return 0


def plan(study: Path, on: Path | None, settings: list[str], runs: Path, json: bool) -> None:
    """Print cells, seeds and cost."""
    from trm_lab.study.plan import CPU_FLOPS, CPU_OVERHEAD

    made = _plan(study, on, settings, runs)
    if json:
        said = {"confounds": made.confounds(), "remarks": made.matrix.remarks()}
        output.as_json(made.as_dict() | {"states": made.states(), "root": made.root} | said)
        return
    accounts, states = made.accounts(), made.states()
    rows, total = [], 0.0
    for cell in made.matrix.cells:
        cost, train = accounts[cell.name], cell.recipe.train
        flops = cost.flops_per_update * train.updates + cost.eval_flops * _evaluated(cell.recipe)
        seconds = flops / CPU_FLOPS + CPU_OVERHEAD
        left = [s for s in made.seeds if not states[f"{cell.name}/seed-{s}"].final]
        total += seconds * len(left)
        rows.append(
            {
                "cell": cell.variant,
                "id": cell.recipe.id[:8],
                "depth": cost.effective_depth,
                "max depth": cost.max_depth,
                "graph updates": cost.graph_updates,
                "params": cost.params,
                "updates": train.updates,
                "FLOPs a run": output.engineering(flops),
                "one core": output.duration(seconds),
                "seeds": len(made.seeds),
                "to run": len(left),
            }
        )
    output.table(f"{made.matrix.study.name} on {made.sweep.name}", rows)
    every = len(made.matrix.study.seeds)
    of = f" of {every}" if every > len(made.seeds) else ""
    output.say(f"{len(rows)} cells x {len(made.seeds)}{of} seeds in {made.root}; about "
               f"{output.duration(total)} of one core to run")  # fmt: skip
    for line in made.confounds():
        output.say(f"confounded: {line}")
    for line in made.matrix.remarks():
        output.say(f"remark: {line}")


def run(study: Path, on: Path | None, only: str | None, settings: list[str], runs: Path) -> int:
    """Drive a study to its end, then collect."""
    from trm_lab.results import collect as collect_results

    made = _plan(study, on, settings, runs)
    code = _drive(made, only)
    collect_results(made.root)
    output.say(f"results: {made.root / 'results.nc'}")
    return code


def status(study: Path, on: Path | None, settings: list[str], runs: Path, json: bool) -> None:
    """Print the state of every run of the plan in the study's folder."""
    from trm_lab.runs import RunFolder

    root = _root(study, on, settings, runs)
    rows: list[dict[str, Any]] = []
    for cell, seed, in_sweep in _planned(root):
        folder = RunFolder(root / cell["cell"] / f"seed-{seed}")
        told = folder.status() or {}
        best, error = told.get("best") or {}, told.get("error") or {}
        rows.append(
            {
                "cell": cell["variant"],
                "seed": seed,
                "state": _state(folder, told),
                "update": told.get("update", 0),
                "of": told.get("updates", cell["recipe"]["train"]["updates"]),
                "best validation": best.get("puzzle_accuracy"),
                "seconds": told.get("seconds"),
                "attempt": told.get("attempt", 0),
                "error": error.get("message", ""),
                "in_sweep": in_sweep or folder.path.exists(),
            }
        )
    if json:
        output.as_json(rows)
        return
    counts = Counter(State(row["state"]) for row in rows if row["in_sweep"])
    output.table(str(root), [_shown(row) for row in rows])
    left = sum(not row["in_sweep"] for row in rows)
    output.say(_counts(counts) + f"; {left} {NOT_IN_SWEEP}" * bool(left))


def collect(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Write results.nc."""
    from trm_lab.results import collect as collect_results
    from trm_lab.results import not_in_sweep

    root = _root(study, on, settings, runs)
    tree = collect_results(root)
    left = int(not_in_sweep(tree).sum())
    output.say(f"{root / 'results.nc'}: {tree['runs'].sizes['run'] - left} runs"
               + f", {left} more {NOT_IN_SWEEP}" * bool(left))  # fmt: skip
    for problem in str(tree.attrs.get("problems") or "").splitlines():
        output.say(f"problem: {problem}")


def fit(study: Path, on: Path | None, settings: list[str], runs: Path, json: bool) -> None:
    """Fit and save every law that the study asks for."""
    root = _root(study, on, settings, runs)
    fits = _fit(root)
    if json:
        output.as_json([made.to_dict(data="list") for made in fits])
        return
    if not fits:
        output.say(f"{root}: the study asks for no fit")
    for made in fits:
        attrs = made.attrs
        ends = zip(made["lower"].values, made["upper"].values, strict=True)
        rows = [
            {
                "parameter": str(name),
                "estimate": float(made["estimate"].sel(parameter=name)),
                f"{100 * attrs['level']:g} % interval": between(lower, upper),
            }
            for name, (lower, upper) in zip(made["parameter"].values, ends, strict=True)
        ]
        output.table(f"{attrs['name']}: {attrs['formula']}", rows)
        size = f"{attrs['n_points']} runs in {attrs['n_clusters']} clusters ({attrs['cluster']})"
        interval = "no interval" if attrs["interval"] == "none" else attrs["interval"]
        about = [attrs["status"].replace("_", " "), size, interval]
        about += ["descriptive"] * attrs["descriptive"]
        output.say(f"{attrs['name']}: {'; '.join(about)}")
        if attrs.get("note"):
            output.say(f"  {attrs['note']}")


def report(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Write figures and report.html from results.nc as it is."""
    from trm_lab.report import build

    output.say(f"report: {build(_root(study, on, settings, runs))}")


def train(
    recipe: Path,
    out: Path,
    settings: list[str],
    device: str,
    threads: int | None,
    checkpointing: str | None,
) -> int:
    """Train one recipe in this process; 1 if it diverged."""
    from trm_lab.config.changes import arguments
    from trm_lab.config.execution import Execution
    from trm_lab.config.presets import recipe_from
    from trm_lab.config.source import Path as Keys
    from trm_lab.config.source import Source, read_yaml
    from trm_lab.config.validate import validate as check
    from trm_lab.training import train as train_recipe

    chosen = recipe_from(read_yaml(recipe), arguments(settings))
    options = {"device": device, "threads": threads, "checkpointing": checkpointing}
    places: dict[Keys, str] = {(name,): f"--{name} {value}" for name, value in options.items()}
    execution = check(Execution, Source(options, "train", arguments=places))

    def show(record: dict[str, Any]) -> None:
        if record["kind"] == "evaluation":
            pairs = zip(record["steps"], record["puzzle_accuracy"], strict=True)
            values = ", ".join(f"{accuracy:.3f} after {steps} steps" for steps, accuracy in pairs)
            output.say(f"update {record['update']}: validation puzzle accuracy {values}")
        else:
            missed = record.get("unconverged")
            solves = "" if missed is None else f", {missed:.0%} of the solves did not converge"
            output.say(f"update {record['update']}: loss {record['loss']:.4f}{solves}")

    state = train_recipe(chosen, out, execution=execution, progress=show)
    output.say(f"{out}: {state.value}")
    return int(state is not State.COMPLETED)


def _state(folder: "RunFolder", told: dict[str, Any]) -> str:
    """Give the recorded state; a run that nobody works on any more is lost, whatever it says."""
    state = str(told.get("state", State.WAITING.value))
    if state == State.RUNNING and not folder.busy():
        return State.LOST.value
    return state


def _evaluated(recipe: "Recipe") -> int:
    """Count puzzle-steps of evaluation; a test file of unknown size counts as nothing."""
    task, setting = recipe.task, recipe.eval
    times = -(-recipe.train.updates // setting.every)
    test = 1000 if task.kind == "sudoku_bundled" else task.test or 0
    return times * task.validation * setting.steps[-1] + test * setting.final_steps[-1]


def _plan(study: Path, on: Path | None, settings: list[str], runs: Path) -> "Plan":
    from trm_lab.config.source import read_yaml
    from trm_lab.study.plan import load_sweep, make_plan

    source: Source = read_yaml(study)
    sweep = None if on is None else load_sweep(on)
    return make_plan(source, sweep=sweep, settings=tuple(settings), runs=runs)


def _root(study: Path, on: Path | None, settings: list[str], runs: Path) -> Path:
    if study.is_dir():
        if on is not None or settings:
            raise ConfigError(f"{study}: is a folder of results; --on and --set go with a study")
        return study
    return _plan(study, on, settings, runs).root


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row of the status as a reader wants it."""
    state = row["state"] if row["in_sweep"] else NOT_IN_SWEEP
    return {k: v for k, v in row.items() if k != "in_sweep"} | {"state": state}


def _planned(root: Path) -> list[tuple[dict[str, Any], int, bool]]:
    """List the study's cells and seeds, and whether the last sweep takes them."""
    import json as json_module

    path = root / "plan.json"
    try:
        made = json_module.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `trm-lab run STUDY` makes it") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    taken = made.get("sweep_seeds") or made["seeds"]
    return [(cell, seed, seed in taken) for cell in made["cells"] for seed in made["seeds"]]


def _drive(made: "Plan", only: str | None) -> int:
    from trm_lab.cli.live import Live
    from trm_lab.study.driver import drive, select

    runs = select(made, only)
    try:
        with Live(made, runs) as live:
            counts = drive(made, only, live.changed, live.tick)
    except KeyboardInterrupt:
        output.say("interrupted; the same command goes on from here")
        raise
    output.say(f"{made.root}: {_counts(counts)}")
    return int(any(counts[state] for state in BAD))


def _conclude(root: Path) -> list[str]:
    from trm_lab.report import build
    from trm_lab.report.answer import answer
    from trm_lab.results import collect as collect_results
    from trm_lab.results import open_results

    collect_results(root)
    _fit(root)
    tree = open_results(root)
    build(root, tree=tree)
    return answer(tree)


def _fit(root: Path) -> list[Any]:
    from trm_lab.fit import fit_specs, fit_study, save_fit
    from trm_lab.results import open_results

    tree = open_results(root)
    fits = [fit_study(tree, spec) for spec in fit_specs(tree)]
    for made in fits:
        save_fit(made, root)
    return fits


def _counts(counts: Counter[State]) -> str:
    return (
        ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state]) or "no runs"
    )
