"""io/schema.py: what jsonschema accepts is accepted, and each violation is one short line that names its place."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import FALLBACK
from magic_cli.io import schema
from magic_cli.io.json_files import parse_json

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.name.removesuffix(".schema.json") for path in (ROOT / "schemas").glob("*.schema.json"))
ROW = {"qid": "CQID010-001", "question_en": "q", "options_en": ["a", "b"]}
CASE = {
    "case_id": "ENC1",
    "split": "train",
    "image_ids": [],
    "texts": {"content": {"en": "a secret"}},
    "question": "a secret",
    "answer": "",
    "answers": None,
    "label": None,
    "attributes": {},
    "group_id": "ENC1",
    "licence": "",
}


IMAGE = {
    "image_id": "IMG_ENC1_1",
    "case_id": "ENC1",
    "split": "train",
    "path": "a.jpg",
    "height": 3,
    "width": 4,
    "upright": False,
    "mask": None,
    "annotators": {"ann0": "a.tiff"},
    "sha256": "0" * 64,
}
ANSWER = {"index": 1, "text": "b", "probability": 0.5, "probabilities": [0.5, 0.5]}
CHECKPOINT = {
    "format": 1,
    "task": "seg",
    "config": {"seed": 0},
    "questions": [{}],
    "encoders": {"image": "x"},
    "history": [],
    "score": 0.5,
    "seed": 0,
    "manifest_sha256": "",
    "versions": {"torch": "2.6"},
    "chosen": {"settings": {"threshold": 0.5}, "figure": "dice", "fixed": 0.5, "before": 0.1, "after": 0.2},
}
VALID: dict[str, Any] = {
    "definitions": json.loads(FALLBACK.read_text(encoding="utf-8"))[:2],
    "case": CASE | {"image_ids": ["IMG_1"], "texts": {"response-1": {"en": "x"}}, "answers": {"CQID010-001": 2}},
    "image": IMAGE,
    "submission": json.loads((ROOT / "examples" / "preds.json").read_text(encoding="utf-8"))[:2],
    "prediction": {"encounter_id": "ENC1", "answers": {"CQID010-001": ANSWER, "CQID010-002": ANSWER}},
    "checkpoint": CHECKPOINT,
    "error": {"schema": 1, "exit_code": 3, "errors": ["x"]},
    "demo": {
        "schema": 1,
        "command": "demo",
        "out": "x",
        "drawn": {"encounters": 1, "images": 1, "masks": 0},
        "scores": {},
        "report": "x",
        "submission": "x",
        "search": "x",
        "seconds": 0.5,
    },
    "scores": {"accuracy_all": 0.5, "dice": None},
}
# where the two libraries could differ: kinds of numbers, their limits, text that is no UTF-8, ends of patterns
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, 0.5, 1.5, -1.0, 5e-324, 1e308, float("nan"), float("inf")),
    *(-float("inf"), 2**53 + 1, 2**63, 2**64, 2**70, -(2**70), 10**400, float(2**53)),
    *(
        "",
        "x",
        "train",
        "a/b",
        "..",
        "..\n",
        "en",
        "en\n",
        "e\u0301",
        "\ufeff",
        "\ud800",
        "\u2028",
        "\u0663",
        "\U0001f600",
    ),
    *("0" * 64, "0" * 64 + "\n", "\n", "\r", "\0", "x" * 201, "CQID010-001", "a\n", "question_en\n", "2025-01-01"),
    *([], {}, [[]], [1, True], [1, 1.0], [0, False], ["a", "a"], ["a", "a\n"], [{"a": 1}, {"a": 1.0}], {"": {}}),
)
TEXTS = st.sampled_from([value for value in ODD if isinstance(value, str)]) | st.text(max_size=4)
LEAVES = st.sampled_from(ODD) | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, Any]:
    """Return a schema's name, and a value that it allows but for one to three places."""
    name = draw(st.sampled_from(sorted(VALID)))
    root = [copy.deepcopy(VALID[name])]
    for _ in range(draw(st.integers(1, 3))):
        place: Any = root
        key: Any = 0
        while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 4)):
            place = place[key]
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if place is not root and draw(st.integers(0, 3)) == 0:
            del place[key]
        elif isinstance(place, dict) and draw(st.booleans()):
            new_key = draw(TEXTS | st.sampled_from([f"{key}\n", f"{key} "]))
            place[new_key] = copy.deepcopy(draw(LEAVES) if draw(st.booleans()) else place[key])
        else:
            place[key] = copy.deepcopy(draw(VALUES))  # ODD's own lists must not be changed by the next step
    return name, root[0]


def agree(name: str, value: Any) -> bool:
    """Return whether jsonschema accepts a value, having checked that we say the same."""
    valid = Draft202012Validator(schema.load(name)).is_valid(value)
    assert valid or not schema._surely_valid(name, value)
    assert (schema.problems(name, value, "x") == []) == valid
    return valid


