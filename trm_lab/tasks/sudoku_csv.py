"""Reads and writes 9x9 puzzles in the CSV format of Sudoku-Extreme.

`source,question,answer,rating`: 81 characters row by row, `.` or `0` for a blank; no quoting.  A
fifth column, `guesses`, may hold what `sudoku_solver.grade` counts.  Rating and guesses may be
empty, which reads as unknown.

Everything is checked but uniqueness, for which every puzzle would have to be solved.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from trm_lab.errors import ConfigError
from trm_lab.tasks.dataset import Puzzles, concatenate
from trm_lab.tasks.sudoku_grid import BLANK, signature, valid

COLUMNS = ("source", "question", "answer", "rating")
OPTIONAL = "guesses"
SIZE, CELLS = 9, 81
CHUNK = 20_000
"""Lines parsed at once; bounds the memory taken by Python strings."""

NUMBER = re.compile(r"([0-9]+(\.[0-9]*)?)?", re.ASCII)
NONE = 0
"""Marks characters that are no token."""
TEXT = np.frombuffer(b"?.123456789", dtype=np.uint8)
"""Character of each token."""


def _table(characters: str, first: int) -> UInt8[np.ndarray, "256"]:
    """Token of each character: `first` and up, `NONE` for all others."""
    table = np.full(256, NONE, dtype=np.uint8)
    table[list(characters.encode())] = range(first, first + len(characters))
    return table


IN_ANSWER = _table("123456789", BLANK + 1)
IN_QUESTION = IN_ANSWER + _table(".", BLANK) + _table("0", BLANK)


class Problem(NamedTuple):
    """A row of a chunk that breaks a rule."""

    row: int
    what: str


def read(path: Path | str) -> Puzzles:
    """Read all puzzles of a .csv or .csv.gz file, in order; row i stands on line `line_of(i)`.

    Raises:
        ConfigError: the file cannot be read, or the first line that breaks a rule.
    """
    path = Path(path)
    try:
        with _open(path) as lines:
            header = tuple(next(lines, "").rstrip("\n").split(","))
            if header not in (COLUMNS, (*COLUMNS, OPTIONAL)):
                expected = ",".join(COLUMNS)
                raise ConfigError(
                    f"{path}:1: expected the header {expected} (and perhaps ,{OPTIONAL}), "
                    f"found {','.join(header)!r}"
                )
            chunks = list(_chunks(path, lines, header))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not chunks:
        raise ConfigError(f"{path}: no puzzles after the header")
    return concatenate(chunks)


def line_of(row: int) -> int:
    """Line of the file, from 1, on which puzzle `row`, from 0, stands."""
    return row + 2


def write(path: Path | str, puzzles: Puzzles) -> None:
    """Write puzzles as .csv or .csv.gz; equal puzzles give equal bytes.

    The column `guesses` is added if it is known for any of them.
    """
    graded = not np.isnan(puzzles.guesses).all()
    columns = [
        puzzles.source.tolist(),
        _texts(puzzles.inputs),
        _texts(puzzles.labels),
        _numbers(puzzles.rating),
    ]
    header: tuple[str, ...] = COLUMNS
    if graded:
        columns.append(_numbers(puzzles.guesses))
        header = (*COLUMNS, OPTIONAL)
    text = "".join(",".join(row) + "\n" for row in [header, *zip(*columns, strict=True)])
    payload = text.encode()
    if str(path).endswith(".gz"):
        payload = gzip.compress(payload, compresslevel=9, mtime=0)
    Path(path).write_bytes(payload)


def _open(path: Path) -> TextIOWrapper:
    if path.suffix == ".gz":
        return TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")


def _chunks(path: Path, lines: Iterator[str], header: tuple[str, ...]) -> Iterator[Puzzles]:
    first = 0
    while rows := [line.rstrip("\n").split(",") for line in islice(lines, CHUNK)]:
        parsed = _parse(rows, header)
        if not isinstance(parsed, Puzzles):
            raise ConfigError(f"{path}:{line_of(first + parsed.row)}: {parsed.what}")
        yield parsed
        first += len(rows)


def _parse(rows: list[list[str]], header: tuple[str, ...]) -> Puzzles | Problem:
    """Turn lines into puzzles, or name the first bad one."""
    reasons = ((i, _bad_fields(row, header)) for i, row in enumerate(rows))
    problem = next((Problem(i, what) for i, what in reasons if what), None)
    sound = rows[: problem.row] if problem else rows
    columns = dict(zip(header, zip(*sound, strict=True), strict=True)) if sound else {}
    questions, answers = columns.get("question", ()), columns.get("answer", ())
    inputs, labels = _tokens(questions, IN_QUESTION), _tokens(answers, IN_ANSWER)
    clash = (inputs != BLANK) & (inputs != labels)
    bad = (inputs == NONE).any(1) | (labels == NONE).any(1) | clash.any(1) | ~valid(labels, SIZE)
    if bad.any():
        row = int(bad.argmax())
        problem = Problem(row, _bad_cells(questions[row], answers[row]))
    if problem:
        return problem
    unknown = ("",) * len(rows)
    return Puzzles(
        inputs=inputs,
        labels=labels,
        clues=(inputs != BLANK).sum(axis=1, dtype=np.int16),
        guesses=_values(columns.get(OPTIONAL, unknown)),
        signature=signature(inputs, labels, SIZE),
        rating=_values(columns["rating"]),
        source=np.array(columns["source"], dtype=np.str_),
    )


def _bad_fields(row: list[str], header: tuple[str, ...]) -> str | None:
    """Say what is wrong with the fields of a line, if anything is; cells are not looked at."""
    if len(row) != len(header):
        return f"expected {len(header)} fields ({','.join(header)}), found {len(row)}"
    for name, text in zip(header, row, strict=True):
        if name in ("question", "answer"):
            if len(text) != CELLS:
                return f"{name} has {len(text)} characters, expected {CELLS}"
        elif name != "source" and not NUMBER.fullmatch(text):
            return f"{name} is {text!r}, expected a number or nothing"
    return None


def _bad_cells(question: str, answer: str) -> str:
    """Say what is wrong with the cells of a line known to be wrong."""
    for name, text, allowed in (
        ("question", question, ".0123456789"),
        ("answer", answer, "123456789"),
    ):
        for place, character in enumerate(text, 1):
            if character not in allowed:
                return f"{name} has {character!r} at character {place}, expected one of {allowed}"
    for place, (given, solved) in enumerate(zip(question, answer, strict=True)):
        if given not in (".", "0", solved):
            row, column = divmod(place, SIZE)
            where = f"row {row + 1}, column {column + 1}"
            return f"answer has {solved} at {where}, where the question gives {given}"
    seen = set()
    for place, digit in enumerate(answer):
        row, column = divmod(place, SIZE)
        box = row // 3 * 3 + column // 3
        for unit in (f"row {row + 1}", f"column {column + 1}", f"box {box + 1}"):
            if (unit, digit) in seen:
                return f"answer repeats {digit} in {unit}"
            seen.add((unit, digit))
    raise AssertionError("this line is sound")


def _tokens(texts: Sequence[str], table: UInt8[np.ndarray, "256"]) -> UInt8[np.ndarray, "N 81"]:
    # Characters beyond Latin-1 become "?", which is no token either.
    raw = "".join(texts).encode("latin-1", "replace")
    tokens: UInt8[np.ndarray, "N 81"] = table[np.frombuffer(raw, dtype=np.uint8)]
    return tokens.reshape(len(texts), CELLS)


def _values(texts: Sequence[str]) -> Float32[np.ndarray, " N"]:
    return np.array([float(text) if text else np.nan for text in texts], dtype=np.float32)


def _texts(tokens: UInt8[np.ndarray, "N 81"]) -> list[str]:
    raw = TEXT[tokens].tobytes().decode("ascii")
    return [raw[start : start + CELLS] for start in range(0, len(raw), CELLS)]


def _numbers(values: Float32[np.ndarray, " N"]) -> list[str]:
    # Nine digits identify a float32.
    return ["" if np.isnan(value) else f"{value:.9g}" for value in values.tolist()]
