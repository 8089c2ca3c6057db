"""JSON Schemas (draft 2020-12) of all files that are read and written, and validation against them.

jsonschema-rs checks every document and row first, and what it accepts is valid. What it rejects is checked again by
jsonschema, which lists the problems; if it finds none, the value is valid. So the result is always that of jsonschema:
jsonschema-rs only rejects a little more (NaN as a number, an unpaired surrogate, a newline where a pattern ends with
`$`) and accepts nothing else (tests/io/test_schema.py).
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from magic_cli.errors import is_shown, kind_in_words, printable, redact, redact_key

_MOST_SORTED = 10_000

_PLACES = (Path(__file__).parents[1] / "schemas", Path(__file__).parents[2] / "schemas")


@cache
def load(name: str) -> dict[str, Any]:
    """Return schemas/NAME.schema.json as a dict; FileNotFoundError for a name that does not exist."""
    for place in _PLACES:
        path = place / f"{name}.schema.json"
        if path.is_file():
            schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return schema
    raise FileNotFoundError(f"schemas/{name}.schema.json")


def problems(name: str, value: Any, where: str, most: int = 20) -> list[str]:
    """Return one line `WHERE:FIELD: message` for each violation of schema `name`, sorted by position.

    After `most` lines, a last one says that there are more. Values are shown as `errors.redact` shows them.

    Args:
        name: name of a file in schemas/, without ".schema.json".
        value: what `json.loads` returns: dicts, lists, text, numbers, booleans and None.
        where: the file, and in a file of rows the row, with which each line begins.
        most: maximum number of problems to list.
    """
    if _surely_valid(name, value):
        return []
    lines: list[str] = []
    found = islice(_slow_validator(name).iter_errors(value), _MOST_SORTED)  # each takes 2 kB, and there may be millions
    for error in sorted(found, key=_place):
        if len(lines) == most:
            lines.append(f"{where}: more problems of this kind follow; fix these first")
            break
        # a key may be patient text too, unless the schema names it
        field = ".".join(part if part in _names(name) else redact_key(part) for part in error.absolute_path)
        lines.append(printable(f"{where}{':' if field else ''}{field}: {_short(error)}"))
    return lines


def _surely_valid(name: str, value: Any) -> bool:
    """Return whether jsonschema-rs accepts a value; False does not mean that it is invalid."""
    try:
        return _fast_check(name)(value)
    except ValueError:  # an unpaired surrogate, or a value that JSON does not have
        return False


@cache
def _fast_check(name: str) -> Callable[[Any], bool]:
    from jsonschema_rs import Draft202012Validator  # takes 45 ms to import: only when something is checked

    return Draft202012Validator(load(name)).is_valid


@cache
def _slow_validator(name: str) -> Any:
    from jsonschema import Draft202012Validator  # takes 0.2 s to import: only when something may be wrong

    return Draft202012Validator(load(name))


@cache
def _names(name: str) -> frozenset[str]:
    """Return the keys that a schema names, at any depth, and the usual roles of texts."""

    def below(value: Any) -> Iterator[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if isinstance(value, dict) and isinstance(value.get("properties"), dict):
            yield from value["properties"]
        for part in inner:
            yield from below(part)

    return frozenset(below(load(name))) | {"title", "content"}


def _place(error: Any) -> list[tuple[bool, Any]]:
    return [(isinstance(part, str), part) for part in error.absolute_path]


def _short(error: Any) -> str:
    if error.validator == "type":
        return f"got {kind_in_words(type(error.instance))}, expected {error.validator_value}"
    if error.validator == "required":
        return f"{str(error.message)[:200]}; complete this entry"
    if error.validator == "additionalProperties" and not all(
        is_shown(key) for key in error.instance if key not in error.schema.get("properties", {})
    ):
        return "got an unknown key, expected those of the schema"
    if error.validator in ("additionalProperties", "dependentRequired"):
        return str(error.message)[:200]
    return f"got {redact(error.instance)}, expected {error.validator} {str(error.validator_value)[:80]}"
