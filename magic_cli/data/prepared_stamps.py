"""Notice that a prepared dataset is replaced or changed while a run reads it: masks are read lazily, epoch by epoch."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from magic_cli.data.prepared import CASES, IMAGES, MANIFEST, MEAN_MASK, QUESTIONS, Prepared, open_prepared
from magic_cli.errors import DataError, problem
from magic_cli.io.files import StrPath

T = TypeVar("T")

Stamp = tuple[int, int] | None
"""Time of the last change in ns and size in bytes; None for a file that is not there."""

_TABLES = (MANIFEST, CASES, IMAGES, QUESTIONS, MEAN_MASK)


@dataclass(frozen=True)
class PreparedStamps:
    """The stamps, when a run began, of the files that it reads: the tables of `root`, and masks.

    Photos are not among them: they are compared with their SHA-256 in images.jsonl when they are read.
    """

    root: Path
    files: Mapping[str, Stamp]

    def check(self) -> None:
        """Compare the files with those of the beginning.

        Raises:
            DataError: one of them was replaced, changed or removed.
        """
        changed = next((path for path, stamp in self.files.items() if _stamp(path) != stamp), None)
        if changed is not None:
            got = f"{os.path.relpath(changed, self.root)} replaced or changed while this command read it"
            remedy = "what was finished before is kept; run it again, a training with --overwrite"
            raise DataError(problem(self.root, got, "the files of its beginning", remedy))

    def checked(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items that are computed from the files; raises DataError as `check` after the last one."""
        yield from items
        self.check()


def open_stamped(root: StrPath, splits: Collection[str] = (), masks: bool = False) -> tuple[Prepared, PreparedStamps]:
    """Read prepared/ as `open_prepared`, with the stamps of its tables and, if `masks`, of masks of `splits`."""
    tables = {str(path): _stamp(str(path)) for path in (Path(root).resolve() / name for name in _TABLES)}
    prepared = open_prepared(root)
    used = (image for image in prepared.images.values() if masks and image.split in splits)
    paths = (path for image in used for path in (image.mask, *image.annotators.values()) if path is not None)
    return prepared, PreparedStamps(Path(root), tables | {path: _stamp(path) for path in paths})


def _stamp(path: str) -> Stamp:
    try:
        state = os.stat(path)  # noqa: PTH116  thousands of masks an epoch
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size
