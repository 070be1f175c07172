from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm_lab.tasks.sudoku_generate import generate
from trm_lab.tasks.sudoku_grid import BLANK, BOX, augment, signature, valid
from trm_lab.tasks.sudoku_solver import solve

CLUES = {4: 5, 6: 11, 9: 32}
GEOMETRIC = {4: 8 * 8 * 2, 6: 48 * 72}


@pytest.fixture(scope="module")
def puzzles():
    count = {4: 40, 6: 40, 9: 12}
    return {
        size: generate(size, clues, {"train": count[size]}, seed=5)["train"]
        for size, clues in CLUES.items()
    }


def cell_orders(size, count, seed):
    """Which cell each cell of `count` augmented grids came from.

    PAD and blank are never relabelled, so cell numbers can be sent through bit by bit.
    """
    numbers = np.arange(size * size)
    found = np.zeros((count, size * size), dtype=np.int64)
    for bit in range(7):
        plane = np.tile((numbers >> bit & 1).astype(np.uint8), (count, 1))
        found |= augment(plane, plane, size, np.random.default_rng(seed))[0].astype(int) << bit
    return found


def all_cell_orders(size):
    """Every geometric symmetry as a permutation of cells, by nested loops."""
    height, width = BOX[size]

    def line_orders(depth):
        groups = size // depth
        for outer in permutations(range(groups)):
            for inner in product(permutations(range(depth)), repeat=groups):
                yield [g * depth + k for g, order in zip(outer, inner, strict=True) for k in order]

    orders = set()
    for rows, columns in product(line_orders(height), list(line_orders(width))):
        order = np.array(rows)[:, None] * size + np.array(columns)
        orders.add(tuple(order.ravel()))
        if height == width:
            orders.add(tuple(order.T.ravel()))
    return orders


def canonical(inputs, labels, orders):
    """Least form of a puzzle over all symmetries: exact, unlike the signature."""
    size = int(len(inputs) ** 0.5)
    grids, clues = labels[orders], (inputs != BLANK)[orders]
    first = np.argsort(grids, axis=1, kind="stable")[:, ::size]
    names = np.argsort(np.argsort(first, axis=1), axis=1)
    relabelled = np.take_along_axis(names, grids.astype(int) - BLANK - 1, 1)
    return min(map(bytes, np.concatenate([relabelled, clues], axis=1).astype(np.uint8)))


def test_valid_accepts_solutions_and_refuses_every_spoilt_cell(puzzles):
    for size, some in puzzles.items():
        assert valid(some.labels, size).all()
        spoilt = np.repeat(some.labels[:1], size * size, axis=0)
        diagonal = np.arange(size * size)
        for token in (0, BLANK, BLANK + size + 1, 255):
            spoilt[diagonal, diagonal] = token
            assert not valid(spoilt, size).any()


def test_valid_checks_boxes_and_not_only_lines():
    latin = np.array([[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2], [4, 1, 2, 3]], dtype=np.uint8)
    assert not valid(latin.reshape(1, 16) + BLANK, 4)[0]


@pytest.mark.parametrize("size", [4, 6, 9])
def test_augmented_labels_stay_valid_and_agree_with_inputs(puzzles, size):
    some = puzzles[size]
    inputs, labels = augment(some.inputs, some.labels, size, np.random.default_rng(0))
    assert inputs.dtype == labels.dtype == np.uint8
    assert valid(labels, size).all()
    assert ((inputs == labels) | (inputs == BLANK)).all()
    assert ((inputs != BLANK).sum(axis=1) == CLUES[size]).all()
    assert (inputs != some.inputs).any(axis=1).all()


@pytest.mark.parametrize("size", [4, 6, 9])
def test_augmentation_commutes_with_solving(puzzles, size):
    some = puzzles[size]
    inputs, labels = augment(some.inputs, some.labels, size, np.random.default_rng(1))
    for question, answer in zip(inputs[:12], labels[:12], strict=True):
        assert solve((question - BLANK).tolist()) == [tuple(answer - BLANK)]


