"""Conditions: what the text means, what missing values mean, and what is refused."""

import math

import pytest

from magic_cli.data.index.where import (
    And,
    Equals,
    In,
    Missing,
    Not,
    Or,
    Range,
    Where,
    check_fields,
    matches,
    number_of,
    parse_where,
)
from magic_cli.errors import UsageError

CASE = {"diagnosis": "melanoma", "age": "40.0", "site": "back", "Lesion Site": "it's", "sex": ""}


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("diagnosis = 'melanoma'", Equals("diagnosis", "melanoma")),
        ("age >= 40", Range("age", low=40)),
        ("age<'40'", Range("age", high=40, below=True)),
        ("age > -1.5e1", Range("age", low=-15, above=True)),
        ("age = 40", Range("age", 40, 40)),
        ("site in ('back', 'chest')", In("site", ("back", "chest"))),
        ("site not in ('it''s')", Not(In("site", ("it's",)))),
        ("age IN (1, 'x')", Or((In("age", ("x",)), Range("age", 1, 1)))),
        ("\"Lesion Site\" != 'x'", Not(Equals("Lesion Site", "x"))),
        ("not missing(sex)", Not(Missing("sex"))),
        ("a='1' or b='2' and c='3'", Or((Equals("a", "1"), And((Equals("b", "2"), Equals("c", "3")))))),
        ("(a='1' or b='2') and not c='3'", And((Or((Equals("a", "1"), Equals("b", "2"))), Not(Equals("c", "3"))))),
    ],
)
def test_text_becomes_a_tree(text: str, tree: Where) -> None:
    assert parse_where(text) == tree


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("diagnosis = 'melanoma' and age >= 40 and site in ('back','chest') and missing(sex)", True),
        ("age = 40 and age <= 40 and not age < 40 and not age > 40", True),
        ("age = '40'", False),  # as text it is "40.0"
        ("absent != 'x' and not absent >= 0 and not absent in ('x')", True),  # a comparison with nothing is false
        ("sex = 'male' or diagnosis > 0", False),
        ("\"Lesion Site\" = 'it''s'", True),
    ],
)
def test_truth(text: str, is_true: bool) -> None:
    assert matches(parse_where(text), CASE) is is_true


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: got the end"),
        ("age", "got the end, expected =, !=, <"),
        ("age >= old", "got 'old', expected a number after >="),
        ("diagnosis = melanoma", "single quotation marks"),
        ("diagnosis = ''", r"missing\(FIELD\)"),
        ("site in ()", "single quotation marks"),
        ("(age > 1", r"expected `\)`"),
        ("age > 1 sex = 'x'", "expected `and`, `or` or the end"),
        ("age > 1; drop", "character 8: got '; drop'"),
        ("age > 1x", "character 7"),
        ("in = 'x'", "the name of a field"),
        ("not " * 60 + "age > 1", "at most 50 levels"),
        ("(" * 9000, "at most 50 levels"),
        ("age = 1e999", "or a number"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        parse_where(text)
    assert "\n" not in str(refused.value)


def test_unknown_fields_are_refused_with_the_known_ones() -> None:
    check_fields(parse_where("age > 1 or not missing(sex)"), ("age", "sex"), "cases")
    with pytest.raises(UsageError, match="got the field diagnose, expected one of age, diagnosis"):
        check_fields(parse_where("age > 1 and diagnose = 'x'"), ("diagnosis", "age"), "cases")


def test_numbers_in_texts() -> None:
    values = [number_of(text) for text in (" 40 ", "1e3", "-.5", "1_000", "nan", "inf", "40 years", "", "1e999", "٣")]
    assert values == [40, 1000, -0.5, *[None] * 7]
    assert Range("x") == Range("x", -math.inf, math.inf)
