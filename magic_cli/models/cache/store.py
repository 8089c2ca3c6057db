"""The cache folder: its files, its size limit, eviction of the least recently used files, and who uses it.

Files are KIND/ab/KEY.SUFFIX, with "ab" the start of the key. Their modification time is the time of their last use, to
the hour. Nothing is evicted that was used within 24 hours or that the current run needs. A run holds a shared lock on
the folder, so that `clear` refuses while it is used.
"""

import contextlib
import os
import re
import shutil
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from magic_cli.errors import ConfigError, DataError
from magic_cli.io.files import replacing, sweep
from magic_cli.io.locks import try_lock
from magic_cli.io.progress import log

LIMIT_GB = 20.0

SUFFIX = {"float16": ".safetensors", "float32": ".safetensors", "bfloat16": ".safetensors", "pixels": ".npy"}

LOCK = ".magic.lock"

_RECENT = 24 * 3600.0  # seconds; files used within them are never evicted

_FRESH = 3600.0  # seconds; resolution of the time of the last use

_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe in place of the lock file must not block

_KEY, _TEMPORARY = re.compile("[0-9a-f]{64}"), re.compile(r"\.?[0-9a-f]{60,64}\..*\.tmp")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that magic wrote into the cache.

    Attributes:
        name: "KIND/KEY".
        path: the file.
        size: bytes.
        used: time of its last use, to the hour, in seconds since 1970.
        finished: False for a temporary file.
    """

    name: str
    path: Path
    size: int
    used: float
    finished: bool


def format_bytes(size: float) -> str:
    """Return a number of bytes as MB or GB, for messages."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def limit_bytes() -> float:
    """Return the maximum size of a cache folder: $MAGIC_CACHE_GB x 1e9, by default 20e9; "inf" means no limit.

    Raises:
        ConfigError: MAGIC_CACHE_GB is not a number above 0.
    """
    text = os.environ.get("MAGIC_CACHE_GB", "").strip()
    try:
        gigabytes = float(text) if text else LIMIT_GB
    except ValueError:
        gigabytes = 0
    if not gigabytes > 0:
        raise ConfigError(f"MAGIC_CACHE_GB={text}: expected a number of gigabytes above 0, such as {LIMIT_GB:.0f}")
    return gigabytes * 1e9


def free_bytes(root: Path) -> int:
    """Return the free bytes on the disk of a folder, which may not exist yet."""
    return shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.exists())).free


def touch(path: Path) -> int:
    """Set the time of a file's last use, at most once per hour; return its size in bytes, 0 if it does not exist."""
    try:
        stat = path.stat()
        if abs(time.time() - stat.st_mtime) > _FRESH:  # the clock may have been wrong
            with contextlib.suppress(OSError):  # a shared cache may be another user's, or read-only
                os.utime(path)
    except OSError:
        return 0
    return stat.st_size


def put(path: Path, data: bytes | memoryview) -> None:
    """Write the file KIND/ab/KEY.SUFFIX of a cache atomically; its mode follows the umask, as a cache may be shared.

    There is no fsync: what a power failure destroys is computed again, and 2,474 fsyncs took 16 s.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    try:
        with replacing(path, durable=False) as file:
            file.write(data)
    except OSError as error:
        where, reason = path.parent.parent, error.strerror or error
        raise DataError(f"{where}: cannot be written ({reason}); use --cache-dir or --no-cache") from None


def entries(root: Path) -> Iterator[Entry]:
    """Yield all files below `root` that magic wrote, including temporary ones; links are not followed."""
    for folder in subfolders(root):
        kind = folder.parent.name
        for item in _scan(folder):
            stem, dot, rest = item.name.partition(".")
            finished = dot + rest == SUFFIX[kind] and bool(_KEY.fullmatch(stem)) and stem.startswith(folder.name)
            if finished or _TEMPORARY.fullmatch(item.name):
                with contextlib.suppress(OSError):  # another process removes files too
                    stat = item.stat(follow_symlinks=False)
                    if item.is_file(follow_symlinks=False):
                        yield Entry(f"{kind}/{stem}", Path(item.path), stat.st_size, stat.st_mtime, finished)


def subfolders(root: Path) -> Iterator[Path]:
    """Yield the folders KIND/ab."""
    for kind in SUFFIX:
        if not (root / kind).is_symlink():
            yield from (Path(item.path) for item in _scan(root / kind) if item.is_dir(follow_symlinks=False))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as items:
        return list(items)
    return []


class CacheUse:
    """This process's use of a cache folder; while the object lives, `clear` refuses.

    Attributes:
        root: the folder.
        needed: names ("KIND/KEY") of the files that this run needs and never evicts.

    Raises:
        ConfigError: MAGIC_CACHE_GB is not a number above 0.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.needed: set[str] = set()
        self._warned = False
        limit_bytes()
        for folder in subfolders(root):
            sweep(folder)
        with contextlib.suppress(OSError):  # a read-only cache may still be used
            descriptor = _lock(root, shared=True)
            if descriptor is not None:
                weakref.finalize(self, os.close, descriptor)

    def make_room(self, new: int) -> None:
        """Evict the least recently used files until `new` more bytes fit the limit and the disk.

        Files that are needed or were used within 24 hours are kept, even over the limit.

        Raises:
            DataError: this run alone needs more than the limit, or the disk is too full.
        """
        files = sorted(entries(self.root), key=lambda entry: entry.used)
        total, most, free = sum(entry.size for entry in files), limit_bytes(), free_bytes(self.root)
        own = new + sum(entry.size for entry in files if entry.name in self.needed)
        if new and own > most:
            got = f"{format_bytes(own)} of features for this run, at most {format_bytes(most)} may be kept"
            raise DataError(f"{self.root}: {got}; set MAGIC_CACHE_GB={own / 1e9 + 0.1:.1f}, or use --no-cache")
        idle = [entry for entry in files if entry.name not in self.needed and _is_old(entry.used)]
        if new > free + sum(entry.size for entry in idle):
            got = f"{format_bytes(new)} of features to keep, {format_bytes(free)} of disk free"
            raise DataError(f"{self.root}: {got}; free space, choose another --cache-dir, or use --no-cache")
        excess = total + new - min(most, total + free)
        freed = _evict(self.root, idle, excess)
        if freed < excess and not self._warned:
            self._warned = True
            over = f"{format_bytes(total + new - freed)}, over its limit of {format_bytes(most)} (MAGIC_CACHE_GB)"
            log(f"{self.root}: {over}; what was used within 24 hours stays")


