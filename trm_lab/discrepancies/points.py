"""The 33 points where papers and released code differ or are silent, and where a recipe stands.

Papers: TRM is arXiv 2510.04871, HRM arXiv 2506.21734.  Code: TRM at e7b6871, HRM at 42410da.  A
point with a switch names the setting; the others are facts of this bench, whatever the recipe.
Torch-free.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from trm_lab.accounting import account
from trm_lab.config.blocks import Attention
from trm_lab.config.gradient import LastCycles, LastUpdates
from trm_lab.config.halting import AllSteps, Confidence, Fixed, QLearning
from trm_lab.config.layout import ManyLatents, OneLatent
from trm_lab.config.loops import FullLoop, SlotCarry
from trm_lab.config.recipe import Recipe
from trm_lab.config.supervision import Stablemax
from trm_lab.config.training import AdamATan2, AdamW
from trm_lab.discrepancies.families import Family, family
from trm_lab.discrepancies.stands import (
    Side,
    Stand,
    acts_as,
    apart,
    between,
    fact,
    fact_of_hrm,
    side,
)

GROUPS = 1000
"""Training puzzles of the published Sudoku and Maze sets: drawn rows / 1000 are "epochs"."""
MAZE_CELLS = 900
"""Cells of the 30 x 30 grids of Maze and ARC."""


class Point(NamedTuple):
    """One discrepancy."""

    number: int
    topic: str
    paper: str
    code: str
    switch: str
    """The setting that decides it; empty for a fact."""
    stand: Callable[[Recipe], Stand]


def _no_arc(_: Recipe) -> Stand:
    return apart("no ARC task")


def _trm(recipe: Recipe) -> bool:
    return family(recipe) == "trm"


def _optimizer(recipe: Recipe) -> Stand:
    paper: str = AdamW().kind if _trm(recipe) else AdamATan2().kind
    return between(recipe.train.optimizer.kind, paper, AdamATan2().kind)


def _loss(recipe: Recipe) -> Stand:
    loss = recipe.supervision.loss
    # The paper has both losses, and says nothing of the type.
    return Stand(side(True, loss == Stablemax()), f"{loss.kind}, {loss.dtype}")


def _halt_weight(recipe: Recipe) -> Stand:
    if isinstance(recipe.supervision.halting, Fixed):
        return apart("the halting head learns nothing")
    return between(recipe.supervision.halt_weight, 1.0 if _trm(recipe) else 0.5, 0.5)


def _n(recipe: Recipe) -> Stand:
    if not _trm(recipe):
        return apart("not TRM")
    large = recipe.task.cells == MAZE_CELLS
    return between(recipe.model.n, 6, 4 if large else 6, f"n = {recipe.model.n}")


def _passes(recipe: Recipe) -> tuple[float, str]:
    """Count epochs, and say of what: rows drawn, or puzzles of a batch that is kept for N_sup."""
    drawn = recipe.train.batch * recipe.supervision.steps_per_update / GROUPS
    if not isinstance(recipe.supervision.loop, FullLoop):
        epochs = recipe.train.updates * drawn
        return epochs, f"{epochs:,.0f} epochs of 1,000 rows"
    spans = [(0, None), *recipe.spans()]
    epochs = drawn * sum(
        (end - before) / counts.N_sup for (before, _), (end, counts) in pairwise(spans) if counts
    )
    return epochs, f"{epochs:,.0f} epochs of 1,000 puzzles, more if batches are left early"


def _epochs(recipe: Recipe) -> Stand:
    if not _trm(recipe):
        return apart("not TRM")
    epochs, shown = _passes(recipe)
    near = next((e for e in (60_000, 50_000) if abs(epochs / e - 1) < 0.01), None)
    return between(near, 60_000, 50_000, shown)


def _maze(recipe: Recipe) -> Stand:
    if recipe.task.cells != MAZE_CELLS:
        return apart("no Maze task")
    return between(bool(getattr(recipe.task, "augment", False)), _trm(recipe), False)


def _slots(recipe: Recipe) -> Stand:
    slots = recipe.model.slots
    return between(slots, 1, 16 if _trm(recipe) else 1, f"slots: {slots}")


def _loop(recipe: Recipe) -> Stand:
    loop = recipe.supervision.loop
    if recipe.supervision.N_sup == 1:
        return apart("one supervision step")
    if isinstance(loop, FullLoop):
        return Stand("paper", f"left when {loop.leave} of the batch want to halt")
    shown = (
        f"slots carry over; steps an update: {loop.steps}" if isinstance(loop, SlotCarry) else ""
    )
    return between(loop, None, SlotCarry(), shown or loop.kind)


def _exploration(recipe: Recipe) -> Stand:
    s = recipe.supervision
    if s.N_sup == 1:
        return apart("one supervision step")
    here: object = (s.exploration, s.exploration_law) if s.exploration else None
    code = (0.1, "uniform")
    shown = f"{s.exploration:g}, {s.exploration_law}" if s.exploration else "none"
    return between(here, None if _trm(recipe) else code, code, shown)


def _halting_test(recipe: Recipe) -> Stand:
    rule = recipe.supervision.halting
    if recipe.supervision.N_sup == 1:
        return apart("one supervision step")
    high = f" above {rule.threshold:g}" if isinstance(rule, Confidence) and rule.threshold else ""
    where = "on the batch" if isinstance(recipe.supervision.loop, FullLoop) else "per slot"
    hrm = (QLearning(), "per slot")
    sides: dict[Family, tuple[object, object]] = {
        "trm": ((Confidence(), "on the batch"), (Confidence(), "per slot")),
        "hrm": (hrm, hrm),
        # The baseline's code compares with a q_continue that nothing trains: no rule here does.
        "baseline": (None, None),
    }
    return between((rule, where), *sides[family(recipe)], f"{rule.kind}{high}, {where}")


def _continue_row(recipe: Recipe) -> Stand:
    rule = recipe.supervision.halting
    if isinstance(rule, QLearning):
        sides: dict[Family, Side] = {"trm": "paper", "hrm": "both", "baseline": "neither"}
        return Stand(sides[family(recipe)], "a second pass gives the target")
    return Stand("code" if isinstance(rule, Confidence) else "neither", f"{rule.kind}: one pass")


def _single_z(recipe: Recipe) -> Stand:
    layout = recipe.model.layout
    if not isinstance(layout, OneLatent):
        return apart(f"layout {layout.kind}")
    shown = "x in the last update" if layout.x_in_last else "no x in the last update"
    return between(layout.x_in_last, True, False, shown)


def _multi_z(recipe: Recipe) -> Stand:
    layout = recipe.model.layout
    many = isinstance(layout, ManyLatents)
    return Stand("code", "summed") if many else apart(f"layout {layout.kind}")


def _separate(recipe: Recipe) -> Stand:
    nets = recipe.model.layout.nets
    if nets == 1 or family(recipe) == "hrm":
        return apart("one net" if nets == 1 else "HRM, whose paper has the one-step gradient")
    shown = f"{nets} nets, {account(recipe).graph_updates:g} updates with a graph"
    return Stand(side(acts_as(recipe, LastCycles()), False), shown)


def _one_step(recipe: Recipe) -> Stand:
    if family(recipe) == "baseline":
        return apart("one update, which has a graph")
    one_step = LastUpdates(k=2)
    code = LastCycles() if _trm(recipe) else one_step
    shown = f"{account(recipe).graph_updates:g} updates with a graph"
    return Stand(side(acts_as(recipe, one_step), acts_as(recipe, code)), shown)


def _depth(recipe: Recipe) -> Stand:
    model = recipe.model
    first = {"hrm": (4, 1, 1), "trm": (2, 2, 1)}.get(family(recipe))  # the row with k = T = 1
    paper = (model.layers, model.n, model.T) != first
    return Stand(side(paper, True), f"effective depth {account(recipe).effective_depth}")


def _ema(recipe: Recipe) -> Stand:
    train = recipe.train
    if not _trm(recipe):
        shown = "no averaging" if train.ema is None else f"{train.ema:g}"
        return Stand("both" if train.ema is None else "neither", shown)
    if train.ema is None:
        return Stand("neither", "no averaging")
    if recipe.model.puzzle is None:
        return Stand("both", f"{train.ema:g}, no table")
    return between(train.ema_table, True, False, f"{train.ema:g}, table {train.ema_table}".lower())


def _initial(recipe: Recipe) -> Stand:
    kind = recipe.model.initial.kind
    return between(kind, None if _trm(recipe) else "fixed", "fixed")


def _evaluation(recipe: Recipe) -> Stand:
    last, N_sup = recipe.eval.final_steps[-1], recipe.supervision.N_sup
    same = isinstance(recipe.eval.policy, AllSteps) and last == N_sup
    shown = f"{recipe.eval.policy.kind}, {last} steps of N_sup {N_sup}"
    return Stand("both" if same else "neither", shown)


def _hrm_baseline(recipe: Recipe) -> Stand:
    if family(recipe) != "hrm":
        return apart("not HRM")
    epochs, shown = _passes(recipe)
    code = abs(epochs / 20_000 - 1) < 0.01 and recipe.train.ema is None
    return Stand("code" if code else "neither", f"trained here, {shown}")


def _subset(recipe: Recipe) -> Stand:
    seed = getattr(recipe.task, "data_seed", None)
    return Stand("neither", "a fixed set" if seed is None else f"drawn with data_seed {seed}")


def _no_slots(recipe: Recipe) -> Stand:
    puzzle = recipe.model.puzzle
    if puzzle is None:
        return Stand("neither", "no puzzle slots, and it runs")
    return Stand("both", f"dim {puzzle.dim}")


def _params(recipe: Recipe) -> Stand:
    cost = account(recipe)
    return Stand("both", f"{cost.params:,}, and {cost.table_params:,} in the table")


def _heads(recipe: Recipe) -> Stand:
    model = recipe.model
    if family(recipe) != "baseline" or not isinstance(model.mixer, Attention):
        return apart("not the Transformer baseline")
    heads = (model.mixer.heads, model.head_dim)
    return between(heads, (8, 64), (12, 42), f"{heads[0]} heads of {heads[1]}")


def _direct(recipe: Recipe) -> Stand:
    if family(recipe) != "baseline":
        return apart("not the Transformer baseline")
    N_sup = recipe.supervision.N_sup
    return between(N_sup, 1, 16, f"N_sup {N_sup}")


POINTS: tuple[Point, ...] = (
    Point(1, "optimiser", "AdamW (TRM), AdamATan2 (HRM)", "AdamATan2", "train.optimizer",
          _optimizer),
    Point(2, "loss", "softmax in the pseudo-code, stablemax in the appendix; no type",
          "stablemax in float64; its softmax path crashes", "supervision.loss", _loss),
    Point(3, "weight of the halting loss", "1 (TRM), 0.5 (HRM pseudo-code)", "0.5",
          "supervision.halt_weight", _halt_weight),
    Point(4, "n on Maze and ARC", "6", "4 in the README; 6 on Sudoku", "model.n", _n),
    Point(5, "epochs on Sudoku and Maze", "60,000", "50,000", "train.updates", _epochs),
    Point(6, "augmentation of Maze", "8 symmetries (TRM), none (HRM)",
          "off in the documented command", "task.augment", _maze),
    Point(7, "puzzle slots", "1", "16 in TRM, 1 in HRM", "model.puzzle.slots", _slots),
    Point(8, "deep-supervision loop", "all N_sup steps on one batch, stop when q > 0",
          "slots carry over; one step per update, halted slots refilled", "supervision.loop",
          _loop),
    Point(9, "exploration", "absent in TRM's text", "0.1, at least U{2..N_sup} steps",
          "supervision.exploration", _exploration),
    Point(10, "halting test", "q > 0 on the batch (TRM), q_halt > q_continue per slot (HRM)",
          "per slot: q > 0 (TRM), q_halt > q_continue (HRM; its baseline does not train that)",
          "supervision.halting", _halting_test),
    Point(11, "row with the continue loss (86.1)", "2 passes", "crashes when switched on",
          "supervision.halting", _continue_row),
    Point(12, "HRM's loop", "pseudo-code: nT - 2 updates, (i + 1) % T, loss on the next q",
          "nT - 1 updates of z without graph, y after every n, loss on this q", "",
          fact_of_hrm("code", "as the code")),
    Point(13, "single z", "n + 1 updates, all with x", "n with x, then one without",
          "model.layout.x_in_last", _single_z),
    Point(14, "multi-scale z", "the net sees all z one by one", "latents are summed",
          "", _multi_z),
    Point(15, "row with separate nets (82.4)", "2 nets, the last cycle with its graph",
          "no configuration; HRM's file is one-step only", "model.layout.nets", _separate),
    Point(16, "row with the one-step gradient (56.5)", "the last 2 updates",
          "no switch in TRM", "model.gradient", _one_step),
    Point(17, "depth", "layers T (n + 1), but 9 and 7 in the first row of Table 3",
          "layers T (n + 1): 8 and 6 there", "", _depth),
    Point(18, "voting on ARC", "most common answer of 1000",
          "count, then mean q; votes pooled over all evaluations of a run", "",
          _no_arc),
    Point(19, "score on ARC", "accuracy over test inputs",
          "shares of a task (TRM), all or nothing (HRM)", "", _no_arc),
    Point(20, "ARC-2 data", "1,120 tasks, and 160 of ConceptARC", "1,280 (TRM), 1,120 (HRM)", "",
          _no_arc),
    Point(21, "averaged weights", "of the weights (TRM)",
          "not the puzzle table, raw weights are lost (TRM); none (HRM)",
          "train.ema_table", _ema),
    Point(22, "initial states", "fixed (HRM), not stated (TRM)",
          "fixed random vectors, rounded as the activations", "model.initial", _initial),
    Point(23, "evaluation", "N_sup steps, no halting", "the same", "eval.policy", _evaluation),
    Point(24, "HRM as a baseline", "55.0, copied", "20,000 epochs, no averaging",
          "train.updates", _hrm_baseline),
    Point(25, "the 1,000 Sudoku puzzles", '"1K"', "another random 1,000 at every build", "",
          _subset),
    Point(26, "no puzzle vector", "-", "crashes unless the slots are 0 too", "model.puzzle",
          _no_slots),
    Point(27, "parameters", "5M to 27M, without the puzzle table", "the same", "", _params),
    Point(28, "epochs of data", "-", "count drawn rows, also those thrown away", "",
          fact("neither", "puzzles started are counted, as `examples`")),
    Point(29, "exploration in HRM's text", "with a chance, M_min is 1 otherwise",
          "0 otherwise, which does the same", "", fact_of_hrm("both", "0 otherwise")),
    Point(30, "gradient of stablemax", "-", "NaN at 1 in float32", "",
          fact("neither", "each side sees values of its own sign: finite in every type")),
    Point(31, "heads of the Transformer baseline", "8 layers of the same size: 8 heads of 64",
          "12 heads of width 42", "model.mixer.heads", _heads),
    Point(32, "training of direct prediction", "N_sup not stated; its name says 1",
          "the outer loop stays: 16", "supervision.N_sup", _direct),
    Point(33, "averaging after the last update", "-",
          "goes on over empty updates: ARC-2's last is nearly raw", "",
          fact("neither", "stops with training")),
)  # fmt: skip
"""In the order of their numbers."""
