"""Tables of cells in CSV or JSON: a list of objects, or one object per line, reads like rows of a CSV table."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path, PurePath
from typing import Protocol

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import TABLE_SUFFIXES
from magic_cli.data.prompts import replace_surrogates
from magic_cli.data.sources.csv_rows import CSV_SUFFIXES, CsvTable, Row, columns_of, open_csv
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError, problem, redact
from magic_cli.io.file_kinds import is_json
from magic_cli.io.json_files import MAX_LINE, json_text, parse_json, read_json
from magic_cli.io.regular_file import open_regular

_SAMPLE = 50  # rows whose keys are the columns


class Table(Protocol):
    """A table: `csv_rows.CsvTable`, or one of JSON objects."""

    @property
    def path(self) -> str:
        """Absolute path."""
        ...

    @property
    def name(self) -> str:
        """Path as messages show it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    def rows(self, issues: IssueLog) -> Iterator[Row]:
        """Yield the rows; those that cannot be used are problems."""
        ...


@dataclass(frozen=True, slots=True)
class JsonTable:
    """Objects whose keys are columns; texts are cells as they are, null is an empty one, all else JSON."""

    path: str
    name: str
    columns: tuple[str, ...]

    def rows(self, issues: IssueLog) -> Iterator[Row]:
        """Yield the objects; what is none is a problem and is left out."""
        for where, row in each_object(self.path, self.name, issues):
            yield Row({str(key): _cell(value) for key, value in row.items()}, where)


def _cell(value: object) -> str:
    return replace_surrogates(value) if isinstance(value, str) else "" if value is None else json_text(value)


def each_object(path: str, name: str, issues: IssueLog) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the objects of a file with their places: of a list in a .json file, else one per line.

    A line that is no JSON, or a value that is no object, is a problem and is left out.

    Raises:
        DataError: a .json file that is no JSON, or a line of more than 128 MiB.
    """
    for number, value in enumerate(_listed(path), 1) if is_json(Path(path)) else _lines(path, name, issues):
        where = f"{name}:{number}"
        if isinstance(value, dict):
            yield where, value
        else:
            issues.add_loss(problem(where, redact(value), "an object", "fix the row; left out"), "cases")


def _listed(path: str) -> Iterator[object]:
    rows = read_json(Path(path))
    yield from rows if isinstance(rows, list) else [rows]


def _lines(path: str, name: str, issues: IssueLog) -> Iterator[tuple[int, object]]:
    with open_regular(path) as file:
        for number in count(1):
            line = file.readline(MAX_LINE + 1)
            if not line:
                return
            where = f"{name}:{number}"
            if len(line) > MAX_LINE:
                raise DataError(problem(where, "a line of more than 128 MiB", "one object", "check the file"))
            if line.strip(b"\xef\xbb\xbf \t\r\n"):
                try:
                    yield number, parse_json(line)
                except (ValueError, RecursionError):
                    remedy = "fix the line, or was the file cut off? left out"
                    issues.add_loss(problem(where, "no JSON", "one object", remedy), "cases")


def table_paths(files: SourceFiles) -> list[str]:
    """Return the files that can be tables: CSV ones with two columns or more, or one and a table's suffix, and JSON."""
    return [path for path in files.tables if _can_be_table(path)]


def _can_be_table(path: str) -> bool:
    suffix = PurePath(path).suffix.casefold()
    if suffix in TABLE_SUFFIXES:
        return True
    if suffix not in CSV_SUFFIXES:
        return False
    return suffix in (".csv", ".tsv", ".tab") or len(columns_of(path)) > 1


def open_table(path: str, files: SourceFiles) -> Table:
    """Read the columns of a table; those of a JSON table are the keys of its first 50 objects.

    Raises:
        DataError: it is no table.
    """
    if PurePath(path).suffix.casefold() not in TABLE_SUFFIXES:
        table: CsvTable = open_csv(path, files)
        return table
    keys: dict[str, None] = {}
    for _, row in islice(each_object(path, files.name(path), IssueLog()), _SAMPLE):
        keys |= dict.fromkeys(map(str, row))
    if not keys:
        expected = "a list of objects, or one object per line"
        raise DataError(problem(files.name(path), "no object", expected, "check the file"))
    return JsonTable(path, files.name(path), tuple(keys))
