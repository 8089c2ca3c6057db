"""A folder built aside and put in place in one step, so that nobody ever sees half of it."""

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magic_cli.errors import DataError, printable, problem
from magic_cli.files import refuse_existing

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD


def check_target(out: Path, source: Path, mark: str, overwrite: bool) -> None:
    """Refuse a target that must not be replaced.

    With `overwrite` only an empty folder or one that holds the file `mark` is replaced, and never one that
    holds `source`: `--out ~ --overwrite` must not cost anybody their files.

    Raises:
        DataError: the target is taken, is something else than what this program writes, or holds `source`.
    """
    if source.resolve().is_relative_to(out.resolve()):
        raise DataError(problem(out, "the folder that holds --data", "another folder", "choose another --out"))
    refuse_existing(out, overwrite)
    ours = not out.exists() or (out.is_dir() and ((out / mark).is_file() or not any(out.iterdir())))
    if not ours:
        raise DataError(problem(out, f"no folder with {mark}", "a folder made by this command", "choose another --out"))


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that replaces `out` when the block ends; on an error it is removed.

    A kill at any moment leaves the old folder or the new one, whole, under the name `out`, at worst with a
    hidden leftover beside it. (Where the system cannot exchange two folders at once, there is an instant with
    neither; an error in it brings the old one back.)

    Raises:
        DataError: the folder cannot be made or written.
    """
    out = out.resolve()
    made: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = _beside(out)
        yield made
        _put_in_place(made, out)
    except OSError as error:
        line = f"{out}: cannot be written ({error.strerror}); free space, or choose another --out"
        raise DataError(printable(line)) from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _beside(out: Path) -> Path:
    made = out.parent / f".{out.name[:60]}-{secrets.token_hex(4)}"
    made.mkdir()  # with the permissions of the umask
    return made


def _put_in_place(new: Path, out: Path) -> None:
    """Rename `new` to `out`; an old `out` ends under the name `new`, or is removed."""
    if not out.exists():
        new.rename(out)
    elif not _exchange(new, out):
        old = _beside(out)
        out.replace(old)  # onto an empty folder
        try:
            new.rename(out)
        except BaseException:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where Linux and the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)
