"""Optional trackers: the records of a run for TensorBoard or W&B, beside metrics.jsonl.

A tracker listens to records and never decides anything.  A resumed run writes again what came
after its checkpoint; each tracker remembers how far it has come and leaves those out.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from trm_lab.atomic import write_text
from trm_lab.config.recipe import Recipe
from trm_lab.errors import ConfigError

Listener = Callable[[dict[str, Any]], None]
Writer = Callable[[dict[str, float], int], None]
"""Takes named values and the update they are of."""


@contextmanager
def tracking(names: tuple[str, ...], recipe: Recipe, path: Path) -> Iterator[list[Listener]]:
    """Open the trackers of a run below its folder, in trackers/<name>.

    Raises:
        ConfigError: a tracker's package is not installed.
    """
    opened = {"tensorboard": _tensorboard, "wandb": _wandb}
    with ExitStack() as stack:
        yield [
            _listener(stack.enter_context(opened[name](recipe, path / "trackers" / name)),
                      path / "trackers" / f"{name}.seen")
            for name in names
        ]  # fmt: skip


def _listener(write: Writer, seen: Path) -> Listener:
    """Pass on what was not passed on before; the order of records is the same in every attempt."""
    try:
        told = tuple(int(word) for word in seen.read_text().split())
    except (OSError, ValueError):
        told = ()
    newest = [told if len(told) == 2 else (0, 0)]

    def listen(record: dict[str, Any]) -> None:
        place = (record["update"], int(record["kind"] == "evaluation"))
        if place <= newest[0]:
            return
        write(dict(_scalars(record)), record["update"])
        newest[0] = place
        write_text(seen, f"{place[0]} {place[1]}\n")

    return listen


def _scalars(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Name the numbers of a record: train/loss, evaluation/puzzle_accuracy/16."""
    for name, value in record.items():
        if name in ("update", "steps"):
            continue
        if isinstance(value, list):
            pairs = zip(record["steps"], value, strict=True)
            yield from ((f"{record['kind']}/{name}/{step}", float(v)) for step, v in pairs)
        elif isinstance(value, int | float):
            yield f"{record['kind']}/{name}", float(value)


@contextmanager
def _tensorboard(_recipe: Recipe, folder: Path) -> Iterator[Writer]:
    writer = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

    def write(values: dict[str, float], update: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, update)
        writer.flush()  # before the place is remembered

    try:
        yield write
    finally:
        writer.close()


@contextmanager
def _wandb(recipe: Recipe, folder: Path) -> Iterator[Writer]:
    """Offline: `wandb sync` sends the folder.  Attempts share an id, so they are one run there."""
    wandb = _module("wandb", "wandb")
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        mode="offline", dir=str(folder), id=f"{recipe.id[:16]}-{recipe.seed}", resume="allow",
        config=recipe.as_dict(),
    )  # fmt: skip
    run.define_metric("*", step_metric="update")

    def write(values: dict[str, float], update: int) -> None:
        run.log({**values, "update": update})

    try:
        yield write
    finally:
        run.finish()


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"trackers: {extra} cannot be imported ({error}); pip install 'trm-lab[{extra}]', or "
            f"leave {extra} out of execution.trackers"
        ) from None
