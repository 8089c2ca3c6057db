"""Arguments of a verb as JSON and back: options are dataclasses, paths are text, and nothing else is let in.

What comes back is checked against the annotations of the verb, because a run.json may be a stranger's.
"""

import dataclasses
import inspect
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from magic_cli.errors import DataError, MagicError, kind_in_words, problem

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
_SCALARS: tuple[type, ...] = (bool, int, float, str)


def to_json(value: object) -> Json:
    """Return a value as JSON: dataclasses and mappings as objects, paths as text, sequences as lists.

    Raises:
        TypeError: a value of another type, which is a mistake of the program.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no argument that can be recorded")


def from_json(verb: Callable[..., object], values: Mapping[str, Json], where: str) -> dict[str, object]:
    """Return the arguments of a verb from their JSON form.

    Args:
        verb: the function; its annotations say what is allowed.
        values: by parameter name; a parameter with a default may be missing.
        where: names the source in messages.

    Raises:
        DataError: an unknown argument or option, or a value of another type; all of them at once.
    """
    hints = {name: kind for name, kind in get_type_hints(verb).items() if name != "return"}
    lines = [
        problem(f"{where}:{name}", "an unknown argument", " or ".join(hints), "use the version that wrote it")
        for name in values
        if name not in hints
    ]
    required = {p.name for p in inspect.signature(verb).parameters.values() if p.default is p.empty}
    missing = sorted(required - values.keys())
    arguments = {}
    for name in hints.keys() & values.keys():
        try:
            arguments[name] = _value(hints[name], values[name], f"{where}:{name}")
        except DataError as error:
            lines += error.problems
    lines += [problem(f"{where}:{name}", "nothing", "a value", "is it a run.json of this version?") for name in missing]
    if lines:
        raise DataError(lines)
    return arguments


def _value(kind: Any, value: Json, where: str) -> object:
    """Return a value as its annotation asks; the first alternative of a union that fits is taken."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value(args[0], value, where)
    if origin in (Union, types.UnionType):
        return _alternative(args, value, where)
    if origin is Literal and value in args:
        return value
    if isinstance(value, dict) and dataclasses.is_dataclass(kind):
        return _options(kind, value, where)
    if isinstance(value, dict) and _is_a(origin, Mapping):
        return {name: _value(args[1], item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list) and _is_a(origin, Sequence):
        return tuple(_value(args[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    return _scalar(kind, value, where)


def _is_a(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


def _scalar(kind: Any, value: Json, where: str) -> object:
    if kind is type(None) and value is None:
        return None
    if kind is float and type(value) is int:
        return float(value)
    if kind in _SCALARS and type(value) is kind:
        return value
    raise DataError(problem(where, kind_in_words(type(value)), _name(kind), "is it a run.json of this version?"))


def _alternative(kinds: Sequence[Any], value: Json, where: str) -> object:
    problems: Sequence[str] = ()
    for kind in kinds:
        if get_origin(kind) is os.PathLike:  # written as text, which is another alternative
            continue
        try:
            return _value(kind, value, where)
        except DataError as error:
            problems = error.problems
    names = " or ".join(_name(kind) for kind in kinds if get_origin(kind) is not os.PathLike)
    got = kind_in_words(type(value))
    raise DataError(
        problems if isinstance(value, dict) else problem(where, got, names, "is it a run.json of this version?")
    )


def _options(kind: Any, values: Mapping[str, Json], where: str) -> object:
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name for field in dataclasses.fields(kind) if field.init}
    lines = [
        problem(f"{where}.{name}", "an unknown option", f"one of {kind.__name__}", "use the version that wrote it")
        for name in values
        if name not in fields
    ]
    options = {}
    for name in fields & values.keys():
        try:
            options[name] = _value(hints[name], values[name], f"{where}.{name}")
        except DataError as error:
            lines += error.problems
    if lines:
        raise DataError(lines)
    try:
        return kind(**options)
    except MagicError as error:  # a value out of range
        raise DataError([f"{where}: {line}" for line in error.problems]) from None


def _name(kind: Any) -> str:
    return kind_in_words(kind) if isinstance(kind, type) else str(kind)
