"""The verbs that work on studies and recipes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.cli import output
from trm_lab.cli.outcomes import BAD, conclude, counted
from trm_lab.cli.planning import plan_of
from trm_lab.errors import ConfigError
from trm_lab.runs import State

if TYPE_CHECKING:
    from trm_lab.study.plan import Plan


def demo(out: Path, workers: int | None) -> int:
    """Run the embedded study, collect, fit, report, and say what was found."""
    from trm_lab.config.execution import Execution, Local, Sweep
    from trm_lab.demo import study
    from trm_lab.study.plan import make_plan

    execution = Execution(device="cpu", threads=1)
    sweep = Sweep(name="demo", executor=Local(workers=workers), execution=execution)
    made = make_plan(study(), sweep=sweep, runs=out)
    code = _drive(made, None)
    answer = conclude(made.root)
    output.say("")
    for sentence in answer:
        output.say(sentence)
    output.say(f"\nreport: {made.root / 'report' / 'report.html'}")
    return code


def plan(
    study: Path, on: Path | None, settings: list[str], runs: Path, json: bool, yes_really: bool
) -> None:
    """Print cells, seeds and cost."""
    from trm_lab.config.execution import Slurm
    from trm_lab.config.gradient import Implicit
    from trm_lab.study.cost import cost as cost_of
    from trm_lab.study.search_ahead import runs_ahead, unpruned

    made = plan_of(study, on, settings, runs, yes_really)
    search = made.study.search
    remarks = made.asked.remarks() + unpruned(search, made.sweep) + made.sweep.remarks()
    accounts, states = made.accounts(), made.states()
    rows, ahead, total, evaluation = [], 0, 0.0, 0.0
    of_arms = runs_ahead(made) if search else {}
    for cell in made.taken:
        cost, train = accounts[cell.name], cell.recipe.train
        whole = cost_of(cell.recipe, cost)
        if search:
            left = of_arms[cell.name]
        else:
            left = sum(not states[f"{cell.name}/seed-{s}"].final for s in made.seeds)
        ahead += left
        total += whole.seconds * left
        evaluation += whole.evaluation_seconds * left
        rows.append(
            {
                "cell": cell.variant,
                "id": cell.recipe.id[:8],
                "depth": cost.effective_depth,
                "max depth": cost.max_depth,
                "graph updates": cost.graph_updates,
                "params": cost.params,
                "updates": train.updates,
                "FLOPs a run": output.engineering(whole.flops),
                "one core": output.duration(whole.seconds),
                "evaluation": output.duration(whole.evaluation_seconds),
                "seeds": len(made.seeds),
                "to run": left,
            }
        )
    jobs = _jobs(made, ahead) if isinstance(made.sweep.executor, Slurm) else None
    if json:
        told = {
            "root": made.root, "states": made.states(), "confounds": made.confounds(),
            "remarks": remarks, "to_run": ahead, "seconds": total,
            "evaluation_seconds": evaluation, "jobs": jobs,
        }  # fmt: skip
        output.as_json(made.as_dict() | told)
        return
    output.table(f"{made.matrix.study.name} on {made.sweep.name}", rows)
    every = len(made.all_seeds)
    of = f" of {every}" if every > len(made.seeds) else ""
    all_cells = len(made.asked.cells)
    part = f" of {all_cells}" if all_cells > len(rows) else ""
    cells = f"{len(rows)}{part} cells x {len(made.seeds)}{of} seeds"
    if search:
        count = f"{len(rows)}{part}"
        arms = f"each of {count} arms" if len(rows) > 1 else f"{count} arm{'s' * bool(part)}"
        cells = (f"at most {search.trials} trials in {arms}, then the best {search.confirm.top} of "
                 f"{'each' if len(rows) > 1 else 'it'} x {len(made.seeds)}{of} seeds")  # fmt: skip
    output.say(f"{cells} in {made.root}; about "
               f"{output.duration(total)} of one core to run, {output.duration(evaluation)} of it "
               "evaluation")  # fmt: skip
    if any(isinstance(cell.recipe.model.gradient, Implicit) for cell in made.taken):
        output.say("depth, FLOPs and time of an implicit gradient are the most that it can take")
    if jobs:
        count, most = output.several(jobs["count"], "job"), jobs["array"]
        output.say(f"{count}, in arrays of up to {most}; sbatch gets\n{jobs['sbatch']}")
    for line in made.confounds():
        output.say(f"confounded: {line}")
    for line in remarks:
        output.say(f"remark: {line}")


def _jobs(made: "Plan", runs: int) -> dict[str, Any]:
    """Give the number of jobs, the most of one array, and the text that sbatch would get."""
    from trm_lab.config.execution import Slurm
    from trm_lab.study.jobs import text

    setting = made.sweep.executor
    assert isinstance(setting, Slurm)
    count = -(-runs // setting.pack)
    most = min(count, setting.max_array or count, setting.max_jobs)
    script = text(setting, made.sweep.execution, made.root, made.study.name, max(1, most))
    return {"count": count, "array": most, "sbatch": script}


def run(
    study: Path,
    on: Path | None,
    only: str | None,
    settings: list[str],
    runs: Path,
    yes_really: bool,
    again: bool = True,
) -> int:
    """Drive a study to its end, then collect."""
    from trm_lab.results import collect as collect_results

    made = plan_of(study, on, settings, runs, yes_really)
    code = _drive(made, only, again)
    collect_results(made.root)
    output.say(f"results: {made.root / 'results.nc'}")
    return code


def detach(
    study: Path,
    on: Path | None,
    only: str | None,
    settings: list[str],
    runs: Path,
    yes_really: bool,
    *,
    as_job: bool,
) -> int:
    """Drive a study in a process or a job of its own, which outlives the terminal."""
    import subprocess
    import sys

    from trm_lab.config.execution import Slurm
    from trm_lab.study import slurm
    from trm_lab.study.driver import refuse, select
    from trm_lab.study.driver_lock import DRIVER_LOG, driven, holder, name_driver

    # What is wrong with the files is said here, not in the log.
    made = plan_of(study, on, settings, runs, yes_really)
    if as_job and not isinstance(made.sweep.executor, Slurm):
        raise ConfigError("--as-job: the sweep's executor is not slurm")
    refuse(made, select(made, only))
    if isinstance(made.sweep.executor, Slurm):
        slurm.expect()
        slurm.queue()  # no driver begins without an answer
    if driven(made.root):
        raise ConfigError(f"{made.root}: {holder(made.root)} is already driving this study")
    command = ["run", str(study.resolve()), "--runs", str(runs.resolve())]
    command += ["--on", str(on.resolve())] if on else []
    command += ["--only", only] if only else []
    command += ["--yes-really"] if yes_really else []
    command += [word for setting in settings for word in ("--set", setting)]
    made.root.mkdir(parents=True, exist_ok=True)
    if not (made.root / "plan.json").exists():
        made.write()  # whoever looks before the driver has begun, or why it did not, finds a study
    if as_job and isinstance(made.sweep.executor, Slurm):
        from trm_lab.study.jobs import send_driver

        job = send_driver(made.sweep.executor, made.root, made.study.name, tuple(command))
        output.say(f"job {job} drives {made.root}; its words are in logs/{job} there")
    else:
        with (made.root / DRIVER_LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "trm_lab.cli", *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        name_driver(made.root, process.pid, logged=True)  # should it die before it does so itself
        output.say(f"process {process.pid} drives {made.root}; its words are in {DRIVER_LOG} there")
    output.say(f"`trm-lab watch {made.root}` follows, `trm-lab cancel {made.root}` stops it")
    return 0


def sync(
    study: Path,
    on: Path | None,
    only: str | None,
    settings: list[str],
    runs: Path,
    yes_really: bool,
) -> int:
    """Do one round of driving: hear what ended, send what there is room for, and go."""
    from trm_lab.results import collect as collect_results
    from trm_lab.study.driver import drive

    made = plan_of(study, on, settings, runs, yes_really)
    counts = drive(made, only, say=output.say, once=True, again=False)
    collect_results(made.root)
    output.say(f"{made.root}: {counted(counts)}")
    going = counts[State.WAITING] + counts[State.RUNNING] + counts[State.LOST]
    return int(not going and any(counts[state] for state in BAD))


def train(
    recipe: Path,
    out: Path,
    settings: list[str],
    device: str,
    threads: int,
    checkpointing: str | None,
) -> int:
    """Train one recipe in this process; 1 if it diverged."""
    from trm_lab.config.changes import arguments
    from trm_lab.config.execution import Execution
    from trm_lab.config.presets import KNOWN, recipe_from
    from trm_lab.config.source import Path as Keys
    from trm_lab.config.source import Source, read_yaml
    from trm_lab.config.validate import validate as check
    from trm_lab.paths import RECIPE, expect
    from trm_lab.training import train as train_recipe
    from trm_lab.training.distributed import joined
    from trm_lab.training.stop import stopped_by_signals

    if str(recipe) in KNOWN and not recipe.exists():
        raise ConfigError(
            f"{recipe}: is a preset, not a recipe file; write a file with the line "
            f"`preset: {recipe}` and give that"
        )
    expect(recipe, RECIPE)
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

    with stopped_by_signals() as stop, joined(execution.device) as group:
        progress = show if group.first else None
        state = train_recipe(
            chosen, out, execution=execution, progress=progress, stop=stop, group=group
        )
    if group.first:
        output.say(f"{out}: {state.value}")
    if state is State.CANCELLED:
        raise KeyboardInterrupt  # with a checkpoint; the same command goes on from there
    return int(state is not State.COMPLETED)


def _drive(made: "Plan", only: str | None, again: bool = True) -> int:
    from trm_lab.cli.live import Live
    from trm_lab.paths import refuse_unwritable
    from trm_lab.study.driver import drive, select

    runs = select(made, only)
    refuse_unwritable(made.root)
    try:
        with Live(made, runs, only) as live:
            counts = drive(made, only, live.changed, live.tick, say=output.say, again=again)
    except KeyboardInterrupt:
        queued = made.sweep.executor.kind == "slurm"
        left = f"; jobs stay in the queue, `trm-lab cancel {made.root}` takes them out" * queued
        output.say(f"interrupted; the same command goes on from here{left}")
        raise
    output.say(f"{made.root}: {counted(counts)}")
    return int(any(counts[state] for state in BAD))
