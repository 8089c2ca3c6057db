"""The cache folder: its files, its size limit, eviction of the least recently used files, and who uses it.

Files are KIND/ab/NAME.SUFFIX, with "ab" the start of the name, which proves itself (models/cache/seal.py): only such
files are counted and removed. Their modification time is the time of their last use, to the hour. Nothing is evicted
that was used within 24 hours or that the current run needs. A run holds a shared lock on the folder itself, which needs
no more than to read it, so that `clear` refuses while it is used; a run from which files are taken all the same, or
that cannot write, computes what is missing.
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
from magic_cli.io.files import is_temporary_name, replacing, sweep
from magic_cli.io.locks import try_lock
from magic_cli.io.progress import log
from magic_cli.io.regular_file import open_regular
from magic_cli.models.cache import notes
from magic_cli.models.cache.seal import MOST_BYTES, is_old_file, is_sealed, is_stem

LIMIT_GB = 20.0

SUFFIX = {"float16": ".safetensors", "float32": ".safetensors", "bfloat16": ".safetensors", "pixels": ".npy"}

# what earlier versions locked: empty files
_OLD_LOCKS = re.compile(r"\.magic\.lock|\.runs/(?:lock|[0-9]+-[0-9a-f]{8})")

_LONGEST_CLEAR = 2.0  # seconds that a run waits for `clear`; then it goes on, and may lose files

_FOLDER = re.compile("[0-9a-f]{2}")

_RECENT = 24 * 3600.0  # seconds; files used within them are never evicted

_FRESH = 3600.0  # seconds; resolution of the time of the last use

_KEY, _OLD_TEMPORARY = re.compile("[0-9a-f]{64}"), re.compile(r"\.[0-9a-f]{60}\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that magic wrote into the cache.

    Attributes:
        name: "KIND/NAME".
        path: the file.
        size: bytes; those on the disk if it is too large to be one of ours (a sparse file).
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
    folders = (root, *root.absolute().parents)
    return shutil.disk_usage(next(p for p in folders if os.path.exists(p))).free  # noqa: PTH110  Path.exists may raise


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


def put(path: Path, data: bytes) -> bool:
    """Write the file KIND/ab/NAME.SUFFIX of a cache atomically; its mode follows the umask, as a cache may be shared.

    There is no fsync: what a power failure destroys is computed again, and 2,474 fsyncs took 16 s.

    Returns:
        Whether it is written; if not (a full disk, a folder of somebody else), a note is logged, once per run.
    """
    reason: object = ""
    for _ in range(2):
        try:
            with replacing(path, durable=False) as file:
                file.write(data)
        except FileNotFoundError as error:  # the folder was cleared, or its temporary file taken for a dead process's
            reason = error.strerror or error
        except OSError as error:
            reason = error.strerror or error
            break
        else:
            return True
    notes.current().refused(path.parent.parent, reason)
    return False


def read_whole(path: Path, key: str) -> bytes | None:
    """Return the content of a cached file as it was written for `key`; None if it is missing or damaged.

    Damage is counted for the run's note. Pipes, devices, loops of links and files above 256 MiB are damage, too.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size) if size <= MOST_BYTES else b""
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        data = b""
    if is_sealed(data, key):
        return data
    notes.current().add(str(path), is_lost=False)
    return None


