"""Files: atomic writes, temporary names, hashes."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from magic_cli.errors import DataError, printable, problem
from magic_cli.io.locks import folder_lock, try_lock

StrPath = str | os.PathLike[str]


# hidden names of files and folders that replace their target when they are complete
_TEMPORARY = re.compile(r"\..{1,60}(?:\.[0-9a-f]{8}\.tmp|-[0-9a-f]{8})", re.DOTALL)


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write` on a temporary file beside `path`, fsync it and rename it to `path`.

    A kill at any moment leaves the old file or the new one, never a partial one. Parent folders are created.
    The file gets the permissions of the user's umask.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    is_open = False
    try:
        with replacing(path) as file:
            is_open = True
            write(file)
    except (OSError, RuntimeError, ValueError) as error:
        if not is_open:  # ValueError: a null byte in the path
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be written ({reason}); choose another --out") from None
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save hides a full disk
        if not isinstance(cause, OSError):
            raise
        raise DataError(f"{path}: cannot be written ({cause.strerror or cause}); free space or --out") from None


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Yield a new temporary file beside `path` that is renamed to `path` at the end, or removed after an error.

    Args:
        path: the file to write. Parent folders are created.
        durable: fsync first, so that a power failure cannot leave an empty file under the name `path`.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, opened = _create_temporary(path)
    try:
        with opened as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if os.name == "posix":  # while it is locked, so that `sweep` does not take it for a dead process's
                temporary.replace(path)
        if os.name != "posix":
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path, is_folder: bool = False) -> Path:
    """Return a new hidden name beside `path`, of the pattern that `is_leftover` and `sweep` know."""
    token = secrets.token_hex(4)
    return path.parent / (f".{path.name[:60]}-{token}" if is_folder else f".{path.name[:60]}.{token}.tmp")


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


def is_leftover(name: str) -> bool:
    """Return whether a file or folder has the name of a temporary one."""
    return _TEMPORARY.fullmatch(name) is not None


def is_empty(folder: Path) -> bool:
    """Return whether a folder is empty or contains only temporary files and folders."""
    return all(is_leftover(item.name) for item in folder.iterdir())


def sweep(folder: Path, result: str = "") -> None:
    """Remove what killed processes left in a folder; temporary files and folders of running ones are locked, and stay.

    Args:
        folder: where they wrote; if it cannot be read, nothing is done.
        result: also remove temporary folders, of a result of this name. (Those of other results may be the only copy,
            where a kill came between two renames.)
    """
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if is_leftover(path.name)]:
            if path.suffix == ".tmp":
                with suppress(OSError), path.open("r+b") as file:
                    if try_lock(file):
                        path.unlink()
            elif result and path.name.rpartition("-")[0] == f".{result[:60]}":
                with folder_lock(path) as is_held:
                    if is_held:
                        shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; unpaired surrogates (of file names that are not UTF-8) are written as \\udc80."""
    write_parts(path, (text,))


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write UTF-8 text as `write_text`; `parts` may be a generator."""
    write_atomic(path, lambda file: file.writelines(part.encode("utf-8", "backslashreplace") for part in parts))


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
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


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise DataError when `path` exists (a folder: is not empty) and `overwrite` is false."""
    taken = not is_empty(path) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise DataError(f"{printable(path)}: already there; use --overwrite, or another --out")


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
