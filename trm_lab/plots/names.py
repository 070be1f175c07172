"""Names of cells as figures have them: what tells them apart, in narrow lines."""

import re
from collections import Counter
from collections.abc import Sequence

from trm_lab.plots import style

_TOKEN = re.compile(r"""(?<!\w)(["'])(?:\\.|(?!\1).)*\1|, |.""", re.DOTALL)
"""A quoted text, which no apostrophe inside a word begins; what parts a name; any character."""


def brief(names: Sequence[str]) -> list[str]:
    """Call settings by the ends of their dotted names, where no two of them end alike."""
    keys = {part.partition("=")[0] for name in names for part in _split(name) if "=" in part}
    ends = Counter(key.rpartition(".")[2] for key in keys)
    shown = {f"{key}=": f"{end}=" for key in keys if ends[end := key.rpartition(".")[2]] == 1}

    def said(part: str) -> str:
        key, equals, value = part.partition("=")
        return shown.get(key + equals, key + equals) + value

    return [", ".join(map(said, _split(name))) for name in names]


def distinct(names: Sequence[str]) -> list[str]:
    """Leave out the parts that all names have; a name that has nothing else stays whole."""
    parts = [_split(name) for name in names]
    shared = set(parts[0]).intersection(*parts) if len(parts) > 1 else set()
    left = (", ".join(part for part in own if part not in shared) for own in parts)
    return [short or name for short, name in zip(left, names, strict=True)]


def common(names: Sequence[str]) -> str:
    """Call cells together by the parts that all their names have, or by the first without any."""
    first, *rest = map(_split, names)
    return ", ".join(part for part in first if all(part in own for own in rest)) or names[0]


def _split(name: str) -> list[str]:
    """Cut a name at its commas, but for those of a value: in brackets or quotes."""
    parts, depth = [""], 0
    for token in (found[0] for found in _TOKEN.finditer(name)):
        if token == ", " and not depth:
            parts.append("")
            continue
        parts[-1] += token
        depth = max(0, depth + (token in "([{") - (token in ")]}"))
    return parts


def wrapped(name: str, width: int = style.WRAP) -> str:
    """Break a name at spaces; a word that is too long also after `=`, and then after `.`, `_`, `-`.

    A comma or colon at the end of a line may stand out.
    """
    lines = [""]
    for part in (part for word in re.findall(r"\S+\s*", name) for part in _parts(word, width)):
        if lines[-1] and _length(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _parts(text: str, width: int, breaks: Sequence[str] = ("=", "._-", "")) -> list[str]:
    """Give what a text may be broken into: itself if it is short enough."""
    if _length(text) <= width:
        return [text]
    first, *rest = breaks
    if not first:
        return [text[at : at + width] for at in range(0, len(text), width)]
    found = re.findall(rf"[^{first}]*[{first}]|[^{first}]+", text)
    return [part for one in found for part in _parts(one, width, rest)]


def _length(text: str) -> int:
    return len(text.rstrip(" ,:"))
