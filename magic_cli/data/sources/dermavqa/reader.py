"""Read a raw challenge folder of any layout: encounters, answers, and where photos and masks are.

Layouts, file names and known gaps: examples/challenge-data.md. No path is fixed. Lost data is a problem, one line each;
choices and harmless oddities are notes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any

from magic_cli.data.issues import IssueLog
from magic_cli.data.prompts import check_prompt, prompt_halves, replace_surrogates
from magic_cli.data.questions import QuestionSchema, load_questions, parse_questions
from magic_cli.data.sources.dermavqa.pairing import pair
from magic_cli.data.sources.dermavqa.scan import PHOTO_SUFFIXES, Folder, below, key_of, scan
from magic_cli.data.sources.dermavqa.tables import Table, Tables, read_tables
from magic_cli.errors import DataError, problem, redact
from magic_cli.io.files import sha256
from magic_cli.records import CONTENT, RESPONSE, TITLE, Case

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Challenge:
    """A challenge folder: its tables are read, no photo or mask is opened yet.

    `photos` and `masks` hold only what belongs to an encounter, by image id; `masks[image_id]` maps "ann0".."ann3"
    to a file, whether the photo exists or not. `inputs` maps the JSON files used, by their path below `root`,
    to their SHA-256.
    """

    root: Path
    questions: QuestionSchema
    cases: dict[str, Case]
    photos: Mapping[str, str]
    masks: Mapping[str, Mapping[str, str]]
    inputs: Mapping[str, str]
    issues: IssueLog

    @cached_property
    def owner(self) -> dict[str, Case]:
        """The encounter of each listed photo, in the order of the encounters."""
        return {image_id: encounter for encounter in self.cases.values() for image_id in encounter.image_ids}

    def forget_texts(self) -> None:
        """Drop texts and answers, half of the memory, once they are written; cases keep whether they have answers."""
        for eid, case in self.cases.items():
            answers = None if case.answers is None else _NOTHING
            self.cases[eid] = replace(case, texts=_NOTHING, question="", answer="", answers=answers)

    def name(self, path: str) -> str:
        """Return the path of a file below the root, as messages show it."""
        return below(path, self.root)


def open_challenge(root: Path, prompt: str = "qa", responses: bool = True) -> Challenge:
    """Read the JSON files of a challenge folder, at any depth, and match photos and masks with them.

    Args:
        root: any folder that holds the challenge's files, at any depth.
        prompt: kind of prompt, see `prompt_halves`.
        responses: False leaves the clinicians' responses out.

    Raises:
        DataError: no encounters below `root`, or a definitions file that is damaged (all of its problems).
        ConfigError: an unknown kind of prompt.
    """
    check_prompt(prompt, responses)
    issues = IssueLog()
    files = scan(root, issues)
    tables = read_tables(files, issues)
    if not tables.encounters:
        raise DataError([*issues.problems, _nothing(files, root)])
    reader = _Reader(files, issues, prompt, responses)
    for table in tables.encounters:
        reader.add(table)
    questions = _questions(tables, files, issues)
    encounters = _with_answers(reader.cases, tables.answers, questions, files, issues)
    photos, masks = pair(files, encounters.values(), {key: name for key, (name, _) in reader.owners.items()}, issues)
    used = (*tables.definitions, *tables.encounters, *tables.answers)
    inputs = {files.name(table.path): sha256(table.path) for table in used}
    return Challenge(files.root, questions, encounters, photos, masks, inputs, issues)


def _nothing(files: Folder, root: Path) -> str:
    remedy = "give the folder that holds train.json and the photos as --data"
    if files.archives:
        remedy = f"unpack {files.name(files.archives[0])} first"
    return problem(root, "no encounters below it", "train.json, valid.json or test.json", remedy)


def _questions(tables: Tables, files: Folder, issues: IssueLog) -> QuestionSchema:
    if not tables.definitions:
        issues.note("no closedquestions_definitions*.json found: the 27 questions of the 2025 challenge are used")
        return load_questions(None)
    return parse_questions(tables.definitions[0].rows, files.name(tables.definitions[0].path))


class _Reader:
    """Turn the rows of the encounter tables into encounters that share no id and no photo."""

    def __init__(self, files: Folder, issues: IssueLog, prompt: str, responses: bool) -> None:
        self.files, self.issues, self.prompt, self.responses = files, issues, prompt, responses
        self.cases: dict[str, Case] = {}
        self.owners: dict[str, tuple[str, str]] = {}  # key of a photo to its listed file name and its encounter

    def add(self, table: Table) -> None:
        """Read all rows of a table and drop them; tables come in the order train, valid, test."""
        file = self.files.name(table.path)
        if not table.split:
            line = problem(file, "no split in its name", "train, valid or test in it", "rename the file")
            self.issues.add_loss(line, "cases", len(table.rows))
            return
        for index, row in enumerate(table.rows):
            fault = _fault(row, f"{file}:{index}")
            if fault:
                self.issues.add_loss(fault, "cases")
            elif self._is_new(row["encounter_id"], table.split, file):
                self._keep(row, table.split, file)
        table.rows.clear()  # they take as much memory as the cases made from them

    def _is_new(self, eid: str, split: str, file: str) -> bool:
        known, where = self.cases.get(eid), f"{file}:{eid}"
        if known is None:
            return True
        if known.split == split:
            self.issues.add_loss(
                problem(where, "this encounter twice", "once", "remove one; the first is used"), "cases"
            )
            return False
        # what is scored must not be trained on: the later split keeps it
        line = problem(where, f"also in {known.split}", "one split", f"remove one; {split} keeps it")
        self.issues.add_loss(line, "cases")
        del self.cases[eid]
        return True

    def _keep(self, row: Mapping[str, Any], split: str, file: str) -> None:
        encounter = self._encounter(row, split)
        where = f"{file}:{encounter.case_id}"
        if not encounter.image_ids:
            self.issues.add_loss(problem(f"{where}:image_ids", "no photo", "at least one", "complete the row"))
        if len(encounter.image_ids) < len(row["image_ids"]):
            self.issues.note(problem(f"{where}:image_ids", "a photo twice", "once", "used once"))
        self.cases[encounter.case_id] = encounter
        for name in row["image_ids"]:
            self._claim(encounter.case_id, name, where)

    def _encounter(self, row: Mapping[str, Any], split: str) -> Case:
        title, content = _texts(row, "query_title_"), _texts(row, "query_content_")
        rows = (row.get("responses") or []) if self.responses else []
        responses = tuple(_texts(response, "content_") for response in rows)
        question, answer = prompt_halves(title, content, responses, self.prompt)
        ids: dict[str, str] = {}
        for name in row["image_ids"]:
            ids.setdefault(key_of(_stem(name)), _stem(name))
        texts = {TITLE: title, CONTENT: content}
        texts |= {intern(f"{RESPONSE}{number}"): text for number, text in enumerate(responses, 1)}
        eid = row["encounter_id"]
        return Case(eid, split, tuple(ids.values()), texts, question, answer, group_id=eid)

    def _claim(self, eid: str, name: str, where: str) -> None:
        """Give a photo to one encounter only: of two splits the later one keeps it."""
        key = key_of(_stem(name))
        rival = self.cases.get(self.owners.get(key, ("", ""))[1])
        if rival is None:
            self.owners[key] = name, eid
        if rival is None or rival.case_id == eid:
            return
        keeper, loser = self.cases[eid], rival
        if keeper.split == rival.split:
            keeper, loser = loser, keeper
        self.owners[key] = name, keeper.case_id
        got = f"{_stem(name)}, also of {rival.case_id}"
        remedy = f"remove it from one of the lists; {keeper.case_id} keeps it"
        self.issues.add_loss(problem(where, got, "one encounter per photo", remedy), "images")
        ids = tuple(image_id for image_id in loser.image_ids if key_of(image_id) != key)
        self.cases[loser.case_id] = replace(loser, image_ids=ids)


def _fault(row: Any, where: str) -> str:
    """Return why a row is not a valid encounter, "" if it is."""
    if not isinstance(row, dict) or not isinstance(row.get("encounter_id"), str) or not row["encounter_id"].strip():
        return problem(where, "no encounter_id", "a string such as ENC00001", "complete the row")
    if not row["encounter_id"].isprintable():
        return problem(where, "an encounter_id with control characters", "a plain id", "fix the row")
    names = row.get("image_ids")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return problem(f"{where}:image_ids", type(names).__name__, "a list of file names", "fix the row")
    bad = [name for name in names if not name.isprintable() or not name.strip(". ") or "/" in name or "\\" in name]
    if bad:
        return problem(f"{where}:image_ids", repr(bad[0])[:60], "a plain file name", "give the name without a folder")
    responses = row.get("responses") or []
    if not isinstance(responses, list) or not all(isinstance(response, dict) for response in responses):
        return problem(f"{where}:responses", "another type", "a list of objects", "fix the row")
    return ""


def _texts(row: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return language to text from keys such as `query_title_en`; null counts as no text."""
    by_lang = {key.removeprefix(prefix): text for key, text in row.items() if key.startswith(prefix)}
    return {
        lang: replace_surrogates(text)
        for lang, text in by_lang.items()
        if len(lang) == 2 and lang.isalpha() and lang.islower() and isinstance(text, str)
    }


