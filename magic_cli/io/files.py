"""Files: atomic writes, temporary names, hashes."""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import IO

from magic_cli.errors import DataError, printable, problem
from magic_cli.io.locks import try_lock
from magic_cli.io.regular_file import open_regular

StrPath = str | os.PathLike[str]


# hidden names of files and folders that replace their target when they are complete: 10 random digits and 6 that
# follow from them, so that nobody types such a name
_TEMPORARY = re.compile(r"\.magic-([0-9a-f]{10})([0-9a-f]{6})(\.tmp)?")

STAGE_MARK = "made-by-magic.txt"  # in each temporary folder: the name of the result that is built in it

_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # neither a link nor a pipe is opened

_FULL = (errno.ENOSPC, errno.EDQUOT)

_watched: dict[Path, tuple[int, int]] = {}  # folders that must stay the ones they were: device and inode


Around = Callable[[Path], AbstractContextManager[None]]


def _plain(_: Path) -> AbstractContextManager[None]:
    return nullcontext()


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], around: Around = _plain) -> None:
    """Call `write` on a temporary file beside `path`, fsync it and rename it to `path`.

    A kill at any moment leaves the old file or the new one, never a partial one. Parent folders are created.
    The file gets the permissions of the file that it replaces; a new one those of the user's umask. The file is renamed
    within `around`, which is called with the temporary one once it is complete.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    is_open = False
    try:
        with replacing(path, around=around) as file:
            is_open = True
            write(file)
    except (OSError, RuntimeError, ValueError) as error:
        if not is_open:  # ValueError: a null byte in the path
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be written ({reason}); {elsewhere(error)}") from None
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save hides a full disk
        if not isinstance(cause, OSError):
            raise
        raise DataError(f"{path}: cannot be written ({cause.strerror or cause}); {elsewhere(cause)}") from None


def elsewhere(error: Exception) -> str:
    """Return what helps where something cannot be written: space can be freed only on a disk that is full.

    No option is named: what is written may be that of --html, --card or --onnx, or of none.
    """
    remedy = "choose another place"
    return f"free space, or {remedy}" if isinstance(error, OSError) and error.errno in _FULL else remedy


@contextmanager
def replacing(path: Path, durable: bool = True, around: Around = _plain) -> Iterator[IO[bytes]]:
    """Yield a new temporary file beside `path` that is renamed to `path` at the end, or removed after an error.

    Args:
        path: the file to write. Parent folders are created.
        durable: fsync first, so that a power failure cannot leave an empty file under the name `path`.
        around: the block in which the complete file is renamed.

    Raises:
        OSError: the folder cannot be written or the disk is full.
        DataError: the file is below a folder that is `watched`, and whose name leads to another one by now.
    """
    check_watched(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, opened = _create_temporary(path)
    try:
        with opened as file:
            keep_mode(path, temporary)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            check_watched(path)
            if os.name == "posix":  # while it is locked, so that `sweep` does not take it for a dead process's
                with around(temporary):
                    temporary.replace(path)
        if os.name != "posix":
            with around(temporary):
                temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def keep_mode(old: Path, new: Path) -> None:
    """Give `new` the permissions and, where allowed, the group of the file or folder `old`, if there is one.

    Nobody may read the new one who could not read the old one: where the group cannot be kept, it gets no permissions.
    The superuser also keeps the owner.
    """
    try:
        there = old.lstat()
    except (OSError, ValueError):
        return
    made = new.lstat()
    if os.name != "posix" or stat.S_IFMT(there.st_mode) != stat.S_IFMT(made.st_mode):
        return
    mode = stat.S_IMODE(there.st_mode)
    if (there.st_uid, there.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.chown(new, there.st_uid if os.geteuid() == 0 else -1, there.st_gid)
        except OSError:
            mode &= ~0o070
    if mode != stat.S_IMODE(made.st_mode):
        with suppress(OSError):  # a disk without permissions
            new.chmod(mode)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Refuse, in this block, to write below `folder` once its name leads to another folder than at the start.

    A link in place of the folder would lead what is written into a folder of somebody else.
    """
    name = folder.absolute()
    before = _watched.get(name)
    there = name.stat()
    _watched[name] = (there.st_dev, there.st_ino)
    try:
        yield
    finally:
        _watched.pop(name)
        if before is not None:
            _watched[name] = before


