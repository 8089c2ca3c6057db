"""A folder built aside and put in place in one step, so that nobody ever sees half of it."""

import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from magic_cli.errors import DataError, printable, problem
from magic_cli.files import is_empty, refuse_existing
from magic_cli.lock import holding

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
    with aside(out.parent, out) as made:
        yield made
        flush(made)
        put_in_place(made, out)


def flush(folder: Path) -> None:
    """Bring all files below a folder to the disk, many at a time: one after the other takes ten times as long."""
    from concurrent.futures import ThreadPoolExecutor  # scoring, which is timed, loads this module and does without

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(_sync, [path for path in folder.rglob("*") if path.is_file()]):
            pass


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def aside(parent: Path, out: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent` that is removed at the end if it is still there; messages name `out`."""
    made: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if out.exists():  # else the old result may be in one of them
                _sweep(out)
            made = _beside(parent, out, stack)
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


def _beside(parent: Path, out: Path, stack: ExitStack) -> Path:
    """Make a hidden folder that this process holds until the end of the stack."""
    while True:
        made = parent / f".{out.name[:60]}-{secrets.token_hex(4)}"
        made.mkdir()  # with the permissions of the umask
        held = stack.enter_context(holding(made))
        if held is not False and made.exists():
            return made


def _sweep(out: Path) -> None:
    """Remove what killed processes left, beside `out` and in it; those that are at work hold theirs."""
    name = re.compile(rf"\.{re.escape(out.name[:60])}-[0-9a-f]{{8}}")
    for parent in (out.parent, out):
        with suppress(OSError):
            for path in [path for path in parent.iterdir() if name.fullmatch(path.name)]:
                with holding(path) as held:
                    if held:
                        shutil.rmtree(path, ignore_errors=True)


def put_in_place(new: Path, out: Path) -> None:
    """Rename `new` to `out`; an old `out` ends under the name `new`, or is removed."""
    if not out.exists():
        new.rename(out)
    elif not exchange(new, out):
        old = out.with_name(f".{out.name[:60]}-{secrets.token_hex(4)}")
        out.replace(old)
        try:
            new.rename(out)
        except BaseException:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where Linux and the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)
