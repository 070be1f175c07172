"""The worked example of docs/extend.md, as files in a folder."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


def block(language: str) -> str:
    """Give the page's one block of a language."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(text)


def write_example(folder: Path) -> Path:
    """Write the module and the study as the page says; give the study's path."""
    (folder / "my_parts.py").write_text(block("python"))
    (folder / "sorting.yaml").write_text(block("yaml"))
    return folder / "sorting.yaml"
