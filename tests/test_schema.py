"""schema.py: the schemas are found, and each violation is one short line that names its place."""

import json
from pathlib import Path

import pytest

from magic_cli import schema

ROW = {"qid": "CQID010-001", "question_en": "q", "options_en": ["a", "b"]}
ENCOUNTER = {
    "encounter_id": "ENC1",
    "split": "train",
    "image_ids": [],
    "title": {},
    "content": {"en": "a secret"},
    "responses": [],
    "question": "a secret",
    "answer": "",
    "answers": None,
}


def test_every_shipped_schema_is_found_by_name() -> None:
    folder = Path(__file__).parents[1] / "schemas"
    names = sorted(path.name.removesuffix(".schema.json") for path in folder.glob("*.schema.json"))
    assert {"encounter", "image", "prepared", "definitions", "submission", "scores", "report"} <= set(names)
    for name in names:
        assert schema.load(name) == json.loads((folder / f"{name}.schema.json").read_text(encoding="utf-8"))
    with pytest.raises(FileNotFoundError, match=r"schemas/nothing\.schema\.json"):
        schema.load("nothing")


def test_a_valid_value_has_no_problems() -> None:
    assert schema.problems("definitions", [ROW], "d.json") == []
    assert schema.problems("encounter", ENCOUNTER, "e.jsonl:1") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, "d.json: got dict, expected array"),
        ([], "d.json: got a list, expected minItems 1"),
        ([ROW, 3], "d.json:1: got int, expected object"),
        ([ROW, ROW | {"options_zh": "text"}], "d.json:1.options_zh: got str, expected array"),
        ([ROW | {"options_en": ["a", 1]}], "d.json:0.options_en.1: got int, expected string"),
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
    assert lines[-1] == "d.json: more problems of this kind follow; mend these first"
    assert len(schema.problems("definitions", [3] * 20, "d.json")) == 20


def test_an_unknown_key_is_named() -> None:
    [line] = schema.problems("encounter", ENCOUNTER | {"patient": "x"}, "e.jsonl:1")
    assert line.startswith("e.jsonl:1: Additional properties are not allowed ('patient' was unexpected)")


def test_patient_text_is_never_shown_and_values_are_cut() -> None:
    wrong = ENCOUNTER | {"content": {"en": ["a secret"]}, "question": {"a secret": "a secret"}, "title": "a secret"}
    lines = schema.problems("encounter", wrong, "e.jsonl:1")
    assert len(lines) == 3
    assert not [line for line in lines if "secret" in line]
    [line] = schema.problems("encounter", ENCOUNTER | {"split": "x" * 1000}, "e.jsonl:1")
    assert "text of 1000 characters" in line
    assert "x" * 61 not in line
