"""Who uses a cache folder: nothing is removed while a run needs it, by eviction or by `magic doctor --clear-cache`.

Each process that uses a folder holds a locked file in .runs/ there; the system unlocks it when the process ends,
killed or not. Runs come in, and files are removed, under one more lock. Where the system has no such locks
(Windows, some network disks), and in a folder that is read-only, nothing is ever evicted.
"""

import contextlib
import os
import secrets
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from magic_cli.errors import DataError
from magic_cli.lock import locked
from magic_cli.model import storage
from magic_cli.model.storage import Entry, spoken
from magic_cli.progress import log

_RUNS, _DOOR = ".runs", "lock"


@contextlib.contextmanager
def _door(root: Path) -> Iterator[None]:
    """Hold the lock under which runs come in and files are removed."""
    path = root / _RUNS / _DOOR
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            locked(file, wait=True)
            try:
                still_there = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:  # the cache was cleared while we waited
                still_there = False
            if still_there:
                yield
                return


def _others(root: Path, own: Path | None) -> bool:
    """Tell whether other processes use the folder; the marks of dead ones are removed. Under the door's lock."""
    if sys.platform == "win32":
        return True  # nobody knows
    found = False
    for path in (root / _RUNS).iterdir():
        if path.name != _DOOR and path != own:
            with path.open("r+b") as file:
                if locked(file):
                    path.unlink()
                else:
                    found = True
    return found


class Lease:
    """This process's use of a folder. `needed` are the names of the files that it asked for.

    Raises:
        ConfigError: the limit cannot be understood.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.needed: set[str] = set()
        self._path: Path | None = None
        storage.limit()
        storage.sweep(root)
        with contextlib.suppress(OSError), _door(root):  # a cache may be read-only, and full all the same
            path = root / _RUNS / f"{os.getpid()}-{secrets.token_hex(4)}"
            file = path.open("xb")
            weakref.finalize(self, _leave, path, file, os.getpid())
            if locked(file, wait=True):
                self._path = path
            _others(root, path)

    @property
    def alone(self) -> bool:
        """Whether no other process uses the folder now; False where that cannot be known."""
        if self._path is None:
            return False
        with _door(self.root):
            return not _others(self.root, self._path)

    def make_room(self, new: int) -> None:
        """Remove what was used longest ago, and is not needed, until `new` bytes more fit the limit and the disk.

        While other processes use the folder nothing is removed, and the limit may be passed.

        Raises:
            DataError: this process alone needs more than there can be.
        """
        used, free = sum(entry.size for entry in storage.entries(self.root)), storage.free_bytes(self.root)
        most = storage.limit()
        excess = used + new - min(most, used + free)
        if excess <= 0:
            return
        found = sorted(storage.entries(self.root), key=lambda entry: entry.used)
        idle = [entry for entry in found if entry.finished and entry.name not in self.needed]
        kept = used - sum(entry.size for entry in idle)
        if new and kept + new > most:
            got = f"{spoken(kept + new)} of features for this run, at most {spoken(most)} may be kept"
            raise DataError(f"{self.root}: {got}; set MAGIC_CACHE_GB={(kept + new) / 1e9 + 0.1:.1f}, or use --no-cache")
        if kept + new > used + free:
            raise _no_space(self.root, new, free)
        if not idle or self._path is None or not self._evicted(idle, excess):
            if new > free:
                raise _no_space(self.root, new, free)
            over = f"{spoken(used + new)}, over its limit of {spoken(most)} (MAGIC_CACHE_GB)"
            log(f"{self.root}: {over}; what runs need is not removed")

    def _evicted(self, idle: list[Entry], excess: float) -> bool:
        """Remove the first of `idle` until `excess` bytes are freed; not while others use the folder."""
        with _door(self.root):
            if _others(self.root, self._path):
                return False
            freed = count = 0
            for entry in idle:
                if freed < excess:
                    with contextlib.suppress(OSError):
                        entry.path.unlink()
                        freed, count = freed + entry.size, count + 1
        log(f"{self.root}: {count} files, used longest ago, removed to make room ({spoken(freed)})")
        return True


def _no_space(root: Path, new: int, free: int) -> DataError:
    got = f"{spoken(new)} of features to keep, {spoken(free)} of disk free"
    return DataError(f"{root}: {got}; free space, choose another --cache-dir, or use --no-cache")


def _leave(path: Path, file: IO[bytes], process: int) -> None:
    """End a lease; a forked child that closes its copy does not."""
    if os.getpid() == process:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    file.close()


_leases: weakref.WeakValueDictionary[tuple[Path, int], Lease] = weakref.WeakValueDictionary()


def lease(root: Path) -> Lease:
    """Return this process's lease of a folder; it ends with the last reference to it."""
    key = (root.resolve(), os.getpid())
    found = _leases.get(key)
    if found is None:
        found = _leases[key] = Lease(root)
    return found


def clear(root: Path) -> dict[str, int]:
    """Remove everything that magic wrote into a cache folder, and the folders that are empty then.

    Returns {"files": removed, "bytes": freed, "left": files and folders of somebody else in it}.

    Raises:
        DataError: a run uses the folder, or a file cannot be removed.
    """
    found: list[Entry] = []
    if (root / _RUNS).is_dir() or any(storage.entries(root)):
        try:
            with _door(root):
                if sys.platform != "win32" and _others(root, None):
                    raise DataError(f"{root}: a run uses it; clear it when that run has ended")
                for entry in storage.entries(root):
                    entry.path.unlink(missing_ok=True)
                    found.append(entry)
                (root / _RUNS / _DOOR).unlink(missing_ok=True)
        except OSError as error:
            where = error.filename or root
            raise DataError(f"{where}: cannot be removed ({error.strerror or error}); check its owner") from None
    kinds = [root / kind for kind in storage.SUFFIX]
    for folder in (*storage.nests(root), *kinds, root / _RUNS, root):
        with contextlib.suppress(OSError):
            folder.rmdir()
    left = len(list(root.iterdir())) if root.is_dir() else 0
    return {"files": len(found), "bytes": sum(entry.size for entry in found), "left": left}
