"""CSV tables of any encoding and delimiter, row by row: as people export them from Excel, pandas and websites."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from typing import Protocol, TextIO

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.sources import lfs
from magic_cli.data.sources.cells import present
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError, printable, problem, shorten
from magic_cli.io.file_kinds import content
from magic_cli.io.regular_file import open_regular

CSV_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", "")  # some datasets name a table without any

_DELIMITERS = ",;\t|"

_MARKS = {  # in this order: the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_ENCODINGS = {"cp1252": "Windows-1252", "latin-1": "Latin-1", "gb18030": "GB 18030"}

_HEAD = 1 << 16  # bytes from which delimiter and columns are told

_SAMPLE = 50  # rows that decide on the delimiter

_LONGEST = 1 << 24  # characters of a cell, and of a line

_EXCEL_SEPARATOR = re.compile(r'\ufeff*"?sep=(?P<mark>.)"?[ ,;\t]*', re.I)

_ESCAPED, _OTHER = re.compile("[\udc80-\udcff]"), re.compile("[^\0-\x7f\udc80-\udcff]")

_RUNS = re.compile(rb"[\x80-\xff]+")

_EXCEL = 'in Excel, save it as "CSV UTF-8 (comma delimited)"'

_REMEDIES = {  # by what a file is, if it is no table
    "a Git LFS pointer": lfs.REMEDY,
    "an Excel workbook": _EXCEL,
    "an Office document": _EXCEL,
    "a Parquet file": "convert it: python -c \"import pandas; pandas.read_parquet('FILE').to_csv('FILE.csv')\"",
    "an HTML page": "download it again: a web page was saved in its place, such as one that asks to log in",
    "JSON": "name it .json",
    "nothing": "copy or download it again",
    "null bytes": "copy or download it again",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells by column as text, and its place, "metadata.csv:12" with the line that it begins on."""

    cells: Mapping[str, str]
    where: str

    def get(self, column: str) -> str | None:
        """Return a cell without blanks at its ends; None if it is missing: no such column, empty, or "nan"."""
        return present(self.cells.get(column))


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A table whose header is read.

    `columns` are its names as written, without blanks at their ends; those without a name at the right are left out,
    another one without a name is "", further ones "Unnamed: 3" as in pandas. `width` is the number of columns with
    those at the right, `skipped` that of records before the first row. `is_damaged`: some bytes are not of the
    encoding; they are read as U+FFFD.
    """

    path: str
    name: str
    columns: tuple[str, ...]
    encoding: str
    delimiter: str
    width: int
    skipped: int
    is_damaged: bool = False

    def has(self, *columns: str) -> bool:
        """Return whether all of these columns are there."""
        return all(column in self.columns for column in columns)

    def rows(self, issues: IssueLog) -> Iterator[Row]:
        """Yield the rows, empty ones skipped.

        A row with too many or too few cells, a NUL character, or quotation marks that do not match, is a problem and is
        left out; empty cells at the right do not count.

        Raises:
            DataError: a line of more than 16 million characters.
        """
        if self.encoding in _ENCODINGS:
            issues.note(f"{self.name}: read as {_ENCODINGS[self.encoding]}, as it is not in UTF-8")
        with open_regular(self.path) as file, io.TextIOWrapper(file, self.encoding, "replace", newline="") as text:
            lines = _Lines(text, self.name)
            records = _records(lines, self.delimiter, self.name, issues)
            for _ in range(self.skipped):
                next(records, None)
            lines.flags()
            yield from self._rows(records, lines, issues)

    def _rows(self, records: "Iterator[tuple[int, list[str]]]", lines: "_Lines", issues: IssueLog) -> Iterator[Row]:
        number = len(self.columns)
        damaged = nameless = 0
        for line, cells in records:
            has_nul, is_replaced = lines.flags()
            while len(cells) > number and not cells[-1].strip():
                cells.pop()
            if number < len(cells) <= self.width:
                nameless += 1
                del cells[number:]
            where = f"{self.name}:{line}"
            if has_nul:
                issues.add_loss(problem(where, "a NUL character", "text", "fix the row; left out"), "cases")
            elif len(cells) != number:
                got, expected = f"{len(cells)} cell{'s' * (len(cells) > 1)}", f"{number}, as in the header"
                issues.add_loss(problem(where, got, expected, "fix the row; left out"), "cases")
            else:
                damaged += self.is_damaged and is_replaced
                yield Row(dict(zip(self.columns, cells, strict=True)), where)
        if damaged:
            rows = counted(damaged, "row has", "rows have")
            issues.note(f"{self.name}: {rows} bytes that are no UTF-8; they are read as U+FFFD")
        if nameless:
            rows = counted(nameless, "row has", "rows have")
            issues.note(f"{self.name}: {rows} text in columns without a name; it is not used")


class _Lines:
    """The lines of a text, a limited number of characters at a time; remembers what was in those of a row."""

    def __init__(self, text: TextIO, name: str) -> None:
        self._text, self._name = text, name
        self.number = 0
        self._has_nul = self._is_replaced = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(_LONGEST)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) >= _LONGEST:
            got = f"a line of {_LONGEST:,} characters or more"
            raise DataError(problem(f"{self._name}:{self.number}", got, "a CSV table", "check the file"))
        if "\0" in line:
            self._has_nul = True
        if "\ufffd" in line:
            self._is_replaced = True
        return line

    def flags(self) -> tuple[bool, bool]:
        """Return whether the lines since the last call have a NUL character, and one that replaces bad bytes."""
        flags = self._has_nul, self._is_replaced
        self._has_nul = self._is_replaced = False
        return flags


def _records(lines: _Lines, delimiter: str, name: str, issues: IssueLog) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line and the cells of each record that is not empty."""
    csv.field_size_limit(_LONGEST)  # of the process; the default is 131,072
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = lines.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            number = lines.number - first + 1
            got = f"{_csv_error(error)}, lines {first:,} to {lines.number:,}" if number > 1 else _csv_error(error)
            expected = 'a row of a CSV table, with "" for a quotation mark within quotation marks'
            issues.add_loss(problem(f"{name}:{first}", got, expected, "fix the row; left out"), "cases", number)
            lines.flags()
            continue
        if cells is None:
            return
        if any(map(str.strip, cells)):
            yield first, cells
        else:
            lines.flags()


