"""Parts from somebody else's code: found, checked, written down, run, and refused with a reason."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.extension.example import edit
from trm_lab import Rollouts, evaluate_run
from trm_lab.accounting import account
from trm_lab.config import Model, Recipe, TwoLatents, load_recipe, recipe_from
from trm_lab.config import extension as extension_module
from trm_lab.config.extension import Extensible, sources
from trm_lab.config.source import Source, parse_yaml
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.study.matrix import expand_study
from trm_lab.training import Execution, train

EXECUTION = Execution(device="cpu", threads=1)


def ring(k: int = 3) -> dict[str, Any]:
    return {"kind": "my_parts:Ring", "k": k}


def recipe(*changes: str) -> Recipe:
    """The ring's cell of the example."""
    cells = expand_study(parse_yaml(Path("sorting.yaml").read_text(), "sorting.yaml")).cells
    return cells[1].recipe


def loaded(layout: str) -> Recipe:
    return load_recipe(f"preset: trm_att\nmodel:\n  layout: {layout}\n", "r.yaml")


def refused(layout: str) -> str:
    with pytest.raises(ConfigError) as error:
        loaded(layout)
    assert "\n" not in str(error.value)
    return str(error.value)


def module(folder: Path, text: str, name: str = "theirs") -> None:
    head = (
        "from trm_lab.config.contracts import *\n"
        "from trm_lab.config.contracts import OwnLayout\n"
        "from trm_lab.config.layout import Update\n"
    )
    (folder / f"{name}.py").write_text(head + text)


def test_the_example_is_read_with_its_values(folder: Path) -> None:
    found = recipe()
    layout, task = found.model.layout, found.task
    assert layout.latents == ("z0", "z1", "z2", "y")
    assert layout.k == 3
    assert found.model.mixer.kind == "my_parts:Mean"
    assert found.supervision.halting.probability == 0.8
    assert (task.cells, task.vocabulary, task.train) == (5, 5, 64)
    # Of the two arms only the layout differs, so the other one has our own.
    (two, _) = expand_study(parse_yaml(Path("sorting.yaml").read_text(), "s")).cells
    assert two.recipe.model.layout == TwoLatents()


def test_a_recipe_with_parts_of_ones_own_survives_a_file(folder: Path) -> None:
    found = recipe()
    data = found.as_dict()
    assert data["model"]["layout"] == {"kind": "my_parts:Ring", "k": 3, "nets": 1}
    assert data["task"]["digits"] == 3
    for again in (
        recipe_from(Source(data, "again")),
        load_recipe(yaml.safe_dump(data), "yaml"),
        Recipe.model_validate_json(json.dumps(data)),
        found.with_seed(3).with_seed(0),
    ):
        assert again == found
        assert again.id == found.id
        assert hash(again) == hash(found)
    assert type(again.model.layout) is type(found.model.layout)


def test_the_identity_holds_kind_and_fields(folder: Path) -> None:
    assert loaded('{kind: "my_parts:Ring", k: 3}').id == loaded("{kind: my_parts:Ring, k: 3}").id
    assert loaded("my_parts:Ring") == loaded("{kind: my_parts:Ring, k: 2}")
    (folder / "other.py").write_text("from my_parts import Ring\n")
    several = ["{kind: my_parts:Ring, k: 3}", "my_parts:Ring", "other:Ring", "two_latents"]
    assert len({loaded(layout).id for layout in several}) == 4


def test_an_object_built_in_python_is_named_by_its_path(folder: Path) -> None:
    loaded("my_parts:Ring")
    made = sys.modules["my_parts"].Ring(k=4)
    assert made.kind == "my_parts:Ring"
    model = Model(layout=made)
    assert model.layout is made
    assert Model.model_validate(model.model_dump(mode="json")) == model
    assert model.effective_depth == 2 * 3 * 7


def test_sources_say_where_the_code_is_from(folder: Path) -> None:
    found = sources(recipe())
    assert set(found) == {"my_parts:Sorting", "my_parts:Ring", "my_parts:Mean", "my_parts:Sure"}
    assert {f["package"] for f in found.values()} == {""}
    (digest,) = {f["source"] for f in found.values()}
    assert int(digest, 16) > 0
    assert sources(load_recipe("preset: hrm\n", "r")) == {}


