"""Import direction, size of modules, names, and that every strategy is under contract."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import trm_lab
from tests import conftest
from tests.contract.instances import INSTANCES
from trm_lab.config import (
    Adam,
    Depth,
    FeedForward,
    Gradient,
    Halting,
    Initial,
    Layout,
    Loop,
    Loss,
    Mixer,
    Optimizer,
    Policy,
    Positions,
    Recipe,
    Rule,
    Schedule,
    StepWeights,
    Task,
    TwoLatents,
)

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trm_lab"
TORCH_FREE = (
    "accounting", "atomic", "config", "discrepancies", "errors", "fit", "formatting", "laws",
    "parameters", "paths", "plots", "published", "report", "results", "runs",
    "selectors", "stats",
)  # fmt: skip
"""Modules and packages that open, fit, draw and report without torch and optuna."""
HEAVY = {"torch", "optuna", "safetensors", "submitit"}
OUTSIDE = {"studies", "sweeps", "analysis", "tests", "bench", "docs"}
LONGEST = 350
OFFICIAL = ("H_cycles", "L_cycles", "halt_max_steps", "z_H", "z_L")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
SCRIPTS = {module_name(path): path for path in sorted((ROOT / "analysis").rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Name every module that a file imports anywhere, for type checking alone excepted."""
    return set(_imports(ast.parse(path.read_text(encoding="utf-8")), module_name(path), path))


