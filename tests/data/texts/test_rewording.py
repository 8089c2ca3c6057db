"""data/texts/rewording.py: rules reword a query and nothing else, paraphrases keep slots and options."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magic_cli.data.prompts import clean
from magic_cli.data.questions import QuestionSchema, load_questions
from magic_cli.data.texts.rewording import QUERY_RULES, QUESTION_WORDINGS, reworded_case, reworded_questions
from magic_cli.records import Case

QUERY = "Rash of 2.5 cm, since May: it itches sometimes."

TEXTS = {"title": {"en": "A mole?", "zh": "痣"}, "content": {"en": QUERY}, "response-1": {"en": "Eczema, a rash."}}

CASE = Case("c1", "valid", ("i1",), TEXTS, QUERY, "Eczema, a rash.")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("synonyms", "Skin eruption of 2.5 cm, since May: it is itchy at times."),
        ("case", "rash of 2.5 cm, since may: it itches sometimes."),
        ("punctuation", "Rash of 2.5 cm since May it itches sometimes"),
        ("frame", f"Dear doctor, thank you for looking at this. {QUERY} I would be grateful for your opinion."),
        ("markup", QUERY),
    ],
)
def test_rules(rule: str, expected: str) -> None:
    found = reworded_case(CASE, rule)
    assert found.question == found.texts["content"]["en"] == expected
    assert (found.answer, found.texts["response-1"], found.texts["title"]["zh"]) == (
        CASE.answer,
        TEXTS["response-1"],
        "痣",
    )


@given(st.text())
def test_markup_is_stripped_as_prepare_strips_it(text: str) -> None:
    case = Case("c1", "valid", (), question=clean(text))
    if "<" not in case.question and "&" not in case.question:
        assert reworded_case(case, "markup").question == case.question


@pytest.mark.parametrize("rule", QUERY_RULES)
def test_an_empty_query_stays_empty(rule: str) -> None:
    assert reworded_case(Case("c1", "valid", ()), rule) == Case("c1", "valid", ())


def test_all_slots_are_asked_in_three_other_ways() -> None:
    questions = load_questions(None)
    wordings = [questions, *(reworded_questions(questions, wording) for wording in QUESTION_WORDINGS)]
    for slots in zip(*(asked.slots for asked in wordings), strict=True):
        assert len({slot.text["en"] for slot in slots}) == 4
        assert len({(slot.qid, slot.parent, tuple(slot.options["en"])) for slot in slots}) == 1


def test_numbers_of_slots_stay_and_other_languages_too() -> None:
    questions = load_questions(None)
    slot = questions.by_qid["CQID011-002"]
    numbered = QuestionSchema((replace(slot, text={"en": "2 Where is it?", "zh": "2 哪里"}),))
    found = reworded_questions(numbered, "question-2").slots[0].text
    assert found == {"en": "2 Which body site is involved?", "zh": "2 哪里"}
    other = QuestionSchema((replace(slot, parent="Q1"),))
    assert reworded_questions(other, "question-1") == other
