"""The tables of a challenge folder: which hold encounters, answers or definitions, and which version counts."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import composed
from magic_cli.data.sources.dermavqa.scan import Folder
from magic_cli.data.sources.walk import same_bytes
from magic_cli.errors import DataError, problem, redact_key, shorten
from magic_cli.io.json_files import read_json, read_jsonl

DEFINITIONS = "closedquestions_definitions"

_SPLITS = {"tr": "train", "va": "valid", "de": "valid", "te": "test"}

_SPLIT = re.compile(r"(?<![a-z])(train(?:ing)?|val(?:id(?:ation)?)?|dev(?:elopment)?|test(?:ing)?)(?:set)?(?![a-z])")

_VERSION = re.compile(r"(?<![a-z])v(\d+)")

_OFFICIAL = re.compile(r"(?:train|valid|validation|dev|test)(?:_ht)?(?:_cvqa)?")

_RELEVANT = re.compile(r"(?<![a-z])(?:train|val|dev(?![a-z])|test)|cvqa|" + DEFINITIONS)

# of a file that `magic prepare` wrote, and of one that it reads
_REMEDY = ("run `magic prepare` again", "was it cut off while copying?")


@dataclass(frozen=True)
class Table:
    """One table: its parsed list of rows, and the split in its name or its folder's ("" for none).

    Consumers clear `rows` after reading them: they take most of the memory.
    """

    path: Path
    rows: list[Any]
    split: str

    def ids(self) -> set[str]:
        """Encounter ids of all rows that have one, composed."""
        rows = (row.get("encounter_id") for row in self.rows if isinstance(row, dict))
        return {composed(eid) for eid in rows if isinstance(eid, str)}

    def rank(self) -> tuple[bool, int, bool, int, str]:
        """Sort key by trust: corrected, then the highest version, then the plain name, then the shortest."""
        stem = self.path.stem.casefold()
        version = max([int(number[-9:]) for number in _VERSION.findall(stem)], default=0)
        plain = stem.removesuffix("_cvqa") == self.split
        return "corrected" in stem, version, plain, -len(stem), self.path.as_posix()


@dataclass(frozen=True)
class Tables:
    """The tables that are used, by kind; at most one of definitions."""

    definitions: tuple[Table, ...]
    encounters: tuple[Table, ...]
    answers: tuple[Table, ...]


def split_of(path: PurePath, root: Path) -> str:
    """Return the split in a file's name, or else in that of the nearest folder; "" if there is none or several."""
    relative = path.relative_to(root)
    for part in (path.stem, *reversed(relative.parts[:-1])):
        words = {_SPLITS[word[:2]] for word in _SPLIT.findall(part.casefold())}
        if len(words) == 1:
            return words.pop()
    return ""


def read_tables(files: Folder, issues: IssueLog) -> Tables:
    """Read every JSON file of a folder, classify it by content and name, and choose among versions.

    Raises:
        DataError: a definitions file is not JSON.
    """
    kinds: dict[str, list[Table]] = {"definitions": [], "encounters": [], "answers": []}
    for path in files.jsons:
        try:
            rows = _read(path)
        except DataError as error:
            lines = [line.replace(f"{files.root}{os.sep}", "").replace(*_REMEDY) for line in error.problems]
            if DEFINITIONS in path.name.casefold():
                raise DataError(lines) from None
            if _RELEVANT.search(path.name.casefold()):
                issues.add_loss(lines[0])
            continue
        kind = _kind(rows, path)
        if not kind and _OFFICIAL.fullmatch(path.stem.casefold()):
            expected = "a list of objects with an encounter_id"
            issues.add_loss(problem(files.name(path), "neither encounters nor answers", expected, "was it changed?"))
        if kind:
            kinds[kind].append(Table(path, rows, split_of(path, files.root)))
    return Tables(
        definitions=_definitions(kinds["definitions"], files, issues),
        encounters=tuple(_choose(kinds["encounters"], files, issues)),
        answers=tuple(_choose(kinds["answers"], files, issues)),
    )


def _read(path: Path) -> Any:
    """Parse a JSON file, or one with a JSON value per line, as JSON Lines and some with the suffix .json are."""
    if path.suffix.casefold() != ".json":
        rows = read_jsonl(path)
        return rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows
    try:
        return read_json(path)
    except DataError as error:
        if "(Extra data)" in str(error):
            with suppress(DataError):
                return read_jsonl(path)
        raise


def _kind(rows: Any, path: Path) -> str:
    name = path.stem.casefold()
    if DEFINITIONS in name:
        return "definitions"
    keys = {key for row in rows if isinstance(row, dict) for key in row} if isinstance(rows, list) else set()
    if "qid" in keys:
        return "definitions"
    if "encounter_id" not in keys:
        return ""
    if "image_ids" in keys or any(key.startswith("query_") for key in keys):
        return "encounters"
    # data_cvqa_sys.json and the like are predictions, not gold
    return "answers" if "cvqa" in name and not name.endswith("sys") else ""


def _definitions(tables: list[Table], files: Folder, issues: IssueLog) -> tuple[Table, ...]:
    ranked = sorted(tables, key=lambda t: (DEFINITIONS in t.path.name.casefold(), t.rank()), reverse=True)
    for other in ranked[1:]:
        what = "a copy" if same_bytes((ranked[0].path, other.path)) else "another version"
        issues.note(f"{files.name(other.path)}: {what} of {files.name(ranked[0].path)}; not used")
    return tuple(ranked[:1])


def _choose(tables: list[Table], files: Folder, issues: IssueLog) -> Iterator[Table]:
    """Yield the tables to use, split by split: the most trusted one, and others that share no encounter with it."""
    for split in ("train", "valid", "test", ""):
        used: list[Table] = []
        for table in sorted((t for t in tables if t.split == split), key=Table.rank, reverse=True):
            rival = next((u for u in used if u.ids() & table.ids()), None)
            if rival is None:
                used.append(table)
            else:
                _pass_over(table, rival, used, files, issues)
        yield from used


def _pass_over(table: Table, rival: Table, used: Sequence[Table], files: Folder, issues: IssueLog) -> None:
    name, better = files.name(table.path), files.name(rival.path)
    if same_bytes((table.path, rival.path)):
        issues.note(f"{name}: a copy of {better}; not used")
        return
    issues.note(f"{name}: another version of {better}; not used")
    only = sorted(table.ids().difference(*(u.ids() for u in used)))
    if only:
        got = f"{len(only)} encounters that {better} lacks ({shorten(map(redact_key, only), most=3)})"
        issues.add_loss(problem(name, got, "one complete file per split", "remove the file that is out of date"))
