"""Results are built in a hidden folder and put in place in one step, so that a partial result is never visible.

`staged` replaces a whole folder; `replace_results` replaces the results in a folder that contains other files too.
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
from magic_cli.io import run_record
from magic_cli.io.files import is_empty, refuse_existing, sweep, temporary_path
from magic_cli.io.locks import folder_lock

_RENAME_EXCHANGE = 2  # flag of renameat2(2)

_AT_FDCWD = -100  # a path relative to the working folder, openat(2)

_SYNC_THREADS = 8


def check_target(out: Path, source: Path | None, mark: str, overwrite: bool) -> None:
    """Refuse a target that must not be replaced: `--out ~ --overwrite` must not delete a home folder.

    Args:
        out: the target.
        source: folder that `out` must not contain; None for none.
        mark: file that every folder of this kind contains; any other non-empty folder is refused.
        overwrite: whether a folder of this kind may be replaced.

    Raises:
        DataError: the target is taken, is not a folder of this kind, or contains `source`.
    """
    if source is not None and source.resolve().is_relative_to(out.resolve()):
        raise DataError(problem(out, "the folder that holds --data", "another folder", "choose another --out"))
    refuse_existing(out, overwrite)
    is_replaceable = not out.exists() or (out.is_dir() and ((out / mark).is_file() or is_empty(out)))
    if not is_replaceable:
        raise DataError(problem(out, f"no folder with {mark}", "a folder made by this command", "choose another --out"))


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that replaces `out` when the block ends; after an error it is removed.

    A kill at any moment leaves either the complete old folder or the complete new one under the name `out`, at worst
    with a hidden folder beside it, which the next command removes. (If the system cannot exchange two folders, there
    is an instant with neither; an error at that instant restores the old one.)

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
    """Yield an empty folder whose content is moved into `out` when the block ends; the older result is removed.

    The record of the older result, run.json, is removed with it. Everything else in `out` is kept; the same files, as
    they are linked, not copied. A kill leaves the complete older result or the complete new one. Only if `out` contains
    other folders, or cannot be exchanged for another folder, each file or folder of the result is replaced separately.

    Args:
        out: the folder, which may not exist yet.
        patterns: glob patterns of the files and folders in `out` that make up a result of this kind.
        owned: glob pattern of the files in a folder of the result that belong to it; other files in it are kept.

    Raises:
        DataError: the folder cannot be made or written.
    """
    out, patterns = out.resolve(), (*patterns, run_record.FILE)
    existed = out.is_dir()
    with _hidden_folder(out if existed and not _is_exchangeable(out) else out.parent, out) as new:
        yield new
        _flush(new)
        if not existed and _try_rename(new, out):
            return
        parts = sorted(path.name for path in new.iterdir())
        for part in [name for name in parts if (new / name).is_dir() and (out / name).is_dir()]:
            for path in _foreign(out / part, [owned]):
                _link_or_copy(path, new / part / path.name)
        if not (new.parent == out.parent and _replace_whole(new, out, patterns)):
            _replace_each(new, out, parts, patterns)


def _is_exchangeable(out: Path) -> bool:
    """Return whether a folder may be exchanged: no mount, not the working folder, and in a writable parent."""
    is_mount = out.stat().st_dev != out.parent.stat().st_dev
    return not is_mount and not Path.cwd().is_relative_to(out) and os.access(out.parent, os.W_OK)


def _foreign(folder: Path, patterns: Collection[str]) -> list[Path]:
    """Return the files and folders in a folder that are not part of a result."""
    return [path for path in folder.iterdir() if not any(fnmatch(path.name, pattern) for pattern in patterns)]


def _try_link(source: str | Path, target: str | Path) -> bool:
    """Hard-link a file or symbolic link; return False if the disk or the system refuses."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return False
    return True


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or the files of a folder, into another folder; copy what cannot be linked."""

    def link_file(source: str, target: str) -> None:
        if not _try_link(source, target):
            shutil.copy2(source, target, follow_symlinks=False)

    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=link_file)
    else:
        link_file(str(source), str(target))


def _replace_whole(new: Path, out: Path, patterns: Collection[str]) -> bool:
    """Link the other files of `out` into `new`, then exchange both folders; return False if that is not possible."""
    inodes: dict[str, int] = {}
    for path in _foreign(out, patterns):
        if (path.is_dir() and not path.is_symlink()) or not _try_link(path, new / path.name):
            return False
        inodes[path.name] = (new / path.name).lstat().st_ino
    shutil.copymode(out, new)
    if not exchange(new, out):
        return False
    for path in _foreign(new, patterns):  # `new` is the old folder now; move what was saved in it meanwhile
        if path.lstat().st_ino != inodes.get(path.name):
            path.replace(out / path.name)
    return True


def _replace_each(new: Path, out: Path, parts: Collection[str], patterns: Collection[str]) -> None:
    """Replace each file and folder of the result; then remove those of the older result that have no successor."""
    (out / run_record.FILE).unlink(missing_ok=True)  # first: it would not be that of the new result
    for name in parts:
        if (new / name).is_dir() and (out / name).is_dir():
            _put_in_place(new / name, out / name)
        else:
            (new / name).replace(out / name)
    for path in out.iterdir():
        if path.name not in parts and path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns):
            path.unlink()


def _try_rename(new: Path, out: Path) -> bool:
    """Rename `new` to `out`; return False if another process created `out` first."""
    try:
        new.rename(out)
    except OSError:
        if not out.is_dir():
            raise
        return False
    return True


def _flush(folder: Path) -> None:
    """Fsync all files below a folder, several at a time: one after the other takes ten times as long."""
    from concurrent.futures import ThreadPoolExecutor  # not at the top: `magic score` loads this module and is timed

    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(_sync, [path for path in folder.rglob("*") if path.is_file()]):
            pass


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def _hidden_folder(parent: Path, out: Path) -> Iterator[Path]:
    """Yield an empty hidden folder in `parent`, removed at the end if still there; error messages name `out`."""
    made: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if out.exists():  # otherwise a hidden folder may be the only copy of the old result
                _sweep(out)
            made = _make_hidden(parent, out, stack)
            yield made
        _sweep(out)
    except OSError as error:
        line = f"{out}: cannot be written ({error.strerror or error}); free space, or choose another --out"
        raise DataError(printable(line)) from None
    except DataError as error:  # about a file in the hidden folder, whose name means nothing to the user
        hidden, public = printable(made), printable(out)
        raise type(error)([line.replace(hidden, public) for line in error.problems]) from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _sweep(out: Path) -> None:
    sweep(out.parent, out.name)
    sweep(out, out.name)


def _make_hidden(parent: Path, out: Path, stack: ExitStack) -> Path:
    """Create a hidden folder that this process locks until the end of the stack."""
    while True:
        made = temporary_path(parent / out.name, is_folder=True)
        made.mkdir()  # its mode follows the umask
        is_held = stack.enter_context(folder_lock(made))
        if is_held is not False and made.exists():
            return made


def _put_in_place(new: Path, out: Path) -> None:
    """Rename `new` to `out`; an old `out` is left under the name `new`, or removed."""
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
    """Exchange two folders in one step; return False if the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)