@pytest.mark.parametrize("name", VALID)
def test_jsonschema_rs_says_yes_to_what_is_usual(name: str) -> None:
    assert agree(name, VALID[name])
    assert schema._surely_valid(name, VALID[name])


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(changed())
@example(("case", CASE | {"texts": {"title": {"en\n": "x"}}}))
@example(("case", CASE | {"texts": {"title": {"en": "\ud800"}}}))
@example(("case", CASE | {"image_ids": ["..\n"]}))
@example(("case", CASE | {"answers": {"q": 1.0}}))
@example(("definitions", [ROW | {"question_en\n": 3}]))
@example(("definitions", [ROW | {"options_zh\n": 3, "question_zh": 3}]))
@example(("image", IMAGE | {"sha256": "\n"}))
@example(("image", IMAGE | {"height": 10**400}))
@example(("image", IMAGE | {"height": 1e308}))
@example(("checkpoint", CHECKPOINT | {"score": float("nan")}))
@example(("checkpoint", CHECKPOINT | {"config": {"a": float("inf"), "b": "\ud800"}}))
def test_what_jsonschema_accepts_is_accepted(pair: tuple[str, Any]) -> None:
    agree(*pair)


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_of_ours_is_read_alike(name: str) -> None:
    for value in ODD:
        agree(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkpoint", "\ud800"),
        ("case", CASE | {"image_ids": ["\ud800"]}),
        ("case", CASE | {"texts": {"title": {"en\n": "x"}}}),
    ],
)
def test_doubts_are_left_to_jsonschema(name: str, value: Any) -> None:
    """jsonschema-rs refuses them, or raises; jsonschema accepts all but the first."""
    assert not schema._surely_valid(name, value)
    assert agree(name, value) == isinstance(value, dict)


@pytest.mark.parametrize("depth", [100, 300, 900])
def test_nesting_is_no_fault(depth: int) -> None:
    """As deep as Python's parser goes: `config` may hold anything."""
    deep = parse_json(b'{"a":' * depth + b"1" + b"}" * depth)
    assert agree("checkpoint", CHECKPOINT | {"config": deep})
    assert not agree("checkpoint", CHECKPOINT | {"format": [deep]})


def test_a_key_given_twice_never_comes_here() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_json(b'{"a": 1, "a": 1}')


def test_a_valid_dataset_is_opened_without_jsonschema(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)  # importing it fails
    schema._slow_validator.cache_clear()
    assert len(open_prepared(prepared).images) == 10


def test_each_schema_is_compiled_once() -> None:
    assert schema._fast_check("image") is schema._fast_check("image")
    assert schema._slow_validator("image") is schema._slow_validator("image")


def test_every_shipped_schema_is_found_by_name() -> None:
    folder = Path(__file__).parents[2] / "schemas"
    names = sorted(path.name.removesuffix(".schema.json") for path in folder.glob("*.schema.json"))
    assert {"case", "image", "prepared", "definitions", "submission", "scores", "report"} <= set(names)
    for name in names:
        assert schema.load(name) == json.loads((folder / f"{name}.schema.json").read_text(encoding="utf-8"))
    with pytest.raises(FileNotFoundError, match=r"schemas/nothing\.schema\.json"):
        schema.load("nothing")


def test_a_valid_value_has_no_problems() -> None:
    assert schema.problems("definitions", [ROW], "d.json") == []
    assert schema.problems("case", CASE, "e.jsonl:1") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, "d.json: got an object, expected array"),
        ([], "d.json: got a list, expected minItems 1"),
        ([ROW, 3], "d.json:1: got a whole number, expected object"),
        ([ROW, ROW | {"options_zh": "text"}], "d.json:1.options_zh: got text, expected array"),
        ([ROW | {"options_en": ["a", 1]}], "d.json:0.options_en.1: got a whole number, expected string"),
        ([{k: v for k, v in ROW.items() if k != "qid"}], "d.json:0: 'qid' is a required property; complete this entry"),
        ([ROW | {"qid": "x\ty"}], r"d.json:0.qid: got text of 3 characters, expected pattern ^[A-Za-z0-9_-]{1,64}$"),
    ],
)
def test_each_kind_of_problem(value: object, expected: str) -> None:
    assert schema.problems("definitions", value, "d.json") == [expected]


def test_problems_come_in_the_order_of_the_rows_and_end_with_a_hint() -> None:
    """Row 2 before row 10; the 21st line says that there is more."""
    lines = schema.problems("definitions", [{}] * 12, "d.json", most=36)
    assert [line.split(":")[1] for line in lines] == [str(row) for row in range(12) for _ in range(3)]
    lines = schema.problems("definitions", [{}] * 12, "d.json")
    assert len(lines) == 21
    assert lines[-1] == "d.json: more problems of this kind follow; fix these first"
    assert len(schema.problems("definitions", [3] * 20, "d.json")) == 20


def test_an_unknown_key_is_named() -> None:
    [line] = schema.problems("case", CASE | {"patient1": "x"}, "e.jsonl:1")
    assert line.startswith("e.jsonl:1: Additional properties are not allowed ('patient1' was unexpected)")
    [line] = schema.problems("case", CASE | {"Alice": "x"}, "e.jsonl:1")
    assert line == "e.jsonl:1: got an unknown key, expected those of the schema"


def test_patient_text_is_never_shown_and_values_are_cut() -> None:
    texts = {"content": {"en": ["a secret"]}, "title": "a secret"}
    wrong = CASE | {"texts": texts, "question": {"a secret": "a secret"}}
    lines = schema.problems("case", wrong, "e.jsonl:1")
    assert len(lines) == 3
    assert not [line for line in lines if "secret" in line]
    [line] = schema.problems("case", CASE | {"split": "x" * 1000}, "e.jsonl:1")
    assert "text of 1000 characters" in line
    assert "x" * 61 not in line
