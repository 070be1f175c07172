"""Sudoku grids as token arrays: geometry, validity, random symmetries, symmetry signatures.

Tokens are those of the official Sudoku-Extreme builder: PAD 0, blank 1, digit k is k + 1; cells run
row by row.  Boxes are 2x2 (4x4 grids), 2 rows by 3 columns (6x6) and 3x3 (9x9).  A band is a row
of boxes, a stack a column of boxes.

Symmetries: relabelling of digits, order of bands, of rows in a band, of stacks, of columns in a
stack, and transposition where boxes are square.  This is the full group used by the augmentation
of HRM (arXiv 2506.21734) and TRM (arXiv 2510.04871).

Shapes: N puzzles, B puzzles of a batch, L cells.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

BOX = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns of a box, by rows of the grid."""
BLANK = 1
"""Token of an empty cell; digit k is `BLANK + k`."""

ROUNDS = 3
"""Rounds of colour refinement; one round reaches 20 of the 80 other cells of a 9x9, two all."""
CHUNK = 1024
"""Puzzles hashed at once, so that 400,000 need no gigabytes of scratch memory."""


def valid(labels: UInt8[np.ndarray, "N L"], size: int) -> Bool[np.ndarray, " N"]:
    """Which rows are complete grids: every digit once in each row, column and box."""
    height, width = BOX[size]
    # Tokens out of range land on bit 15, which no complete unit has.
    inside = (labels > BLANK) & (labels <= BLANK + size)
    seen = np.left_shift(np.uint16(1), np.where(inside, labels - BLANK - 1, 15), dtype=np.uint16)
    grid = seen.reshape(-1, size, size)
    boxes = grid.reshape(-1, size // height, height, size // width, width)
    every = np.uint16((1 << size) - 1)
    good: Bool[np.ndarray, " N"] = (
        (np.bitwise_or.reduce(grid, axis=1) == every).all(axis=1)
        & (np.bitwise_or.reduce(grid, axis=2) == every).all(axis=1)
        & (np.bitwise_or.reduce(boxes, axis=(2, 4)) == every).all(axis=(1, 2))
    )
    return good


def augment(
    inputs: UInt8[np.ndarray, "B L"],
    labels: UInt8[np.ndarray, "B L"],
    size: int,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "B L"], UInt8[np.ndarray, "B L"]]:
    """Apply to each puzzle its own uniformly random symmetry, the same to input and label."""
    height, width = BOX[size]
    batch = len(inputs)
    rows = _line_order(batch, size, height, rng)
    columns = _line_order(batch, size, width, rng)
    source = rows[:, :, None] * size + columns[:, None, :]
    if height == width:
        turned = rng.random(batch) < 0.5
        source[turned] = source[turned].swapaxes(1, 2)
    cells = source.reshape(batch, -1)
    relabel = np.empty((batch, size + 2), dtype=np.uint8)
    relabel[:, : BLANK + 1] = np.arange(BLANK + 1)
    relabel[:, BLANK + 1 :] = _permutations(batch, size, rng) + (BLANK + 1)
    return (
        np.take_along_axis(relabel, np.take_along_axis(inputs, cells, 1), 1),
        np.take_along_axis(relabel, np.take_along_axis(labels, cells, 1), 1),
    )


def _permutations(batch: int, length: int, rng: np.random.Generator) -> Int[np.ndarray, "B length"]:
    # Ranks of independent draws are uniform over permutations.
    order: Int[np.ndarray, "B length"] = rng.random((batch, length)).argsort(axis=1)
    return order


def _line_order(
    batch: int, size: int, depth: int, rng: np.random.Generator
) -> Int[np.ndarray, "B size"]:
    """Random order of `size` lines that keeps each group of `depth` neighbours together."""
    groups = size // depth
    outer = _permutations(batch, groups, rng)
    inner = _permutations(batch * groups, depth, rng).reshape(batch, groups, depth)
    lines: Int[np.ndarray, "B size"] = (outer[:, :, None] * depth + inner).reshape(batch, size)
    return lines


