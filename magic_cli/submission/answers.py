"""Rows of predicted answers: parsed as they are, and each read leniently, so that one bad row costs itself only.

What the official scorer makes of them: examples/official-scorer.md, cases 01 to 25.
"""

import codecs
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import SubmissionError, problem, shorten
from magic_cli.io.files import MAX_JSON
from magic_cli.records import Prediction
from magic_cli.submission.archive import Archive

_LARGEST = 2**31


def read_rows(archive: Archive, name: str, notes: list[str]) -> list[Any]:
    """Return the rows of a JSON member, whatever they are; what a reader of the scores must know goes to `notes`.

    `{}` is read as no rows, as in the official scorer (case 08).

    Raises:
        SubmissionError: it is no JSON, or no list.
    """
    where = archive.where(name)
    try:
        rows = parse_answers(read_bytes(archive, name))
    except ValueError as error:
        raise SubmissionError(problem(where, f"invalid JSON ({error})", "a JSON list", "write it again")) from None
    if rows == {}:
        rows = []
    if not isinstance(rows, list):
        got = f"a JSON {type(rows).__name__}"
        raise SubmissionError(problem(where, got, "a list of objects with an encounter_id", "one row an encounter"))
    if not rows:
        notes.append(f"{where}: empty; the official scorer gives 0 for the closed questions.")
    return rows


def read_bytes(archive: Archive, name: str) -> bytes:
    """Return a JSON member's bytes; SubmissionError where it cannot be read or is over 256 MiB."""
    if archive.size(name) > MAX_JSON:
        got, expected = f"{archive.size(name) >> 20} MiB", f"at most {MAX_JSON >> 20} MiB of JSON"
        raise SubmissionError(problem(archive.where(name), got, expected, "check the file"))
    with archive.read(name) as file:
        return file.read()


def parse_answers(data: bytes, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse the JSON of answers, with or without a byte-order mark; `pairs_hook` as that of `json.loads`.

    Raises:
        ValueError: not UTF-8, not JSON, nested too deeply, or a number of thousands of digits.
    """
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs_hook)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def has_mark(data: bytes) -> bool:
    """Say whether a file starts with a byte-order mark, at which the official scorer stops (case 25)."""
    return data.startswith(codecs.BOM_UTF8)


def stops_at(rows: Sequence[Any]) -> dict[str, list[int]]:
    """Return the numbers of the rows at which the official run stops, by exception, before any score exists."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            found.setdefault("TypeError", []).append(number)
        elif "encounter_id" not in row:
            found.setdefault("KeyError: 'encounter_id'", []).append(number)
        elif not isinstance(row["encounter_id"], str):
            found.setdefault("AttributeError", []).append(number)
    return found


def prediction_of(row: Any, qids: Collection[str], where: str) -> Prediction:
    """Return one row as a prediction, never refused.

    Args:
        row: one parsed row, of any type.
        qids: the closed questions; other keys are in `raw` only.
        where: names the row in `fault`.

    Returns:
        `id` is the row's encounter_id as written, "" where it has none. `arrays` holds a 0-d integer for every
        whole number, in range or not. `raw` is the row. `fault` names what `arrays` leaves out, "" for nothing.
    """
    encounter = row.get("encounter_id") if isinstance(row, dict) else None
    if not isinstance(encounter, str):
        got = "no encounter_id" if isinstance(row, dict) else f"a JSON {type(row).__name__}"
        return Prediction("", {}, None, row, problem(where, got, "an object with an encounter_id", "mend the row"))
    chosen = {qid: _whole(value) for qid, value in row.items() if qid in qids}
    bad = [qid for qid, index in chosen.items() if index is None]
    arrays = {qid: _as_array(index) for qid, index in chosen.items() if index is not None}
    return Prediction(encounter, arrays, None, row, _fault(f"{where}:{encounter}", row, bad) if bad else "")


@lru_cache(maxsize=1024)
def _as_array(index: int) -> NDArray[np.int64]:
    """Return an index as a 0-d array, read-only: most answers are the same few numbers, and an array is 100 bytes."""
    found = np.array(index)
    found.flags.writeable = False
    return found


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) < _LARGEST or value != value // 1:  # NaN is not smaller either
        return None
    return int(value)


def _fault(where: str, row: Mapping[str, Any], bad: Sequence[str]) -> str:
    # the type alone: a value may be what a patient wrote
    got = shorten((f"{qid} {_kind(row[qid])}" for qid in bad), most=3)
    return problem(where, got, "integers", "write the 0-based option indices")


def _kind(value: Any) -> str:
    return {str: "text", bool: "true or false", list: "a list", dict: "an object"}.get(type(value), f"{value!r:.20}")