def discard(path: Path) -> None:
    """Remove a damaged file, so that it does not count; a folder in its place stays."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def entries(root: Path) -> Iterator[Entry]:
    """Yield all files below `root` that magic wrote, including temporary ones; links are not followed."""
    for folder in subfolders(root):
        kind = folder.parent.name
        for item in _scan(folder):
            with contextlib.suppress(OSError):  # another process removes files too
                if item.is_file(follow_symlinks=False):
                    finished = _is_ours(item, kind, folder.name)
                    if finished or is_temporary_name(item.name) or _is_old_temporary(item.name, folder.name):
                        stat = item.stat(follow_symlinks=False)
                        name = f"{kind}/{item.name.partition('.')[0]}"
                        yield Entry(name, Path(item.path), _size(stat), stat.st_mtime, finished)


def _is_ours(item: os.DirEntry[str], kind: str, folder: str) -> bool:
    """Return whether a file is ours by its name or, if it is of an earlier version, by its name and its header."""
    stem, dot, rest = item.name.partition(".")
    if dot + rest != SUFFIX[kind] or not stem.startswith(folder) or not _KEY.fullmatch(stem):
        return False
    return is_stem(stem) or is_old_file(Path(item.path), kind)


def _is_old_temporary(name: str, folder: str) -> bool:
    return name.startswith(f".{folder}") and _OLD_TEMPORARY.fullmatch(name) is not None


def _size(stat: os.stat_result) -> int:
    if stat.st_size <= MOST_BYTES:
        return stat.st_size
    return min(stat.st_size, 512 * getattr(stat, "st_blocks", stat.st_size))


def subfolders(root: Path) -> Iterator[Path]:
    """Yield the folders KIND/ab."""
    for kind in SUFFIX:
        if not (root / kind).is_symlink():
            folders = (item for item in _scan(root / kind) if _FOLDER.fullmatch(item.name))
            yield from (Path(item.path) for item in folders if item.is_dir(follow_symlinks=False))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as items:
        return list(items)
    return []


class CacheUse:
    """This process's use of a cache folder; while the object lives, `clear` refuses.

    Attributes:
        root: the folder.
        needed: names ("KIND/NAME") of the files that this run needs and never evicts.

    Raises:
        ConfigError: MAGIC_CACHE_GB is not a number above 0.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.needed: set[str] = set()
        self._warned = False
        limit_bytes()
        notes.begin(root)
        for folder in subfolders(root):
            sweep(folder)
        with contextlib.suppress(OSError):  # there is no folder, and none can be made
            descriptor = _lock(root, shared=True)
            if descriptor is not None:
                weakref.finalize(self, os.close, descriptor)

    def make_room(self, new: int) -> bool:
        """Evict the least recently used files until `new` more bytes fit the limit and the disk.

        Files that are needed or were used within 24 hours are kept, even over the limit.

        Returns:
            False if the disk is too full all the same; that is logged, and nothing is evicted.

        Raises:
            DataError: this run alone needs more than the limit.
        """
        files = sorted(entries(self.root), key=lambda entry: entry.used)
        total, most, free = sum(entry.size for entry in files), limit_bytes(), free_bytes(self.root)
        own = new + sum(entry.size for entry in files if entry.name in self.needed)
        if new and own > most:
            got = f"{format_bytes(own)} of features for this run, at most {format_bytes(most)} may be kept"
            raise DataError(f"{self.root}: {got}; set MAGIC_CACHE_GB={own / 1e9 + 0.1:.1f}, or use --no-cache")
        rest = (entry for entry in files if entry.finished and entry.name not in self.needed)
        idle = [entry for entry in rest if _is_old(entry.used)]
        if new > free + sum(entry.size for entry in idle):
            reason = f"{format_bytes(new)} of features to keep, {format_bytes(free)} of disk free"
            notes.current().refused(self.root, reason)
            return False
        excess = total + new - min(most, total + free)
        freed = _evict(self.root, idle, excess)
        if freed < excess and not self._warned:
            self._warned = True
            over = f"{format_bytes(total + new - freed)}, over its limit of {format_bytes(most)} (MAGIC_CACHE_GB)"
            log(f"{self.root}: {over}; what was used within 24 hours stays")
        return True


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
    """Remove everything that magic wrote into a cache folder, and its folders that are empty afterwards.

    Raises:
        DataError: a run uses the folder, or a file cannot be removed.
    """
    removed: list[Entry] = []
    locks = list(_old_locks(root))
    if locks or any(entries(root)):
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
                for path in locks:
                    path.unlink(missing_ok=True)
                _remove_empty(root, [*(entry.path for entry in removed), *locks])
        except OSError as error:
            where = error.filename or root
            raise DataError(f"{where}: cannot be removed ({error.strerror or error}); check its owner") from None
    return Cleared(len(removed), sum(entry.size for entry in removed), len(_scan(root)))


def _old_locks(root: Path) -> Iterator[Path]:
    """Yield the empty files that earlier versions locked; they also made the folders without which these are not."""
    hidden = root / ".runs"
    for item in (*_scan(root), *([] if hidden.is_symlink() else _scan(hidden))):
        with contextlib.suppress(OSError):
            is_empty = item.is_file(follow_symlinks=False) and item.stat(follow_symlinks=False).st_size == 0
            if is_empty and _OLD_LOCKS.fullmatch(Path(item.path).relative_to(root).as_posix()):
                yield Path(item.path)


def _remove_empty(root: Path, files: list[Path]) -> None:
    """Remove the folders of these files, up to `root`, that are empty now."""
    folders = {folder for file in files for folder in file.parents if folder == root or root in folder.parents}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _lock(root: Path, shared: bool) -> int | None:
    """Return a descriptor that holds the folder's lock; a shared lock waits for a running `clear`, for two seconds.

    Returns:
        None if other processes hold it, or if there are no locks.

    Raises:
        OSError: the folder can neither be created nor read, or its disk has no locks.
    """
    end = time.monotonic() + _LONGEST_CLEAR
    while True:
        root.mkdir(parents=True, exist_ok=True)
        # FileNotFoundError: the folder was cleared in the meantime
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
            descriptor = os.open(root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            stack.callback(os.close, descriptor)
            if not try_lock(descriptor, shared=shared):
                if not shared or time.monotonic() > end:
                    return None
                time.sleep(0.02)
            elif os.path.samestat(os.fstat(descriptor), root.stat()):
                stack.pop_all()
                return descriptor