def signature(
    inputs: UInt8[np.ndarray, "N L"], labels: UInt8[np.ndarray, "N L"], size: int
) -> UInt64[np.ndarray, " N"]:
    """Hash each puzzle so that symmetric puzzles ALWAYS hash equal.

    Colour refinement (Weisfeiler-Leman) over the cells of a puzzle: a cell starts as "clue" or "no
    clue" and repeatedly takes in the colours of its row, column, box, band, stack and of the cells
    with the same digit in the solution.  Every step uses only *which* cells belong together and
    sums over them, never an index, an order or the name of a digit, so a symmetry merely moves the
    colours around, and the final sum over all cells does not see that.

    Hence two sets of puzzles without a common signature have no two puzzles that are equal up to
    symmetry: a proof of disjointness.  The converse may fail, inequivalent puzzles can collide,
    which costs a caller no more than a dropped puzzle.
    """
    hashes = np.empty(len(inputs), dtype=np.uint64)
    for first in range(0, len(inputs), CHUNK):
        part = slice(first, first + CHUNK)
        hashes[part] = _refine(inputs[part] != BLANK, labels[part], size)
    return hashes


def _refine(
    clue: Bool[np.ndarray, "N L"], labels: UInt8[np.ndarray, "N L"], size: int
) -> UInt64[np.ndarray, " N"]:
    height, width = BOX[size]
    count = len(clue)
    grid = (count, size, size)
    blocks = (count, size // height, height, size // width, width)
    # In a complete grid every digit fills `size` cells: sorted by digit, they form equal rows.
    by_digit = labels.argsort(axis=1, kind="stable")
    # Puzzles whose labels are no complete grid still get some hash.
    position = by_digit.argsort(axis=1) // size
    colour = clue.astype(np.uint64)
    for _ in range(ROUNDS):
        colour = _mix(colour)
        square, boxed = colour.reshape(grid), colour.reshape(blocks)
        row = np.broadcast_to(square.sum(2, keepdims=True), grid)
        column = np.broadcast_to(square.sum(1, keepdims=True), grid)
        box = np.broadcast_to(boxed.sum((2, 4), keepdims=True), blocks).reshape(grid)
        band = np.broadcast_to(boxed.sum((2, 3, 4), keepdims=True), blocks).reshape(grid)
        stack = np.broadcast_to(boxed.sum((1, 2, 4), keepdims=True), blocks).reshape(grid)
        sums = np.take_along_axis(colour, by_digit, 1).reshape(grid).sum(2)
        digit = np.take_along_axis(sums, position, 1).reshape(grid)
        across = _mix(row * _ODD[0] + band * _ODD[1])
        # Transposition swaps (row, band) with (column, stack); only then may both count the same.
        down = _mix(column * _ODD[0] + stack * _ODD[1])
        lines = across + down if height == width else across + down * _ODD[2]
        colour = (square * _ODD[3] + box * _ODD[4] + digit * _ODD[5] + lines).reshape(count, -1)
    total: UInt64[np.ndarray, " N"] = _mix(_mix(colour).sum(1))
    return total


_ODD = np.array(
    [
        0x9E3779B97F4A7C15,
        0xBF58476D1CE4E5B9,
        0x94D049BB133111EB,
        0xD6E8FEB86659FD93,
        0xA0761D6478BD642F,
        0xE7037ED1A0B428DB,
    ],
    dtype=np.uint64,
)
"""Odd multipliers that tell the neighbourhoods apart (splitmix64 and wyhash constants)."""


def _mix(values: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection with full avalanche."""
    values = values + _ODD[0]
    values = (values ^ (values >> np.uint64(30))) * _ODD[1]
    values = (values ^ (values >> np.uint64(27))) * _ODD[2]
    mixed: UInt64[np.ndarray, "*shape"] = values ^ (values >> np.uint64(31))
    return mixed
