"""The photos and masks that a cell names: paths of any machine, names, URLs, several in one cell."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import key_of
from magic_cli.data.sources import cells
from magic_cli.data.sources.csv_rows import Row
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.source import RawPhoto
from magic_cli.data.sources.walk import below
from magic_cli.errors import problem

_ELSEWHERE = re.compile(r"[/\\]|[A-Za-z]:")  # how an absolute path begins, on any system


def names_in(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names that cells of a row hold, each once: a list as Python or JSON writes it, or divided by |.

    Raises:
        DataError: a list that is none, or a name that is a number that Excel rounded.
    """
    found: list[str] = []
    for column in columns:
        cell = row.get(column) or ""
        is_list = cell.startswith(("[", "(")) and cell.endswith(("]", ")"))
        parts = cells.texts(cell, row.where) if is_list else cell.split("|")
        found += [name for part in parts if (name := cells.identifier(part, row.where))]
    return tuple(dict.fromkeys(found))


def find(files: SourceFiles, written: str, is_mask: bool = False) -> str:
    """Return the absolute path of a photo or mask below the data folder, "" if there is none.

    An absolute path or URL of another place is looked for by its end: the longest one that is a file below the folder.
    Nothing outside of the folder is found.
    """
    look = files.mask if is_mask else files.photo
    name = local(written)
    if not _ELSEWHERE.match(name):
        return look(name.removeprefix("./"))
    pure = PureWindowsPath(name)
    if PurePath(name).is_relative_to(files.root):
        return look(PurePath(name).relative_to(files.root).as_posix())
    parts = [part for part in pure.parts if part != pure.anchor]
    for start in range(max(0, len(parts) - 8), len(parts)):
        path = look("/".join(parts[start:]))
        if path and (start == len(parts) - 1 or PurePath(path).parts[-2:] == tuple(parts[-2:])):
            return path
    return ""


def local(written: str) -> str:
    """Return a written path without blanks at its ends; of a URL only its path, decoded.

    >>> local("https://example.org/a%20b.jpg?size=full"), local(" a.jpg ")
    ('/a b.jpg', 'a.jpg')
    """
    name = written.strip()
    try:
        return unquote(urlsplit(name).path) if "://" in name else name
    except ValueError:  # "http://[": no URL
        return name


def case_id_of(written: str, files: SourceFiles) -> str:
    """Return the id of a case that is its photo: its path as written, without the suffix of a photo.

    Of a path of another place, it is that of the file below the data folder, or its name where there is none.
    """
    name = local(written).replace("\\", "/").removeprefix("./")
    if _ELSEWHERE.match(name):
        path = find(files, written)
        name = below(path, files.root) if path else name.rpartition("/")[2]
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{cells.image_id_of(last)}"


def photos_of(
    files: SourceFiles, names: Sequence[str], masks: Sequence[str], where: str, issues: IssueLog
) -> tuple[tuple[str, ...], tuple[RawPhoto, ...]]:
    """Return the ids of the photos that a row names, and those that are there, with their masks.

    Masks belong to the photos in their order where both are equally many, all to the only photo where there is one.
    """
    found = [find(files, name, True) for name in masks]
    for path in found:
        if not path:
            issues.add_loss(problem(where, "a mask without its file", "a file below --data", "add it"), "masks")
    if len(names) not in (0, 1, len(masks)) and masks:
        got = f"{len(masks)} masks of {len(names)} photos"
        issues.add_loss(problem(where, got, "as many masks, or one photo", "fix the row"), "masks", len(masks))
        found = []
    ids: list[str] = []
    photos: list[RawPhoto] = []
    for number, name in enumerate(names):
        image_id = free_id(cells.image_id_of(local(name)), ids)
        ids.append(image_id)
        path = find(files, name)
        if path:
            own = found if len(names) == 1 else found[number : number + 1]
            drawn = {f"ann{index}": mask for index, mask in enumerate(filter(None, own))}
            photos.append(RawPhoto(image_id, path, drawn))
    return tuple(ids), tuple(photos)


def free_id(image_id: str, taken: Iterable[str]) -> str:
    """Return an id that is not taken: itself, or with a number behind it."""
    keys = set(map(key_of, taken))
    number, name = 1, image_id
    while key_of(name) in keys:
        number += 1
        name = f"{image_id}-{number}"
    return name
