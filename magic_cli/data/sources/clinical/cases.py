"""What the adapters of this folder share: their table, the photos of a row, its own columns as attributes."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from magic_cli.data.sources.cells import image_id_of, present
from magic_cli.data.sources.csv_rows import CsvTable, Row, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import RawPhoto
from magic_cli.errors import DataError, problem, shorten

_LONGEST = 1000  # characters of an attribute


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


def own_columns(row: Row, columns: Iterable[str]) -> dict[str, str]:
    """Return those cells of a row that are there, by column, each cut to 1,000 characters."""
    return {column: text[:_LONGEST] for column in columns if (text := row.get(column)) is not None}


def joined(levels: Sequence[str | None]) -> str:
    """Return a LABEL_PATH from the widest class to the narrowest: missing levels and repeated ones are left out.

    >>> joined(["melanoma", "melanoma", "melanoma (in situ)"]), joined(["benign", None])
    ('melanoma > melanoma (in situ)', 'benign')
    """
    return " > ".join(dict.fromkeys(level for level in levels if level))


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
        image_id = stem if stem not in ids else f"{stem}-{sum(key.startswith(stem) for key in ids) + 1}"
        ids[image_id] = text
        path = files.photo(text)
        if path and all(photo.path != path for photo in photos):
            photos.append(RawPhoto(image_id, path))
        elif path:
            del ids[image_id]
    return tuple(ids), tuple(photos)
