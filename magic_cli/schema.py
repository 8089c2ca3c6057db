"""JSON Schemas (draft 2020-12) of what is read and written: found in a wheel and in a checkout."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from magic_cli.errors import named, printable, told
from magic_cli.shape import Check, checker

_PLACES = (Path(__file__).parent / "schemas", Path(__file__).parent.parent / "schemas")


@cache
def load(name: str) -> dict[str, Any]:
    """Return schemas/NAME.schema.json as a dict; FileNotFoundError for a name that does not exist."""
    for place in _PLACES:
        path = place / f"{name}.schema.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    raise FileNotFoundError(f"schemas/{name}.schema.json")


@cache
def _quick(name: str) -> Check:
    return checker(load(name), load(name))


def problems(name: str, value: Any, where: str, most: int = 20) -> list[str]:
    """Return one line `WHERE:FIELD: message` for each violation of schema `name`, in the order of the rows.

    After `most` lines, one more says that others follow. Of values, numbers and single words are shown.
    """
    if _quick(name)(value):
        return []
    from jsonschema import Draft202012Validator  # 0.2 s to import: only where something may be wrong

    lines: list[str] = []
    for error in sorted(Draft202012Validator(load(name)).iter_errors(value), key=_place):
        if len(lines) == most:
            lines.append(f"{where}: more problems of this kind follow; mend these first")
            break
        field = ".".join(named(part) for part in error.absolute_path)  # a key may be a patient's text too
        lines.append(printable(f"{where}{':' if field else ''}{field}: {_short(error)}"))
    return lines


def _place(error: Any) -> list[tuple[bool, Any]]:
    return [(isinstance(part, str), part) for part in error.absolute_path]


def _short(error: Any) -> str:
    if error.validator == "type":
        return f"got {type(error.instance).__name__}, expected {error.validator_value}"
    if error.validator == "required":
        return f"{str(error.message)[:200]}; complete this entry"
    if error.validator == "additionalProperties" and any(told(key) != repr(key) for key in error.instance):
        return "got an unknown key, expected those of the schema"
    if error.validator in ("additionalProperties", "dependentRequired"):
        return str(error.message)[:200]
    return f"got {told(error.instance)}, expected {error.validator} {str(error.validator_value)[:80]}"
