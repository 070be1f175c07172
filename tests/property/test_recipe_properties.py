"""What holds for every recipe, drawn at random."""

import json
import random
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.contract.instances import (
    FEED_FORWARDS,
    GRADIENTS,
    HALTINGS,
    INITIALS,
    LAYOUTS,
    LOSSES,
    MIXERS,
    OPTIMIZERS,
    POSITIONS,
    SCHEDULES,
    TASKS,
    fitting,
)
from trm_lab.accounting import account
from trm_lab.config import (
    Eval,
    FixedStart,
    Implicit,
    LastUpdates,
    LearnedStart,
    Looped,
    Model,
    PuzzleSlots,
    Recipe,
    Supervision,
    Train,
    WholeProgram,
    load_recipe,
    recipe_from,
)
from trm_lab.config.source import Source

counts = st.integers(1, 12)
rates = st.floats(1e-6, 1.0, exclude_max=True)
DTYPES = st.sampled_from(["float32", "bfloat16", "float64"])


@st.composite
def recipes(draw: Any) -> Recipe:
    mixer, positions = draw(st.sampled_from(MIXERS)), draw(st.sampled_from(POSITIONS))
    width, gradient = 4 * draw(counts), draw(st.sampled_from(GRADIENTS))
    initial = draw(st.sampled_from(INITIALS))
    model = Model(
        layout=draw(st.sampled_from(LAYOUTS)),
        layers=draw(counts),
        width=width,
        expansion=draw(st.floats(0.5, 8.0)),
        round_to=draw(counts),
        mixer=mixer,
        positions=fitting(mixer, positions, width),
        puzzle=draw(st.sampled_from([None, PuzzleSlots(slots=2, dim=4)])),
        n=draw(counts),
        T=draw(counts),
        gradient=WholeProgram() if isinstance(initial, LearnedStart) else gradient,
        ffn=draw(st.sampled_from(FEED_FORWARDS)),
        initial=initial,
        norm=draw(st.sampled_from(["post", "pre"])),
        residual_scale=draw(st.floats(0.1, 2.0)),
        head=draw(st.sampled_from(["untied", "tied"])),
    )
    supervision = Supervision(
        N_sup=draw(counts),
        halting=draw(st.sampled_from(HALTINGS)),
        exploration=draw(rates),
        halt_weight=draw(rates),
        loss=draw(st.sampled_from(LOSSES)),
    )
    train = Train(
        updates=draw(st.integers(5, 10**6)),
        batch=draw(counts),
        optimizer=draw(st.sampled_from(OPTIMIZERS)),
        schedule=draw(st.sampled_from(SCHEDULES)),
        ema=draw(st.none() | rates),
        dtype="float32" if isinstance(model.gradient, Implicit) else draw(DTYPES),
    )
    steps = draw(st.sets(st.integers(1, 64), min_size=1, max_size=5))
    return Recipe(
        task=draw(st.sampled_from(TASKS)),
        model=model,
        supervision=supervision,
        train=train,
        eval=Eval(steps=tuple(sorted(steps)), best=draw(st.booleans())),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def drawn(recipe: Recipe, **changes: Any) -> Recipe | None:
    """Change the model of a recipe; None where the result would be no model."""
    try:
        model = Model.model_validate({**recipe.model.__dict__, **changes})
    except ValidationError:
        return None
    return recipe.model_copy(update={"model": model})


def shuffled(data: Any) -> Any:
    """Give the same mappings with their keys in another order."""
    if not isinstance(data, dict):
        return data
    keys = list(data)
    random.Random(1).shuffle(keys)
    return {key: shuffled(data[key]) for key in keys}


@settings(max_examples=60)
@given(recipe=recipes())
def test_a_recipe_is_what_it_was_after_writing_and_reading(recipe: Recipe) -> None:
    data = recipe.as_dict()
    assert recipe_from(Source(data, "dict")) == recipe
    for text in (json.dumps(data), yaml.safe_dump(data, default_flow_style=None)):
        again = load_recipe(text, "text")
        assert again == recipe
        assert again.id == recipe.id
    assert recipe_from(Source(shuffled(data), "shuffled")).id == recipe.id


@settings(max_examples=60)
@given(recipe=recipes())
def test_the_account_of_any_recipe_adds_up(recipe: Recipe) -> None:
    found, model = account(recipe), recipe.model
    assert found.params == found.recurring_params + found.once_params
    assert found.recurring_params % (model.layers * model.layout.nets) == 0
    updates = model.T * (model.n + (not isinstance(model.layout, Looped)))
    assert found.effective_depth == model.layers * updates
    assert found.max_depth == found.effective_depth * recipe.supervision.N_sup
    assert 1 <= found.graph_updates <= updates
    assert found.flops_per_update % recipe.train.batch == 0
    per_puzzle = found.flops_per_update // recipe.train.batch
    # Forward, up to two backward passes of it, perhaps one more forward to look ahead, and the
    # products with the Jacobian of one cycle.
    solver = model.gradient if isinstance(model.gradient, Implicit) else None
    products = 8 * solver.backward_iterations if solver else 0
    assert found.eval_flops < per_puzzle <= (4 + products) * found.eval_flops
    assert (found.table_params == 0) == (model.puzzle is None)


@settings(max_examples=60)
@given(recipe=recipes())
def test_more_of_anything_costs_more(recipe: Recipe) -> None:
    base, model = account(recipe), recipe.model
    more = {
        "layers": model.layers + 1, "n": model.n + 1, "T": model.T + 1, "width": model.width + 4,
    }  # fmt: skip
    for name, value in more.items():
        other = drawn(recipe, **{name: value})
        if other is None:
            assert name == "width"
            continue
        found = account(other)
        assert found.eval_flops > base.eval_flops
        assert found.flops_per_update > base.flops_per_update
        assert (found.params > base.params) == (name in ("layers", "width"))
        assert (found.effective_depth > base.effective_depth) == (name != "width")
    updates = model.T * len(model.layout.cycle(model.n))
    one, whole = (
        account(drawn(recipe, gradient=LastUpdates(k=k), initial=FixedStart()))
        for k in (1, updates)
    )
    assert one.graph_updates == 1
    assert whole.graph_updates == updates
    assert (one.flops_per_update < whole.flops_per_update) == (updates > 1)
    assert one.eval_flops == whole.eval_flops
    # Only the solver of an implicit gradient has products of its own in the forward pass.
    mixes = isinstance(model.gradient, Implicit) and model.gradient.memory and model.T > 2
    assert (base.eval_flops > one.eval_flops) == bool(mixes)
