"""Weights of a finished run, read back from its folder."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trm_lab.core.core import Core, Weights
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder


def stored_weights(folder: RunFolder, core: Core, which: str) -> Weights:
    """Read the weights that evaluation uses at the end (`last`: averaged where there are any), the
    best ones on validation (`best`), or the last ones without averaging (`raw`).

    Raises:
        ConfigError: the run has not come so far, or a file is damaged.
    """
    if not folder.weights.exists():
        raise ConfigError(
            f"{folder.path}: no weights yet, the run is {folder.state().value}; they are written "
            "when training is completed"
        )
    try:
        flat = load_file(folder.weights, device=str(core.device))
    except SafetensorError as error:
        raise ConfigError(f"{folder.weights}: damaged: {error}") from None

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}/"): v for k, v in flat.items() if k.startswith(f"{name}/")}

    params = part("raw") if which == "raw" else part("ema") or part("raw")
    table = flat.get("table")
    if which == "last":
        table = flat.get("ema_table", table)
    if which == "best":
        if not folder.best.exists():
            raise ConfigError(f"{folder.best}: no best weights; use last or raw")
        content = torch.load(folder.best, map_location=core.device, weights_only=True)
        params, table = content["params"], content.get("table", table)
    initial = part("initial")
    vectors = tuple(initial[name] for name in core.model.layout.latents if name in initial)
    return Weights(params, vectors, table)
