"""The verbs of `trm-lab`."""

from pathlib import Path
from typing import Annotated

import typer

import trm_lab
from trm_lab.cli import (
    checking,
    data,
    diagnose,
    evaluate,
    explaining,
    fitting,
    listing,
    outcomes,
    parity,
    searching,
    steering,
    studies,
)
from trm_lab.cli.once import Once

app = typer.Typer(
    name="trm-lab",
    help="Ablations and scaling laws of tiny recursive models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"trm-lab {trm_lab.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


StudyFile = Annotated[Path, typer.Argument(help="A study: studies/<question>.yaml.")]
Place = Annotated[Path, typer.Argument(help="A study file, or the folder of its results.")]
On = Annotated[Path | None, typer.Option("--on", help="How to run: sweeps/<plan>.yaml.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A recipe setting for every cell: model.T=3.")
]
SetOne = Annotated[list[str] | None, typer.Option("--set", help="A recipe setting: model.T=3.")]
Really = Annotated[
    bool, typer.Option("--yes-really", help="Make a matrix of more than 100,000 cells too.")
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the studies' results.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads; small models are fastest on one.")]
RUNS = Path("runs")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder that holds the results.")] = RUNS,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
) -> None:
    """Run a small real study from zero to report.html: half an hour of CPU time."""
    raise typer.Exit(studies.demo(out, workers))


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Study, sweep, recipe or profile files.")],
    yes_really: Really = False,
    json: Json = False,
) -> None:
    """Check files and print every error with its line and column, and warnings."""
    raise typer.Exit(checking.validate(files, yes_really, json))


@app.command()
def plan(
    study: StudyFile,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    json: Json = False,
    yes_really: Really = False,
) -> None:
    """Show what a study would run and what it would cost; nothing runs."""
    studies.plan(study, on, set_ or [], runs, json, yes_really)


@app.command()
def run(
    study: StudyFile,
    on: On = None,
    only: Annotated[
        str | None, typer.Option("--only", help="One cell, by its variant or folder name.")
    ] = None,
    set_: Set = None,
    runs: Runs = RUNS,
    yes_really: Really = False,
    detach: Annotated[
        bool, typer.Option("--detach/--wait", help="Drive it in the background.")
    ] = False,
    as_job: Annotated[
        bool, typer.Option("--as-job", help="Drive it in a small SLURM job of its own.")
    ] = False,
    carry_on: Annotated[bool, typer.Option("--carry-on", hidden=True)] = False,
) -> None:
    """Start or resume a study; what is done is not done again."""
    asked = (study, on, only, set_ or [], runs, yes_really)
    away = detach or as_job
    # A driver's job that is put back carries on: nobody asked for failed runs again.
    act = studies.detach(*asked, as_job=as_job) if away else studies.run(*asked, not carry_on)
    raise typer.Exit(act)


@app.command()
def sync(
    study: StudyFile,
    on: On = None,
    only: Annotated[
        str | None, typer.Option("--only", help="One cell, by its variant or folder name.")
    ] = None,
    set_: Set = None,
    runs: Runs = RUNS,
    yes_really: Really = False,
) -> None:
    """Do one round of `run` and go, as from cron: hear what ended, send what there is room for."""
    raise typer.Exit(studies.sync(study, on, only, set_ or [], runs, yes_really))


@app.command()
def status(
    study: Place, on: On = None, set_: Set = None, runs: Runs = RUNS, json: Json = False
) -> None:
    """Show the state of every run."""  # fmt: skip
    outcomes.status(study, on, set_ or [], runs, json)


@app.command()
def collect(study: Place, on: On = None, set_: Set = None, runs: Runs = RUNS) -> None:
    """Gather the run folders into results.nc."""
    outcomes.collect(study, on, set_ or [], runs)


@app.command()
def fit(
    place: Annotated[
        Path, typer.Argument(help="A study, its folder of results, or a table: FILE.csv, FILE.nc.")
    ],
    law: Annotated[
        str | None, typer.Option(help="One law instead of the study's: 'SumPower(N, D)'.")
    ] = None,
    x: Annotated[str | None, typer.Option(help="The column of a law given by its name.")] = None,
    y: Annotated[
        str | None, typer.Option(help="The column to fit; two for counts: solved,of.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(help="What was drawn independently: a column (several together), or row."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="least_squares, huber, scaled_huber, student_t, quasi_binomial, beta_binomial."
        ),
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Huber's delta; 1e-3.")] = None,
    residuals: Annotated[str | None, typer.Option(help="log or raw.")] = None,
    weights: Annotated[str | None, typer.Option(help="A column of weights.")] = None,
    by: Annotated[str | None, typer.Option(help="A column of groups.")] = None,
    share: Annotated[
        list[str] | None, typer.Option(help="A parameter that all groups have in common.")
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            help="bootstrap (default), sandwich (that of counts), wild, wald, profile, none."
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=2, help="Resamples of a bootstrap; 1000.")
    ] = None,
    level: Annotated[float | None, typer.Option(help="Level of the intervals; 0.95.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the resampling; 0.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to save the fit in: NAME.nc.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Take only rows of that value: COLUMN=VALUE; repeatable."),
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Print the methods paragraph and the checklist.")
    ] = False,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Fit the laws of a study, or one law to any table, and save what was found."""
    asked = fitting.Asked(
        law, x, y, _split(cluster), objective, delta, residuals, weights, by, _split(share),
        interval, draws, level, seed, out, tuple(where or ()),
    )  # fmt: skip
    fitting.fit(place, on, set_ or [], runs, asked, describe=describe, json=json)


def _split(given: list[str] | None) -> tuple[str, ...]:
    return tuple(one.strip() for text in given or [] for one in text.split(",") if one.strip())


@app.command()
def report(study: Place, on: On = None, set_: Set = None, runs: Runs = RUNS) -> None:
    """Draw the figures and write one HTML file."""
    outcomes.report(study, on, set_ or [], runs)


@app.command()
def presets(
    tables: Annotated[
        bool, typer.Option("--tables", help="The rows of TRM's tables of ablations instead.")
    ] = False,
    json: Json = False,
) -> None:
    """List the published configurations with their sizes, depths and FLOPs."""
    listing.presets(tables, json)


@app.command()
def explain(
    recipe: Annotated[
        str, typer.Argument(help="A preset, a recipe file, a run folder or a study file.")
    ],
    cell: Annotated[
        str | None, typer.Option("--cell", help="A study's cell, by its variant or folder name.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Points that do not apply to the recipe too.")
    ] = False,
    json: Json = False,
) -> None:
    """Say where a recipe stands on the 33 points where papers and released code differ."""
    explaining.explain(recipe, cell, every, json)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
    set_: SetOne = None,
    checkpointing: Annotated[
        str | None,
        typer.Option(
            help="update or cycle: compute activations again instead of keeping them; neither if "
            "not given."
        ),
    ] = None,
) -> None:
    """Train one recipe by hand; again resumes."""
    raise typer.Exit(studies.train(recipe, out, set_ or [], device, threads, checkpointing))


@app.command("eval")
def evaluate_(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    steps: Annotated[str, typer.Option(help="Supervision steps, rising.")] = "1,2,4,8,16",
    rollouts: Annotated[str, typer.Option(help="Rollouts of every puzzle, rising.")] = "1",
    noise: Annotated[float, typer.Option(help="Std of the noise added to the latents.")] = 0.0,
    relative: Annotated[bool, typer.Option("--relative", help="Noise in units of rms.")] = False,
    restarts: Annotated[bool, typer.Option("--restarts", help="Random initial states.")] = False,
    select: Annotated[
        str | None,
        typer.Option(help="head, residual, vote, oracle; all that apply if not given."),
    ] = None,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first puzzles.")] = None,
    weights: Annotated[str, typer.Option(help="last, best or raw.")] = "last",
    n: Annotated[int | None, typer.Option("--n", help="Latent updates per cycle.")] = None,
    T: Annotated[int | None, typer.Option("--T", help="Cycles per supervision step.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of noise and restarts.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
    figure: Annotated[bool, typer.Option("--figure", help="Draw the curves too.")] = False,
    json: Json = False,
) -> None:
    """Evaluate a run at other depths (steps) and breadths (rollouts)."""
    options = {"noise": noise, "relative": relative, "restarts": restarts, "n": n, "T": T}
    evaluate.evaluate(
        run, options | {"seed": seed}, {"steps": steps, "rollouts": rollouts}, select,
        weights=weights, split=split, limit=limit, device=device, threads=threads, figure=figure,
        json=json,
    )  # fmt: skip


@app.command("diagnose")
def diagnose_(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Supervision steps; N_sup if not given.")
    ] = None,
    iterations: Annotated[
        int, typer.Option(min=1, help="Products with the Jacobian per spectral radius.")
    ] = 30,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Only the first puzzles.")] = 16,
    weights: Annotated[str, typer.Option(help="last, best or raw.")] = "last",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Measure what a run's recursion does: residuals, Jacobian, dimension, gradients."""
    diagnose.diagnose(
        run, steps=steps, iterations=iterations, weights=weights, split=split, limit=limit,
        device=device, threads=threads, json=json,
    )  # fmt: skip


@app.command()
def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of recorded values, .npz (docs/verify.md).")
    ] = None,
    json: Json = False,
) -> None:
    """Compare this core with values recorded from the released code."""
    raise typer.Exit(parity.verify(files or [], json))


for verb in (
    steering.watch, steering.logs, steering.cancel, steering.retry, steering.doctor,
    steering.dashboard, searching.importance,
):  # fmt: skip
    app.command()(verb)
for made in (*app.registered_commands, *data.app.registered_commands):
    made.cls = Once
app.add_typer(data.app, name="data", help="Build and look at data sets.")
