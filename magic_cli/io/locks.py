"""Locks of files and folders: the system frees them when their process ends, killed or not.

Where there are no such locks (Windows, some network disks) nobody knows who is at work, and nothing is removed.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

_held: set[int] = set()


def locked(file: IO[bytes] | int, wait: bool = False, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed, and return whether that succeeded.

    Several processes may hold a `shared` lock; nobody holds another one meanwhile.

    Raises:
        OSError: there are no locks on this disk.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def holding(folder: Path) -> Iterator[bool | None]:
    """Hold a folder while the block runs; yield False where another process holds it, None where nobody can know.

    Nothing is written into the folder. Processes that this one forks do not hold it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield None
        return
    _held.add(descriptor)
    found: bool | None = None
    try:
        with suppress(OSError):
            found = locked(descriptor)
        yield found
    finally:
        if descriptor in _held:  # not in a fork
            _held.discard(descriptor)
            os.close(descriptor)


def _forget() -> None:
    """Close a fork's copies: a data loader's worker that outlives a killed run must not keep its folder."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
