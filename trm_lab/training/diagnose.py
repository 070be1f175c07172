"""Diagnoses a finished run: what its recursion does, as one labelled dataset in its folder."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from trm_lab.config.execution import Execution
from trm_lab.config.test_time import Subject
from trm_lab.core.core import Core
from trm_lab.core.diagnostics import Diagnostics, diagnose
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.supervision import Batch
from trm_lab.results.files import write_netcdf
from trm_lab.training.stored import stored_run

DIMS = {
    "residual": ("puzzle", "step", "update"),
    "cosine": ("puzzle", "step", "update"),
    "spectral_radius": ("puzzle", "step"),
    "lyapunov": ("puzzle", "step"),
    "participation": ("step", "latent"),
    "gradient_cosine": ("step",),
    "gradient_norm_ratio": ("step",),
}
LONG_NAMES = {
    "residual": "Relative change of the latent that the update writes",
    "cosine": "Cosine between the written latent before and after the update",
    "spectral_radius": "Spectral radius of one cycle's Jacobian after the step",
    "lyapunov": "Finite-time Lyapunov exponent, per update",
    "participation": "Participation ratio of the latent after the step",
    "gradient_cosine": "Cosine of the model's gradient and the whole program's",
    "gradient_norm_ratio": "Length of the model's gradient over the whole program's",
}


def diagnose_run(
    run_dir: Path | str,
    subject: Subject = Subject(limit=16),  # noqa: B008  # frozen
    *,
    steps: int | None = None,
    iterations: int = 30,
    execution: Execution | None = None,
    cache: Path | None = None,
) -> tuple[xr.Dataset, Path]:
    """Diagnose a run over supervision steps 1, 2, ..., `steps` (by default N_sup), and save it.

    Derivatives are computed in at least float32.  The file is
    `evaluation/diagnostics-<split>-<weights>-<8 hex of limit, steps and iterations>.nc` in the run
    folder; the same again replaces it.

    Raises:
        ConfigError: no run there, or no such weights.
    """
    stored = stored_run(run_dir, subject, execution or Execution(), cache)
    folder, recipe, puzzles = stored.folder, stored.recipe, stored.puzzles
    device = stored.core.device
    wide = torch.promote_types(stored.core.dtype, torch.float32)
    core = Core(recipe.model, stored.core.geometry, wide, device)
    batch = Batch(
        torch.as_tensor(puzzles.inputs.astype(np.int32), device=device),
        torch.as_tensor(puzzles.answers.astype(np.int64), device=device),
        torch.zeros(len(puzzles), dtype=torch.int64, device=device),
    )
    reasoner = Reasoner(core, stored.weights, recipe.supervision.carried)
    with torch.no_grad():
        start = reasoner.start(reasoner.keys(puzzles.inputs))
    steps = recipe.supervision.N_sup if steps is None else steps
    found = diagnose(reasoner, batch, recipe.supervision, start, steps=steps, iterations=iterations)
    attrs: dict[str, Any] = {
        "title": "Diagnostics of the recursion",
        **stored.provenance(subject),
        "n": recipe.model.n,
        "T": recipe.model.T,
        "gradient": recipe.model.gradient.model_dump_json(),
        "arnoldi_iterations": iterations,
        "dtype": str(wide).removeprefix("torch."),
    }
    data = dataset(found, recipe.model.layout.latents, attrs)
    data = data.assign_coords(signature=("puzzle", puzzles.signature))
    mark = sha256(f"{subject.limit} {steps} {iterations}".encode()).hexdigest()[:8]
    name = f"diagnostics-{subject.split}-{subject.weights}-{mark}.nc"
    path = folder.path / "evaluation" / name
    write_netcdf(data, path)
    return data, path


def dataset(found: Diagnostics, latents: tuple[str, ...], attrs: dict[str, Any]) -> xr.Dataset:
    """Label diagnostics: dimensions puzzle, step, update, latent."""
    data = xr.Dataset(
        {
            name: (DIMS[name], values, {"long_name": LONG_NAMES[name], "units": "1"})
            for name, values in found._asdict().items()
        },
        attrs=attrs,
    )
    _, steps, updates = found.residual.shape
    return data.assign_coords(
        step=("step", np.arange(1, steps + 1), {"long_name": "Supervision step", "units": "1"}),
        update=("update", np.arange(1, updates + 1), {"long_name": "Update of a program",
                                                      "units": "1"}),
        latent=("latent", list(latents), {"long_name": "Latent", "units": "1"}),
    )  # fmt: skip
