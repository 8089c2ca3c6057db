"""Linter of data_cvqa_sys.json: the file, its rows, their ids, keys and values."""

import codecs
import re
from collections.abc import Callable
from typing import Any

from magic_cli.data.questions import QuestionSchema, load_questions
from magic_cli.errors import SubmissionError, kind_in_words, redact, redact_key
from magic_cli.io import schema
from magic_cli.io.json_files import repeated_keys
from magic_cli.submission.answers import not_json, parse_answers, read_bytes
from magic_cli.submission.expected import Expected, Findings

_UNPADDED = re.compile(r"(.+)-(\d+)")

_INTEGER = "a 0-based integer index"

Row = dict[str, Any]


def lint_answers(findings: Findings, name: str, expected: Expected | None) -> int:
    """Check the JSON of a submission; return the number of rows, -1 if it cannot be read.

    Without `expected`, the 27 questions of the challenge are assumed and only the form of ids is checked.
    """
    kinds = len(findings.kinds)
    rows = _parse(findings, name)
    if rows is None:
        return -1
    questions = expected.questions if expected else load_questions(None)
    seen: set[str] = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("encounter_id"), str):
            findings.add(
                f"{name}:row {number}", "no encounter", "an object with an encounter_id", "write one row per encounter"
            )
            continue
        where = f"{name}:{redact_key(row['encounter_id'])}"
        encounter = _lint_id(findings, name, row["encounter_id"], expected)
        if encounter in seen:
            remedy = "keep one row (the official scorer silently unites their answers)"
            findings.add(where, "the same encounter twice", "one row per encounter", remedy)
        seen.add(encounter)
        _lint_row(findings, where, row, questions)
    if rows and expected is not None:
        for encounter in sorted(e for e, needed in expected.encounters.items() if needed and e not in seen):
            remedy = "predict it (the official scorer stops with KeyError)"
            findings.add(f"{name}:{encounter}", "no such row", "one row per encounter", remedy)
    if len(findings.kinds) == kinds:
        for line in schema.problems("submission", rows, name):
            findings.add(name, "another layout", "schemas/submission.schema.json", line)
    return len(rows)


def _parse(findings: Findings, name: str) -> list[Any] | None:
    try:
        data = read_bytes(findings.archive, name)
    except SubmissionError:
        findings.add(name, "an unreadable file", "a JSON list", "check its permissions, or write it again")
        return None
    if data.startswith(codecs.BOM_UTF8):
        findings.add(
            name, "a byte-order mark", "UTF-8 without one", "save it as plain UTF-8 (the official scorer stops)"
        )
    try:
        rows = parse_answers(data, _noting_repeated_keys(findings, name))
    except ValueError as error:
        remedy = "write it again (the official scorer stops)"
        findings.add(name, not_json(data, error)[:100], "a JSON list", remedy)
        return None
    if not isinstance(rows, list):
        got = kind_in_words(type(rows))
        remedy = 'write [{"encounter_id": ...}, ...] (the official scorer stops, or gives 0)'
        findings.add(name, got, "a JSON list, one object per encounter", remedy)
        return None
    return rows


def _noting_repeated_keys(findings: Findings, name: str) -> Callable[[list[tuple[str, Any]]], Row]:
    def build(pairs: list[tuple[str, Any]]) -> Row:
        row = dict(pairs)
        for key in repeated_keys(pairs):
            where = f"{name}:{redact_key(row.get('encounter_id'))}:{redact_key(key)}"
            findings.add(where, "the same key twice", "each key once", "remove one")
        return row

    return build


def _lint_id(findings: Findings, name: str, written: str, expected: Expected | None) -> str:
    """Check an encounter id; return the id that is probably meant."""
    where, known = f"{name}:{redact_key(written)}", expected.encounters if expected else None
    if known is not None and written in known:
        return written
    base = written.split("-")[0]
    if base != written and (known is None or base in known):
        remedy = "write the plain id (the official scorer cuts at the dash and unites such rows)"
        findings.add(where, "an id with a suffix", "a plain id such as ENC00001", remedy)
        return base
    if written != written.upper() and (known is None or written.upper() in known):
        remedy = "write it in capitals (the official scorer stops with KeyError)"
        findings.add(where, "an id in lower case", "an id such as ENC00001", remedy)
        return written.upper()
    if known is not None:
        assert expected is not None  # noqa: S101  `known` comes from it
        remedy = "remove the row or fix the id; is --split right?"
        findings.add(where, f"no encounter of split {expected.split!r}", "encounters of the split only", remedy)
    return written


def _lint_row(findings: Findings, where: str, row: Row, questions: QuestionSchema) -> None:
    answered = set()
    for key, value in row.items():
        if key in questions.by_qid:
            answered.add(key)
            _lint_value(findings, f"{where}:{key}", value, questions.by_qid[key].size)
        elif key != "encounter_id":
            match = _UNPADDED.fullmatch(key)
            meant = f"{match[1]}-{int(match[2]):03d}" if match and len(match[2]) < 9 else ""
            if meant in questions.by_qid:
                answered.add(meant)
                remedy = "write three digits, as in CQID010-001 (officially the key is dropped)"
                findings.add(f"{where}:{redact_key(key)}", "an unpadded key", "a qid of the definitions", remedy)
            else:
                findings.add(f"{where}:{redact_key(key)}", "an unknown key", "a qid of the definitions", "remove it")
    for qid in questions.by_qid:
        if qid not in answered:
            remedy = "answer every slot (a missing parent stops the official scorer, a missing sibling changes the set)"
            findings.add(f"{where}:{qid}", "no answer", _INTEGER, remedy)


def _lint_value(findings: Findings, where: str, value: Any, size: int) -> None:
    silent = "(officially silently wrong)"
    if value is None:
        findings.add(where, "null", _INTEGER, f"answer every slot {silent}")
    elif isinstance(value, bool):
        findings.add(where, "true or false", _INTEGER, "write the option's index")
    elif isinstance(value, str):
        findings.add(where, "a string", _INTEGER, f'write 0, not "0" {silent}', redact(value))
    elif isinstance(value, float):
        findings.add(where, "a float", _INTEGER, "write 0, not 0.0: int(x) before json.dump", repr(value))
    elif not isinstance(value, int):
        remedy = "one index per slot (the official scorer stops)"
        findings.add(where, f"a {'list' if isinstance(value, list) else 'JSON object'}", _INTEGER, remedy)
    elif not 0 <= value < size:
        detail = f"{value} of 0..{size - 1}"[-60:]
        findings.add(where, "an index out of range", _INTEGER, f"count options from 0 {silent}", detail)
