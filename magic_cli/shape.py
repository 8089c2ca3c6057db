"""Does a value certainly fit a JSON Schema? A quick yes; whoever gets a no asks jsonschema, which knows every keyword.

With jsonschema alone, opening the prepared challenge took 1.2 s of CPU time, with a quick yes 0.4 s. It is never yes
where jsonschema's is no: keywords that are not known, and rare types (1.0 for an integer), are doubts, hence no.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_NOTES = {"$schema", "$id", "$defs", "title", "description"}
_KNOWN = {
    *("type", "properties", "patternProperties", "additionalProperties", "required", "propertyNames", "minProperties"),
    *("items", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "minimum", "maximum"),
}


def checker(schema: Any, root: Mapping[str, Any]) -> Check:
    """Return a check that is True only for values that `schema`, a part of the schema `root`, allows."""
    if isinstance(schema, bool):
        return _yes if schema else _doubt
    keys = schema.keys() - _NOTES
    if not keys:
        return _yes
    if keys == {"$ref"}:
        return checker(root.get("$defs", {}).get(schema["$ref"].removeprefix("#/$defs/"), False), root)
    if keys in ({"enum"}, {"const"}):
        options = schema.get("enum", [schema.get("const")])
        return lambda value: any(type(value) is type(option) and value == option for option in options)
    if "type" not in keys or not keys <= _KNOWN:
        return _doubt
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    checks = {kind: _MAKERS.get(kind, _any)(schema, root) for name in names for kind in _TYPES[name]}
    return lambda value: checks.get(type(value), _doubt)(value)


def _yes(_: Any) -> bool:
    return True


def _doubt(_: Any) -> bool:
    return False


def _object(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Check:
    known = {name: checker(inner, root) for name, inner in schema.get("properties", {}).items()}
    patterns = [
        (re.compile(text).search, checker(inner, root)) for text, inner in schema.get("patternProperties", {}).items()
    ]
    others = checker(schema.get("additionalProperties", True), root)
    named = checker({"type": "string", **schema["propertyNames"]}, root) if "propertyNames" in schema else None
    required, least = frozenset(schema.get("required", ())), schema.get("minProperties", 0)

    def check(value: dict[str, Any]) -> bool:
        if len(value) < least or not required <= value.keys():
            return False
        for key, inner in value.items():
            if named and not named(key):
                return False
            found = [known[key]] if key in known else []
            found += [inside for search, inside in patterns if search(key)]
            if not all(inside(inner) for inside in found or (others,)):
                return False
        return True

    return check


def _array(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Check:
    inside = checker(schema.get("items", True), root)
    least, most = schema.get("minItems", 0), schema.get("maxItems", float("inf"))
    unique = schema.get("uniqueItems", False)

    def check(value: list[Any]) -> bool:
        if not least <= len(value) <= most or not all(map(inside, value)):
            return False
        return not unique or (all(type(one) is str for one in value) and len(set(value)) == len(value))

    return check


def _text(schema: Mapping[str, Any], _: Mapping[str, Any]) -> Check:
    least, most = schema.get("minLength", 0), schema.get("maxLength", float("inf"))
    search = re.compile(schema["pattern"]).search if "pattern" in schema else None
    return lambda value: least <= len(value) <= most and (search is None or search(value) is not None)


def _number(schema: Mapping[str, Any], _: Mapping[str, Any]) -> Check:
    least, most = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    return lambda value: least <= value <= most


def _any(_: Mapping[str, Any], __: Mapping[str, Any]) -> Check:
    return _yes


_MAKERS: Mapping[type, Callable[[Mapping[str, Any], Mapping[str, Any]], Check]] = {
    dict: _object,
    list: _array,
    str: _text,
    int: _number,
    float: _number,
}
