"""What the adapters of this folder share: their table, the photos of a row, its own columns as attributes."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import ClassVar

from magic_cli.data.sources.cells import image_id_of, present
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.generic.photos import free_id
from magic_cli.data.sources.source import LONGEST_ATTRIBUTE, RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.errors import DataError, problem, shorten


def table_named(files: SourceFiles, usual: str, *columns: str) -> str:
    """Return the path of the table that has all of these columns, "" if there is none.

    Of several it is the one with the usual name, else the first; a note says which are not read.
    """
    paths = sorted(tables_with(files, *columns), key=lambda path: PurePath(path).name.casefold() != usual)
    if len(paths) > 1:
        others = shorten(map(files.name, paths[1:]))
        files.issues.note(f"{files.name(paths[0])} is read; tables with the same columns are not: {others}")
    return next(iter(paths), "")


def open_table(files: SourceFiles, usual: str, *columns: str) -> CsvTable:
    """Open the table that `table_named` returns.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = table_named(files, usual, *columns)
    if not path:
        raise no_table(files, usual, *columns)
    return open_csv(path, files)


def no_table(files: SourceFiles, usual: str, *columns: str) -> DataError:
    """Return the error that no table has these columns."""
    got = f"no table with the columns {', '.join(columns)}"
    return DataError(problem(files.root, got, usual, "check --data and --source"))


class TableSource(Source):
    """An adapter for a dataset that is one table and its photos.

    Attributes:
        usual: the usual name of the table.
        marks: columns by which it is recognized.
        known: all columns that are used.
    """

    usual: ClassVar[str]
    marks: ClassVar[tuple[str, ...]]
    known: ClassVar[frozenset[str]]

    @abstractmethod
    def cases(self, table: CsvTable, files: SourceFiles) -> Iterator[RawCase]:
        """Yield the cases; rows that cannot be used go to `files.issues`."""

    def find(self, files: SourceFiles) -> str:
        """Return the first table with the columns by which the dataset is recognized."""
        return next(iter(tables_with(files, *self.marks)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset.

        Raises:
            DataError: no such table.
        """
        table = open_table(files, self.usual, *self.marks)
        note_unknown(table, self.known, files.issues)
        return RawDataset(self.name, files.root, self.cases(table, files), files.issues, files.digests(table.path))


def own_columns(row: Row, columns: Iterable[str]) -> dict[str, str]:
    """Return those cells of a row that are there, by column, each cut to 1,000 characters."""
    return {column: text[:LONGEST_ATTRIBUTE] for column in columns if (text := row.get(column)) is not None}


def photos_of(files: SourceFiles, written: Iterable[str | None]) -> tuple[tuple[str, ...], tuple[RawPhoto, ...]]:
    """Return the ids of the photos that a row names, and those that are there; one that it names twice counts once.

    Two photos of the same name in different folders get different ids.
    """
    ids: dict[str, str] = {}  # id to path below the dataset, as it is written
    photos: list[RawPhoto] = []
    for name in written:
        if name is None or (text := present(name)) is None or text in ids.values():
            continue
        stem = image_id_of(text)
        if not stem:
            continue
        image_id = free_id(stem, ids)
        ids[image_id] = text
        path = files.photo(text)
        if path and all(photo.path != path for photo in photos):
            photos.append(RawPhoto(image_id, path))
        elif path:
            del ids[image_id]
    return tuple(ids), tuple(photos)
