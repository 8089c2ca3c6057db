"""Fitzpatrick17k: photos of two atlases with three levels of classes and skin types (arXiv 2104.09957)."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from magic_cli.data.sources.cells import image_id_of, number
from magic_cli.data.sources.clinical.cases import TableSource, own_columns
from magic_cli.data.sources.csv_rows import CsvTable, Row
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import (
    LABEL_PATH,
    SKIN_TYPE,
    RawCase,
    RawPhoto,
    label_path,
)
from magic_cli.data.sources.source import (
    SOURCE as COLLECTION,
)
from magic_cli.errors import problem
from magic_cli.records import Case

MARKS = ("md5hash", "label", "three_partition_label")

LICENCE = "CC BY-NC-SA 3.0"

_SCALES = ("fitzpatrick_scale", "fitzpatrick", "fitzpatrick_centaur")  # the second is the first in older tables

_LEVELS = ("three_partition_label", "nine_partition_label", "label")

COLUMNS = ("md5hash", *_SCALES, *reversed(_LEVELS), "qc", "url", "url_alphanum")


class Fitzpatrick17k(TableSource):
    """Fitzpatrick17k: a case is a photo."""

    name = "fitzpatrick17k"
    title = "Fitzpatrick17k"
    origin = "https://github.com/mattgroh/fitzpatrick17k"
    licence = LICENCE
    expected = "fitzpatrick17k.csv; photos named by their md5hash, such as 5e82a4...jpg"
    usual = "fitzpatrick17k.csv"
    marks = MARKS
    known = frozenset({*COLUMNS, "", "Unnamed: 0"})

    def cases(self, table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
        """Yield a case per photo."""
        return _cases(table, files)


SOURCE = Fitzpatrick17k()


def is_wrongly_labelled(row: Row) -> bool:
    """Return whether a dermatologist found the label wrong: "3 Wrongly labelled" in column qc."""
    return (row.get("qc") or "").startswith("3")


def label_and_attributes(row: Row) -> tuple[str | None, dict[str, str]]:
    """Return the narrowest class of a row and its attributes; a skin type of -1 is unknown, and absent."""
    attributes = own_columns(row, COLUMNS)
    for column in _SCALES:
        if column in attributes and number(attributes[column]) not in {1, 2, 3, 4, 5, 6}:
            del attributes[column]
    scale = number(attributes.get("fitzpatrick_scale") or attributes.get("fitzpatrick"))
    if scale is not None:
        attributes[SKIN_TYPE] = f"{scale:.0f}"
    path = label_path([row.get(level) for level in _LEVELS])
    if path:
        attributes[LABEL_PATH] = path
    if host := _host(row.get("url") or ""):
        attributes[COLLECTION] = host
    return row.get("label"), attributes


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def _cases(table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
    without_url = lost = 0
    for row in table.rows(files.issues):
        written = row.get("md5hash")
        if written is None or is_wrongly_labelled(row):
            got, expected = "no md5hash", "the name of its photo"
            if written is not None:
                got, expected = "qc 3 Wrongly labelled", "a label that can be trusted"
            files.issues.add_loss(problem(row.where, got, expected, "left out"), "cases")
            continue
        image_id = image_id_of(written)
        path = files.photo(f"{image_id}.jpg") or files.photo(row.get("url_alphanum") or "")
        if row.get("url") is None:
            without_url += 1
            lost += not path
        label, attributes = label_and_attributes(row)
        case = Case(image_id, "", (image_id,), label=label, attributes=attributes, licence=LICENCE)
        yield RawCase(case, (RawPhoto(image_id, path),) if path else (), row.where)
    if without_url:
        missing = f"{lost:,} of their photos are missing, and cannot be downloaded"
        files.issues.note(f"{table.name}: rows without url: {without_url:,}; {missing}")
