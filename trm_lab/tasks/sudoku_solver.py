"""A plain Sudoku solver: naked singles, hidden singles, then trial in the least open cell.

The state is ONE integer.  Bit `d * L + c` says that digit d + 1 is still possible in cell c
(L cells), so placing a digit is one AND, a copy costs nothing, and "one place left" is found for
all cells (or rows, columns, boxes) and all digits at once with a handful of shifts.

Grids are flat sequences of digits, row by row, 0 for a blank; 16, 36 or 81 cells.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from trm_lab.tasks.sudoku_grid import BOX


class Family(NamedTuple):
    """Constraints of one sort (cells, rows, columns or boxes), all digits together."""

    start: int
    """The first candidate of every constraint, as bits."""
    offsets: tuple[int, ...]
    """Distance from there to each candidate of the constraint."""


class Board(NamedTuple):
    """Tables of one grid size."""

    cells: int
    full: int
    """Every candidate possible."""
    keep: tuple[int, ...]
    """What stays possible when candidate i is placed, itself included."""
    planes: tuple[int, ...]
    """The first candidate of each digit."""
    families: tuple[Family, ...]
    """Cells come first, so naked singles are found before hidden ones."""


class Grade(NamedTuple):
    """How a puzzle fares under this solver."""

    solutions: int
    """0, 1, or 2 for "two or more", where the search stops."""
    guesses: int
    """Values tried while others were left, over the whole search tree.

    To exhaustion, not to the first solution: that number is mostly luck, and changes when a puzzle
    is turned or relabelled.
    """


def solve(grid: Sequence[int], limit: int = 2) -> list[tuple[int, ...]]:
    """Return up to `limit` solutions; one of two asked for proves it unique."""
    tables = board_for(grid)
    search = Search(tables, limit)
    search.run(place(tables, grid))
    return [state_digits(tables, state) for state in search.found]


def grade(grid: Sequence[int]) -> Grade:
    """Count solutions and the guesses of the search that exhausts the puzzle."""
    tables = board_for(grid)
    search = Search(tables, limit=2)
    search.run(place(tables, grid))
    return Grade(len(search.found), search.guesses)


@cache
def board(size: int) -> Board:
    """Tables for a grid of `size` rows."""
    height, width = BOX[size]
    cells, lines = size * size, range(size)
    planes = tuple(digit * cells for digit in lines)
    corners = [r * size + c for r in range(0, size, height) for c in range(0, size, width)]

    def family(firsts: Sequence[int], offsets: Sequence[int]) -> Family:
        return Family(sum(1 << first for first in firsts), tuple(offsets))

    families = (
        family(range(cells), planes),
        family([plane + r * size for plane in planes for r in lines], lines),
        family([plane + c for plane in planes for c in lines], [r * size for r in lines]),
        family(
            [plane + corner for plane in planes for corner in corners],
            [r * size + c for r in range(height) for c in range(width)],
        ),
    )
    full = (1 << (size * cells)) - 1
    keep = [full] * (size * cells)
    for start, offsets in families:
        for first in bits(start):
            members = sum(1 << (first + offset) for offset in offsets)
            for offset in offsets:
                keep[first + offset] &= ~members | 1 << (first + offset)
    return Board(cells, full, tuple(keep), planes, families)


def board_for(grid: Sequence[int]) -> Board:
    """Tables for the size of this grid."""
    return board({size * size: size for size in BOX}[len(grid)])


def bits(mask: int) -> Iterator[int]:
    """Indices of the set bits, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def place(tables: Board, grid: Sequence[int]) -> int:
    """Candidates left when the digits of `grid` are placed and nothing is deduced yet."""
    state = tables.full
    for cell, digit in enumerate(grid):
        if digit:
            state &= tables.keep[tables.planes[digit - 1] + cell]
    return state


def propagate(tables: Board, state: int, done: int = 0) -> tuple[int, int] | None:
    """Place naked and hidden singles until none is left; `None` on a contradiction.

    Returns the candidates, and those of them that are placed.  The result does not depend on the
    order of deductions: each only removes candidates, and no removal undoes another deduction.
    """
    keep = tables.keep
    while True:
        for start, offsets in tables.families:
            once = twice = 0
            for offset in offsets:
                shifted = state >> offset
                twice |= once & shifted
                once |= shifted
            if start & ~once:
                return None
            single = start & ~twice
            new = 0
            for offset in offsets:
                new |= single << offset
            new &= state & ~done
            if new:
                done |= new
                for candidate in bits(new):
                    state &= keep[candidate]
                break
        else:
            return state, done


def least_open(tables: Board, state: int) -> list[int]:
    """Candidates of the first cell with the fewest (at least two), lowest digit first."""
    planes = [state >> plane for plane in tables.planes]
    once = twice = thrice = 0
    for plane in planes:
        thrice |= twice & plane
        twice |= once & plane
        once |= plane
    pairs = tables.families[0].start & twice & ~thrice
    if pairs:
        cell = (pairs & -pairs).bit_length() - 1
    else:  # rare beyond the first steps from an empty grid
        counts = [sum(plane >> c & 1 for plane in planes) for c in range(tables.cells)]
        cell = min((count, c) for c, count in enumerate(counts) if count > 1)[1]
    return [
        start + cell
        for start, plane in zip(tables.planes, planes, strict=True)
        if plane >> cell & 1
    ]


class Search:
    """Depth-first search that keeps what it finds."""

    def __init__(
        self,
        tables: Board,
        limit: int,
        order: Callable[[list[int]], list[int]] | None = None,
    ) -> None:
        """`order` rearranges the values to try in a cell (default: lowest digit first)."""
        self.tables = tables
        self.limit = limit
        self.order = order
        self.guesses = 0
        self.found: list[int] = []

    def run(self, state: int, done: int = 0) -> None:
        """Search below `state` until `limit` solutions are found or none is left."""
        closed = propagate(self.tables, state, done)
        if closed is None:
            return
        state, done = closed
        if done == state:
            self.found.append(state)
            return
        options = least_open(self.tables, state)
        self.guesses += len(options) - 1
        for option in self.order(options) if self.order else options:
            self.run(state & self.tables.keep[option], done)
            if len(self.found) >= self.limit:
                return


def state_digits(tables: Board, state: int) -> tuple[int, ...]:
    """Digits of a state in which every cell has one candidate."""
    grid = [0] * tables.cells
    for candidate in bits(state):
        digit, cell = divmod(candidate, tables.cells)
        grid[cell] = digit + 1
    return tuple(grid)
