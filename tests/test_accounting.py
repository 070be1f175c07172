"""Parameters, depth and FLOPs: the published table, and torch's own counter."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.contract.instances import (
    FEED_FORWARDS,
    GRADIENTS,
    HALTINGS,
    INITIALS,
    LAYOUTS,
    MIXERS,
    POSITIONS,
    fitting,
)
from trm_lab.accounting import Flops, account, flops
from trm_lab.config import (
    Attention,
    Fixed,
    GeneratedSudoku,
    Halting,
    Implicit,
    LastCycles,
    LastUpdates,
    LearnedPositions,
    LearnedStart,
    Looped,
    Model,
    NoPositions,
    OneLatent,
    PuzzleSlots,
    QLearning,
    RandomTruncation,
    Recipe,
    Residual,
    Stablemax,
    Supervision,
    TokenMLP,
    Train,
    TwoLatents,
    WholeProgram,
    preset,
)
from trm_lab.config.presets import PRESETS
from trm_lab.config.tables import TABLE_ROWS
from trm_lab.core.core import Core, Weights
from trm_lab.core.supervision import Batch, empty_carry, refill, supervise
from trm_lab.parameters import Geometry, parameters, table_shape, untrained_latents

SUDOKU, MAZE, ARC = Geometry(81, 11, 1), Geometry(900, 6, 1), Geometry(900, 12, 876_406)
ATT, MLP, HRM = (preset(name).model for name in ("trm_att", "trm_mlp", "hrm"))


def changed(model: Model, **changes: Any) -> Model:
    return Model.model_validate({**model.__dict__, **changes})


def params(model: Model, geometry: Geometry) -> int:
    return sum(math.prod(p.shape) for p in parameters(model, geometry).values())


HRM_MLP = changed(
    HRM, layers=2, mixer=TokenMLP(), positions=NoPositions(), puzzle=PuzzleSlots(slots=1)
)
# One net of eight blocks has the parameters of the direct Transformer baseline.
DIRECT = changed(HRM, layout=OneLatent(), layers=8)
TABLE = [
    ("TRM attention", ATT, (6_828_034, 6_822_914, 6_829_058)),
    ("TRM token MLP, 16 slots", MLP, (5_028_866, 18_795_522, 18_801_666)),
    ("TRM token MLP, 4 layers", changed(MLP, layers=4), (10_045_442, None, None)),
    ("TRM attention, 4 layers", changed(ATT, layers=4), (None, 13_638_658, 13_644_802)),
    ("TRM token MLP, 1 layer", changed(MLP, layers=1), (2_520_578, None, None)),
    ("TRM attention, 1 layer", changed(ATT, layers=1), (None, 3_415_042, 3_421_186)),
    ("HRM 4 + 4", HRM, (27_275_266, 27_270_146, 27_276_290)),
    ("HRM 2 + 2 token MLP, 1 slot", HRM_MLP, (9_701_378, 37_123_074, 37_129_218)),
    ("8 layers", DIRECT, (27_275_266, 27_270_146, 27_276_290)),
    (
        "8 layers, 12 heads of 42",
        changed(DIRECT, mixer=Attention(heads=12, head_dim=42)),
        (27_144_194, 27_139_074, 27_145_218),
    ),
]


@pytest.mark.parametrize(
    ("model", "geometry", "expected"),
    [
        pytest.param(model, geometry, count, id=f"{label}, {task}")
        for label, model, counts in TABLE
        for task, geometry, count in zip(
            ("Sudoku", "Maze", "ARC"), (SUDOKU, MAZE, ARC), counts, strict=True
        )
        if count is not None
    ],
)
def test_parameters_are_those_of_the_published_models(
    model: Model, geometry: Geometry, expected: int
) -> None:
    assert params(model, geometry) == expected


@pytest.mark.parametrize(
    ("width", "inner"),
    [(512, 1536), (97, 512), (82, 256), (916, 2560), (384, 1024), (256, 768), (128, 512),
     (64, 256), (1024, 2816)],
)  # fmt: skip
def test_inner_widths_are_the_published_ones(width: int, inner: int) -> None:
    assert Model().inner(width) == inner


def test_rounding_of_inner_widths_is_a_setting() -> None:
    assert Model(round_to=1).inner(64) == 171
    assert Model(round_to=32).inner(64) == 192
    assert Model(expansion=2.5, round_to=8).inner(48) == 80


def test_the_puzzle_table_is_counted_apart() -> None:
    assert table_shape(ATT, ARC) == (876_406, 512)
    assert table_shape(changed(ATT, puzzle=None), ARC) is None
    found = account(preset("trm_att"))
    assert (found.params, found.table_params) == (6_828_034, 512)
    assert account(preset("trm_att", model={"puzzle": None})).table_params == 0


def test_learned_positions_count_one_vector_per_position() -> None:
    learned = changed(ATT, positions=LearnedPositions())
    assert params(learned, SUDOKU) - params(ATT, SUDOKU) == (81 + 16) * 512


@pytest.mark.parametrize("name", PRESETS)
def test_params_are_recurring_and_once(name: str) -> None:
    recipe = preset(name)
    found = account(recipe)
    assert found.recurring_params + found.once_params == found.params
    assert found.params == params(recipe.model, SUDOKU)
    # Token embedding, output head, halting head with bias.
    assert found.once_params == 2 * 11 * 512 + 2 * 512 + 2


def test_depths_are_those_of_the_papers() -> None:
    trm, hrm = account(preset("trm_att")), account(preset("hrm"))
    assert (trm.effective_depth, trm.max_depth, trm.graph_updates) == (42, 672, 7)
    assert (hrm.effective_depth, hrm.max_depth, hrm.graph_updates) == (24, 384, 2)


def counted(
    model: Model,
    geometry: Geometry,
    rule: Halting,
    *,
    N_sup: int = 3,
    batch: int = 2,
    hypotheses: int = 1,
) -> float:
    """FLOPs of one training step per puzzle, by torch's counter, on tensors without content.

    The mean over the draws where the gradient is drawn.  Tensors without content cannot converge.
    """
    scheme = model.gradient
    if isinstance(scheme, RandomTruncation):
        return math.fsum(
            share * counted(changed(model, gradient=one), geometry, rule, N_sup=N_sup, batch=batch)
            for share, one in scheme.law()
        )
    if isinstance(scheme, Implicit):
        fixed = scheme.model_copy(update={"tolerance": 0.0, "backward_tolerance": 0.0})
        model = changed(model, gradient=fixed)
    meta = torch.device("meta")

    def empty(shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, device=meta, requires_grad=True)

    core = Core(model, geometry, torch.float32, meta)
    shape = table_shape(model, geometry)
    weights = Weights(
        {name: empty(p.shape) for name, p in parameters(model, geometry).items()},
        tuple(empty((model.width,)).detach() for _ in untrained_latents(model)),
        empty(shape).detach() if shape else None,
    )
    cells = torch.zeros(batch, geometry.cells, dtype=torch.int64, device=meta)
    puzzles = Batch(cells.int(), cells, cells[:, 0])
    keys = cells[:, 0]
    if hypotheses > 1:
        others = torch.empty(hypotheses - 1, model.width, device=meta)
        weights = replace(weights, others=(others,) * len(weights.initial))
    carry = refill(core, weights, empty_carry(core, weights, puzzles, hypotheses), puzzles, keys)
    rows = weights.rows(puzzles.identifiers)
    leaves = [*weights.params.values()] + ([] if rows is None else [rows.requires_grad_()])
    supervision = Supervision(
        N_sup=N_sup, halting=rule, loss=Stablemax(dtype="float32"), hypotheses=hypotheses
    )
    minimum = torch.zeros(batch, dtype=torch.int32, device=meta)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _, outcome = supervise(core, weights.params, supervision, carry, rows, minimum)
        torch.autograd.grad(outcome.loss, leaves, allow_unused=True)
    return counter.get_total_flops() / batch


def expected(model: Model, geometry: Geometry, rule: Halting, *, N_sup: int = 3) -> float:
    """What the counter should find.

    Accounting takes the backward pass of the halting head for granted, 8 FLOPs per channel; with
    a rule that does not use it that head has no loss and torch leaves it out.
    """
    look_ahead = isinstance(rule, QLearning) and N_sup > 1
    total = flops(model, geometry, look_ahead=look_ahead).total
    return total - 8 * model.width * isinstance(rule, Fixed | Residual)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*PRESETS, *(pytest.param(row, marks=pytest.mark.slow) for row in TABLE_ROWS)]
)
def test_flops_of_the_presets_are_torchs_own_count(name: str) -> None:
    recipe = preset(name)
    rule = recipe.supervision.halting
    found = counted(recipe.model, SUDOKU, rule)
    assert found == expected(recipe.model, SUDOKU, rule)
    unused = 8 * recipe.model.width * isinstance(rule, Fixed | Residual)
    assert account(recipe).flops_per_update == (found + unused) * 768


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [MAZE, ARC], ids=["maze", "arc"])
def test_flops_at_other_geometries_are_torchs_own_count(geometry: Geometry) -> None:
    small = geometry._replace(identifiers=3)
    for published in (ATT, MLP, HRM):
        model = changed(published, n=1, T=2)
        assert counted(model, small, QLearning()) == expected(model, small, QLearning())


@pytest.mark.slow
@settings(max_examples=60)
@given(
    layout=st.sampled_from(LAYOUTS),
    gradient=st.sampled_from(GRADIENTS),
    mixer=st.sampled_from(MIXERS),
    ffn=st.sampled_from(FEED_FORWARDS),
    initial=st.sampled_from(INITIALS),
    norm=st.sampled_from(["post", "pre"]),
    scale=st.sampled_from([1.0, 0.5]),
    head=st.sampled_from(["untied", "tied"]),
    positions=st.sampled_from(POSITIONS),
    rule=st.sampled_from(HALTINGS),
    puzzle=st.sampled_from([None, PuzzleSlots(slots=2, dim=7)]),
    n=st.integers(1, 3),
    T=st.integers(1, 2),
    layers=st.integers(1, 2),
    N_sup=st.integers(1, 2),
)
def test_flops_are_torchs_own_count(
    layout: Any, gradient: Any, mixer: Any, ffn: Any, initial: Any, norm: Any, scale: float,
    head: Any, positions: Any, rule: Any, puzzle: Any, n: int, T: int, layers: int, N_sup: int,
) -> None:  # fmt: skip
    model = Model(
        layout=layout, mixer=mixer, positions=fitting(mixer, positions, 8), puzzle=puzzle, ffn=ffn,
        gradient=WholeProgram() if isinstance(initial, LearnedStart) else gradient,
        initial=initial, norm=norm, residual_scale=scale, head=head,
        n=n, T=T, layers=layers, width=8, round_to=4,
    )  # fmt: skip
    geometry = Geometry(9, 6, 2)
    found = counted(model, geometry, rule, N_sup=N_sup)
    # The mean over draws is rounded to whole FLOPs.
    slack = 0.5 if isinstance(gradient, RandomTruncation) else 0
    assert found == pytest.approx(expected(model, geometry, rule, N_sup=N_sup), rel=0, abs=slack)
    stated = flops(model, geometry, look_ahead=isinstance(rule, QLearning) and N_sup > 1).total
    assert stated == pytest.approx(found, rel=0.01)


def test_evaluation_costs_the_forward_pass() -> None:
    recipe = preset("trm_mlp")
    step = flops(recipe.model, SUDOKU, look_ahead=False)
    assert account(recipe).eval_flops == step.forward
    core = Core(MLP, SUDOKU, torch.float32, torch.device("meta"))
    meta = {"device": torch.device("meta")}
    tensors = {k: torch.empty(p.shape, **meta) for k, p in parameters(MLP, SUDOKU).items()}
    z = tuple(torch.empty(2, 97, 512, **meta) for _ in range(2))
    inputs = torch.zeros(2, 81, dtype=torch.int32, **meta)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        core.step(tensors, z, inputs, torch.empty(2, 512, **meta))
    assert counter.get_total_flops() == 2 * step.forward


@pytest.mark.parametrize("name", ["trm_mlp", "hrm"])
def test_every_hypothesis_costs_a_step_and_its_way_back(name: str) -> None:
    small = {"n": 1, "T": 2}
    recipe = preset(name, supervision={"hypotheses": 3}, model=small)
    found = counted(recipe.model, SUDOKU, recipe.supervision.halting, hypotheses=3)
    assert account(recipe).flops_per_update == found * 768
    assert account(recipe).eval_flops == account(preset(name, model=small)).eval_flops


def test_the_look_ahead_is_one_more_forward_pass() -> None:
    with_it, without = (flops(HRM, SUDOKU, look_ahead=b) for b in (True, False))
    assert with_it == Flops(without.forward, without.backward, without.forward)
    assert without.look_ahead == 0
    one = preset("hrm", supervision={"N_sup": 1})
    assert account(one).flops_per_update == 768 * without.total


@settings(max_examples=40)
@given(
    layout=st.sampled_from(LAYOUTS),
    mixer=st.sampled_from(MIXERS),
    n=st.integers(1, 9),
    T=st.integers(1, 6),
)
def test_flops_are_additive_in_n_and_t(layout: Any, mixer: Any, n: int, T: int) -> None:
    def forward(n: int, T: int) -> int:
        model = Model(
            layout=layout, mixer=mixer, positions=NoPositions(), width=12, n=n, T=T,
            puzzle=PuzzleSlots(slots=1, dim=3),
        )  # fmt: skip
        return flops(model, SUDOKU, look_ahead=False).forward

    update = forward(n + 1, 1) - forward(n, 1)
    assert update > 0
    last = not isinstance(layout, Looped)
    heads = forward(1, 1) - (1 + last) * update
    assert forward(n, T) == heads + T * (n + last) * update
    # Output head of 11 values over 82 positions, and the halting head.
    assert heads == 2 * 82 * 12 * 11 + 2 * 12 * 2


@pytest.mark.parametrize("model", [ATT, MLP, HRM], ids=["att", "mlp", "hrm"])
def test_backward_costs_twice_the_updates_with_a_graph(model: Model) -> None:
    def backward(gradient: Any) -> int:
        return flops(changed(model, gradient=gradient), SUDOKU, look_ahead=False).backward

    longer = changed(model, n=model.n + 1)
    update = (
        flops(longer, SUDOKU, look_ahead=False).forward
        - flops(model, SUDOKU, look_ahead=False).forward
    ) // model.T
    # The last update alone reads detached latents only and needs no gradient of its input; one
    # before it reads x, which has a graph.
    assert backward(LastUpdates(k=3)) - backward(LastUpdates(k=2)) == 2 * update
    cycles = backward(LastCycles(c=2)) - backward(LastCycles(c=1))
    assert cycles == 2 * update * (model.n + 1)
    assert backward(WholeProgram()) == backward(LastCycles(c=model.T))
    assert backward(LastUpdates(k=2)) - backward(LastUpdates(k=1)) > 2 * update


def test_graph_updates_are_means_over_stages_and_draws() -> None:
    def graph(gradient: Any, **supervision: Any) -> float:
        base = {"updates": 100, "batch": 8, "schedule": {"warmup": 1}, "dtype": "float32"}
        model = {"n": 2, "T": 3, "gradient": gradient}
        return account(preset("trm_mlp", model=model, supervision=supervision, train=base)
                       ).graph_updates  # fmt: skip

    stages = [{"until": 0.25, "T": 1}, {"until": 0.5, "n": 1, "T": 1}]
    assert graph("whole_program") == 9
    assert graph("whole_program", curriculum=stages) == (25 * 3 + 25 * 2 + 50 * 9) / 100
    assert graph("last_cycles", curriculum=stages) == (25 * 3 + 25 * 2 + 50 * 3) / 100
    for per in ("batch", "puzzle"):
        depth = {"kind": "sampled", "low": 2, "high": 5, "per": per}
        assert graph("whole_program", depth=depth) == pytest.approx((6 + 9 + 12 + 15) / 4)
        assert graph("last_cycles", depth=depth) == 3
    random = {"kind": "random_truncation", "low": 2, "high": 5}
    assert graph(random) == 3.5
    assert graph(random, curriculum=stages) == pytest.approx(
        (25 * (2 + 3 + 3 + 3) / 4 + 25 * 2 + 50 * 3.5) / 100
    )
    linked = {"kind": "slot_carry", "steps": 2, "linked": True}
    found = graph("whole_program", curriculum=stages, loop=linked)
    assert found == 2 * (25 * 3 + 25 * 2 + 50 * 9) / 100


def test_an_account_follows_its_recipe() -> None:
    recipe = Recipe(
        task=GeneratedSudoku(size=4, clues=8),
        model=Model(width=8, mixer=Attention(heads=2), puzzle=None, round_to=4, n=2, T=2, layers=3),
        supervision=Supervision(N_sup=5),
        train=Train(updates=3000, batch=7),
    )
    found = account(recipe)
    step = flops(recipe.model, Geometry(16, 6, 1), look_ahead=False)
    assert found.flops_per_update == 7 * (step.forward + step.backward)
    assert found.effective_depth == 3 * 2 * 3
    assert found.max_depth == 5 * found.effective_depth
    assert found.graph_updates == 3
    two = account(
        recipe.model_copy(update={"model": changed(recipe.model, layout=TwoLatents(nets=2))})
    )
    assert two.recurring_params == 2 * found.recurring_params
    assert two.once_params == found.once_params
