"""predictions.jsonl: closed answers as text with their probabilities, a line an encounter, beside a submission.

It is for people and never packaged; schemas/prediction.schema.json describes a line.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from magic_cli.data.prepared import valid_rows
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import SubmissionError, problem
from magic_cli.submission.archive import Archive

TOLD = "predictions.jsonl"

Probabilities = Mapping[str, Sequence[float]]


def told_line(encounter: str, row: Mapping[str, int], told: Probabilities, questions: QuestionSchema) -> dict[str, Any]:
    """Return the line of an encounter.

    Args:
        row: the decided option index of every slot.
        told: the probability of each option of every slot.
    """
    answers = {
        qid: {
            "index": row[qid],
            "text": questions.option(qid, row[qid]),
            "probability": told[qid][row[qid]],
            "probabilities": list(told[qid]),
        }
        for qid in questions.by_qid
    }
    return {"encounter_id": encounter, "answers": answers}


def read_told(archive: Archive, answers: str, rows: Sequence[Any]) -> tuple[dict[str, Probabilities], str]:
    """Return {encounter: {qid: probabilities}} of the file beside a submission's JSON; {} where there is none.

    It never fails a score: where it is damaged, or tells of other answers than the submission holds (one of both was
    changed since), it is not used, and the second value says so.

    Args:
        answers: name of the JSON in the archive.
        rows: the rows of the JSON, whatever they are.
    """
    name = answers.rpartition("/")[0] + "/" * ("/" in answers) + TOLD
    if name not in archive.members:
        return {}, ""
    where, again = archive.where(name), "not used: predict again"
    try:
        with archive.read(name) as file:
            lines = [json.loads(line) for line in file.read().decode("utf-8").splitlines() if line.strip()]
    except (SubmissionError, ValueError, RecursionError):
        return {}, problem(where, "a damaged file", "JSON lines", again)
    faults: list[str] = []
    lines = list(valid_rows("prediction", lines, where, faults))
    if faults:
        return {}, problem(where, "another layout", "schemas/prediction.schema.json", again)
    said = {
        row["encounter_id"]: row for row in rows if isinstance(row, dict) and isinstance(row.get("encounter_id"), str)
    }
    for line in lines:
        row = said.get(line["encounter_id"], {})
        if any(row.get(qid) != answer["index"] for qid, answer in line["answers"].items()):
            return {}, problem(where, f"other answers than {answers} has", "the same", again)
    return {line["encounter_id"]: _probabilities(line["answers"]) for line in lines}, ""


def _probabilities(answers: Mapping[str, Mapping[str, Any]]) -> Probabilities:
    return {qid: answer["probabilities"] for qid, answer in answers.items()}
