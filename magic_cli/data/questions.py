"""Closed questions: parents, slots, options, "Not mentioned" and padding, from the definitions file.

The challenge asks one parent question (CQID020) through several slots (CQID020-001 .. -009). A gold answer
is a *set* of options per parent; the slots hold its values in any order, then "Not mentioned" as padding
(examples/closed-questions.md, "Structure of the gold"). All code that handles answers uses this module.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from magic_cli.errors import DataError, problem, redact, redact_key, shorten
from magic_cli.io import schema
from magic_cli.io.json_files import read_json
from magic_cli.records import Question

MOST_OPTIONS = 255  # of a question: the confusion of its answers is a table of their square

MOST_OPTIONS_IN_ALL = 65_535  # of all slots: scores hold two numbers for each, per encounter

FALLBACK = Path(__file__).parents[1] / "presets" / "questions.json"

_BRACKET = re.compile(r"\((?:please specify|por favor,? especifique)\)|（请注明）", re.IGNORECASE)

_NUMBER = re.compile(r"^\s*\d+[.)]?\s+")

_FIRST_SLOT = re.compile(r"^\s*1\s+|(?<!\s)\s+1\s*$")  # without the look behind, a run of spaces is read again at each

_LARGEST = 2**31

_NOT_MENTIONED = {"not mentioned", "无法得知", "no mencionado", "no se menciona"}


def plain(text: str) -> str:
    """Fold case and white space; drop "(please specify)", in any language."""
    return " ".join(_BRACKET.sub(" ", text).casefold().split())


def normalise(text: str) -> str:
    """Like `plain`, and drop a leading number."""
    return plain(_NUMBER.sub("", text))


def parent_of(qid: str) -> str:
    """Return the parent of a slot: `CQID011-003` -> `CQID011`; an id without a suffix is its own parent."""
    head, _, tail = qid.rpartition("-")
    return head if head and tail.isdigit() else qid


def whole_number(value: object) -> int | None:
    """Return a whole number as an integer, also one that is written as 1.0: the rule for gold and predictions alike.

    None for everything else: other numbers, numbers beyond 2^31, NaN, true, false and text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) < _LARGEST or value != value // 1:  # NaN fails this comparison too
        return None
    return int(value)


