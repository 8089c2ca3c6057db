"""Rows of predicted answers, each read leniently, so that a bad row affects no other.

How the official scorer treats such rows: examples/official-scorer.md, cases 01 to 25.
"""

import codecs
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from magic_cli.data.questions import whole_number
from magic_cli.errors import SubmissionError, kind_in_words, problem, redact_key, shorten
from magic_cli.io.file_kinds import kind_of_no_json
from magic_cli.io.json_files import MAX_ANSWERS, MAX_ROWS, PairsHook, TooManyValues, parse_json
from magic_cli.io.regular_file import binary_size
from magic_cli.records import Submitted
from magic_cli.submission.archive import Archive
from magic_cli.submission.neighbours import ShownNeighbour
from magic_cli.submission.probabilities import Probabilities

_HEAD = 4096


def read_rows(archive: Archive, name: str, notes: list[str]) -> list[Any]:
    """Return the rows of a JSON member, of any type; remarks for the reader of the scores are appended to `notes`.

    `{}` counts as no rows, as in the official scorer (case 08).

    Raises:
        SubmissionError: the member is not JSON, not a list of rows, or too large.
    """
    where = archive.where(name)
    data = read_bytes(archive, name)
    try:
        rows = parse_answers(data)
    except ValueError as error:
        raise SubmissionError(problem(where, not_json(data, error), "a JSON list", "write it again")) from None
    if rows == {}:
        rows = []
    if not isinstance(rows, list):
        got = kind_in_words(type(rows))
        raise SubmissionError(problem(where, got, "a list of objects with an encounter_id", "one row per encounter"))
    if not rows:
        notes.append(f"{where}: empty; the official scorer gives 0 for the closed questions.")
    return rows


def read_bytes(archive: Archive, name: str) -> bytes:
    """Return a JSON member's bytes; SubmissionError if it cannot be read or is over 64 MiB."""
    if archive.size(name) > MAX_ANSWERS:
        got, expected = binary_size(archive.size(name)), f"at most {binary_size(MAX_ANSWERS)} of JSON"
        raise SubmissionError(problem(archive.where(name), got, expected, "check the file"))
    with archive.read(name) as file:
        return file.read()


def parse_answers(data: bytes, pairs_hook: PairsHook = dict) -> Any:
    """Parse the JSON of answers, with or without a byte-order mark; `pairs_hook` as in `json.loads`.

    Raises:
        ValueError: not UTF-8, not JSON, nested too deeply, a number with thousands of digits, or more rows or values
            than are read.
    """
    try:
        rows = parse_json(data, pairs_hook)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if isinstance(rows, list) and len(rows) > MAX_ROWS:
        raise TooManyValues(f"{len(rows)} rows, more than {MAX_ROWS}")
    return rows


def not_json(data: bytes, error: ValueError) -> str:
    """Return what a file is that `parse_answers` refused: another kind of file, or JSON that is wrong."""
    if isinstance(error, TooManyValues):
        return str(error)
    return kind_of_no_json(data[:_HEAD]) or f"invalid JSON ({error})"


def has_byte_order_mark(data: bytes) -> bool:
    """Return whether a file starts with a byte-order mark, which stops the official scorer (case 25)."""
    return data.startswith(codecs.BOM_UTF8)


def official_crashes(rows: Sequence[Any]) -> dict[str, list[int]]:
    """Return the numbers of the rows that stop the official scorer before it computes any score, by exception."""
    numbers: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            numbers.setdefault("TypeError", []).append(number)
        elif "encounter_id" not in row:
            numbers.setdefault("KeyError: 'encounter_id'", []).append(number)
        elif not isinstance(row["encounter_id"], str):
            numbers.setdefault("AttributeError", []).append(number)
    return numbers


@dataclass(frozen=True, slots=True)
class SubmittedRow(Submitted):
    """One row of answers, as a file holds it; `id` is its encounter_id as written, "" if it has none.

    raw: the parsed row, of any type, for the official scores.
    values: {qid: option index} for every whole number in the row, in range or not.
    probabilities: {qid: one number in [0, 1] per option} from predictions.jsonl; {} without that file.
    neighbours: the similar cases in neighbours.json, the most similar first; () without that file.
    """

    raw: Any = None
    values: Mapping[str, int] = field(default_factory=dict)
    probabilities: Probabilities = field(default_factory=dict)
    neighbours: tuple[ShownNeighbour, ...] = ()


def read_row(row: Any, qids: Collection[str], where: str) -> SubmittedRow:
    """Read one parsed row; no row is refused.

    Args:
        row: of any type.
        qids: the closed questions; other keys are only in `raw`.
        where: name of the row in `problem`, which says what `values` leaves out.
    """
    encounter = row.get("encounter_id") if isinstance(row, dict) else None
    if not isinstance(encounter, str):
        got = "no encounter_id" if isinstance(row, dict) else kind_in_words(type(row))
        return SubmittedRow("", problem(where, got, "an object with an encounter_id", "fix the row"), row)
    encounter = unicodedata.normalize("NFC", encounter)
    indices = {qid: whole_number(value) for qid, value in row.items() if qid in qids}
    bad = [qid for qid, index in indices.items() if index is None]
    values = {qid: index for qid, index in indices.items() if index is not None}
    return SubmittedRow(encounter, _problem(f"{where}:{redact_key(encounter)}", row, bad) if bad else "", row, values)


def _problem(where: str, row: Mapping[str, Any], bad: Sequence[str]) -> str:
    # only the type: a value may be a patient's text
    got = shorten((f"{qid} {_kind(row[qid])}" for qid in bad), most=3)
    return problem(where, got, "integers", "write the 0-based option indices")


def _kind(value: Any) -> str:
    return f"{value!r:.20}" if type(value) in (int, float, type(None)) else kind_in_words(type(value))
