"""What the pages say exists: files, commands, options, make targets; their YAML is valid."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from trm_lab.cli.app import app
from trm_lab.config import Eval, Model, Recipe, Supervision, Train
from trm_lab.config.execution import Sweep
from trm_lab.config.presets import recipe_from
from trm_lab.config.source import parse_yaml
from trm_lab.config.validate import validate
from trm_lab.study.matrix import expand_study
from trm_lab.study.plan import load_sweep

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("trm_lab/**/*.md"),
                 *ROOT.glob("studies/*.md"))
)  # fmt: skip
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]

LINK = re.compile(r"(?<!`)\[[^\]\n]+\]\(([^)\s]+)\)")
CALL = re.compile(r"\btrm-lab ((?:data )?[a-z][a-z-]*)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def shell_lines() -> list[tuple[str, str]]:
    """Every line of a shell block, with its page."""
    return [
        (name(page), line.split(" #")[0].strip())
        for page in PAGES
        for text in blocks(page, "sh")
        for line in text.splitlines()
        if line.strip()
    ]


NO_AXES = {"task", "seed", "model.norm_eps", "model.round_to", "train.updates",
           "train.table_optimizer", "eval.every", "eval.steps"}  # fmt: skip
"""Settings of budget and bookkeeping, which the page of the axes may leave out."""


def test_every_setting_of_a_recipe_is_on_the_page_of_the_axes():
    page = (ROOT / "docs" / "axes.md").read_text()
    fields = {
        f"{section}.{field}"
        for section, kind in (("model", Model), ("supervision", Supervision), ("train", Train),
                              ("eval", Eval))
        for field in kind.model_fields
    } | set(Recipe.model_fields) - {"model", "supervision", "train", "eval"}  # fmt: skip
    assert fields >= NO_AXES
    assert [name for name in sorted(fields - NO_AXES) if f"`{name}`" not in page] == []


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/results.md"} <= set(
        map(name, PAGES)
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file(page: Path):
    links = [link.split("#")[0] for link in LINK.findall(page.read_text())]
    local = [
        link for link in links if link and "://" not in link and not link.startswith("mailto:")
    ]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_named_command_exists(page: Path):
    called = set(CALL.findall(page.read_text()))
    data = {f"data {verb}" for verb in COMMANDS["data"].commands}
    unknown = {verb for verb in called if verb not in {*COMMANDS, *data}}
    assert unknown == set()


@pytest.mark.parametrize(("page", "line"), shell_lines(), ids=lambda v: v[:40])
def test_every_shell_line_names_real_targets_options_and_files(page: str, line: str):
    for part in re.split(r"&&|\|", line):
        words = part.split()
        if words[:1] == ["make"]:
            targets = [w for w in words[1:] if "=" not in w and not w.startswith("<")]
            made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(made)
        if words[:1] == ["trm-lab"]:
            command = COMMANDS[words[1]]
            known = {opt for p in command.params for opt in p.opts}
            options = {w.split("=")[0] for w in words[2:] if w.startswith("--")}
            assert options <= known
    named = re.findall(r"(?:studies|sweeps|analysis|bench)/[\w/]+\.(?:yaml|py|md)", line)
    made_here = set(re.findall(r"> (\S+)", " ".join(text for _, text in shell_lines())))
    copied = re.findall(r"\bcp \S+ (\S+)", " ".join(text for _, text in shell_lines()))
    assert [f for f in named if not (ROOT / f).exists() and f not in {*made_here, *copied}] == []


def test_make_help_names_every_target_and_figures_draws_every_script_that_takes_a_study():
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", text, re.MULTILINE)
    assert sorted(re.findall(r'"make ([a-z-]+) ', text)) == sorted({*targets} - {"help"})
    (apart,) = re.findall(r"filter-out (.*?),", text)
    scripts = set((ROOT / "analysis").glob("*.py"))
    takes = {path for path in scripts if "style.study(" in path.read_text()}
    assert {f"analysis/{path.name}" for path in scripts - takes} == set(apart.split())


def yaml_blocks() -> list[tuple[str, str]]:
    """Every YAML block; that of docs/extend.md needs its module and is run in tests/extension."""
    pages = [page for page in PAGES if page.name != "extend.md"]
    return [(name(page), text) for page in pages for text in blocks(page, "yaml")]


def test_the_readme_shows_a_study():
    studies = [t for page, t in yaml_blocks() if page == "README.md" and "variants:" in t]
    assert len(studies) == 1
    source = parse_yaml(studies[0], "README.md")
    cells = expand_study(source).cells
    assert len(cells) == len(source.data["variants"]) * len(source.data["factors"]["model.T"])


@pytest.mark.parametrize(("page", "text"), yaml_blocks(), ids=lambda v: v[:20])
def test_every_yaml_block_is_valid(page: str, text: str):
    source = parse_yaml(text, page)
    keys = set(source.data)
    if "variants" in keys:
        assert expand_study(source).cells
    elif "executor" in keys:
        assert validate(Sweep, source)
    elif keys & {"task", "preset", "model"}:
        assert recipe_from(source)


def inline_settings() -> list[tuple[str, str]]:
    """Settings in braces within the text: `{kind: local, workers: null}`."""
    return [
        (name(page), found)
        for page in PAGES
        for found in re.findall(r"`(?:[a-z_.]+: )?(\{kind: [^`]*\})`", page.read_text())
        if "..." not in found
    ]


@pytest.mark.parametrize(("page", "text"), inline_settings(), ids=lambda v: v[:40])
def test_every_setting_in_braces_names_a_kind_and_fields_that_exist(page: str, text: str):
    import importlib
    import pkgutil

    import trm_lab.config

    settings: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(trm_lab.config.__path__):
        for made in vars(importlib.import_module(f"trm_lab.config.{module.name}")).values():
            field = getattr(made, "model_fields", {}).get("kind")
            if field is not None and isinstance(field.default, str):
                settings[field.default] = set(made.model_fields)
    # `nets: 1 or 2` and bare names say which fields there are, and are not YAML.
    fields = [part.split(":")[0].strip() for part in text.strip("{}").split(",")]
    kind = text.strip("{}").split(",")[0].split(":")[1].strip()
    assert kind in settings
    assert set(fields) <= settings[kind]


def test_every_folder_of_the_readme_exists():
    text = (ROOT / "README.md").read_text()
    rooms = re.findall(r"^\| `([\w/]+)/`", text, re.MULTILINE)
    assert {"trm_lab", "studies", "sweeps", "analysis"} <= set(rooms)
    assert [room for room in rooms if not (ROOT / room).is_dir()] == []


def test_every_sweep_that_a_page_names_can_be_loaded():
    named = {f for page in PAGES for f in re.findall(r"sweeps/\w+\.yaml", page.read_text())}
    assert "sweeps/smoke.yaml" in named
    for file in sorted(named):
        assert load_sweep(ROOT / file).sweep.name == Path(file).stem


def test_decisions_are_short_and_numbered():
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(f.name[:3]) for f in files] == list(range(1, len(files) + 1))
    for file in files:
        lines = file.read_text().splitlines()
        assert len(lines) <= 40
        assert lines[0].startswith(f"# {file.name[:3]}: ")


def test_the_presets_that_a_page_names_exist():
    from trm_lab.config.presets import KNOWN

    for page in PAGES:
        for text in re.findall(r"preset: ([\w/| ]+)", page.read_text()):
            named = [word.strip() for word in text.split("|")]
            assert set(filter(None, named)) <= set(KNOWN)
