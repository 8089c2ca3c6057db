"""metrics/official_answers.py: cases 01 to 25 of examples/official-scorer.md."""

from typing import Any

import pytest
from tiny_dataset import QUESTIONS, answers

from magic_cli.metrics.official_answers import QIDS, SLOTS, head, official_answers

GOLD = {"ENC00001": answers("ENC00001"), "ENC00002": answers("ENC00002")}
ACCURACIES = [f"accuracy_{parent}" for parent in SLOTS]


def rows() -> list[dict[str, Any]]:
    """Perfect rows of both encounters."""
    return [{"encounter_id": encounter, **row} for encounter, row in GOLD.items()]


def without(parent: str) -> list[dict[str, Any]]:
    """Perfect rows, but the second lacks a parent."""
    first, second = rows()
    return [first, {key: value for key, value in second.items() if not key.startswith(parent)}]


def figures(found: list[Any], gold: dict[str, dict[str, Any]] = GOLD) -> dict[str, float]:
    known, stops = official_answers(gold, found)
    assert stops == ()
    assert known is not None
    return known


def stops(found: list[Any]) -> tuple[str, ...]:
    known, lines = official_answers(GOLD, found)
    assert known is None
    return lines


def changed(key: str, value: Any) -> list[dict[str, Any]]:
    first, second = rows()
    return [first | {key: value}, second]


def test_the_questions_are_the_challenges() -> None:
    assert QUESTIONS.by_qid.keys() == QIDS
    assert list(QUESTIONS.parents) == list(SLOTS)
    assert len(QIDS) == 27


def test_perfect_rows_score_one_under_the_official_keys_in_their_order() -> None:
    found = figures(rows())
    assert list(found) == [*ACCURACIES, "accuracy_all", "number_cvqa_instances"]
    assert [found[key] for key in (*ACCURACIES, "accuracy_all")] == [1.0] * 10
    assert found["number_cvqa_instances"] == 2


def test_01_an_encounter_is_missing() -> None:
    assert stops(rows()[:1]) == ("KeyError: 1 of 2 encounters have no row (ENC00002)",)


def test_02_an_extra_encounter_is_ignored() -> None:
    assert figures([*rows(), {"encounter_id": "ENC00099", "CQID010-001": "junk"}]) == figures(rows())


@pytest.mark.parametrize("parent", ["CQID034", "CQID011"])
def test_03_and_05_a_parent_is_missing(parent: str) -> None:
    assert stops(without(parent)) == (f"KeyError: {parent} has no answer in 1 of 2 encounters (ENC00002)",)


def test_04_missing_siblings_make_the_set_smaller() -> None:
    first, second = rows()
    del first["CQID011-002"]
    assert figures([first, second])["accuracy_CQID011"] == 1.0  # the others hold the same value
    assert figures([{k: v for k, v in first.items() if k != "CQID011-001"}, second])["accuracy_CQID011"] == 0.75


def test_06_no_row_gives_zeros_and_no_encounters() -> None:
    assert set(figures([]).values()) == {0.0}
    assert figures([])["number_cvqa_instances"] == 0


@pytest.mark.parametrize("value", ["0", "1", None, 99, -1, 0.5, "Not mentioned"])
def test_09_11_13_strings_null_and_other_numbers_are_wrong(value: Any) -> None:
    assert figures(changed("CQID010-001", value))["accuracy_CQID010"] == 0.5


def test_10_floats_and_booleans_equal_integers() -> None:
    number = GOLD["ENC00001"]["CQID010-001"]
    assert figures(changed("CQID010-001", float(number)))["accuracy_CQID010"] == 1.0
    gold = {"ENC00001": GOLD["ENC00001"] | {"CQID010-001": 1}}
    row = {"encounter_id": "ENC00001", **gold["ENC00001"], "CQID010-001": True}
    assert figures([row], gold)["accuracy_CQID010"] == 1.0
    assert figures([row | {"CQID010-001": False}], gold)["accuracy_CQID010"] == 0.0


@pytest.mark.parametrize("value", [[0], {"0": 1}])
def test_12_a_list_or_object_cannot_be_in_a_set(value: Any) -> None:
    expected = ("TypeError: a list or an object cannot be in a set (ENC00001:CQID010-001)",)
    assert stops(changed("CQID010-001", value)) == expected
    other = {"encounter_id": "ENC00001-7", "CQID010-001": value}  # read as ENC00001, case 16
    assert stops([*rows(), other])[0].startswith("TypeError")


