"""JSON Schemas (draft 2020-12) of what is read and written, found in a wheel and in a checkout, and checks by them.

jsonschema-rs checks every document and row first, and its yes is final. What it does not accept, jsonschema judges: it
lists the problems, and if it finds none, the value is valid. So what is accepted is what jsonschema accepts: of what a
JSON file can hold, jsonschema-rs refuses a little more (NaN as a number, half of a surrogate pair, a newline where a
pattern ends with `$`), and accepts nothing else (tests/io/test_schema.py).
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from magic_cli.errors import printable, redact, redact_key

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
    """Return one line `WHERE:FIELD: message` for each violation of schema `name`, in the order of the rows.

    After `most` lines, one more says that others follow. Of values, numbers and single words are shown.

    Args:
        name: that of a file in schemas/, without its ending.
        value: what `json.loads` returns: dicts, lists, text, numbers, booleans and None.
        where: the file, and the row of a file of rows, to begin each line with.
        most: at most this many problems are listed.
    """
    if _surely_valid(name, value):
        return []
    lines: list[str] = []
    for error in sorted(_slow_validator(name).iter_errors(value), key=_place):
        if len(lines) == most:
            lines.append(f"{where}: more problems of this kind follow; mend these first")
            break
        field = ".".join(redact_key(part) for part in error.absolute_path)  # a key may be a patient's text too
        lines.append(printable(f"{where}{':' if field else ''}{field}: {_short(error)}"))
    return lines


def _surely_valid(name: str, value: Any) -> bool:
    """Return whether jsonschema-rs accepts a value; False is no judgement."""
    try:
        return _fast_check(name)(value)
    except ValueError:  # half of a surrogate pair, or what JSON does not have
        return False


@cache
def _fast_check(name: str) -> Callable[[Any], bool]:
    from jsonschema_rs import Draft202012Validator  # 45 ms to import: not where nothing is checked

    return Draft202012Validator(load(name)).is_valid


@cache
def _slow_validator(name: str) -> Any:
    from jsonschema import Draft202012Validator  # 0.2 s to import: only where something may be wrong

    return Draft202012Validator(load(name))


def _place(error: Any) -> list[tuple[bool, Any]]:
    return [(isinstance(part, str), part) for part in error.absolute_path]


def _short(error: Any) -> str:
    if error.validator == "type":
        return f"got {type(error.instance).__name__}, expected {error.validator_value}"
    if error.validator == "required":
        return f"{str(error.message)[:200]}; complete this entry"
    if error.validator == "additionalProperties" and any(redact(key) != repr(key) for key in error.instance):
        return "got an unknown key, expected those of the schema"
    if error.validator in ("additionalProperties", "dependentRequired"):
        return str(error.message)[:200]
    return f"got {redact(error.instance)}, expected {error.validator} {str(error.validator_value)[:80]}"
