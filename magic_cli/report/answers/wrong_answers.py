"""The most confident wrong answers: the question in words, the photos, and the similar cases that were looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magic_cli.report.gallery.photos import Photo, PhotoStore

Row = Mapping[str, Any]

_AGREES = {
    "gold": ("good", "as the gold"),
    "part": ("", "part of the gold"),
    "option": ("warning", "as answered"),
    "neither": ("", "neither"),
}


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A similar case: its row of the report, how its answer compares in words, their CSS class, and its photo."""

    row: Row
    words: str
    kind: str
    photo: Photo | None


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """A wrong answer: its row of the report, the question's wording, and the similar cases, () if unknown."""

    row: Row
    question: str
    similar: tuple[SimilarCase, ...]


@dataclass(frozen=True, slots=True)
class WrongCase:
    """An encounter with its photos and its wrong answers, the most confident one first."""

    encounter: str
    photos: tuple[Photo, ...]
    answers: tuple[WrongAnswer, ...]


def wrong_cases(errors: Sequence[Row], questions: Mapping[str, str], store: PhotoStore) -> tuple[WrongCase, ...]:
    """Return the encounters of wrong answers, each once: questions that hang together go wrong together.

    Args:
        errors: rows of `TaskScores.errors`.
        questions: wording of each parent question, "" where it is not known.
        store: the page's photos.
    """
    rows: dict[str, list[Row]] = {}
    for row in errors:
        rows.setdefault(row["encounter"], []).append(row)
    return tuple(
        WrongCase(encounter, store.of_case(encounter), tuple(_answer(row, questions, store) for row in own))
        for encounter, own in rows.items()
    )


def _answer(row: Row, questions: Mapping[str, str], store: PhotoStore) -> WrongAnswer:
    similar = tuple(_similar(near, store) for near in row.get("neighbours", ()))
    return WrongAnswer(row, questions.get(row["parent"], ""), similar)


def _similar(row: Row, store: PhotoStore) -> SimilarCase:
    kind, words = _AGREES[row["agrees"]] if row["answer"] else ("", "answer unknown")
    return SimilarCase(row, words, kind, store.of_image(row["image_id"]))