@dataclass(frozen=True)
class QuestionSchema:
    """All slots, in the order of the definitions file.

    >>> schema = load_questions(None)
    >>> schema.to_slots({**schema.empty_sets(), "CQID011": {2, 0}})["CQID011-002"]
    2
    """

    slots: tuple[Question, ...]

    @cached_property
    def by_qid(self) -> dict[str, Question]:
        """Every slot by its qid."""
        return {q.qid: q for q in self.slots}

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Every parent with its qids, both in file order."""
        qids_of: dict[str, list[str]] = {}
        for question in self.slots:
            qids_of.setdefault(question.parent, []).append(question.qid)
        return {parent: tuple(qids) for parent, qids in qids_of.items()}

    def unknown_of(self, parent: str) -> dict[str, int]:
        """Return the index of "Not mentioned" among a parent's options, by language; {} if it has none."""
        index_by_lang: dict[str, int] = {}
        for lang, options in self.by_qid[self.parents[parent][0]].options.items():
            for index, option in enumerate(options):
                if normalise(option) in _NOT_MENTIONED:
                    index_by_lang.setdefault(lang, index)
        return index_by_lang

    @cached_property
    def _unknown(self) -> dict[str, int | None]:
        return {parent: next(iter(self.unknown_of(parent).values()), None) for parent in self.parents}

    def not_mentioned(self, parent: str) -> int | None:
        """Return the index of "Not mentioned" among a parent's options, None if it has none."""
        return self._unknown[parent]

    def empty_sets(self) -> dict[str, frozenset[int]]:
        """Return the empty answer: "Not mentioned" for every parent (option 0 if it has none)."""
        return {p: frozenset({self.not_mentioned(p) or 0}) for p in self.parents}

    def to_sets(self, row: Mapping[str, int]) -> dict[str, frozenset[int]]:
        """Return the set of options of each parent that has at least one slot in `row`.

        Slots may be missing, as in the official scorer, which builds its sets the same way.
        """
        sets: dict[str, set[int]] = {}
        for question in self.slots:
            if question.qid in row:
                sets.setdefault(question.parent, set()).add(row[question.qid])
        return {parent: frozenset(values) for parent, values in sets.items()}

    def to_slots(self, sets: Mapping[str, Iterable[int]]) -> dict[str, int]:
        """Write sets into slots: values ascending, then "Not mentioned".

        A parent without "Not mentioned" is padded with its own first value, which does not change the set.

        Raises:
            DataError: a parent is missing, empty, has more values than slots, or has an index out of range.
        """
        row: dict[str, int] = {}
        for parent, qids in self.parents.items():
            values, padding = set(sets.get(parent, ())), self.not_mentioned(parent)
            if not values:
                raise DataError(problem(parent, "no answer", "at least one option", "answer every question"))
            self._check(qids[0], values)
            real = sorted(values - {padding}) if padding is not None else sorted(values)
            if len(real) > len(qids):
                raise DataError(problem(parent, f"{len(real)} values", f"at most {len(qids)}", "drop the least likely"))
            fill = padding if padding is not None else real[0]
            row.update(zip(qids, real + [fill] * (len(qids) - len(real)), strict=True))
        return row

    def canonical(self, row: Mapping[str, int]) -> dict[str, int]:
        """Return a complete row in canonical slot order: repeats dropped, padding last."""
        return self.to_slots(self.to_sets(row))

    def majority(self, rows: Iterable[Mapping[str, int]]) -> dict[str, int]:
        """Return the most frequent option of each slot, the lowest index on ties; {} without rows.

        Args:
            rows: complete answers; each is put into canonical slot order first.
        """
        canonical_rows = [self.canonical(row) for row in rows]
        counts = {qid: Counter(row[qid] for row in canonical_rows) for qid in self.by_qid if canonical_rows}
        return {qid: min(count, key=lambda option: (-count[option], option)) for qid, count in counts.items()}

    def _check(self, qid: str, values: Iterable[int]) -> None:
        size = self.by_qid[qid].size
        for value in values:
            if not 0 <= value < size:
                raise DataError(problem(qid, value, f"an index in 0..{size - 1}", "use 0-based option indices"))

    def wording(self, parent: str) -> str:
        """Return the text of a question in English, or in the first language of the file, less the number of a slot."""
        qids = self.parents[parent]
        text = self.by_qid[qids[0]].text
        wording = text.get("en", next(iter(text.values()), ""))
        return _FIRST_SLOT.sub("", wording) if len(qids) > 1 else wording

    def option(self, qid: str, index: int, lang: str = "en") -> str:
        """Return the text of an option in `lang`, or in the first language of the file if `lang` is missing."""
        self._check(qid, (index,))
        options = self.by_qid[qid].options
        return options.get(lang, next(iter(options.values())))[index]

    def index(self, qid: str, text: str) -> int:
        """Return the option that `text` names, in any language of the file.

        Case, white space and "(please specify)" are ignored, and a leading number if no option matches with it.

        Raises:
            DataError: no option, or more than one, has this text.
        """
        languages = self.by_qid[qid].options.values()
        matches: set[int] = set()
        for form in (plain, normalise):
            matches = matches or {i for options in languages for i, o in enumerate(options) if form(o) == form(text)}
        if len(matches) != 1:
            raise DataError(problem(qid, redact(text), "the text of one option", "see the definitions file"))
        return matches.pop()

    def faults(self, row: Mapping[str, Any], where: str) -> list[str]:
        """Return one line per missing key, unknown key and value that is not an option index."""
        lines = [f"{where}:{q.qid}: missing; every question needs an answer" for q in self.slots if q.qid not in row]
        for key, value in row.items():
            if key in self.by_qid:
                size = self.by_qid[key].size
                index = whole_number(value)
                if index is None or not 0 <= index < size:
                    expected = f"an integer in 0..{size - 1}"
                    lines.append(problem(f"{where}:{key}", redact(value), expected, "write the 0-based option index"))
            elif key != "encounter_id":
                place = f"{where}:{redact_key(key)}"
                lines.append(problem(place, "an unknown key", "a qid of the definitions", "remove it"))
        return lines

    def indices(self, row: Mapping[str, Any]) -> dict[str, int]:
        """Return a row without `faults` as integers: JSON may hold 1.0 for 1."""
        return {key: int(value) for key, value in row.items()}

    def as_json(self) -> list[dict[str, Any]]:
        """Return the definitions as a JSON list in the layout of the challenge's file."""
        rows = []
        for q in self.slots:
            row: dict[str, Any] = {"qid": q.qid}
            row |= {f"question_{lang}": text for lang, text in q.text.items()}
            rows.append(row | {f"options_{lang}": list(options) for lang, options in q.options.items()})
        return rows


