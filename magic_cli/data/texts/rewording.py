"""The same text in other words: rules for patients' queries, and listed paraphrases of the closed questions.

A model that has understood a text answers the same when only its wording changes (Excoffier et al., Generalist
embedding models are better at short-context clinical semantic search than specialized embedding models, 2024). All
rules and paraphrases are of our own writing and deterministic; no fact is added or taken away.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from magic_cli.data.prompts import clean, fold
from magic_cli.data.questions import QuestionSchema
from magic_cli.records import CONTENT, TITLE, Case

QUERY_RULES = ("synonyms", "case", "punctuation", "frame", "markup")
"""Rewordings of what patients wrote."""

QUESTION_WORDINGS = ("question-1", "question-2", "question-3")
"""Rewordings of the closed questions."""

_PARAPHRASES: Mapping[str, tuple[str, str, str]] = {
    "CQID010": (
        "To what extent is the skin involved?",
        "How widely does the problem spread over the body?",
        "Is it one spot, a limited region, or the whole body that is affected?",
    ),
    "CQID011": (
        "On which part of the body is the problem?",
        "Which body site is involved?",
        "Name the location of the affected skin.",
    ),
    "CQID012": (
        "What size are the areas concerned? Say which area each choice is for.",
        "How big is the involved skin? Choose for each area.",
        "Give the dimensions of each affected region.",
    ),
    "CQID015": (
        "Since when has the patient had the problem?",
        "How long ago did it start?",
        "What is the time of onset?",
    ),
    "CQID020": (
        "Which description fits the affected skin best?",
        "How would you describe the involved area?",
        "Choose the term that characterises the lesion's surface and shape.",
    ),
    "CQID025": (
        "Does the skin problem itch?",
        "Is there pruritus with it?",
        "Does the patient report itchiness?",
    ),
    "CQID034": (
        "What colour is the lesion, compared with the healthy skin around it?",
        "Which colour does the lesion have?",
        "How does the lesion differ in colour from the skin next to it?",
    ),
    "CQID035": (
        "What is the number of skin lesions?",
        "Is there one lesion, or are there several?",
        "Count the lesions on the skin.",
    ),
    "CQID036": (
        "How does the surface of the lesion feel?",
        "Is the lesion's surface smooth or rough?",
        "Describe the texture of the skin lesion.",
    ),
}

_SYNONYMS = {
    "itches": "is itchy",
    "itching": "pruritus",
    "rash": "skin eruption",
    "rashes": "skin eruptions",
    "hurts": "is painful",
    "mole": "naevus",
    "moles": "naevi",
    "spot": "mark",
    "spots": "marks",
    "bump": "lump",
    "bumps": "lumps",
    "doctor": "physician",
    "patient": "person",
    "female": "woman",
    "male": "man",
    "recently": "lately",
    "sometimes": "at times",
    "grown": "become larger",
    "help": "advise",
    "red": "reddish",
    "forearm": "lower arm",
    "belly": "abdomen",
}

_WORD = re.compile(r"[a-z]+", re.IGNORECASE)

_MARKS = re.compile(r"(?<!\d)[.,;:!?]+|[.,;:!?]+(?!\d)")  # 2.5 cm stays a number

_NUMBER = re.compile(r"^\s*\d+[.)]?\s+")


def reworded_case(case: Case, rule: str) -> Case:
    """Return a case with its query, and the English texts that it is made from, in other words.

    Args:
        case: of a prepared dataset; what clinicians answered stays.
        rule: one of QUERY_RULES; synonyms of everyday words, letters in lower case, no punctuation, a polite frame
            around the query, or HTML tags and entities, which are stripped again as `magic prepare` strips them.
    """
    change = _RULES[rule]
    texts = dict(case.texts)
    for role in (TITLE, CONTENT):
        if texts.get(role, {}).get("en"):
            texts[role] = {**texts[role], "en": change(texts[role]["en"])}
    return replace(case, question=change(case.question) if case.question else "", texts=texts)


def reworded_questions(questions: QuestionSchema, wording: str) -> QuestionSchema:
    """Return the questions of the challenge in other English words; other questions, languages and options stay.

    Args:
        questions: whose slots keep the number in front that tells them apart.
        wording: one of QUESTION_WORDINGS.
    """
    place = QUESTION_WORDINGS.index(wording)
    slots = []
    for slot in questions.slots:
        if slot.parent in _PARAPHRASES and "en" in slot.text:
            number = _NUMBER.match(slot.text["en"])
            told = f"{number.group().strip()} " if number else ""
            slot = replace(slot, text={**slot.text, "en": f"{told}{_PARAPHRASES[slot.parent][place]}"})
        slots.append(slot)
    return QuestionSchema(tuple(slots))


def _synonyms(text: str) -> str:
    def other(match: re.Match[str]) -> str:
        word = match.group()
        found = _SYNONYMS.get(word.casefold(), word)
        return found[:1].upper() + found[1:] if word[:1].isupper() else found

    return _WORD.sub(other, text)


def _without_marks(text: str) -> str:
    return fold(_MARKS.sub(" ", text))


def _framed(text: str) -> str:
    return f"Dear doctor, thank you for looking at this. {text} I would be grateful for your opinion."


def _marked_up(text: str) -> str:
    noisy = "&nbsp;".join(f"<b>{word}</b>" for word in text.split())
    return clean(f"<div><p>{noisy}</p><br/><!-- sent from a form --></div>")


_RULES: Mapping[str, Callable[[str], str]] = {
    "synonyms": _synonyms,
    "case": str.lower,
    "punctuation": _without_marks,
    "frame": _framed,
    "markup": _marked_up,
}
