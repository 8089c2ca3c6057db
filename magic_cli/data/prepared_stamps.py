"""Notice that a prepared dataset is replaced or changed while a run reads it: masks are read lazily, epoch by epoch."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from magic_cli.data.prepared import TABLES, Prepared, open_prepared
from magic_cli.errors import DataError, problem
from magic_cli.io.files import StrPath, sha256

T = TypeVar("T")

Stamp = tuple[int, int, int, int] | None
"""Times of the last changes of content and of anything in ns, size in bytes, inode; None for a file not there."""

_PATIENCE = 1.0  # seconds: on a disk that cannot exchange two folders, there is an instant with neither


@dataclass
class PreparedStamps:
    """The stamps and SHA-256, when a run began, of the files that it reads: the tables of `root`, and masks.

    A file with another stamp is read again, and only other content counts: one that was touched, copied back or
    prepared once more with the same result is the same. Photos are not among them: they are compared with their SHA-256
    in images.jsonl when they are read.
    """

    root: Path
    stamps: dict[str, Stamp]
    digests: Mapping[str, str]

    def check(self) -> None:
        """Compare the files with those of the beginning; files with other stamps are read again, once.

        Raises:
            DataError: the content of one of them was replaced, changed or removed.
        """
        seen = {path: _stamp(path) for path in self.stamps}
        touched = {path: stamp for path, stamp in seen.items() if stamp != self.stamps[path]}
        changed = next((path for path in touched if not self._has_same_content(path)), None)
        if changed is not None:
            got = f"{os.path.relpath(changed, self.root)} replaced or changed while this command read it"
            remedy = "what was finished before is kept; run it again, a training with --overwrite"
            raise DataError(problem(self.root, got, "the files of its beginning", remedy))
        self.stamps.update(touched)  # taken before the content was read: what came since is seen next time

    def _has_same_content(self, path: str) -> bool:
        digest, end = _digest(path), time.monotonic() + _PATIENCE
        while not digest and self.digests[path] and time.monotonic() < end:
            time.sleep(0.1)
            digest = _digest(path)
        return digest == self.digests[path]

    def checked(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items that are computed from the files; raises DataError as `check` after the last one."""
        yield from items
        self.check()


def open_stamped(root: StrPath, splits: Collection[str] = (), masks: bool = False) -> tuple[Prepared, PreparedStamps]:
    """Read prepared/ as `open_prepared`, with the stamps of its tables and, if `masks`, of masks of `splits`."""
    stamps, digests = stamps_of(str(Path(root).resolve() / name) for name in TABLES)
    prepared = open_prepared(root)
    used = (image for image in prepared.images.values() if masks and image.split in splits)
    paths = (path for image in used for path in (image.mask, *image.annotators.values()) if path is not None)
    of_masks = stamps_of(paths)
    return prepared, PreparedStamps(Path(root), stamps | of_masks[0], digests | of_masks[1])


def stamps_of(paths: Iterable[str], hashed: bool = True) -> tuple[dict[str, Stamp], dict[str, str]]:
    """Return the stamps of files, and if `hashed` their SHA-256, which are read after the stamps."""
    stamps = {path: _stamp(path) for path in paths}
    return stamps, {path: _digest(path) for path in stamps} if hashed else {}


def _stamp(path: str) -> Stamp:
    try:
        state = os.stat(path)  # noqa: PTH116  thousands of masks an epoch
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def _digest(path: str) -> str:
    """Return the hex SHA-256 of a regular file, "" where there is none that can be read."""
    try:
        return sha256(Path(path))
    except OSError:
        return ""