def _imports(node: ast.AST, here: str, path: Path) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.orelse:
                yield from _imports(part, here, path)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                package = here.split(".") if path.name == "__init__.py" else here.split(".")[:-1]
                above = package[: len(package) - child.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            # `from package import module` imports the module.
            for alias in child.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base
        else:
            yield from _imports(child, here, path)


def top(name: str) -> str:
    return name.split(".")[0]


def reached(start: str, graph: dict[str, set[str]]) -> dict[str, list[str]]:
    """Give every module that importing `start` reaches, with the way to it."""
    ways, queue = {start: [start]}, [start]
    while queue:
        here = queue.pop()
        packages = {".".join(here.split(".")[:i]) for i in range(1, here.count(".") + 1)}
        for there in sorted(graph.get(here, set()) | packages):
            if there not in ways:
                ways[there] = [*ways[here], there]
                queue.append(there)
    return ways


GRAPH = {name: imports(path) for name, path in (MODULES | SCRIPTS).items()}


def under(package: str) -> list[str]:
    full = f"trm_lab.{package}"
    return [name for name in MODULES if name == full or name.startswith(f"{full}.")]


@pytest.mark.parametrize("package", TORCH_FREE)
def test_no_way_leads_from_here_to_torch_or_optuna(package: str) -> None:
    starts = under(package)
    assert starts, f"trm_lab.{package} is gone: name its successor in TORCH_FREE"
    for start in starts:
        ways = reached(start, GRAPH)
        heavy = [" -> ".join(way) for name, way in ways.items() if top(name) in HEAVY]
        assert heavy == []


def test_the_package_never_imports_the_folders_below_it() -> None:
    wrong = {
        name: found for name in MODULES if (found := {i for i in GRAPH[name] if top(i) in OUTSIDE})
    }
    assert wrong == {}


def test_submitit_is_imported_in_exactly_one_module() -> None:
    assert len([name for name in MODULES if any(top(i) == "submitit" for i in GRAPH[name])]) == 1


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even when first called: what one module builds on stands without it."""
    TopologicalSorter({name: GRAPH[name] for name in MODULES}).prepare()


def test_scripts_of_the_paper_stay_on_this_side_of_the_results() -> None:
    """Figures are drawn from results alone: nothing in analysis/ reaches torch or optuna."""
    for name in SCRIPTS:
        ways = reached(name, GRAPH)
        assert [" -> ".join(w) for n, w in ways.items() if top(n) in HEAVY] == []


def test_imports_name_modules_that_exist() -> None:
    """Guard of the tests above: the walk over imports finds the real modules."""
    ours = {i for found in GRAPH.values() for i in found if top(i) == "trm_lab"}
    assert {i for i in ours if i not in MODULES} == set()
    assert "trm_lab.core.recursion" in reached("trm_lab.training.session", GRAPH)
    assert any(top(i) == "torch" for i in reached("trm_lab.training", GRAPH))
    assert any(top(i) == "torch" for i in reached("trm_lab.verify", GRAPH))


def test_names_of_the_package_are_no_modules() -> None:
    """A module of the same name would take the place of what the package root gives."""
    assert [name for name in trm_lab.__all__ if f"trm_lab.{name}" in MODULES] == []
    assert "trm_lab.training" in MODULES


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("trm_lab", "torch optuna xarray pandas matplotlib"),
        ("trm_lab.config", "torch optuna xarray pandas matplotlib scipy"),
        ("trm_lab.accounting", "torch optuna xarray"),
        ("trm_lab.study.driver", "torch xarray pandas matplotlib"),
        # All that `trm-lab status` needs of us: at 1,000 runs the rest would be most of its time.
        ("trm_lab.cli.app", "torch optuna xarray numpy yaml trm_lab.config"),
        ("trm_lab.study.overview", "torch optuna xarray numpy yaml trm_lab.config"),
    ],
)
def test_importing_settings_leaves_the_large_libraries_out(module: str, absent: str) -> None:
    code = f"import sys, {module}; print([m for m in {absent.split()} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def words(node: ast.AST) -> Iterator[str]:
    """Every identifier and every text of a module."""
    for child in ast.walk(node):
        for field in ("id", "attr", "arg", "name", "value"):
            value = getattr(child, field, None)
            if isinstance(value, str):
                yield value


def test_official_names_live_in_the_importer_alone() -> None:
    allowed = {"trm_lab.official", "trm_lab.verify"}
    found = {
        name
        for name, path in (MODULES | SCRIPTS).items()
        if any(o in w for w in words(ast.parse(path.read_text())) for o in OFFICIAL)
    }
    assert found <= allowed
    assert "trm_lab.official" in found
    settings = [*(ROOT / "studies").rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")]
    assert [p for p in settings if any(o in p.read_text() for o in OFFICIAL)] == []


@pytest.mark.parametrize("name", [*MODULES, *SCRIPTS])
def test_a_module_is_small_and_has_a_subject(name: str) -> None:
    path = (MODULES | SCRIPTS)[name]
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert name.rsplit(".", maxsplit=1)[-1] not in {"utils", "util", "helpers", "common", "misc"}


def calls(path: Path, function: str) -> list[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    return [n for n in nodes if ast.unparse(n.func) == function]


@pytest.mark.parametrize(
    ("function", "option", "value"),
    [("torch.load", "weights_only", True), ("np.load", "allow_pickle", False)],
)
def test_what_a_user_points_at_is_never_unpickled(function: str, option: str, value: bool) -> None:
    found = [(name, call) for name, path in MODULES.items() for call in calls(path, function)]
    assert found
    for name, call in found:
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        # numpy refuses pickles unless told otherwise; torch must be told.
        default = str(value) if function == "np.load" else None
        assert options.get(option, default) == str(value), name
    assert all(top(i) != "pickle" for name in MODULES for i in GRAPH[name])


# Every member of every strategy union is under contract.


def members(union: Any) -> set[type[BaseModel]]:
    """Give the models of an annotated union."""
    return set(get_args(get_args(union)[0]))


def unexercised(instances: dict[Any, tuple[Any, ...]]) -> set[str]:
    return {
        member.__name__
        for union, found in instances.items()
        for member in members(union) - {type(instance) for instance in found}
    }


def unions(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[frozenset[Any]]:
    """Walk the settings below a model; give each union of kinds that a field takes."""
    if model in seen:
        return
    seen.add(model)
    for field in model.model_fields.values():
        models = [m for m in _models(field) if m is not type(None)]
        if field.discriminator:
            yield frozenset(models)
        for other in models:
            yield from unions(other, seen)


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    parts = [field.annotation, *get_args(field.annotation)]
    return [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]


def test_every_member_of_every_union_is_exercised() -> None:
    assert unexercised(INSTANCES) == set()


def test_every_union_of_a_recipe_is_under_contract() -> None:
    found = set(unions(Recipe, set()))
    assert found == {frozenset(members(union)) for union in INSTANCES}
    named = {
        Layout, Gradient, Mixer, FeedForward, Positions, Initial, Halting, Loss, Optimizer,
        Adam, Schedule, Task, Rule, Policy, Loop, StepWeights, Depth,
    }  # fmt: skip
    assert named == set(INSTANCES)
    assert len(found) == len(named)


def test_a_member_without_an_instance_is_found() -> None:
    """Guard: without the instances of one kind the walk does complain."""
    for union, instances in INSTANCES.items():
        for member in members(union):
            rest = tuple(i for i in instances if type(i) is not member)
            assert unexercised({**INSTANCES, union: rest}) == {member.__name__}
    assert TwoLatents in members(Layout)


def test_every_instance_is_of_its_union() -> None:
    for union, instances in INSTANCES.items():
        assert {type(i) for i in instances} <= members(union)
        assert len(set(instances)) == len(instances)


def test_every_kind_has_its_own_name() -> None:
    for union in INSTANCES:
        kinds = [member.model_fields["kind"].default for member in members(union)]
        assert len(set(kinds)) == len(kinds)
        for member in members(union):
            assert get_args(member.model_fields["kind"].annotation) == (
                member.model_fields["kind"].default,
            )


def test_tests_run_on_one_thread() -> None:
    import torch

    assert torch.get_num_threads() == 1


def test_tests_that_share_what_is_dear_to_make_run_on_one_worker() -> None:
    scheduler = conftest.Scheduler.__new__(conftest.Scheduler)
    scope = scheduler._split_scope
    assert all((ROOT / place).exists() for place in conftest.TOGETHER)
    assert scope("tests/slurm/test_slurm_study.py::a") == scope(
        "tests/slurm/test_slurm_faults.py::b"
    )
    assert scope("tests/test_report.py::a") == scope("tests/test_report.py::b[1]")
    assert scope("tests/test_runs.py::a") != scope("tests/test_runs.py::b")
