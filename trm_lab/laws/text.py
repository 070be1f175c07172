"""Laws as text: `SumPower(EffectiveN(N_once, N_rec, r=T), D)`.

What a law prints is what `parse` reads, so that a saved fit knows its law.
"""

import ast
import inspect
import math
from collections.abc import Callable
from typing import Any

from trm_lab.errors import ConfigError, near_miss
from trm_lab.laws.accuracy import Gompertz, Logistic, NeverSolved, PowerError, Saturating
from trm_lab.laws.axes import Axis, EffectiveN
from trm_lab.laws.base import Law
from trm_lab.laws.bounded import M4
from trm_lab.laws.curves import BNSL, M3, LogQuadratic, TestTime
from trm_lab.laws.power import Power, PowerFloor, SumPower

LAWS: tuple[type[Law], ...] = (
    Power, PowerFloor, SumPower, TestTime, M3, M4, BNSL, LogQuadratic,
    Saturating, PowerError, Logistic, Gompertz, NeverSolved,
)  # fmt: skip
"""Every law that can be named."""
_AXES: dict[str, type[Axis]] = {"EffectiveN": EffectiveN}
_WRITE = "write Name(column, ...), with quotes about a column's name that is no plain word"


def law(text: str, x: str | None = None) -> Law:
    """Give the law that `text` names.

    A plain name (`saturating`, `PowerFloor`) is a law of the one column `x`; otherwise `text` is a
    call such as `SumPower(N, D)` whose arguments are columns, in quotes where a name is no plain
    word: `SumPower("n params", D)`.

    Raises:
        ConfigError: there is no such law, or its arguments do not fit.
    """
    known: dict[str, type[Law]] = {one.name: one for one in LAWS}
    known |= {one.__name__: one for one in LAWS}
    plain = text.strip()
    if plain.isidentifier():
        made = _find(plain, known, "law")
        if x is None:
            raise ConfigError(f"law {plain}: of which column? write {made.__name__}(column)")
        plain_law: Law = _call(made, plain, [x], {})
        return plain_law
    try:
        tree = ast.parse(plain, mode="eval").body
    except SyntaxError:
        open_ = plain.count("(") - plain.count(")")
        hint = "a ')' is missing" if open_ > 0 else _WRITE
        raise ConfigError(f"law: cannot read {text!r}; {hint}") from None
    made = _read(tree, known, text)
    if not isinstance(made, Law):
        raise ConfigError(f"law: {text!r} is not a law; {_WRITE}")
    return made


def _read(node: ast.expr, known: dict[str, type[Law]], text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=attr):
            return f"{_read(inner, known, text)}.{attr}"
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Call(func=ast.Name(id=name)):
            made = _find(name, {**known, **_AXES}, "law")
            args = [_read(one, known, text) for one in node.args]
            kwargs = {str(k.arg): _read(k.value, known, text) for k in node.keywords}
            return _call(made, name, args, kwargs)
        case _:
            part = ast.unparse(node)
            where = "" if part == text.strip() else f"{part!r} in "
            raise ConfigError(f"law: cannot read {where}{text!r}; {_WRITE}")


def _call(made: Callable[..., Any], name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    takes = {k: p for k, p in inspect.signature(made).parameters.items() if k != "fixed"}
    is_law = isinstance(made, type) and issubclass(made, Law)
    held = {key: kwargs.pop(key) for key in list(kwargs) if is_law and key not in takes}
    written = f"{made.__name__}({', '.join(str(one).partition(':')[0] for one in takes.values())})"
    try:
        given = inspect.signature(made).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise ConfigError(f"law {name}: {error}; write {written}") from None
    for key, value in given.items():
        several = takes[key].kind is inspect.Parameter.VAR_POSITIONAL
        for one in value if several else (value,):
            if not _is(one, takes[key].annotation):
                what = str(one) if isinstance(one, Law | Axis) else repr(one)
                raise ConfigError(f"law {name}: {key} cannot be {what}; write {written}")
    try:
        law = made(*args, **kwargs)
    except ValueError as error:
        raise ConfigError(f"law {name}: {error}") from None
    for key, value in held.items():
        if not (isinstance(value, int | float) and math.isfinite(value)):
            raise ConfigError(f"law {name}: {key} is held at a finite number, not {value!r}")
    return law.hold(**held) if held else law


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated kind; a whole number is a float too."""
    return isinstance(value, kind) or (type(value) is int and isinstance(float(value), kind))


def _find(name: str, known: dict[str, Any], what: str) -> Any:
    if name not in known:
        listed = [one for one in known if one[0].isupper()]
        near = near_miss(name, listed if name[:1].isupper() else known)
        names = ", ".join(listed)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"{what}: {name!r} is not one of {names}{hint}")
    return known[name]
