"""What a recipe costs, computed from its settings alone: parameters, depth, FLOPs.

A FLOP is one multiplication or one addition; only matrix products are counted (2 per
multiply-add), as torch's `FlopCounterMode` does.  Element-wise work is a few per cent of the time.
Torch-free.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from trm_lab.config.blocks import (
    Attention,
    Convolution,
    ConvSwiGLU,
    MixtureOfExperts,
    NormGateSwiGLU,
    SwiGLU,
    TokenMLP,
)
from trm_lab.config.contracts import OwnMixer
from trm_lab.config.gradient import Gradient, Implicit, RandomTruncation
from trm_lab.config.halting import QLearning
from trm_lab.config.layout import Update
from trm_lab.config.loops import Counts, SampledDepth
from trm_lab.config.model import Model
from trm_lab.config.recipe import Recipe
from trm_lab.parameters import Geometry, parameters, table_shape


class Flops(NamedTuple):
    """Matrix-product FLOPs of one supervision step of one puzzle in training."""

    forward: int
    backward: int
    look_ahead: int
    """The extra forward pass of Q-learning; 0 for other halting rules."""

    @property
    def total(self) -> int:
        """All three."""
        return sum(self)


class Evaluations(NamedTuple):
    """What the solver of an implicit gradient computed in one supervision step, for all slots."""

    forward: int
    """Cycles, the last one with its graph included."""
    backward: int
    """Products with the Jacobian."""
    ahead: int
    """Cycles of the look ahead of Q-learning; 0 for other halting rules."""


class Account(NamedTuple):
    """The cost of a recipe before it runs; most fields are columns of the results."""

    params: int
    """Trained parameters of the trunk, puzzle table apart."""
    table_params: int
    """Entries of the puzzle table."""
    recurring_params: int
    """Parameters of the nets, applied by every update."""
    once_params: int
    """Embeddings and heads, applied once per supervision step."""
    effective_depth: int
    """layers * T * updates of a cycle (n + 1), of one supervision step, at the recipe's own n and
    T: those of evaluation and of the last stage of training; the most of an implicit gradient."""
    max_depth: int
    """effective_depth * N_sup; effective_depth alone where nothing is carried."""
    graph_updates: float
    """Updates in sequence that keep their graph, of a supervision step or of all linked ones: the
    mean over the stages of a run, expected for a puzzle where T or the gradient is drawn."""
    flops_per_update: int
    """FLOPs of one optimiser update of all slots: the mean over the stages of a run, expected where
    T or the gradient is drawn; the most that an implicit gradient can take."""
    eval_flops: int
    """FLOPs of one supervision step of one puzzle in evaluation, at most."""


def account(recipe: Recipe) -> Account:
    """Count what one recipe has and costs."""
    model, geometry = recipe.model, Geometry.of(recipe.task)
    supervision = recipe.supervision
    chain = supervision.steps_per_update if supervision.linked else 1
    sizes = [(math.prod(p.shape), p.recurring) for p in parameters(model, geometry).values()]
    recurring = sum(size for size, again in sizes if again)
    once = sum(size for size, again in sizes if not again)
    return Account(
        params=recurring + once,
        table_params=math.prod(table_shape(model, geometry) or (0,)),
        recurring_params=recurring,
        once_params=once,
        effective_depth=model.effective_depth,
        max_depth=model.effective_depth * (supervision.N_sup if supervision.carried else 1),
        graph_updates=_mean_graph(recipe) * chain,
        flops_per_update=_mean_update(recipe),
        eval_flops=flops(model, geometry, look_ahead=False).forward,
    )


@lru_cache(maxsize=1024)
def step_flops(
    recipe: Recipe,
    counts: Counts,
    gradient: Gradient | None = None,
    evaluations: Evaluations | None = None,
) -> int:
    """Count the FLOPs of one supervision step of all slots in training, at given counts.

    `gradient` is the one that was drawn and `evaluations` what an implicit one took.  Without them
    the cost is what is known before a run: the mean over the draws, the most that a solver takes.
    """
    supervision, gradient = recipe.supervision, gradient or recipe.model.gradient
    # Without a carry the next step is this one again.
    ahead = supervision.carried and counts.N_sup > 1
    look_ahead = ahead and isinstance(supervision.halting, QLearning)
    cycles = (counts.T, counts.T)
    if evaluations is not None:
        # What a solver took costs what it costs to one that may take no more.
        cycles = (evaluations.forward, evaluations.ahead)
        gradient = gradient.model_copy(update={"backward_iterations": evaluations.backward})
    models = (
        recipe.model.model_copy(update={"n": counts.n, "T": T, "gradient": gradient})
        for T in cycles
    )
    step, after = (flops(m, Geometry.of(recipe.task), look_ahead=look_ahead) for m in models)
    # Every hypothesis goes through the step and back; only the winner is looked ahead from.
    spent = supervision.hypotheses * (step.forward + step.backward) + after.look_ahead
    return spent * recipe.train.batch


def _mean_update(recipe: Recipe) -> int:
    """Mean FLOPs of an update over the stages of training, expected where T is drawn."""
    total = 0
    for updates, law in _stages(recipe, recipe.train.batch):
        step = round(sum(p * step_flops(recipe, counts) for counts, p in law.items()))
        total += updates * step * recipe.supervision.steps_per_update
    # In whole numbers, as a run may have more than 2^53.
    return (total + recipe.train.updates // 2) // recipe.train.updates


def _mean_graph(recipe: Recipe) -> float:
    """Mean over the stages of training of the updates that keep their graph."""

    def kept(counts: Counts) -> float:
        return recipe.model.model_copy(update={"n": counts.n, "T": counts.T}).graph_updates

    stages = _stages(recipe, 1)
    if len(values := {kept(counts) for _, law in stages for counts in law}) == 1:
        return values.pop()  # as it is: the sum below would round
    return (
        math.fsum(
            updates * p * kept(counts) for updates, law in stages for counts, p in law.items()
        )
        / recipe.train.updates
    )


def _stages(recipe: Recipe, slots: int) -> list[tuple[int, dict[Counts, float]]]:
    """List the stages of training as (updates, probability of counts that slots together cost)."""
    depth, before, stages = recipe.supervision.depth, 0, []
    for end, counts in recipe.spans():
        law = depth.law(slots) if isinstance(depth, SampledDepth) else {counts.T: 1}
        stages.append((end - before, {counts._replace(T=T): p for T, p in law.items()}))
        before = end
    return stages


def flops(model: Model, geometry: Geometry, *, look_ahead: bool) -> Flops:
    """Count the FLOPs of one supervision step of one puzzle.

    Forward: T cycles of updates and the heads.  Backward: twice the forward of every update with a
    graph, less one input gradient where the first of them starts from detached values alone.
    An implicit gradient is counted at its most cycles and products with the Jacobian, a drawn one
    at its mean.  What activation checkpointing computes again is not counted.
    """
    S = geometry.cells + model.slots
    cycle = model.layout.cycle(model.n)
    program = cycle * model.T
    update = model.layers * _block_flops(model, S)
    heads = 2 * S * model.width * geometry.vocabulary + 2 * model.width * 2
    forward = len(program) * update + heads
    solved = len({update.write for update in cycle}) * S * model.width
    if isinstance(model.gradient, Implicit):
        forward += _mixing(model.gradient, model.T - 1, solved)

    def backward(gradient: Gradient) -> int:
        graph = program[gradient.cut(len(cycle), model.T) :]
        return 2 * (len(graph) * update + heads) - _skipped(graph) * _first_product(model, S)

    match model.gradient:
        case RandomTruncation():
            law = model.gradient.law()
            back = round(math.fsum(share * backward(drawn) for share, drawn in law))
        case Implicit():
            # A product with the Jacobian passes back through every input, but to no weight.
            product = len(cycle) * (update + model.layers * _between_states(model, S))
            count = model.gradient.backward_iterations
            back = backward(model.gradient) + count * product
            back += _mixing(model.gradient, count, solved)
        case _:
            back = backward(model.gradient)
    return Flops(forward, back, forward if look_ahead else 0)


def _mixing(solver: Implicit, evaluations: int, unknowns: int) -> int:
    """FLOPs of Anderson's least squares in one solve of so many unknowns."""
    columns = [min(k, solver.memory) for k in range(evaluations)]
    return sum(2 * unknowns * c * (c + 2) for c in columns)


