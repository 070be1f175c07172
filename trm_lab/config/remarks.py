"""What is accepted and yet may surprise.

Settings that do not act as written, and recipes that compute the same under two ids.

Ids stay as they are and recipes written earlier stay valid; `validate` and `plan` say these things.
"""

import json
from collections.abc import Sequence
from typing import Any

from trm_lab.config.gradient import (
    Gradient,
    Implicit,
    LastCycles,
    LastUpdates,
    Phantom,
    RandomTruncation,
)
from trm_lab.config.halting import AsTrained, Confidence, Fixed, QLearning, Residual, WhenHalted
from trm_lab.config.loops import SampledDepth
from trm_lab.config.recipe import Recipe


def remarks(recipe: Recipe) -> list[str]:
    """List the settings of a recipe that do not act as written, a line each."""
    return _longer(recipe) + _unwritten(recipe) + _unmoved(recipe)


def computation(recipe: Recipe) -> str:
    """Give a text that two recipes share where they train alike, bit for bit.

    Gradients are compared by what they leave without a graph, and settings without effect are left
    out.  Recipes that differ here may still be the same function.
    """
    fields = recipe.model_dump(mode="json", exclude={"seed": True, "model": {"gradient"}})
    fields["supervision"] |= _halting(recipe)
    if recipe.model.puzzle is None:
        del fields["train"]["table_optimizer"]
    effects = [_effect(recipe.model.gradient, cycle, T) for cycle, T in _programs(recipe)]
    return json.dumps([fields, effects], sort_keys=True)


def twins(recipes: Sequence[Recipe]) -> list[list[int]]:
    """Group the places of recipes that are the same computation, where there is more than one."""
    groups: dict[str, list[int]] = {}
    for place, recipe in enumerate(recipes):
        groups.setdefault(computation(recipe), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _halting(recipe: Recipe) -> dict[str, Any]:
    """Give null, or something shared, for those settings of halting that nothing depends on."""
    supervision, policy = recipe.supervision, recipe.eval.policy
    rule = supervision.halting
    same: dict[str, Any] = {}
    once, silent = recipe.most_steps == 1, isinstance(rule, Fixed | Residual)
    if once or isinstance(rule, Fixed):  # every puzzle leaves at its budget, explored or not
        same |= {"exploration": None, "exploration_law": None}
    if not supervision.exploration or recipe.most_steps == 2:  # where every law gives 2
        same |= {"exploration_law": None}
    if silent:
        same |= {"halt_weight": None}
    own = isinstance(policy, WhenHalted) and isinstance(policy.rule, AsTrained)
    if once and not own and (silent or isinstance(rule, Confidence | QLearning)):
        same |= {"halting": "no loss" if silent else "loss of halting"}
    return same


def _programs(recipe: Recipe) -> list[tuple[int, int]]:
    """List updates of a cycle and cycles of every program that the recipe runs.

    Those of all stages of training, with every T that may be drawn, and the one of evaluation.
    """
    model, depth = recipe.model, recipe.supervision.depth
    found = [(len(model.layout.cycle(model.n)), model.T)]
    for _, counts in recipe.spans():
        lowest = depth.low if isinstance(depth, SampledDepth) else counts.T
        cycle = len(model.layout.cycle(counts.n))
        found += [(cycle, T) for T in range(lowest, counts.T + 1)]
    return found


def _effect(gradient: Gradient, cycle: int, T: int) -> Any:
    """Say what a gradient does to a program, whatever it is called."""
    match gradient:
        case RandomTruncation():
            cuts = {truncation.cut(cycle, T) for _, truncation in gradient.law()}
            return cuts.pop() if len(cuts) == 1 else gradient.model_dump()
        case Phantom() if gradient.damping < 1:
            return {**gradient.model_dump(), "k": min(gradient.k, T)}
        case Implicit():
            return gradient.model_dump()
        case _:
            return gradient.cut(cycle, T)


def _longer(recipe: Recipe) -> list[str]:
    """Say where a gradient reaches further than the longest program."""
    updates = max(cycle * T for cycle, T in _programs(recipe))
    cycles = max(T for _, T in _programs(recipe))
    of_updates, of_cycles = f"the {updates} updates of the program", f"the {cycles} cycles (T)"
    match recipe.model.gradient:
        case LastUpdates(k=k) if k > updates:
            what, name, most = f"last_updates k: {k}", of_updates, "it is whole_program"
        case LastCycles(c=c) if c > cycles:
            what, name, most = f"last_cycles c: {c}", of_cycles, "it is whole_program"
        case Phantom(k=k) if k > cycles:
            what, name, most = f"phantom k: {k}", of_cycles, f"it acts as k: {cycles}"
        case RandomTruncation(unit="update", high=high) if high > updates:
            what, name = f"random_truncation high: {high}", of_updates
            most = f"lengths from {updates} on are the whole program"
        case RandomTruncation(unit="cycle", high=high) if high > cycles:
            what, name = f"random_truncation high: {high}", of_cycles
            most = f"lengths from {cycles} on are the whole program"
        case _:
            return []
    return [f"model.gradient: {what} is more than {name}: {most}"]


def _unwritten(recipe: Recipe) -> list[str]:
    """Name the latents that no update ever writes."""
    layout = recipe.model.layout
    ns = sorted({counts.n for _, counts in recipe.spans()})
    written = {update.write for n in ns for update in layout.cycle(n)}
    left = [name for i, name in enumerate(layout.latents) if i not in written]
    if not left:
        return []
    return [
        f"model.layout: {layout.kind} with n: {ns[-1]} never writes {', '.join(left)}, which keep "
        "their initial values; raise model.n, or have fewer latents"
    ]


def _unmoved(recipe: Recipe) -> list[str]:
    """Say where a rule waits for a change that cannot come."""
    rule = recipe.supervision.halting
    if recipe.supervision.carried or not isinstance(rule, Residual):
        return []
    return [
        f"supervision.halting: residual with loop: {recipe.supervision.loop.kind} sees the change "
        "of the same first step at every step: a puzzle halts at once, or hardly before N_sup"
    ]
