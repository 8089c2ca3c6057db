"""Results built aside and put in place in one step, so that nobody ever sees half of one.

`staged` replaces a folder as a whole; `replace_results` replaces the results in a folder that holds other files too.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path

from magic_cli.errors import DataError, printable, problem
from magic_cli.io.files import is_empty, refuse_existing, sweep, temporary_path
from magic_cli.io.locks import holding

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)

_HERE = -100  # AT_FDCWD

_AT_A_TIME = 8  # files on their way to the disk


def check_target(out: Path, source: Path | None, mark: str, overwrite: bool) -> None:
    """Refuse a target that must not be replaced.

    With `overwrite` only an empty folder or one that holds the file `mark` is replaced, and never one that
    holds `source`: `--out ~ --overwrite` must not cost anybody their files.

    Raises:
        DataError: the target is taken, is something else than what this program writes, or holds `source`.
    """
    if source is not None and source.resolve().is_relative_to(out.resolve()):
        raise DataError(problem(out, "the folder that holds --data", "another folder", "choose another --out"))
    refuse_existing(out, overwrite)
    ours = not out.exists() or (out.is_dir() and ((out / mark).is_file() or is_empty(out)))
    if not ours:
        raise DataError(problem(out, f"no folder with {mark}", "a folder made by this command", "choose another --out"))


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that replaces `out` when the block ends; on an error it is removed.

    A kill at any moment leaves the old folder or the new one, whole, under the name `out`, at worst with a hidden
    leftover beside it, which the next command removes. (Where the system cannot exchange two folders at once, there
    is an instant with neither; an error in it brings the old one back.)

    Raises:
        DataError: the folder cannot be made or written.
    """
    out = out.resolve()
    with _hidden_folder(out.parent, out) as new:
        yield new
        _flush(new)
        _put_in_place(new, out)


@contextmanager
def replace_results(out: Path, patterns: Collection[str], owned: str = "") -> Iterator[Path]:
    """Yield an empty folder whose files and folders are put into `out` when the block ends; an older result goes.

    Everything else in `out` stays, the same files as before: they are linked, not copied. A kill leaves the older
    result or the new one, whole; where folders of others are in `out`, or the folder cannot be exchanged for another,
    each file or folder of the result is replaced by itself.

    Args:
        out: the folder, which may not exist yet.
        patterns: those of the names in `out` that a result of this kind consists of.
        owned: pattern of the names in a folder of the result that belong to it; other files in it stay too.

    Raises:
        DataError: the folder cannot be made or written.
    """
    out = out.resolve()
    existed = out.is_dir()
    with _hidden_folder(out if existed and not _is_exchangeable(out) else out.parent, out) as new:
        yield new
        _flush(new)
        if not existed and _renamed(new, out):
            return
        parts = sorted(path.name for path in new.iterdir())
        for part in [name for name in parts if (new / name).is_dir() and (out / name).is_dir()]:
            for path in _foreign(out / part, [owned]):
                _take_along(path, new / part / path.name)
        if not (new.parent == out.parent and _replace_whole(new, out, patterns)):
            _replace_each(new, out, parts, patterns)


def _is_exchangeable(out: Path) -> bool:
    """Return whether a folder may be exchanged for another: no mount, not the working folder, in a writable parent."""
    is_mount = out.stat().st_dev != out.parent.stat().st_dev
    return not is_mount and not Path.cwd().is_relative_to(out) and os.access(out.parent, os.W_OK)


def _foreign(folder: Path, patterns: Collection[str]) -> list[Path]:
    """Return what is in a folder and no part of a result."""
    return [path for path in folder.iterdir() if not any(fnmatch(path.name, pattern) for pattern in patterns)]


def _linked(source: str | Path, target: str | Path) -> bool:
    """Give a file, or a symbolic link, a second name; return False where the disk or the system refuses."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return False
    return True


def _take_along(source: Path, target: Path) -> None:
    """Link a file, or the files of a folder, into another folder; copy what cannot be linked."""

    def link_or_copy(source: str, target: str) -> None:
        if not _linked(source, target):
            shutil.copy2(source, target, follow_symlinks=False)

    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=link_or_copy)
    else:
        link_or_copy(str(source), str(target))


def _replace_whole(new: Path, out: Path, patterns: Collection[str]) -> bool:
    """Exchange both folders, after others' files in `out` were linked into `new`; return False where that fails."""
    inodes: dict[str, int] = {}
    for path in _foreign(out, patterns):
        if (path.is_dir() and not path.is_symlink()) or not _linked(path, new / path.name):
            return False
        inodes[path.name] = (new / path.name).lstat().st_ino
    shutil.copymode(out, new)
    if not exchange(new, out):
        return False
    for path in _foreign(new, patterns):  # `new` is the old folder now; what somebody saved in it meanwhile comes along
        if path.lstat().st_ino != inodes.get(path.name):
            path.replace(out / path.name)
    return True


def _replace_each(new: Path, out: Path, parts: Collection[str], patterns: Collection[str]) -> None:
    """Put each part in its place; those of an older result that have no successor are removed after that."""
    for name in parts:
        if (new / name).is_dir() and (out / name).is_dir():
            _put_in_place(new / name, out / name)
        else:
            (new / name).replace(out / name)
    for path in out.iterdir():
        if path.name not in parts and path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns):
            path.unlink()


def _renamed(new: Path, out: Path) -> bool:
    """Rename `new` to `out`; return False where another process was faster."""
    try:
        new.rename(out)
    except OSError:
        if not out.is_dir():
            raise
        return False
    return True


def _flush(folder: Path) -> None:
    """Bring all files below a folder to the disk, many at a time: one after the other takes ten times as long."""
    from concurrent.futures import ThreadPoolExecutor  # scoring, which is timed, loads this module and does without

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(_sync, [path for path in folder.rglob("*") if path.is_file()]):
            pass


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def _hidden_folder(parent: Path, out: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent` that is removed at the end if it is still there; messages name `out`."""
    made: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if out.exists():  # else the old result may be in one of them
                _sweep(out)
            made = _make_hidden(parent, out, stack)
            yield made
        _sweep(out)
    except OSError as error:
        line = f"{out}: cannot be written ({error.strerror or error}); free space, or choose another --out"
        raise DataError(printable(line)) from None
    except DataError as error:  # of a file in the folder, under a name that nobody knows
        hidden, known = printable(made), printable(out)
        raise type(error)([line.replace(hidden, known) for line in error.problems]) from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _sweep(out: Path) -> None:
    sweep(out.parent, out.name)
    sweep(out, out.name)


def _make_hidden(parent: Path, out: Path, stack: ExitStack) -> Path:
    """Make a hidden folder that this process holds until the end of the stack."""
    while True:
        made = temporary_path(parent / out.name, is_folder=True)
        made.mkdir()  # with the permissions of the umask
        held = stack.enter_context(holding(made))
        if held is not False and made.exists():
            return made


def _put_in_place(new: Path, out: Path) -> None:
    """Rename `new` to `out`; an old `out` ends under the name `new`, or is removed."""
    if not out.exists():
        new.rename(out)
    elif not exchange(new, out):
        old = temporary_path(out, is_folder=True)
        out.replace(old)
        try:
            new.rename(out)
        except BaseException:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step, where Linux and the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0)
