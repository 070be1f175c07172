"""The demonstration study, as package data."""

from importlib.resources import files

from trm_lab.config.source import Source, parse_yaml


def study() -> Source:
    """Give the embedded study."""
    file = files("trm_lab.demo") / "study.yaml"
    return parse_yaml(file.read_text(encoding="utf-8"), "demo/study.yaml")
