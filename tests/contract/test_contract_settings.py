"""Every strategy is data: frozen, comparable, picklable, and survives a recipe file."""

import copy
import json
import pickle
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from tests.contract.instances import (
    ALL,
    DEPTHS,
    FEED_FORWARDS,
    GRADIENTS,
    HALTINGS,
    INITIALS,
    INSTANCES,
    LAYOUTS,
    LOOPS,
    LOSSES,
    MIXERS,
    OPTIMIZERS,
    POLICIES,
    POSITIONS,
    RULES,
    SCHEDULES,
    STEP_WEIGHTS,
    TASKS,
    name,
)
from trm_lab.config import (
    Attention,
    Eval,
    Implicit,
    LearnedStart,
    Model,
    NoPositions,
    PuzzleSlots,
    QLearning,
    Recipe,
    Supervision,
    Train,
    WhenHalted,
    WholeProgram,
    load_recipe,
    recipe_from,
)
from trm_lab.config.source import Source


def recipe_with(instance: Any) -> Recipe:
    """Put an instance at its place in an otherwise default recipe."""
    kinds = {
        LAYOUTS: ("model", "layout"),
        GRADIENTS: ("model", "gradient"),
        MIXERS: ("model", "mixer"),
        FEED_FORWARDS: ("model", "ffn"),
        INITIALS: ("model", "initial"),
        POSITIONS: ("model", "positions"),
        HALTINGS: ("supervision", "halting"),
        LOSSES: ("supervision", "loss"),
        LOOPS: ("supervision", "loop"),
        STEP_WEIGHTS: ("supervision", "step_weights"),
        DEPTHS: ("supervision", "depth"),
        RULES: ("eval", "policy"),
        POLICIES: ("eval", "policy"),
        OPTIMIZERS: ("train", "optimizer"),
        SCHEDULES: ("train", "schedule"),
        TASKS: ("task", None),
    }
    section, field = next(place for group, place in kinds.items() if instance in group)
    changes = {"model": {}, "supervision": {}, "train": {"updates": 5000}, "eval": {}}
    if field:
        ruled = instance in RULES and instance not in HALTINGS
        changes[section][field] = WhenHalted(rule=instance) if ruled else instance
        changes["eval"] |= {"best": True} if ruled else {}  # else it is the policy of that rule
    if instance in MIXERS and not isinstance(instance, Attention):
        changes["model"]["positions"] = NoPositions()
    if isinstance(instance, LearnedStart) or getattr(instance, "linked", False):
        changes["model"]["gradient"] = WholeProgram()
    if instance == WhenHalted(rule=QLearning()):  # which reads what only this rule trains
        changes["supervision"]["halting"] = QLearning()
    if isinstance(instance, Implicit):  # whose tolerances bfloat16 cannot reach
        changes["train"]["dtype"] = "float32"
    return Recipe(
        task=instance if section == "task" else TASKS[0],
        model=Model(**changes["model"]),
        supervision=Supervision(**changes["supervision"]),
        train=Train(**changes["train"]),
        eval=Eval(**changes["eval"]),
    )


@pytest.mark.parametrize("instance", ALL, ids=name)
def test_a_setting_is_pickled_copied_and_compared_by_value(instance: Any) -> None:
    again = pickle.loads(pickle.dumps(instance))
    assert again == instance
    assert hash(again) == hash(instance)
    assert type(again) is type(instance)
    assert copy.deepcopy(instance) == instance
    others = [other for other in ALL if other is not instance]
    assert instance not in others


@pytest.mark.parametrize("instance", ALL, ids=name)
def test_a_setting_is_frozen_and_refuses_unknown_fields(instance: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        instance.kind = "other"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(instance).model_validate({**instance.model_dump(), "colour": 1})


@pytest.mark.parametrize(
    ("union", "instance"),
    [(union, i) for union, instances in INSTANCES.items() for i in instances],
    ids=lambda value: name(value) if hasattr(value, "kind") else "",
)
def test_a_setting_is_found_by_its_kind(union: Any, instance: Any) -> None:
    adapter = TypeAdapter(union)
    data = instance.model_dump(mode="json")
    assert adapter.validate_python(data) == instance
    assert adapter.validate_json(json.dumps(data)) == instance
    if instance == _defaults(instance):
        assert adapter.validate_python(instance.kind) == instance


def _defaults(instance: Any) -> Any:
    try:
        return type(instance)()
    except ValidationError:  # a kind with a required field has no bare name
        return None


@pytest.mark.parametrize("instance", ALL, ids=name)
def test_a_recipe_survives_being_written_down(instance: Any) -> None:
    recipe = recipe_with(instance)
    data = recipe.as_dict()
    assert recipe_from(Source(data, "again")) == recipe
    assert load_recipe(json.dumps(data), "json") == recipe
    again = load_recipe(yaml.safe_dump(data), "yaml")
    assert again == recipe
    assert again.id == recipe.id
    assert again.as_dict() == data


def test_every_instance_gives_a_recipe_of_its_own_identity() -> None:
    plain = Recipe(task=TASKS[0], model=Model(), train=Train(updates=5000))
    ids = {recipe_with(instance).id for instance in ALL}
    same = [i for i in ALL if recipe_with(i) == plain]
    assert len(ids) == len(ALL) - len(same) + 1
    assert plain.id in ids


def test_sections_are_pickled_and_compared_by_value() -> None:
    sections = [
        Model(puzzle=PuzzleSlots(slots=2)),
        Supervision(N_sup=4),
        Train(updates=10, schedule=SCHEDULES[2]),
        Eval(steps=(1, 2)),
    ]
    for section in sections:
        again = pickle.loads(pickle.dumps(section))
        assert again == section
        assert hash(again) == hash(section)