def test_it_trains_and_says_what_code_it_ran(folder: Path) -> None:
    found = recipe()
    assert train(found, folder / "run", execution=EXECUTION) is State.COMPLETED
    run = RunFolder(folder / "run")
    assert run.recipe() == found
    assert run.status()["environment"]["own"] == sources(found)
    losses = [r["loss"] for r in run.records() if r["kind"] == "train"]
    assert losses[-1] > 0
    # Ring: 3 blocks' worth of weights in one net, and the table of parameters counts the mixer.
    assert run.status()["accounting"]["params"] == account(found).params


@pytest.mark.parametrize("gradient", ["last_cycles", "whole_program", "last_updates"])
def test_its_flops_are_torchs_own_count(folder: Path, gradient: str) -> None:
    from tests.test_accounting import counted, expected
    from trm_lab.parameters import Geometry, parameters

    found = load_recipe(
        yaml.safe_dump({**recipe().as_dict(), "model": {
            **recipe().as_dict()["model"], "gradient": gradient}}), "r"
    )  # fmt: skip
    geometry, rule = Geometry.of(found.task), found.supervision.halting
    assert counted(found.model, geometry, rule) == expected(found.model, geometry, rule)
    assert parameters(found.model, geometry)["net.0.layer.0.mixer.mean"].shape == (16, 16)


@pytest.fixture
def entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install two distributions, by their metadata, whose module is the example's."""
    for name, points in (
        ("rings", "[trm_lab.layouts]\nring = my_parts:Ring\ntwice = my_parts:Ring\n"),
        ("others", "[trm_lab.layouts]\ntwice = elsewhere:Ring\ntwo_latents = my_parts:Ring\n"),
    ):
        info = folder / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(folder)
    extension_module._entry_points.cache_clear()
    importlib.invalidate_caches()


@pytest.mark.usefixtures("entry_point")
def test_an_installed_package_gives_kinds_by_name() -> None:
    found = loaded("{kind: ring, k: 5}")
    assert found.model.layout.kind == "ring"
    assert found.model.layout.latents[-2:] == ("z4", "y")
    assert recipe_from(Source(found.as_dict(), "again")) == found
    assert loaded("ring").id != loaded("my_parts:Ring").id
    # Our own kinds come first.
    assert type(loaded("two_latents").model.layout) is TwoLatents


def test_a_dot_for_the_colon_of_a_path_is_told(folder: Path) -> None:
    assert refused("my_parts.Ring") == (
        "r.yaml:3:3: model.layout: no such kind 'my_parts.Ring'; did you mean my_parts:Ring?"
    )
    assert refused("a.b.Ring").endswith("did you mean a.b:Ring?")
    assert refused("q.3").endswith("known: two_latents, one_latent, many_latents, looped")


@pytest.mark.usefixtures("entry_point")
def test_a_run_whose_package_is_gone_or_another_names_it(folder: Path) -> None:
    data = recipe().as_dict()
    data["model"]["layout"] = "ring"
    run = RunFolder(folder / "run")
    assert train(recipe_from(Source(data, "r")), run.path, execution=EXECUTION) is State.COMPLETED
    own = (run.status() or {})["environment"]["own"]
    status = json.loads(run.status_file.read_text())
    status["environment"]["own"] = {"ring": {**own["ring"], "package": "rings 1.2"}}
    run.status_file.write_text(json.dumps(status))

    def told() -> list[str]:
        with pytest.raises(ConfigError) as error:
            evaluate_run(run.path, Rollouts(steps=(1,)), execution=EXECUTION)
        return str(error.value).split("\n")

    points = folder / "rings-1.2.dist-info" / "entry_points.txt"
    points.unlink()
    extension_module._entry_points.cache_clear()
    assert [line.partition("no such kind ")[2][:6] for line in told()] == ["'ring'"]
    (folder / "rings-1.2.dist-info" / "METADATA").write_text("Name: rings\nVersion: 1.3\n")
    ran = f"{run.recipe_file}: ring was of rings 1.2 when it ran, "
    assert told()[1:] == [f"{ran}of which 1.3 is installed"]
    (folder / "rings-1.2.dist-info" / "METADATA").unlink()
    points.parent.rmdir()
    importlib.invalidate_caches()
    assert told()[1:] == [f"{ran}which is not installed"]