def _stem(name: str) -> str:
    suffix = Path(name).suffix
    return name[: -len(suffix)] if suffix.casefold() in PHOTO_SUFFIXES else name


def _with_answers(
    encounters: Mapping[str, Case],
    tables: tuple[Table, ...],
    questions: QuestionSchema,
    files: Folder,
    issues: IssueLog,
) -> dict[str, Case]:
    """Return the encounters with their closed answers; faulty or contradictory rows are left out."""
    answers: dict[str, dict[str, int] | None] = {}
    for table in tables:
        for index, row in enumerate(table.rows):
            file = files.name(table.path)
            eid = row.get("encounter_id") if isinstance(row, dict) else None
            if not isinstance(eid, str) or eid not in encounters:
                got, remedy = f"answers for {redact(eid)}", "remove the row, or add its encounter"
                issues.add_loss(
                    problem(f"{file}:{index}", got, "an encounter of train, valid or test", remedy), "answers"
                )
                continue
            faults = questions.faults(row, f"{file}:{eid}")
            values = {qid: value for qid, value in row.items() if qid != "encounter_id"}
            if not faults and answers.setdefault(eid, values) != values:
                answers[eid] = None
                faults = [problem(f"{file}:{eid}", "rows that differ", "one row", "remove one; neither is used")]
            if faults:
                more = f" (and {len(faults) - 1} more in this row)" if len(faults) > 1 else ""
                issues.add_loss(faults[0] + more, "answers")
        table.rows.clear()
    return {eid: replace(encounter, answers=answers.get(eid)) for eid, encounter in encounters.items()}
