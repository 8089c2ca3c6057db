"""shape.py: a yes is never given where jsonschema finds a fault, and is given to all that is usual."""

import copy
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from magic_cli import schema
from magic_cli.data.prepared import open_prepared
from magic_cli.questions import FALLBACK
from magic_cli.shape import checker

ROOT = Path(__file__).parents[1]
ODD = (None, True, False, 0, 1, -1, 1.0, 0.5, 2**70, float("nan"), float("inf"), "", "x", "ann0", "a/b", [], {}, [[]])
SCHEMAS: tuple[dict[str, Any], ...] = (  # each keyword, the unknown ones, and how they go together
    {"type": "integer", "minimum": 0, "maximum": 1},
    {"type": ["number", "null"], "minimum": 0},
    {"type": "string", "minLength": 1, "maxLength": 2, "pattern": "^[a-z]"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": True},
    {"type": "object", "required": ["x"], "additionalProperties": False, "properties": {"x": True, "1": {"const": 1}}},
    {"type": "object", "patternProperties": {"^x": {"type": "null"}}, "additionalProperties": {"type": "boolean"}},
    {"type": "object", "propertyNames": {"pattern": "^x"}, "minProperties": 1},
    {"type": "object", "properties": {"x": False, "": {"type": "array"}}},
    {"enum": ["x", 1, None]},
    {"const": False},
    {"const": 0},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
    {"$ref": "#/$defs/b", "$defs": {"a": {"type": "string"}}},
    {"description": "anything", "title": "x"},
    {"type": "string", "format": "date"},
    {"type": "object", "dependentRequired": {"x": ["y"]}},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"type": "string", "enum": [1, "x"]},
    {"minimum": 1},
)


def objects() -> list[Any]:
    return [*ODD, {"x": 1}, {"x": None}, {"x": 1, "1": 1}, {"1": 1}, {"y": True}, ["x"], ["x", "x"], ["x", "y", "z"]]


def changed(value: Any, dice: random.Random) -> Any:
    """Return a copy in which one thing is another, missing, or there twice."""
    whole = [copy.deepcopy(value)]
    place: Any = whole
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and dice.random() < 0.8:
        place = place[key]
        key = dice.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
    kind = dice.randrange(4)
    if kind == 0 and place is not whole:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[dice.choice(["x", "", "CQID999-001", "a/b"])] = place[key]
    elif kind == 1:
        place.append(place[key])
    else:
        place[key] = dice.choice(ODD)
    return whole[0]


def samples(prepared: Path) -> Iterator[tuple[str, Any]]:
    yield "prepared", json.loads((prepared / "prepare.json").read_text(encoding="utf-8"))
    for name in ("encounter", "image"):
        yield name, json.loads((prepared / f"{name}s.jsonl").read_text(encoding="utf-8").splitlines()[0])
    yield "definitions", json.loads(FALLBACK.read_text(encoding="utf-8"))[:3]
    yield "submission", json.loads((ROOT / "examples" / "preds.json").read_text(encoding="utf-8"))[:2]
    answer = {"index": 1, "text": "b", "probability": 0.5, "probabilities": [0.5, 0.5]}
    yield "prediction", {"encounter_id": "ENC1", "answers": {"CQID010-001": answer, "CQID010-002": answer}}


def test_yes_is_said_to_what_is_usual(prepared: Path) -> None:
    for name, value in samples(prepared):
        assert checker(schema.load(name), schema.load(name))(value), name


def test_a_valid_dataset_is_opened_without_jsonschema(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)  # importing it fails
    assert len(open_prepared(prepared).images) == 10


def test_never_yes_where_jsonschema_says_no(prepared: Path) -> None:
    dice, agreed = random.Random(11), 0  # noqa: S311  not a secret
    for name, value in samples(prepared):
        quick, full = checker(schema.load(name), schema.load(name)), Draft202012Validator(schema.load(name))
        for _ in range(250):
            other = changed(changed(value, dice), dice) if dice.random() < 0.3 else changed(value, dice)
            if quick(other):
                assert full.is_valid(other), (name, other)
                agreed += 1
    assert agreed > 100


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_each_keyword(number: int) -> None:
    found = SCHEMAS[number]
    quick = checker(found, found)
    for value in objects():
        if quick(value):
            assert Draft202012Validator(found).is_valid(value), value
    sure = {0: 0, 1: None, 2: "ab", 3: ["x"], 4: {"x": 1}, 5: {"x": None, "y": True}, 6: {"x": 0}, 7: {"": []}}
    sure |= {8: "x", 9: False, 10: 0, 11: "x", 13: [[]]}
    assert quick(sure.get(number)) == (number in sure)


@pytest.mark.parametrize("path", sorted((ROOT / "schemas").glob("*.json")), ids=lambda path: path.stem)
def test_every_schema_of_ours_is_understood_or_doubted(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    quick, full = checker(found, found), Draft202012Validator(found)
    assert [value for value in objects() if quick(value) and not full.is_valid(value)] == []
