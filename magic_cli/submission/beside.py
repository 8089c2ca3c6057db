"""What lies beside a submission's JSON of answers for people: probabilities and similar cases; never packaged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from magic_cli.errors import SubmissionError, problem
from magic_cli.io import schema
from magic_cli.io.json_files import parse_json
from magic_cli.records import Question
from magic_cli.submission.answers import SubmittedRow
from magic_cli.submission.archive import Archive
from magic_cli.submission.neighbours import NEIGHBOURS_FILE, ShownNeighbour
from magic_cli.submission.probabilities import PROBABILITIES_FILE, Probabilities, name_beside, read_probabilities

ShownNeighbours = Mapping[str, tuple[ShownNeighbour, ...]]


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of answers besides the answers.

    Attributes:
        probabilities: encounter to qid to probabilities, from the predictions.jsonl of these answers.
        neighbours: encounter to its similar cases, from neighbours.json.
    """

    probabilities: Mapping[str, Probabilities] = field(default_factory=dict)
    neighbours: ShownNeighbours = field(default_factory=dict)

    def added_to(self, row: SubmittedRow, questions: Mapping[str, Question]) -> SubmittedRow:
        """Return a row with what is known of its encounter; probabilities only if they are those of all questions."""
        known, similar = self.probabilities.get(row.id, {}), self.neighbours.get(row.id, ())
        is_complete = known.keys() == questions.keys() and all(len(known[q]) == questions[q].size for q in known)
        if not similar and not is_complete:
            return row
        return replace(row, probabilities=known if is_complete else {}, neighbours=similar)


def names_beside(answers: str) -> list[str]:
    """Return the names of the files beside a JSON of answers, all in one archive."""
    return [name_beside(answers, PROBABILITIES_FILE), name_beside(answers, NEIGHBOURS_FILE)]


def read_beside(archive: Archive, answers: str, rows: Sequence[Any], notes: list[str]) -> Beside:
    """Return what the files beside a submission's JSON hold; `notes` get a line for each that is not used.

    Args:
        archive: the submission.
        answers: name of the JSON in the archive.
        rows: the rows of the JSON, of any type.
        notes: remarks for the reader of the scores.
    """
    probabilities, unused = read_probabilities(archive, answers, rows)
    neighbours, unshown = read_neighbours(archive, answers)
    notes += [note for note in (unused, unshown) if note]
    return Beside(probabilities, neighbours)


def read_neighbours(archive: Archive, answers: str) -> tuple[ShownNeighbours, str]:
    """Return each encounter's similar cases from the file beside a submission's JSON; {} without such a file.

    Scoring never fails because of this file: if it is damaged it is ignored, and the second value says so.

    Args:
        archive: the submission.
        answers: name of the JSON in the archive.
    """
    name = name_beside(answers, NEIGHBOURS_FILE)
    if name not in archive.members:
        return {}, ""
    where, remedy = archive.where(name), "not shown: predict again"
    try:
        with archive.read(name) as file:
            content = parse_json(file.read())
    except (SubmissionError, OSError, ValueError, RecursionError):
        return {}, problem(where, "what cannot be read", "JSON", remedy)
    if schema.problems("neighbours", content, where, most=1):
        return {}, problem(where, "another layout", "schemas/neighbours.schema.json", remedy)
    similar = {encounter: tuple(map(_shown, rows)) for encounter, rows in content["encounters"].items()}
    if any(math.isnan(neighbour.similarity) for neighbours in similar.values() for neighbour in neighbours):
        return {}, problem(where, "a similarity that is no number", "numbers from -1 to 1", remedy)
    return similar, ""


def _shown(row: Mapping[str, Any]) -> ShownNeighbour:
    return ShownNeighbour(row["case_id"], row["image_id"], row["similarity"], row["answers"])
