"""The worked example of docs/extend.md, as files in a folder."""

import importlib
import re
import sys
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


def forget(folder: Path) -> None:
    """Import the folder's modules anew, as a new process does."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


def edit(folder: Path, old: str, new: str) -> None:
    """Change the text of the example's module; what comes then is another process."""
    file = folder / "my_parts.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    forget(folder)