def _csv_error(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text:
        return "a quotation mark that is never closed"
    return f"a cell of more than {_LONGEST:,} characters" if "limit" in text else "text behind a closing quotation mark"


def open_csv(path: str, files: SourceFiles | None, columns: Sequence[str] = ()) -> CsvTable:
    """Read the header of a table.

    The encoding is that of its byte order mark, else UTF-8 if nearly all of it is, else Windows-1252, Latin-1 or, for
    Chinese, GB 18030. The delimiter is the one of comma, semicolon, tab and bar that divides the first rows most
    evenly, or that of a first line "sep=;", as Excel writes it.

    Args:
        path: of the table.
        files: the dataset; None: a table of none, which messages call by its path.
        columns: names for the columns of a table without header.

    Raises:
        DataError: it is no table (a workbook, Parquet, a Git LFS pointer, ...), has no header, or repeats a column.
    """
    name = printable(path) if files is None else files.name(path)
    head = _head(path)
    _refuse_other(head, name)
    encoding, is_damaged = _encoding(path, head)
    delimiter, skipped, header = _header(head, encoding)
    names = tuple(columns) or _names(header)
    if not any(names):
        raise DataError(problem(name, "no header", "a CSV table with the names of its columns", "check the file"))
    twice = [column for number, column in enumerate(names) if column in names[:number]]
    if twice:
        raise DataError(problem(name, f"column {shorten(twice)} twice", "once", "rename one of them"))
    width = max(len(header), len(names))
    return CsvTable(path, name, names, encoding, delimiter, width, skipped - bool(columns), is_damaged)


def columns_of(path: str) -> tuple[str, ...]:
    """Return the names of a table's columns as `open_csv` does; () if it is no table. Fit for `Source.find`: cached."""
    try:
        status = os.stat(path)  # noqa: PTH116  paths are text here
        return _columns_of(path, status.st_mtime_ns, status.st_size)
    except (OSError, DataError):
        return ()


@lru_cache(maxsize=4096)
def _columns_of(path: str, *_: int) -> tuple[str, ...]:
    head = _head(path)
    _refuse_other(head, path)
    encoding = _marked(head)
    if not encoding:
        try:
            encoding = "utf-8"
            codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            encoding = "latin-1"
    return _names(_header(head, encoding)[2])


def tables_with(files: SourceFiles, *columns: str) -> list[str]:
    """Return the CSV tables of a dataset that have all of these columns, in a fixed order; for `Source.find`."""
    paths = (path for path in files.tables if PurePath(path).suffix.casefold() in CSV_SUFFIXES)
    return [path for path in paths if set(columns) <= set(columns_of(path))]


def _head(path: str) -> bytes:
    with open_regular(path) as file:
        return file.read(_HEAD) or b""


def _refuse_other(head: bytes, name: str) -> None:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    kind = content(head)
    if head.startswith(lfs.START):
        kind = "a Git LFS pointer"
    elif kind == "a zip" and (b"xl/" in head or b"[Content_Types].xml" in head):
        kind = "an Excel workbook"
    elif text.startswith((b"{", b"[")):
        kind = "JSON" if re.match(rb"\{\s*[\"}]|\[\s*[\[{\"]", text) else ""
    if kind and not _marked(head):
        remedy = _REMEDIES.get(kind, "unpack it, and give the table itself")
        raise DataError(problem(name, kind, "a CSV table", remedy))


def _marked(head: bytes) -> str:
    """Return the encoding that the first bytes tell, "" if they tell none."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2].count(0), head[1::2].count(0)  # ASCII in UTF-16 without a mark: every second byte is 0
    if max(even, odd) * 3 > len(head) and min(even, odd) * 10 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""


def _encoding(path: str, head: bytes) -> tuple[str, bool]:
    """Return the encoding of a file, and whether some of its bytes are of another one."""
    marked = _marked(head)
    if marked and marked != "utf-8-sig":
        return marked, False
    encoding = marked or "utf-8"
    if _decodes(path, "utf-8"):
        return encoding, False
    good, bad, lone, all_bytes = _counts(path)
    if marked or good > bad:
        return encoding, True
    if lone * 4 < all_bytes and _decodes(path, "gb18030"):
        return "gb18030", False
    return ("cp1252" if _decodes(path, "cp1252") else "latin-1"), False


def _chunks(path: str) -> Iterator[bytes]:
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _decodes(path: str, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in _chunks(path):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _counts(path: str) -> tuple[int, int, int, int]:
    """Return numbers of UTF-8 characters beyond ASCII, of bytes that are no UTF-8, of bytes beyond ASCII in short runs.

    The last number is that of all bytes beyond ASCII: Chinese has them in runs of four and more, "Größe" has two.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    good = bad = lone = all_bytes = 0
    for chunk in _chunks(path):
        text = decoder.decode(chunk)
        good, bad = good + len(_OTHER.findall(text)), bad + len(_ESCAPED.findall(text))
        runs = [len(run) for run in _RUNS.findall(chunk)]
        lone, all_bytes = lone + sum(run for run in runs if run < 4), all_bytes + sum(runs)
    return good, bad, lone, all_bytes


def _header(head: bytes, encoding: str) -> tuple[str, int, list[str]]:
    """Return the delimiter, the number of records up to the header, and the header itself."""
    text = head.decode(encoding, errors="replace").lstrip("\ufeff")
    first = io.StringIO(text, newline="").readline()
    separator = _EXCEL_SEPARATOR.fullmatch(first.rstrip("\r\n"))
    if separator and len(text) > len(first):
        delimiter = separator["mark"]
        return delimiter, 2, next(_sample(text[len(first) :], delimiter), [])
    is_cut = len(head) == _HEAD
    ranked = [(_evenness(text, mark, is_cut), -number, mark) for number, mark in enumerate(_DELIMITERS)]
    delimiter = max(ranked)[2]
    return delimiter, 1, next(_sample(text, delimiter), [])


def _sample(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return (cells for cells in reader if any(map(str.strip, cells)))


def _evenness(text: str, delimiter: str, is_cut: bool) -> tuple[bool, float, int]:
    """Return whether a delimiter divides the header, the share of rows with as many cells, and their number."""
    rows = list(islice(_sample(text, delimiter), _SAMPLE))
    if is_cut and 1 < len(rows) < _SAMPLE:
        del rows[-1]
    lengths = [len(row) for row in rows] or [0]
    return lengths[0] > 1, lengths.count(lengths[0]) / len(lengths), lengths[0]


def _names(header: Sequence[str]) -> tuple[str, ...]:
    names = [cell.strip("\ufeff \t\r\n\xa0") for cell in header]
    while names and not names[-1]:
        names.pop()
    first = names.index("") if "" in names else -1
    return tuple(name or ("" if number == first else f"Unnamed: {number}") for number, name in enumerate(names))


class Columns(Protocol):
    """A table with a name and columns."""

    @property
    def name(self) -> str:
        """Path as messages show it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...


def note_unknown(table: Columns, known: frozenset[str], issues: IssueLog) -> None:
    """Note the columns of a table that are not used, how many and which."""
    unknown = [printable(column) or "(unnamed)" for column in table.columns if column not in known]
    if unknown:
        verb = counted(len(unknown), "column is", "columns are")
        issues.note(f"{table.name}: {verb} not used ({shorten(unknown, 12)})")
