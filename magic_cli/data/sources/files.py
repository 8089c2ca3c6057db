"""The files of a raw dataset, found by name at any depth; photos by relative path or by name."""

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path, PurePath

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import PHOTO_SUFFIXES, is_for_masks, key_of
from magic_cli.data.sources.path_index import PathIndex
from magic_cli.data.sources.walk import below, check_root, is_packed, walk
from magic_cli.errors import printable
from magic_cli.io.files import sha256

_LONGEST = 255  # bytes of a file's name, in all usual file systems

_FEW = 8  # folders in which a photo is looked for on disk; of more, an index of all photos tells

_REMEMBERED = 4096  # folders in tables, of which is known where they may be

_SPLITS = {
    "train": re.compile("train"),
    "valid": re.compile(r"valid|(?<![a-z])(?:val|dev)(?![a-z])"),
    "test": re.compile(r"(?<![a-z])test"),
}


class SourceFiles:
    """All files below `root`: tables in memory, photos on demand, as there may be hundreds of thousands.

    Paths are absolute and stored as text.
    """

    def __init__(self, root: Path, issues: IssueLog) -> None:
        """List the files.

        Raises:
            DataError: `root` is not a folder, or is a prepared dataset.
        """
        check_root(root)
        self.root = root.resolve()
        self.issues = issues
        self.tables: list[str] = []
        self.archives: list[str] = []
        self.photo_count = 0
        self._folders: dict[str, None] = {}  # folders with photos, relative to the root, in order
        self._above: dict[str, None] = {}  # folders above those
        self._places: dict[tuple[str, bool], list[str]] = {}
        last = ""
        for path, irregular in walk(self.root, issues):
            if irregular:
                continue
            if _is_photo(path):
                self.photo_count += 1
                folder = os.path.dirname(path)  # noqa: PTH120  paths are text here
                if folder != last:
                    last = folder
                    self._add_folder(PurePath(below(folder, self.root)))
            elif is_packed(path):
                self.archives.append(path)
            else:
                self.tables.append(path)
        folders = ("", *self._folders, *self._above)
        self._order = {
            False: sorted(folders, key=lambda folder: _is_for(folder, False)),
            True: sorted(folders, key=lambda folder: _is_for(folder, True)),
        }

    def _add_folder(self, folder: PurePath) -> None:
        if folder.as_posix() not in self._folders:
            self._folders[folder.as_posix()] = None
            self._above |= dict.fromkeys(parent.as_posix() for parent in folder.parents)

    def name(self, path: str | Path) -> str:
        """Return the path of a file below the root, as messages show it; of one elsewhere its name."""
        is_below = PurePath(path).is_relative_to(self.root)
        return printable(below(path, self.root) if is_below else PurePath(path).name)

    def named(self, *patterns: str) -> list[str]:
        """Return the files, photos excepted, whose name matches a pattern such as "*metadata*.csv"; case is ignored."""
        wanted = [pattern.casefold() for pattern in patterns]
        return [
            path
            for path in self.tables
            if any(fnmatchcase(PurePath(path).name.casefold(), pattern) for pattern in wanted)
        ]

    def folders(self) -> tuple[str, ...]:
        """Return the folders that hold photos, relative to the root, "." for the root itself."""
        return tuple(self._folders)

    def photos(self) -> Iterator[str]:
        """Yield the absolute paths of all files that can be photos or masks by their suffix, in a fixed order."""
        for path, irregular in walk(self.root, IssueLog()):
            if not irregular and _is_photo(path):
                yield path

    def photo(self, written: str) -> str:
        """Return the absolute path of the photo that a table names, "" if there is none.

        A path is tried below the root, below each folder with photos and below those above it; then the name decides,
        without its suffix and in any case, where it is the only one of its kind, or the only one in folders so named; a
        folder for masks counts only where no other has it. Paths that lead out of the root are not followed.
        """
        return self._find(written, False)

    def mask(self, written: str) -> str:
        """Return the absolute path of the mask that a table names, as `photo`, but in a folder for masks first."""
        return self._find(written, True)

    def _find(self, written: str, is_mask: bool) -> str:
        name = written.strip().replace("\\", "/").lstrip("/")
        parts = PurePath(name).parts
        if not parts or ".." in parts or ":" in name or "\0" in name or max(map(_length, parts)) > _LONGEST:
            return ""
        pure = PurePath(name)
        if _is_photo(name):
            places = self._homes(pure.parent, is_mask)
            there = () if len(places) <= _FEW else self._index.named(pure.stem)
            for place in places:
                path = f"{place}{os.sep}{pure.name}"
                if path in there if there else os.path.isfile(path):  # noqa: PTH113  paths are text here
                    return path
        return self._by_name(name, is_mask)

    def _homes(self, folder: PurePath, is_mask: bool) -> list[str]:
        """Return the absolute paths of the folders with photos that a folder in a table can mean, in order."""
        key = (folder.as_posix(), is_mask)
        if key not in self._places:
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            below_root = dict.fromkeys(PurePath(home, folder).as_posix() for home in self._order[is_mask])
            self._places[key] = [str(self.root / home) for home in below_root if home in self._folders]
        return self._places[key]

    @cached_property
    def _index(self) -> PathIndex:
        return PathIndex(self.photos())

    def _by_name(self, name: str, is_mask: bool) -> str:
        pure = PurePath(name)
        stem = pure.stem if pure.suffix.casefold() in PHOTO_SUFFIXES else pure.name
        paths = self._index.named(stem)
        if len(paths) > 1:
            paths = tuple(path for path in paths if not _is_for(below(Path(path).parent, self.root), is_mask)) or paths
        if len(paths) > 1 and len(pure.parts) > 1:
            end = key_of(f"/{pure.with_name(stem).as_posix()}")
            paths = tuple(path for path in paths if key_of(str(PurePath(path).with_suffix(""))).endswith(end))
        return paths[0] if len(paths) == 1 else ""

    def digests(self, *paths: str) -> dict[str, str]:
        """Return the path below the root and the SHA-256 of each table, for `RawDataset.inputs`."""
        return {self.name(path): sha256(Path(path)) for path in paths}


def _is_photo(path: str) -> bool:
    return os.path.splitext(path)[1].casefold() in PHOTO_SUFFIXES  # noqa: PTH122  three times as fast


def split_of(path: str) -> str:
    """Return the split that a file is of by its name, "" where it names none or several.

    >>> split_of("Derm1M_v2_pretrain.csv"), split_of("x/MAKE_val.csv"), split_of("train_val.csv")
    ('train', 'valid', '')
    """
    stem = PurePath(path).stem.casefold()
    named = [split for split, pattern in _SPLITS.items() if pattern.search(stem)]
    return named[0] if len(named) == 1 else ""


def innermost_split(path: str | PurePath) -> str:
    """Return the split that a path below the root names, of its file or else of the innermost folder; "" for none.

    >>> innermost_split("val/images"), innermost_split("ISIC-2017_Test_v2_Data/ISIC_0012086.jpg")
    ('valid', 'test')
    """
    return next((split for part in reversed(PurePath(path).parts) if (split := split_of(f"{part}."))), "")


@cache
def _is_for(folder: str, is_mask: bool) -> bool:
    """Return whether a folder is for masks where a photo is sought, or the other way round: such come last."""
    return is_for_masks(PurePath(folder).parts) != is_mask


def _length(part: str) -> int:
    return len(part.encode(errors="replace"))
