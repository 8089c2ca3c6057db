"""Read a raw challenge folder of any layout: encounters, answers, and where photos and masks are.

Layouts, file names and known gaps: examples/challenge-data.md. No path is fixed. Lost data is a problem, one line each;
choices and harmless oddities are notes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from magic_cli.data.issues import IssueLog, by_kind, counted
from magic_cli.data.names import key_of
from magic_cli.data.prepared import case_row
from magic_cli.data.prompts import check_prompt
from magic_cli.data.questions import QuestionSchema, load_questions, parse_questions
from magic_cli.data.sources.dermavqa.answers import with_answers
from magic_cli.data.sources.dermavqa.pairing import pair
from magic_cli.data.sources.dermavqa.rows import Listed, case_of, listed, row_fault, unread_texts
from magic_cli.data.sources.dermavqa.scan import Folder, scan
from magic_cli.data.sources.dermavqa.tables import Table, Tables, read_tables, split_of
from magic_cli.data.sources.walk import below
from magic_cli.errors import DataError, problem, redact_key
from magic_cli.io import schema
from magic_cli.io.files import sha256
from magic_cli.records import Case


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
        raise DataError([*by_kind(issues.problems), _nothing(files, root)])
    reader = _Reader(files, issues, prompt, responses)
    for table in tables.encounters:
        reader.add(table)
    reader.note()
    if not reader.cases:
        raise DataError(_unusable(tables, files, issues, root))
    questions = _questions(tables, files, issues)
    encounters = with_answers(reader.cases, tables.answers, questions, files, issues)
    _list_missing_tables(encounters, files, issues)
    photos, masks = pair(files, encounters.values(), {key: name for key, (name, _) in reader.owners.items()}, issues)
    used = (*tables.definitions, *tables.encounters, *tables.answers)
    inputs = {files.name(table.path): sha256(table.path) for table in used}
    return Challenge(files.root, questions, encounters, photos, masks, inputs, issues)


def _nothing(files: Folder, root: Path) -> str:
    remedy = (
        "give the folder that holds train.json and the photos as --data (`magic prepare --list-sources` names others)"
    )
    if files.archives:
        remedy = f"unpack {files.name(files.archives[0])} first"
    elif files.other_tables:
        remedy = f"write {files.name(files.other_tables[0])} as JSON, a list with one object per encounter"
    return problem(root, "no encounters below it", "train.json, valid.json or test.json", remedy)


def _unusable(tables: Tables, files: Folder, issues: IssueLog, root: Path) -> list[str]:
    """Return why no row of any table is an encounter: a line per kind, the last one with the number of rows."""
    *lines, last = by_kind(issues.problems) or [problem(root, "no row", "one per encounter", "fill the tables")]
    names = ", ".join(files.name(table.path) for table in tables.encounters[:3])
    return [*lines, f"{last}; no encounter is left of {names}"]


def _list_missing_tables(cases: Mapping[str, Case], files: Folder, issues: IssueLog) -> None:
    """List tables that are no JSON, of splits without an encounter."""
    splits = {case.split for case in cases.values()}
    for path in files.other_tables:
        split = split_of(path, files.root)
        if split and split not in splits:
            got, expected = f"a {path.suffix.casefold()} table", "JSON, a list with one object per encounter"
            issues.add_loss(problem(files.name(path), got, expected, "convert it"))


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
        self.folders: dict[str, str] = {}  # key of a photo to the folder that it is listed with
        self.in_folders = self.unread = 0

    def add(self, table: Table) -> None:
        """Read all rows of a table and drop them; tables come in the order train, valid, test."""
        file = self.files.name(table.path)
        if not table.split:
            line = problem(file, "no split in its name", "train, valid or test in it", "rename the file")
            self.issues.add_loss(line, "cases", len(table.rows))
            return
        for index, row in enumerate(table.rows):
            fault = row_fault(row, f"{file}:{index}")
            if fault:
                self.issues.add_loss(fault, "cases")
            else:
                self._read(row, table.split, file, f"{file}:{index}")
        table.rows.clear()  # they take as much memory as the cases made from them

    def note(self) -> None:
        """Note what was read otherwise than it is written."""
        if self.in_folders:
            self.issues.note(
                f"{counted(self.in_folders, 'name of image_ids has', 'names of image_ids have')} a folder before it: "
                "photos are found by the name after the last /"
            )
        if self.unread:
            count = counted(self.unread, "text is", "texts are")
            self.issues.note(f"{count} not read: their keys end in no language of two letters, such as query_title_en")

    def _read(self, row: Mapping[str, Any], split: str, file: str, where: str) -> None:
        case = case_of(row, split, self.prompt, self.responses)
        # the same check as of every command that reads the prepared dataset
        faults = schema.problems("case", case_row(case), where, most=1)
        if faults:
            self.issues.add_loss(f"{faults[0]}; fix the row", "cases")
        elif self._is_new(case.case_id, split, file):
            self._keep(case, row, file)

    def _is_new(self, eid: str, split: str, file: str) -> bool:
        known, where = self.cases.get(eid), f"{file}:{redact_key(eid)}"
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

    def _keep(self, case: Case, row: Mapping[str, Any], file: str) -> None:
        where = f"{file}:{redact_key(case.case_id)}"
        photos = list(filter(None, map(listed, row["image_ids"])))
        if not photos:
            self.issues.add_loss(problem(f"{where}:image_ids", "no photo", "at least one", "complete the row"))
        if len(case.image_ids) < len(photos):
            self.issues.note(problem(f"{where}:image_ids", "a photo twice", "once", "used once"))
        self.unread += unread_texts(row)
        self.in_folders += sum(bool(photo.folder) for photo in photos)
        self.cases[case.case_id] = case
        for photo in photos:
            self._claim(case.case_id, photo, where)

    def _claim(self, eid: str, photo: Listed, where: str) -> None:
        """Give a photo to one encounter only: of two splits the later one keeps it."""
        key = key_of(photo.image_id)
        rival = self.cases.get(self.owners.get(key, ("", ""))[1])
        folder = self.folders.setdefault(key, photo.folder)
        if rival is None:
            self.owners[key] = photo.name, eid
        if rival is None or rival.case_id == eid:
            return
        keeper, loser = self.cases[eid], rival
        if keeper.split == rival.split:
            keeper, loser = loser, keeper
        self.owners[key] = photo.name, keeper.case_id
        got = f"{redact_key(photo.image_id)}, also of {redact_key(rival.case_id)}"
        remedy = f"remove it from one of the lists; {redact_key(keeper.case_id)} keeps it"
        if folder != photo.folder:
            got, remedy = f"{got} in another folder", f"give each photo a name; {redact_key(keeper.case_id)} keeps it"
        self.issues.add_loss(problem(where, got, "one encounter per photo", remedy), "images")
        ids = tuple(image_id for image_id in loser.image_ids if key_of(image_id) != key)
        self.cases[loser.case_id] = replace(loser, image_ids=ids)
