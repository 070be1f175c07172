"""`trm-lab diagnose`."""

from pathlib import Path

from trm_lab.cli import output


def diagnose(
    run: Path,
    *,
    steps: int | None,
    iterations: int,
    weights: str,
    split: str,
    limit: int,
    device: str,
    threads: int,
    json: bool,
) -> None:
    """Diagnose a run and print means over puzzles, a line per supervision step."""
    from trm_lab.config.execution import Execution
    from trm_lab.config.source import Source
    from trm_lab.config.test_time import Subject
    from trm_lab.config.validate import validate

    which = {"weights": weights, "split": split, "limit": limit}
    subject = validate(Subject, Source(which, "diagnose"))
    execution = validate(Execution, Source({"device": device, "threads": threads}, "diagnose"))
    from trm_lab.training.diagnose import diagnose_run

    data, path = diagnose_run(run, subject, steps=steps, iterations=iterations, execution=execution)
    rows = []
    for i, step in enumerate(data["step"].values):
        at = data.isel(step=i)
        latents = zip(at["latent"].values, at["participation"].values, strict=True)
        rows.append(
            {
                "step": int(step),
                "residual": float(at["residual"].isel(update=-1).mean()),
                "cosine": float(at["cosine"].isel(update=-1).mean()),
                "spectral radius": float(at["spectral_radius"].mean()),
                "Lyapunov": float(at["lyapunov"].mean()),
                **{f"dimension of {name}": float(value) for name, value in latents},
                "gradient cosine": float(at["gradient_cosine"]),
                "gradient ratio": float(at["gradient_norm_ratio"]),
            }
        )
    if json:
        output.as_json({"file": str(path), **data.attrs, "rows": rows})
        return
    title = f"{run}: means over {data.sizes['puzzle']} {split} puzzles, {weights} weights"
    output.table(title, rows)
    output.say("residual and cosine are of the last update of a step")
    output.say(f"wrote {path}")
