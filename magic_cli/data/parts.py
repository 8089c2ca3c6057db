"""A result put into a folder in one step, where the folder may hold what others put there."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from magic_cli.data.staging import aside, exchange, flush, put_in_place
from magic_cli.files import is_leftover, sweep

_FEW, _SMALL = 20, 1 << 20  # files of others, and their bytes, that are copied to keep a result in one piece


@contextmanager
def parts(out: Path, known: Collection[str], ours: str = "") -> Iterator[Path]:
    """Yield an empty folder whose files and folders are put into `out` when the block ends; an older result goes.

    What else lies in `out` stays. A kill leaves the older result or the new one, whole, where that is little; beside
    folders and large files of others, each file or folder of the result is replaced alone.

    Args:
        out: the folder, which may not exist yet.
        known: patterns of the names in `out` that a result of this kind consists of.
        ours: pattern of the names in a folder of the result that belong to it; other files there stay too.

    Raises:
        DataError: the folder cannot be made or written.
    """
    out = out.resolve()
    there = out.is_dir()
    sweep(out)
    with aside(out if there and not _movable(out) else out.parent, out) as made:
        yield made
        flush(made)
        if not there and _moved(made, out):
            return
        for part in made.iterdir():
            if part.is_dir() and (out / part.name).is_dir():
                _keep_others(out / part.name, part, ours)
        if not (made.parent == out.parent and _carried(out, made, known) and _swapped(made, out, known)):
            _replace_parts(made, out, known)


def _movable(out: Path) -> bool:
    """Tell whether a folder may be exchanged for another: no mount, nobody works in it, its parent can be written."""
    parent = out.parent
    apart = out.stat().st_dev != parent.stat().st_dev or Path.cwd().is_relative_to(out)
    return not apart and os.access(parent, os.W_OK)


def _others(out: Path, known: Collection[str]) -> list[Path]:
    """Return what lies in a folder and is no part of a result."""
    names = [path for path in out.iterdir() if not is_leftover(path.name)]
    return [path for path in names if not any(fnmatch(path.name, pattern) for pattern in known)]


def _carried(out: Path, new: Path, known: Collection[str]) -> bool:
    """Copy what else lies in `out` to the new folder; False where that is more than a few small files."""
    others = _others(out, known)
    small = [path for path in others if path.is_file() and path.lstat().st_size <= _SMALL and not path.is_symlink()]
    if len(small) < len(others) or len(small) > _FEW:
        return False
    for path in small:
        shutil.copy2(path, new / path.name)
    return True


def _swapped(new: Path, out: Path, known: Collection[str]) -> bool:
    """Exchange both folders, where that is possible; what came into the old one meanwhile comes along."""
    shutil.copymode(out, new)
    if not exchange(new, out):
        return False
    for late in [path for path in _others(new, known) if not (out / path.name).exists()]:
        late.replace(out / late.name)
    return True


def _replace_parts(new: Path, out: Path, known: Collection[str]) -> None:
    """Put each part in its place; those of an older result that have no successor are removed after that."""
    names = sorted(path.name for path in new.iterdir())
    for name in names:
        if (new / name).is_dir() and (out / name).is_dir():
            put_in_place(new / name, out / name)
        else:
            (new / name).replace(out / name)
    for path in out.iterdir():
        if path.name not in names and path.is_file() and any(fnmatch(path.name, pattern) for pattern in known):
            path.unlink()


def _moved(new: Path, out: Path) -> bool:
    """Rename `new` to `out`; False where another process was faster."""
    try:
        new.rename(out)
    except OSError:
        if not out.is_dir():
            raise
        return False
    return True


def _keep_others(old: Path, new: Path, ours: str) -> None:
    for path in old.iterdir():
        if not fnmatch(path.name, ours) and not is_leftover(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, new / path.name, symlinks=True)
            else:
                shutil.copy2(path, new / path.name, follow_symlinks=False)