@pytest.mark.usefixtures("entry_point")
def test_an_unknown_kind_is_told_with_the_installed_ones() -> None:
    assert refused("rung") == ("r.yaml:3:3: model.layout: no such kind 'rung'; did you mean ring?")
    assert refused("qqqq").endswith("many_latents, looped, ring, twice")
    assert refused("twice") == (
        "r.yaml:3:3: model.layout: twice: given by several packages (others, rings); "
        "name it by its import path"
    )


def test_a_field_of_ones_own_is_refused_at_its_place(folder: Path) -> None:
    assert refused("{kind: my_parts:Ring, kk: 3}") == (
        "r.yaml:3:33: model.layout.kk: unknown setting; did you mean k?"
    )
    assert refused("{kind: my_parts:Ring, k: 1}") == (
        "r.yaml:3:33: model.layout.k: input should be greater than or equal to 2, not 1"
    )


def test_a_message_of_two_lines_is_one_error(folder: Path) -> None:
    head = "class Ring(OwnLayout):\n"
    check = "    def model_post_init(self, _):\n        if self.k == 5:\n            raise "
    edit(folder, head, head + check + "ValueError('k is too large:\\n  take 2')\n\n")
    assert refused("{kind: my_parts:Ring, k: 5}").endswith("k is too large: take 2")
    text = Path("sorting.yaml").read_text()
    assert "k: 3" in text
    with pytest.raises(ConfigError, match="k is too large: take 2"):
        expand_study(parse_yaml(text.replace("k: 3", "k: 5"), "s"))