def _skipped(graph: tuple[Update, ...]) -> int:
    """Count updates whose input carries no graph: nothing injected, nothing written before."""
    attached: set[int] = set()
    count = 0
    for update in graph:
        reads = {*update.state, *update.context}
        count += not (update.inject or reads & attached)
        attached.add(update.write)
    return count


def _block_flops(model: Model, S: int) -> int:
    D = model.width
    match model.mixer:
        case Attention():
            across = model.mixer.heads * model.head_dim
            mixer = 2 * S * D * 4 * across + 4 * S * S * across
        case TokenMLP():
            mixer = 6 * D * S * model.inner(S)
        case Convolution():
            mixer = 2 * S * 3 * D * D
        case OwnMixer():
            mixer = model.mixer.flops(model, S)
    match model.ffn:
        case SwiGLU() | NormGateSwiGLU() | ConvSwiGLU():  # the short convolution is element-wise
            feed_forward = 6 * S * D * model.inner(D)
        case MixtureOfExperts():
            feed_forward = model.ffn.experts * (6 * S * D * model.inner(D) + 2 * S * D)
    return mixer + feed_forward


def _between_states(model: Model, S: int) -> int:
    """FLOPs of a block's products of two states, whose backward pass has two products each."""
    if isinstance(model.mixer, Attention):
        return 4 * S * S * model.mixer.heads * model.head_dim
    return 0


def _first_product(model: Model, S: int) -> int:
    """FLOPs of the first matrix product of a net, whose input gradient may not be needed."""
    match model.mixer:
        case Attention():
            return 2 * S * model.width * 3 * model.mixer.heads * model.head_dim
        case TokenMLP():
            return 4 * model.width * S * model.inner(S)
        case Convolution():
            return 2 * S * 3 * model.width**2
        case OwnMixer():
            return model.mixer.first_flops(model, S)
