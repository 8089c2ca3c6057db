"""neighbours.json: the similar cases that were looked at for each answer, beside a submission.

It is for people and report.html (schemas/neighbours.schema.json), and is never packaged: its ids are those of the
training cases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.data.questions import QuestionSchema
from magic_cli.records import Neighbour

NEIGHBOURS_FILE = "neighbours.json"

SHOWN = 5  # neighbours of an encounter that are written


@dataclass(frozen=True, slots=True)
class ShownNeighbour:
    """A similar case as the file holds it; `answers` are the texts of its options by parent question."""

    case_id: str
    image_id: str
    similarity: float
    answers: Mapping[str, Sequence[str]]


def neighbours_json(similar: Mapping[str, Sequence[Neighbour]], questions: QuestionSchema) -> dict[str, object]:
    """Return the file: of each encounter the first SHOWN neighbours."""
    encounters = {
        encounter: [
            {
                "case_id": neighbour.case_id,
                "image_id": neighbour.image_id,
                "similarity": round(neighbour.similarity, 4),
                "answers": answer_texts(neighbour.answers, questions),
            }
            for neighbour in neighbours[:SHOWN]
        ]
        for encounter, neighbours in similar.items()
    }
    return {"schema": 1, "encounters": encounters}


def answer_texts(answers: Mapping[str, int], questions: QuestionSchema) -> dict[str, list[str]]:
    """Return the options of each parent as texts, without padding where there are others."""
    texts = {}
    for parent, options in questions.to_sets(answers).items():
        values = sorted(options - {questions.not_mentioned(parent)}) or sorted(options)
        texts[parent] = [questions.option(questions.parents[parent][0], value) for value in values]
    return texts