@pytest.mark.parametrize("size", [4, 6])
def test_augmentation_reaches_every_geometric_symmetry_and_no_other(size):
    orders = set(map(tuple, cell_orders(size, 60_000, seed=2)))
    assert orders == all_cell_orders(size)
    assert len(orders) == GEOMETRIC[size]


@pytest.mark.slow
def test_augmentation_is_uniform_over_all_3072_symmetries_of_4x4():
    count = 120_000
    solution = np.tile(np.arange(16, dtype=np.uint8) // 4 + BLANK + 1, (count, 1))
    images = augment(solution, solution, 4, np.random.default_rng(3))[0]
    orders = cell_orders(4, count, seed=3)
    relabel = np.zeros((count, 4), dtype=np.uint8)
    np.put_along_axis(relabel, orders // 4, images, axis=1)
    _, seen = np.unique(np.concatenate([orders, relabel], axis=1), axis=0, return_counts=True)
    assert len(seen) == 128 * 24
    expected = count / 3072
    chi_square = ((seen - expected) ** 2 / expected).sum()
    assert abs(chi_square - 3071) < 4 * (2 * 3071) ** 0.5


def test_augmentation_draws_each_puzzle_its_own_symmetry():
    assert len(set(map(tuple, cell_orders(9, 500, seed=4)))) == 500


@pytest.mark.parametrize("size", [4, 6, 9])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_signature_is_the_same_for_symmetric_puzzles(puzzles, size, seed):
    some = puzzles[size]
    moved = augment(some.inputs, some.labels, size, np.random.default_rng(seed))
    np.testing.assert_array_equal(signature(*moved, size), some.signature)


@pytest.mark.slow
def test_signature_tells_inequivalent_6x6_puzzles_apart():
    some = generate(6, 12, {"train": 250}, seed=8)["train"]
    orders = np.array(sorted(all_cell_orders(6)))
    classes = {canonical(*puzzle, orders) for puzzle in zip(some.inputs, some.labels, strict=True)}
    signatures = set(some.signature.tolist())
    assert len(signatures) <= len(classes)
    assert len(signatures) > 0.99 * len(classes)
    assert len(classes) == 250


def test_signature_classes_of_4x4_are_the_exact_ones():
    some = generate(4, 4, {"train": 300}, seed=0)["train"]
    orders = np.array(sorted(all_cell_orders(4)))
    forms = [canonical(*puzzle, orders) for puzzle in zip(some.inputs, some.labels, strict=True)]
    pairs = set(zip(forms, some.signature.tolist(), strict=True))
    assert len(pairs) == len(set(forms)) == len(set(some.signature.tolist())) == 13


def test_signature_sees_the_clues_and_the_solution(puzzles):
    some = puzzles[9]
    fewer = some.inputs.copy()
    fewer[np.arange(len(some)), (fewer != BLANK).argmax(axis=1)] = BLANK
    assert (signature(fewer, some.labels, 9) != some.signature).all()
    mask = some.inputs[0] != BLANK
    other = np.where(mask, some.labels[1], BLANK).astype(np.uint8)
    assert signature(other[None], some.labels[1:2], 9)[0] != some.signature[0]


def test_signature_does_not_depend_on_the_company(puzzles):
    some = puzzles[6]
    many = signature(np.tile(some.inputs, (60, 1)), np.tile(some.labels, (60, 1)), 6)
    np.testing.assert_array_equal(many, np.tile(some.signature, 60))


def test_signature_golden():
    labels = np.array([[1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]], dtype=np.uint8) + 1
    inputs = np.where(np.arange(16) % 3 == 0, labels, BLANK).astype(np.uint8)
    assert [hex(value) for value in signature(inputs, labels, 4).tolist()] == ["0xe81d36754660eadf"]
