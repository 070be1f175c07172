"""What a finished run leaves for others to read: test outcomes and weights."""

import io

import numpy as np
from safetensors.torch import save
from torch import Tensor

from trm_lab.core.evaluation import Outcomes
from trm_lab.tasks.dataset import Puzzles
from trm_lab.training.session import Session


def packed_outcomes(found: Outcomes, puzzles: Puzzles, update: int, weights: str) -> bytes:
    """Give the .npz file of an evaluation on puzzles; `weights` is ema or raw."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        steps=found.steps,
        solved=found.solved,
        cell_accuracy=found.cell_accuracy,
        halt_logit=found.halt_logit,
        halting_step=found.halting_step,
        unconverged=found.unconverged,
        clues=puzzles.clues,
        guesses=puzzles.guesses,
        rating=puzzles.rating,
        signature=puzzles.signature,
        update=np.int64(update),
        weights=np.str_(weights),
    )
    return buffer.getvalue()


def packed_weights(session: Session) -> bytes:
    """Give the safetensors file of all weights: raw/, ema/, initial/ and the tables."""
    tensors = session.tensors()
    latents = session.recipe.model.layout.latents
    flat: dict[str, Tensor] = {f"raw/{k}": v for k, v in tensors["params"].items()}
    flat |= {f"ema/{k}": v for k, v in (tensors["ema"] or {}).items()}
    if tensors["initial"]:  # a learned start is among the parameters, others have no vectors
        flat |= {f"initial/{k}": v for k, v in zip(latents, tensors["initial"], strict=True)}
    flat |= {f"others/{k}": v for k, v in zip(latents, tensors["others"], strict=False)}
    flat |= {k: tensors[k] for k in ("table", "ema_table") if tensors[k] is not None}
    return save({k: v.contiguous() for k, v in flat.items()})
