"""predictions.jsonl: answers to the closed questions as text, with their probabilities, beside a submission.

It has one line per encounter (schemas/prediction.schema.json), is for people, and is never packaged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from magic_cli.data.prepared import valid_rows
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import SubmissionError, problem
from magic_cli.io.json_files import MAX_VALUES, count_values, parse_json
from magic_cli.submission.archive import Archive

PROBABILITIES_FILE = "predictions.jsonl"

Probabilities = Mapping[str, Sequence[float]]


def probability_row(
    encounter: str, row: Mapping[str, int], probabilities: Probabilities, questions: QuestionSchema
) -> dict[str, Any]:
    """Return the line of one encounter.

    Args:
        encounter: its id.
        row: the decided option index of every slot.
        probabilities: for every slot, the probability of each option.
    """
    answers = {
        qid: {
            "index": row[qid],
            "text": questions.option(qid, row[qid]),
            "probability": probabilities[qid][row[qid]],
            "probabilities": list(probabilities[qid]),
        }
        for qid in questions.by_qid
    }
    return {"encounter_id": encounter, "answers": answers}


def name_beside(answers: str, name: str) -> str:
    """Return the name of a file that lies beside a JSON of answers, both in one archive."""
    folder, slash, _ = answers.rpartition("/")
    return folder + slash + name


def read_probabilities(archive: Archive, answers: str, rows: Sequence[Any]) -> tuple[dict[str, Probabilities], str]:
    """Return {encounter: {qid: probabilities}} from the file beside a submission's JSON; {} without such a file.

    Scoring never fails because of this file: if it is damaged, or its answers differ from those of the submission (one
    of the two was changed since), it is ignored, and the second value says so.

    Args:
        archive: the submission.
        answers: name of the JSON in the archive.
        rows: the rows of the JSON, of any type.
    """
    name = name_beside(answers, PROBABILITIES_FILE)
    if name not in archive.members:
        return {}, ""
    where, remedy = archive.where(name), "not used: predict again"
    try:
        with archive.read(name) as file:
            data = file.read()
        if count_values(data) > 2 * MAX_VALUES:
            return {}, problem(where, "too many values", f"at most {2 * MAX_VALUES / 1e6:.0f} million", remedy)
        lines = [parse_json(line, dict) for line in data.splitlines() if line.strip()]
    except (SubmissionError, ValueError, RecursionError):
        return {}, problem(where, "what cannot be read", "JSON lines", remedy)
    faults: list[str] = []
    lines = list(valid_rows("prediction", lines, where, faults))
    if faults:
        return {}, problem(where, "another layout", "schemas/prediction.schema.json", remedy)
    submitted = {
        row["encounter_id"]: row for row in rows if isinstance(row, dict) and isinstance(row.get("encounter_id"), str)
    }
    for line in lines:
        row = submitted.get(line["encounter_id"], {})
        if any(row.get(qid) != answer["index"] for qid, answer in line["answers"].items()):
            return {}, problem(where, f"other answers than {answers} has", "the same", remedy)
    return {line["encounter_id"]: _probabilities(line["answers"]) for line in lines}, ""


def _probabilities(answers: Mapping[str, Mapping[str, Any]]) -> Probabilities:
    return {qid: answer["probabilities"] for qid, answer in answers.items()}