@pytest.mark.parametrize("value", [[0], {"0": 1}])
def test_12b_sets_are_made_of_the_questions_in_the_golds_encounters_only(value: Any) -> None:
    assert figures([*rows(), {"encounter_id": "ENC00099", "CQID010-001": value}]) == figures(rows())
    assert figures(changed("confident-1", value)) == figures(rows())
    assert stops(changed("CQID010-009", value))[0].startswith("TypeError")  # of a question, though no slot of it


def test_14_and_15_rows_of_one_encounter_unite() -> None:
    first, second = rows()
    assert figures([first, second, first]) == figures(rows())
    other = first | {"CQID010-001": 3}
    assert figures([first, second, other])["accuracy_CQID010"] == pytest.approx((1 / 2 + 1) / 2)


def test_16_an_id_ends_at_its_first_dash_in_system_and_gold() -> None:
    first, second = rows()
    assert figures([first | {"encounter_id": "ENC00001-1"}, second]) == figures(rows())
    assert head("ENC00001-1-2") == "ENC00001"
    gold = {"P-1": GOLD["ENC00001"], "P-2": GOLD["ENC00002"]}
    both = figures([{"encounter_id": encounter, **row} for encounter, row in gold.items()], gold)
    assert both["number_cvqa_instances"] == 2  # case 16b
    assert both["accuracy_all"] == 1.0
    one = figures([{"encounter_id": "P", **GOLD["ENC00001"]}], gold)
    assert one["accuracy_CQID010"] == 0.5


@pytest.mark.parametrize("wrong", ["ENC00001_1", "enc00001", " ENC00001"])
def test_17_and_18_other_spellings_of_an_id(wrong: str) -> None:
    first, second = rows()
    assert stops([first | {"encounter_id": wrong}, second]) == ("KeyError: 1 of 2 encounters have no row (ENC00001)",)


def test_19_a_key_of_another_length_is_dropped() -> None:
    first, second = rows()
    first["CQID010-1"] = first.pop("CQID010-001")
    assert stops([first, second]) == ("KeyError: CQID010 has no answer in 1 of 2 encounters (ENC00001)",)


def test_20_an_extra_key_of_11_characters_needs_one_dash() -> None:
    """Cases 20 and 20b."""
    cause = "ValueError: a key of 11 characters without exactly one dash"
    assert stops(changed("explanation", 1)) == (f"{cause} (ENC00001:text of 11 characters)",)
    assert stops(changed("CQID-10-001", 1)) == (f"{cause} (ENC00001:CQID-10-001)",)
    assert figures(changed("rationale", "long")) == figures(rows())
    assert figures(changed("confident-1", 0)) == figures(rows())  # a parent of its own, never asked for
    assert figures(changed("CQID010-009", 77))["accuracy_CQID010"] == 0.75  # a sibling that does not exist


@pytest.mark.parametrize(
    ("found", "expected"), [({2}, 1 / 2), ({7}, 1 / 2), ({2, 3, 7}, 2 / 3), ({7, 2}, 1.0), ({0}, 0.0)]
)
def test_21_to_24_sets(found: set[int], expected: float) -> None:
    gold = {"ENC00001": QUESTIONS.to_slots({**QUESTIONS.empty_sets(), "CQID011": {2, 7}})}
    wrong = {f"CQID011-{n:03}": list(found)[n % len(found)] for n in range(1, 7)}
    score = figures([{"encounter_id": "ENC00001", **gold["ENC00001"], **wrong}], gold)
    assert score["accuracy_CQID011"] == pytest.approx(expected)
    assert score["accuracy_all"] == pytest.approx((8 + expected) / 9)


def test_all_stops_are_listed_at_once_and_lists_are_cut() -> None:
    gold = {f"ENC{n:05}": GOLD["ENC00001"] for n in range(30)}
    found = [{"encounter_id": "ENC00000", "CQID010-001": [1], "explanation": 0}]
    known, lines = official_answers(gold, found)
    assert known is None
    assert [line.split(":")[0] for line in lines] == ["TypeError", "ValueError"] + ["KeyError"] * 9
    assert "29 of 30 encounters have no row (ENC00001, " in lines[2]
    assert lines[2].endswith("ENC00010, ... 29 in all)")


@pytest.mark.parametrize("row", [{}, {"encounter_id": None}, {"encounter_id": 7}, "ENC00001", None, [1]])
def test_a_row_without_an_id(row: Any) -> None:
    [line] = stops([*rows(), row])
    assert line == "KeyError, AttributeError or TypeError: no encounter_id that is text (row 2)"
