"""CSV tables of any encoding and delimiter, row by row: as people export them from Excel, pandas and websites."""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.cells import present
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError, problem, shorten
from magic_cli.io.regular_file import open_regular

if TYPE_CHECKING:
    from _csv import Reader as _Reader

_DELIMITERS = ",;\t|"

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

_LONGEST = 1 << 24  # characters of a cell

_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells by column as text, and its place, "metadata.csv:12" with the line that it ends on."""

    cells: Mapping[str, str]
    where: str

    def get(self, column: str) -> str | None:
        """Return a cell without blanks at its ends; None if it is missing: no such column, empty, or "nan"."""
        return present(self.cells.get(column))


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A table whose header is read; `columns` are its names as written, without blanks at their ends."""

    path: str
    name: str
    columns: tuple[str, ...]
    encoding: str
    delimiter: str

    def has(self, *columns: str) -> bool:
        """Return whether all of these columns are there."""
        return all(column in self.columns for column in columns)

    def rows(self, issues: IssueLog) -> Iterator[Row]:
        """Yield the rows; one with too many or too few cells is a problem and is left out, empty lines are skipped."""
        with open_regular(self.path) as file, io.TextIOWrapper(file, self.encoding, newline="") as text:
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            previous = csv.field_size_limit(_LONGEST)
            try:
                next(reader, None)
                yield from self._rows(reader, issues)
            except (csv.Error, UnicodeDecodeError) as error:
                where = f"{self.name}:{reader.line_num + 1}"
                raise DataError(problem(where, str(error), "a row of a CSV table", "fix the row")) from None
            finally:
                csv.field_size_limit(previous)

    def _rows(self, reader: "_Reader", issues: IssueLog) -> Iterator[Row]:
        for cells in reader:
            if not any(cells):
                continue
            where = f"{self.name}:{reader.line_num}"
            if len(cells) != len(self.columns):
                got = f"{len(cells)} cells"
                issues.add_loss(problem(where, got, f"{len(self.columns)}, as in the header", "fix the row"), "cases")
                continue
            yield Row(dict(zip(self.columns, cells, strict=True)), where)


def open_csv(path: str, files: SourceFiles) -> CsvTable:
    """Read the header of a table.

    The encoding is that of its byte order mark, else UTF-8 if all of it is, else Windows-1252. The delimiter is the one
    of comma, semicolon, tab and bar that divides the header most.

    Raises:
        DataError: it is a Git LFS pointer, has no header, or repeats a column.
    """
    name = files.name(path)
    with open_regular(path) as file:
        head = file.read(1 << 16)
    if head.startswith(_LFS):
        raise DataError(problem(name, "a Git LFS pointer", "the table itself", "run `git lfs pull` in its repository"))
    encoding = _encoding(path, head)
    first = head.decode(encoding, errors="replace").lstrip("\ufeff")
    delimiter = max(_DELIMITERS, key=lambda mark: len(next(csv.reader(io.StringIO(first), delimiter=mark), [])))
    columns = tuple(cell.strip() for cell in next(csv.reader(io.StringIO(first), delimiter=delimiter), []))
    if not any(columns):
        raise DataError(problem(name, "no header", "a CSV table with the names of its columns", "check the file"))
    twice = [column for number, column in enumerate(columns) if column in columns[:number]]
    if twice:
        raise DataError(problem(name, f"column {shorten(twice)} twice", "once", "rename one of them"))
    return CsvTable(path, name, columns, encoding, delimiter)


def _encoding(path: str, head: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_regular(path) as file:
            while chunk := file.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252" if _is_cp1252(path) else "latin-1"
    return "utf-8"


def _is_cp1252(path: str) -> bool:
    try:
        with open_regular(path) as file:
            while chunk := file.read(1 << 20):
                chunk.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return True


def note_unknown(table: CsvTable, known: frozenset[str], issues: IssueLog) -> None:
    """Note the columns of a table that are not used, how many and which."""
    unknown = [column or "(unnamed)" for column in table.columns if column not in known]
    if unknown:
        verb = "1 column is" if len(unknown) == 1 else f"{len(unknown):,} columns are"
        issues.note(f"{table.name}: {verb} not used ({shorten(unknown, 12)})")
