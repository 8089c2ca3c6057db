"""All files below a raw dataset's folder, in a fixed order, and what can be told of them by name alone."""

import filecmp
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from magic_cli.data.issues import IssueLog
from magic_cli.data.limits import MAX_BYTES
from magic_cli.data.names import is_added_by_system
from magic_cli.data.prepared import MANIFEST
from magic_cli.errors import DataError, printable, problem
from magic_cli.io.regular_file import irregular_kind

_PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar", ".z01")

_PART = re.compile(r"\.(?:zip|7z|tar|rar|gz|tgz)\.\d{2,3}$", re.I)


def check_root(root: Path) -> None:
    """Refuse a folder that cannot be a raw dataset.

    Raises:
        DataError: `root` does not exist, is a file, or is a prepared dataset.
    """
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        remedy = "unpack it, and give its folder" if is_packed(root.name) and root.exists() else "check --data"
        raise DataError(problem(root, got, "the unpacked folder of the dataset", remedy))
    if (root / MANIFEST).is_file():
        raise DataError(problem(root, "a prepared dataset", "the raw folder of the dataset", "give that one as --data"))


def walk(root: Path, issues: IssueLog) -> Iterator[tuple[str, str]]:
    """Yield the absolute path of each file below a resolved folder, and what it is if it is no regular one, else "".

    Hidden files and folders, what a system added and prepared datasets are skipped; links are followed, but not in
    loops. Folders that cannot be read are problems.
    """
    yield from _walk(str(root), issues, set())


def _walk(folder: str, issues: IssueLog, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    try:
        status = os.stat(folder)  # noqa: PTH116  paths are text here
        names = sorted(os.listdir(folder))  # noqa: PTH208  text alone: entries take four times the memory
    except OSError as error:
        name = PurePath(folder).name
        issues.add_loss(printable(f"{name}: folder cannot be read ({error.strerror}); check its permissions"))
        return
    mark = (status.st_dev, status.st_ino)
    if mark in seen or MANIFEST in names:
        return
    seen.add(mark)
    for name in names:
        if is_added_by_system(name):
            continue
        path = f"{folder.rstrip(os.sep)}{os.sep}{name}"
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:  # a link to itself or to nowhere
            yield path, "a broken link"
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, issues, seen)
        else:
            yield path, irregular_kind(status)


def below(path: str | Path, root: Path) -> str:
    """Return the path of a file relative to `root`, a folder above it, with "/" between folders."""
    return PurePath(path).relative_to(root).as_posix()


def is_packed(name: str) -> bool:
    """Return whether a file is a packed archive, or a part of one, by its name."""
    return name.casefold().endswith(_PACKED) or _PART.search(name) is not None


def too_large(path: str | Path) -> bool:
    """Return whether a photo or mask is larger than any that is read; False where it cannot be told."""
    try:
        return os.stat(path).st_size > MAX_BYTES  # noqa: PTH116  paths are text here
    except OSError:
        return False


def same_bytes(paths: Sequence[str | Path]) -> bool:
    """Return whether files are copies of each other, byte for byte; files over the size limit are not compared."""
    try:
        return not any(map(too_large, paths)) and all(filecmp.cmp(paths[0], path, shallow=False) for path in paths[1:])
    except OSError:
        return False