NO_QUESTIONS = QuestionSchema(())


def parse_questions(rows: Any, where: str) -> QuestionSchema:
    """Build the codec from the parsed definitions file, a list of rows.

    Raises:
        DataError: lists every row with a missing key, a repeated qid, options that differ from those of the same
            parent's first slot, or more than 255 of them; or all rows together have more than 65,535.
    """
    lines = schema.problems("definitions", rows, where)
    if lines:
        raise DataError(lines)
    return _codec(rows, where)


def _codec(rows: list[dict[str, Any]], where: str) -> QuestionSchema:
    """Build the codec from rows that have the right keys and types."""
    lines = _too_many_options(rows, where)
    slots: dict[str, Question] = {}
    for number, row in enumerate(rows):
        options = {k.removeprefix("options_"): tuple(v) for k, v in row.items() if re.fullmatch(r"options_[a-z]{2}", k)}
        text = {k.removeprefix("question_"): v for k, v in row.items() if re.fullmatch(r"question_[a-z]{2}", k)}
        question = Question(row["qid"], parent_of(row["qid"]), text, options)
        if len({len(o) for o in options.values()}) != 1:
            lines.append(
                problem(
                    f"{where}:{number}",
                    "a number of options that depends on the language",
                    "equal numbers",
                    "complete them",
                )
            )
        if question.qid in slots:
            lines.append(problem(f"{where}:{number}", f"{question.qid} twice", "once", "remove one row"))
        slots[question.qid] = question
    first: dict[str, Question] = {}
    lines += [
        problem(
            f"{where}:{question.qid}",
            f"options unlike those of {first[question.parent].qid}",
            "the same",
            "align the rows",
        )
        for question in slots.values()
        if first.setdefault(question.parent, question).options != question.options
    ]
    if lines:
        raise DataError(lines)
    return QuestionSchema(tuple(slots.values()))


def _too_many_options(rows: list[dict[str, Any]], where: str) -> list[str]:
    sizes = [max((len(v) for k, v in row.items() if re.fullmatch(r"options_[a-z]{2}", k)), default=0) for row in rows]
    large = [f"{row['qid']} has {size}" for row, size in zip(rows, sizes, strict=True) if size > MOST_OPTIONS]
    if large:
        expected, remedy = f"at most {MOST_OPTIONS} options each", "shorten the options, or leave these questions out"
        return [problem(where, f"questions of many options ({shorten(large, 3)})", expected, remedy)]
    if sum(sizes) > MOST_OPTIONS_IN_ALL:
        expected = f"at most {MOST_OPTIONS_IN_ALL}"
        return [problem(where, f"{sum(sizes)} options in all questions", expected, "leave some questions out")]
    return []


def load_questions(path: Path | None) -> QuestionSchema:
    """Read a definitions file; None gives the 27 questions of the 2025 challenge."""
    if path is None:  # our own file needs no check, and importing the checker takes a third of the start-up of scoring
        return _codec(read_json(FALLBACK), str(FALLBACK))
    return parse_questions(read_json(path), str(path))
