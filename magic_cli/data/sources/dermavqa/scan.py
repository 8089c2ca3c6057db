"""Find the files of a challenge folder by kind, at any depth: JSON files, photos and masks."""

import filecmp
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from sys import intern

from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import IssueLog
from magic_cli.data.prepared import MANIFEST
from magic_cli.errors import DataError, printable, problem

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")

ANNOTATORS = ("ann0", "ann1", "ann2", "ann3")

_CHALLENGE_PHOTO = re.compile(r"IMG_ENC\w*_\w+", re.I)

_JUNK = "__macosx"

Sources = tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """Files by kind. Photos and masks are keyed by the photo's name, without extension, in lower case.

    Paths are absolute and stored as text: a `Path` takes four times the memory, and there are four per photo.
    """

    root: Path
    jsons: list[Path] = field(default_factory=list)
    photos: dict[str, Sources] = field(default_factory=dict)
    masks: dict[str, dict[str, Sources]] = field(default_factory=dict)
    archives: list[Path] = field(default_factory=list)

    def name(self, path: str | Path) -> str:
        """Return the path of a file below the root, as messages show it."""
        return printable(below(path, self.root))


def below(path: str | Path, root: Path) -> str:
    """Return the path of a file relative to `root`, a folder above it, with "/" between folders."""
    return PurePath(path).relative_to(root).as_posix()


def key_of(image_id: str) -> str:
    """Return an image id in lower case: copies of the dataset differ in the case of names."""
    return image_id.casefold()


def is_challenge_photo(path: str) -> bool:
    """Return whether a file is named as the challenge names photos, `IMG_ENC..._....jpg`."""
    return _CHALLENGE_PHOTO.fullmatch(PurePath(path).stem) is not None


def scan(root: Path, issues: IssueLog) -> Folder:
    """Find the JSON files, photos and masks anywhere below `root`, in a fixed order.

    Folders that cannot be read are problems. Hidden files and folders, macOS junk and prepared datasets are
    skipped; links are followed, but not in loops.

    Raises:
        DataError: `root` does not exist, is a file, or is a prepared dataset.
    """
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        raise DataError(problem(root, got, "the unpacked challenge folder", "check --data"))
    if (root / MANIFEST).is_file():
        raise DataError(problem(root, "a prepared dataset", "the raw challenge folder", "give that one as --data"))
    files = Folder(root.resolve())
    for path in _walk(str(files.root), issues, set()):
        _sort_in(files, path)
    return files


def _walk(folder: str, issues: IssueLog, seen: set[tuple[int, int]]) -> Iterator[str]:
    try:
        status = os.stat(folder)  # noqa: PTH116  paths are text here
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        name = PurePath(folder).name
        issues.add_loss(printable(f"{name}: folder cannot be read ({error.strerror}); check its permissions"))
        return
    mark = (status.st_dev, status.st_ino)
    if mark in seen or any(entry.name == MANIFEST for entry in entries):
        return
    seen.add(mark)
    for entry in entries:
        if entry.name.startswith(".") or entry.name.casefold() == _JUNK:
            continue
        try:
            inner, file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            continue
        if inner:
            yield from _walk(entry.path, issues, seen)
        elif file:
            yield entry.path


def _sort_in(files: Folder, path: str) -> None:
    name = PurePath(path).name
    suffix, mask = PurePath(name).suffix.casefold(), ANNOTATOR_MASK.fullmatch(name)
    if mask:
        by_annotator = files.masks.setdefault(key_of(mask["image"]), {})
        annotator = intern(mask["annotator"].casefold())
        by_annotator[annotator] = (*by_annotator.get(annotator, ()), path)
    elif suffix in PHOTO_SUFFIXES:
        key = key_of(PurePath(name).stem)
        files.photos[key] = (*files.photos.get(key, ()), path)
    elif suffix == ".json":
        files.jsons.append(Path(path))
    elif suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        files.archives.append(Path(path))


def same_bytes(paths: Sequence[str | Path]) -> bool:
    """Return whether files are copies of each other, byte for byte."""
    try:
        return all(filecmp.cmp(paths[0], path, shallow=False) for path in paths[1:])
    except OSError:
        return False