def _is_old(used: float) -> bool:
    return abs(time.time() - used) > _RECENT  # a time in the future comes from a wrong clock


def _evict(root: Path, idle: list[Entry], excess: float) -> int:
    """Remove the first files of `idle` until `excess` bytes are freed; return the freed bytes."""
    freed = count = 0
    for entry in idle:
        if freed >= excess:
            break
        with contextlib.suppress(OSError):
            if _is_old(entry.path.stat().st_mtime):  # check again: another run may have used it since
                entry.path.unlink()
                freed, count = freed + entry.size, count + 1
    if count:
        log(f"{root}: {count} files, used longest ago, removed to make room ({format_bytes(freed)})")
    return freed


@dataclass(frozen=True, slots=True)
class Cleared:
    """What `clear` did: files removed, bytes freed, and how many files and folders of others are left."""

    files: int
    bytes: int
    left: int


def clear(root: Path) -> Cleared:
    """Remove everything that magic wrote into a cache folder, and folders that are empty afterwards.

    Raises:
        DataError: a run uses the folder, or a file cannot be removed.
    """
    removed: list[Entry] = []
    if (root / LOCK).exists() or any(entries(root)):
        try:
            with contextlib.ExitStack() as stack:
                descriptor = _lock(root, shared=False)
                if descriptor is not None:
                    stack.callback(os.close, descriptor)
                elif sys.platform != "win32":
                    raise DataError(f"{root}: a run uses it; clear it when that run has ended")
                for entry in entries(root):
                    entry.path.unlink(missing_ok=True)
                    removed.append(entry)
                (root / LOCK).unlink(missing_ok=True)
        except OSError as error:
            where = error.filename or root
            raise DataError(f"{where}: cannot be removed ({error.strerror or error}); check its owner") from None
    for folder in (*subfolders(root), *(root / kind for kind in SUFFIX), root):
        with contextlib.suppress(OSError):
            folder.rmdir()
    left = len(list(root.iterdir())) if root.is_dir() else 0
    return Cleared(len(removed), sum(entry.size for entry in removed), left)


def _lock(root: Path, shared: bool) -> int | None:
    """Return a descriptor that holds the folder's lock; a shared lock waits for a running `clear`.

    Returns:
        None if other processes hold it, or if there are no locks.

    Raises:
        OSError: the lock file can neither be created nor read.
    """
    path = root / LOCK
    while True:
        root.mkdir(parents=True, exist_ok=True)
        # FileNotFoundError: the folder was cleared in the meantime
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
            descriptor = _open(path)
            stack.callback(os.close, descriptor)
            if not try_lock(descriptor, wait=shared, shared=shared):
                return None
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                stack.pop_all()
                return descriptor


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _OPEN, 0o666)
    except OSError:  # it belongs to another user, or the disk is read-only
        return os.open(path, os.O_RDONLY | _OPEN)