def check_watched(path: Path) -> None:
    """Raise DataError if `path` is below a `watched` folder whose name leads to another folder by now."""
    for folder, identity in list(_watched.items()):
        if path.absolute().is_relative_to(folder):
            try:
                there = folder.stat()
            except OSError:
                there = None
            if there is None or (there.st_dev, there.st_ino) != identity:
                line = "is no longer the folder that this command began in; nothing more is written; put it back"
                raise DataError(f"{printable(folder)}: {line}, or choose another --out")


def temporary_path(path: Path, is_folder: bool = False) -> Path:
    """Return a new hidden name beside `path`, of the pattern that `is_leftover` and `sweep` know."""
    token = secrets.token_hex(5)
    return path.parent / f".magic-{token}{_check_digits(token)}{'' if is_folder else '.tmp'}"


def _check_digits(token: str) -> str:
    return hashlib.sha256(f"magic {token}".encode()).hexdigest()[:6]


def is_temporary_name(name: str, is_folder: bool = False) -> bool:
    """Return whether `temporary_path` may have made a name."""
    match = _TEMPORARY.fullmatch(name)
    return match is not None and match[2] == _check_digits(match[1]) and (match[3] is None) == is_folder


def _create_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """Create and lock a temporary file; its mode follows the umask (reading the umask would mean changing it)."""
    while True:
        temporary = temporary_path(path)
        opened = temporary.open("x+b")
        with suppress(OSError):
            try_lock(opened)
        if os.fstat(opened.fileno()).st_nlink:
            return temporary, opened
        opened.close()  # another process swept it away before it was locked


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder proves itself a temporary one: by its name, a folder also by what it holds."""
    if path.is_symlink():
        return False
    if is_temporary_name(path.name, is_folder=True):
        return path.is_dir() and ((path / STAGE_MARK).is_file() or not any(path.iterdir()))
    return is_temporary_name(path.name) and path.is_file()


def is_empty(folder: Path) -> bool:
    """Return whether a folder is empty or contains only temporary files and folders."""
    return all(is_leftover(item) for item in folder.iterdir())


def sweep(folder: Path) -> None:
    """Remove the files that killed processes left in a folder; those of running ones are locked, and stay.

    If the folder cannot be read, nothing is done.
    """
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if is_temporary_name(path.name)]:
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | _OPEN)
                try:
                    if stat.S_ISREG(os.fstat(descriptor).st_mode) and try_lock(descriptor):
                        path.unlink()
                finally:
                    os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; unpaired surrogates (of file names that are not UTF-8) are written as \\udc80."""
    write_parts(path, (text,))


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write UTF-8 text as `write_text`; `parts` may be a generator."""
    write_atomic(path, lambda file: file.writelines(part.encode("utf-8", "backslashreplace") for part in parts))


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a regular file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; read only once per process unless its size or time has changed."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256_of(path: Path, _size: int, _mtime: int) -> str:
    return sha256(path)


def refuse_existing(path: Path, overwrite: bool, option: str = "--out", remedy: str = "--overwrite") -> None:
    """Raise DataError when `path`, which `option` names, exists (a folder: is not empty) and `overwrite` is false."""
    taken = not is_empty(path) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise DataError(f"{printable(path)}: already there; use {remedy}, or another {option}")


def cache_root() -> Path:
    """Return the default folder of caches: $XDG_CACHE_HOME/magic or ~/.cache/magic.

    The folder may not exist yet. A relative XDG_CACHE_HOME is ignored, as the XDG specification demands.

    Raises:
        DataError: the user has no home folder, as in a container that runs under an arbitrary user id.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "magic"
    except RuntimeError:
        remedy = "set HOME or XDG_CACHE_HOME, or use --cache-dir"
        raise DataError(problem("HOME", "no home folder of this user", "a place for the cache", remedy)) from None
