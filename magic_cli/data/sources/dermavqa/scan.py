"""Find the files of a challenge folder by kind, at any depth: tables, photos and masks."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from sys import intern

from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import IssueLog
from magic_cli.data.names import PHOTO_SUFFIXES, TABLE_SUFFIXES, is_for_masks, key_of, masked_photo
from magic_cli.data.sources.walk import below, check_root, is_packed, walk
from magic_cli.errors import printable, problem

ANNOTATORS = ("ann0", "ann1", "ann2", "ann3")

_CHALLENGE_PHOTO = re.compile(r"IMG_ENC\w*_\w+", re.I)

_OTHER_TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".ods", ".parquet")

Sources = tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """Files by kind. Photos and masks are keyed by the photo's name, without extension, as `key_of` compares it.

    `photos` holds all files that can be photos by their suffix, masks with names of other tools included. `others` are
    files of any other suffix, or without one. `blocked` tells of photos that are no regular files what they are: "a
    named pipe".

    Paths are absolute and stored as text: a `Path` takes four times the memory, and there are four per photo.
    """

    root: Path
    jsons: list[Path] = field(default_factory=list)
    photos: dict[str, Sources] = field(default_factory=dict)
    masks: dict[str, dict[str, Sources]] = field(default_factory=dict)
    archives: list[Path] = field(default_factory=list)
    other_tables: list[Path] = field(default_factory=list)
    others: dict[str, Sources] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    def name(self, path: str | Path) -> str:
        """Return the path of a file below the root, as messages show it."""
        return printable(below(path, self.root))


def is_challenge_photo(path: str) -> bool:
    """Return whether a file is named as the challenge names photos, `IMG_ENC..._....jpg`."""
    stem = PurePath(path).stem
    return _CHALLENGE_PHOTO.fullmatch(stem) is not None and "_mask_" not in stem.casefold()


def scan(root: Path, issues: IssueLog) -> Folder:
    """Find the tables, photos and masks anywhere below `root`, in a fixed order.

    Folders that cannot be read, and masks and tables that are no regular files (pipes, devices, broken links), are
    problems. Hidden files and folders, what a system added and prepared datasets are skipped; links are followed, but
    not in loops.

    Raises:
        DataError: `root` does not exist, is a file, or is a prepared dataset.
    """
    check_root(root)
    files = Folder(root.resolve())
    for path, irregular in walk(files.root, issues):
        if irregular:
            _set_aside(files, path, irregular, issues)
        else:
            _sort_in(files, path)
    return files


def _set_aside(files: Folder, path: str, irregular: str, issues: IssueLog) -> None:
    name = PurePath(path).name
    suffix, folders = PurePath(name).suffix.casefold(), PurePath(below(path, files.root)).parts[:-1]
    alike = suffix in PHOTO_SUFFIXES and (masked_photo(PurePath(name).stem)[0] or is_for_masks(folders))
    mask = bool(ANNOTATOR_MASK.fullmatch(name) or alike)
    if not mask and suffix in PHOTO_SUFFIXES:
        files.blocked.setdefault(key_of(PurePath(name).stem), f"{irregular} ({files.name(path)})")
    elif mask or suffix in ("", *TABLE_SUFFIXES):
        line = problem(files.name(path), irregular, "a file", "put the file itself there; left out")
        issues.add_loss(line, "masks" if mask else "")


def _sort_in(files: Folder, path: str) -> None:
    name = PurePath(path).name
    suffix, mask = PurePath(name).suffix.casefold(), ANNOTATOR_MASK.fullmatch(name)
    if mask:
        by_annotator = files.masks.setdefault(key_of(mask["image"]), {})
        annotator = intern(mask["annotator"].casefold())
        by_annotator[annotator] = (*by_annotator.get(annotator, ()), path)
    elif suffix in PHOTO_SUFFIXES:
        _add(files.photos, path)
    elif suffix in TABLE_SUFFIXES:
        files.jsons.append(Path(path))
    elif is_packed(name):
        files.archives.append(Path(path))
    elif suffix in _OTHER_TABLES:
        files.other_tables.append(Path(path))
    else:
        _add(files.others, path)


def _add(group: dict[str, Sources], path: str) -> None:
    key = key_of(PurePath(path).stem)
    group[key] = (*group.get(key, ()), path)
