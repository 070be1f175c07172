"""What training draws: one order per pass, a fresh symmetry each time, keyed by the update."""

import numpy as np
import pytest
import torch

from trm_lab.config import GeneratedSudoku
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import TaskData
from trm_lab.training.stream import Stream

CPU = torch.device("cpu")


def data(augment: bool = False) -> TaskData:
    task = GeneratedSudoku(size=4, clues=8, train=10, validation=2, test=2, augment=augment)
    return build(task)


def drawn(stream: Stream, updates: int) -> list[bytes]:
    batches = [stream.draw(u).inputs.numpy().astype(np.uint8) for u in range(1, updates + 1)]
    return [row.tobytes() for batch in batches for row in batch]


@pytest.mark.parametrize("batch", [1, 3, 10, 25])
def test_every_pass_shows_every_puzzle_once(batch: int) -> None:
    puzzles = {row.tobytes() for row in data().train.inputs}
    assert len(puzzles) == 10
    rows = drawn(Stream(data(), batch, 0, CPU), -(-40 // batch))[:40]
    passes = [rows[i : i + 10] for i in range(0, 40, 10)]
    assert all(set(one) == puzzles for one in passes)
    assert len({tuple(one) for one in passes}) == 4


def test_the_order_does_not_depend_on_the_batch() -> None:
    found = [drawn(Stream(data(), batch, 0, CPU), 60 // batch) for batch in (1, 2, 5, 20)]
    assert all(rows == found[0] for rows in found)


def test_a_batch_is_a_function_of_seed_and_update() -> None:
    stream, later = (Stream(data(augment=True), 4, 0, CPU) for _ in range(2))
    for update in (1, 2, 9):
        stream.draw(update)
    for update in (9, 1):
        for a, b in zip(stream.draw(update), later.draw(update), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(stream.draw(1).inputs, stream.draw(2).inputs)
    other = Stream(data(augment=True), 4, 1, CPU)
    assert not torch.equal(stream.draw(1).inputs, other.draw(1).inputs)


def test_augmentation_draws_a_fresh_symmetry_each_time() -> None:
    """Of a single puzzle, so that only the symmetry can make a difference."""
    task = GeneratedSudoku(size=4, clues=8, train=1, validation=2, test=2)
    stream = Stream(build(task), 10, 0, CPU)
    first, second = stream.draw(1), stream.draw(2)
    assert (first.inputs != second.inputs).any(1).sum() >= 8
    assert len({row.numpy().tobytes() for row in first.inputs}) >= 8
    # A symmetry moves and renames clues but leaves their number, and goes over both alike.
    given = first.inputs != 1
    assert given.sum(1).tolist() == [8] * 10
    assert torch.equal(first.inputs[given].long(), first.labels[given])
    plain = build(task.model_copy(update={"augment": False}))
    assert (Stream(plain, 10, 0, CPU).draw(1).inputs == torch.from_numpy(plain.train.inputs)).all()


def test_a_batch_has_the_types_that_a_step_takes() -> None:
    inputs, labels, identifiers = Stream(data(), 3, 0, CPU).draw(1)
    assert (inputs.dtype, labels.dtype, identifiers.dtype) == (
        torch.int32, torch.int64, torch.int64,
    )  # fmt: skip
    assert inputs.shape == labels.shape == (3, 16)
    assert identifiers.tolist() == [0, 0, 0]