IMPORTS = {
    "no module": ("nowhere.parts:Ring", "nowhere.parts:Ring: no module nowhere; it must be "
                  "installed, on PYTHONPATH or in {here}, where this was started"),
    "no submodule": ("my_parts.more:Ring", "my_parts.more:Ring: no module my_parts.more; "),
    "no name": ("my_parts:Rong", "my_parts:Rong: {here}/my_parts.py has no Rong"),
    "no path": ('"my_parts:"', "'my_parts:' is no import path; write package.module:Class"),
    "no class": ("my_parts:np", "my_parts:np: <module 'numpy' from"),
    "another contract": ("my_parts:Sure", "my_parts:Sure: Sure does not derive from "
                         "trm_lab.config.contracts.OwnLayout"),
    "a module that fails": ("broken:Ring", "broken:Ring: importing broken failed: "
                            "ZeroDivisionError: division by zero"),
    "a module that lacks another": ("lacking:Ring", "lacking:Ring: importing lacking failed: "
                                    "No module named 'not_there'"),
    "a function": ("os:system", "os:system: <built-in function system> does not derive"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPORTS)
def test_a_path_that_leads_nowhere_says_why(folder: Path, case: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "lacking.py").write_text("import not_there\n")
    path, expected = IMPORTS[case]
    found = refused(path)
    assert found.startswith("r.yaml:3:3: model.layout: " + expected.format(here=folder))


def test_a_missing_module_is_told_once_with_its_first_place(folder: Path) -> None:
    (folder / "my_parts.py").unlink()
    source = parse_yaml(Path("sorting.yaml").read_text(), "s")
    source.data["variants"][0]["set"]["model.layout"] = "theirs:A"
    with pytest.raises(ConfigError) as error:
        expand_study(source)
    where = f"it must be installed, on PYTHONPATH or in {folder}, where this was started"
    assert str(error.value).split("\n") == [
        f"s:5:3: task: my_parts:Sorting: no module my_parts; {where}",
        f"s:19:44: model.layout: theirs:A: no module theirs; {where}",
    ]


CLASSES = {
    "two members missing": (
        "class A(OwnLayout):\n nets: int = 1\n latents = property(lambda s: ('z',))\n",
        "theirs:A: A lacks answer, cycle; see trm_lab.config.contracts.OwnLayout",
    ),
    "indices out of range": (
        "class A(OwnLayout):\n"
        " nets: int = 1\n answer: int = 0\n latents = property(lambda s: ('z',))\n"
        " def cycle(self, n):\n  return (Update(write=0, state=(1,), net=2),)\n",
        "theirs:A: cycle(1)[0]: 1 is no index of 1 latents; "
        "cycle(1)[0]: 2 is no index of 1 nets; cycle(2)[0]",
    ),
    "an answer never written": (
        "class A(OwnLayout):\n"
        " nets: int = 1\n answer: int = 1\n latents = property(lambda s: ('z', 'y'))\n"
        " def cycle(self, n):\n  return (Update(write=0, state=(0,)),)\n",
        "theirs:A: cycle(1) never writes the answer, latent 1; cycle(2)",
    ),
    "a member that fails": (
        "class A(OwnLayout):\n"
        " nets: int = 1\n answer: int = 0\n latents = property(lambda s: ('z',))\n"
        " def cycle(self, n):\n  return 1 / 0\n",
        "theirs:A: ZeroDivisionError: division by zero",
    ),
    "not frozen": (
        "class A(OwnLayout):\n"
        " model_config = {'frozen': False}\n"
        " nets: int = 1\n answer: int = 0\n latents = property(lambda s: ('z',))\n"
        " def cycle(self, n):\n  return (Update(write=0, state=(0,)),)\n",
        "theirs:A: A must stay frozen and forbid extra fields",
    ),
    "a field that no file can hold": (
        "class A(OwnLayout):\n"
        " nets: int = 1\n answer: int = 0\n sizes: tuple[int, ...] = (1, 2)\n"
        " latents = property(lambda s: ('z',))\n"
        " def cycle(self, n):\n  return (Update(write=0, state=(0,)),)\n",
        "theirs:A: does not survive a recipe file: sizes: Input should be a valid tuple",
    ),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_class_that_breaks_its_contract_says_where(folder: Path, case: str) -> None:
    text, expected = CLASSES[case]
    module(folder, text)
    assert refused("theirs:A").startswith("r.yaml:3:3: model.layout: " + expected)


SHORT = (
    "class A(OwnLayout):\n"
    " nets: int = 1\n answer: int = 3\n latents = property(lambda s: ('a', 'b', 'c', 'y'))\n"
    " def cycle(self, n):\n"
    "  return (*(Update(write=i, state=(i,)) for i in range(n)), Update(write=3, state=(3,)))\n"
    "class B(A):\n"
    " def cycle(self, n):\n"
    "  return [Update(write=3, state=(3,))] * (n if n < 5 else 1 / 0)\n"
)


def test_a_cycle_is_held_to_its_contract_at_every_n_of_a_recipe(folder: Path) -> None:
    module(folder, SHORT)
    text = "preset: trm_att\nmodel: {{layout: theirs:{}, n: {}}}\nsupervision: {}\n"

    def told(*parts: Any) -> str:
        with pytest.raises(ConfigError) as error:
            load_recipe(text.format(*parts), "r.yaml")
        return str(error.value)

    stage = "{curriculum: [{until: 0.5, n: 5}]}"
    outside = "cycle(5)[4]: 4 is no index of 4 latents"
    assert load_recipe(text.format("A", 4, "{}"), "r").model.n == 4
    assert told("A", 5, "{}") == f"r.yaml:2:9: model: layout: theirs:A: {outside}"
    assert told("A", 4, stage) == f"r.yaml:2:9: model.layout: theirs:A: {outside}"
    assert told("B", 5, "{}") == (
        "r.yaml:2:9: model: layout: theirs:B: cycle(5): ZeroDivisionError: division by zero"
    )


def test_a_run_is_not_evaluated_at_an_n_that_its_layout_has_no_cycle_for(folder: Path) -> None:
    module(folder, SHORT)
    data = recipe().as_dict()
    data["model"] |= {"layout": "theirs:A", "n": 4}
    run = folder / "run"
    train(recipe_from(Source(data, "r")), run, execution=EXECUTION)
    for n, told in (
        (5, "n: theirs:A: cycle(5)[4]: 4 is no index of 4 latents"),
        (6, "n: theirs:A: cycle(6)[4]: 4 is no index of 4 latents; "
            "cycle(6)[5]: 5 is no index of 4 latents"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            evaluate_run(run, Rollouts(n=n), execution=EXECUTION)
        assert str(error.value).startswith(told)
        assert not list((run / "evaluation").glob("*.nc"))
    assert evaluate_run(run, Rollouts(steps=(1,), n=2), execution=EXECUTION).grid.attrs["n"] == 2


def test_an_object_is_held_to_its_contract_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    module(folder, "class A(OwnLayout):\n"
           " nets: int = 1\n answer: int = 1\n latents = property(lambda s: ('z', 'y'))\n"
           " def cycle(self, n):\n  return (Update(write=0, state=(0,)),)\n")  # fmt: skip
    theirs = importlib.import_module("theirs")
    with pytest.raises(ValidationError, match=r"theirs:A: cycle\(1\) never writes the answer"):
        Model(layout=theirs.A())


MIXERS = {
    "shapes that are none": ("return {'w': 16}", "return 1",
                             "parameters gives 16 for w, which is no shape"),
    "no mapping": ("return ['w']", "return 1", "parameters gives ['w'], which is no mapping"),
    "no count": ("return {'w': (16, 16)}", "return 0.5", "flops gives 0.5, which is no count"),
    "a failure": ("return model.widht", "return 1", "AttributeError: 'Model' object has no "
                  "attribute 'widht'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXERS)
def test_a_mixer_is_held_to_shapes_and_counts(folder: Path, case: str) -> None:
    parameters, flops, expected = MIXERS[case]
    (folder / "mixing.py").write_text(
        "from trm_lab.config.contracts import OwnMixer\n"
        "class M(OwnMixer):\n"
        f" def parameters(self, model, positions):\n  {parameters}\n"
        f" def flops(self, model, positions):\n  {flops}\n"
        " def build(self, model, positions, dtype, device):\n  return None\n"
    )
    with pytest.raises(ConfigError) as error:
        load_recipe("preset: trm_mlp\nmodel: {mixer: mixing:M}\n", "r.yaml")
    assert str(error.value) == f"r.yaml:2:9: model.mixer: mixing:M: {expected}"


def test_a_task_is_held_to_what_it_says(folder: Path) -> None:
    from trm_lab.tasks.build import build

    head = "import my_parts\nfrom trm_lab.tasks.dataset import Puzzles\n"
    (folder / "tasks.py").write_text(
        head + "class Short(my_parts.Sorting):\n"
        " def load(self, cache):\n"
        "  return {k: p for k, p in super().load(cache).items() if k != 'test'}\n"
        "class Wide(my_parts.Sorting):\n"
        " vocabulary = property(lambda s: 4)\n"
        " def load(self, cache):\n"
        "  return my_parts.Sorting().load(cache)\n"
        "class Long(my_parts.Sorting):\n"
        " def load(self, cache):\n"
        "  return my_parts.Sorting(cells=7).load(cache)\n"
        "class Many(my_parts.Sorting):\n"
        " identifiers = property(lambda s: 3)\n"
    )
    with pytest.raises(ConfigError) as error:
        load_recipe("preset: trm_att\ntask: tasks:Many\n", "r.yaml")
    assert str(error.value) == (
        "r.yaml:2:1: task: tasks:Many: identifiers must be 1, not 3: all puzzles share one"
    )
    for name, expected in (
        ("Short", "task tasks:Short: load gives no test puzzles"),
        ("Wide", "task tasks:Wide: train puzzles have token 5, and vocabulary 4 ends at 3"),
        ("Long", "task tasks:Long: train puzzles have 7 cells, and the task says 5"),
    ):
        task = load_recipe(f"preset: trm_att\ntask: tasks:{name}\n", "r").task
        with pytest.raises(ConfigError) as error:
            build(task)
        assert str(error.value) == expected
    data = build(load_recipe("preset: trm_att\ntask: my_parts:Sorting\n", "r").task)
    assert (data.train.labels[:, 1:] >= data.train.labels[:, :-1]).all()
    assert data.augment is None
    assert len(data.fingerprint) == 16
    again = build(load_recipe("preset: trm_att\ntask: {kind: my_parts:Sorting}\n", "r").task)
    assert again.fingerprint == data.fingerprint


def test_every_extensible_union_is_marked() -> None:
    from trm_lab.config.model import Model as ModelSetting
    from trm_lab.config.supervision import Supervision

    marks = {
        mark.group
        for owner in (Recipe, ModelSetting, Supervision)
        for field in owner.model_fields.values()
        for mark in field.metadata
        if isinstance(mark, Extensible)
    }
    assert marks == {"layouts", "mixers", "halting", "tasks"}
