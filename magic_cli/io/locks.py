"""Advisory locks on files and folders; the system releases them when the process ends, even if it is killed.

Without such locks (Windows, some network disks) it is unknown which processes are running, and nothing is removed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)

_held: set[int] = set()  # descriptors of this process's folder locks


def try_lock(file: IO[bytes] | int, wait: bool = False, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed.

    Args:
        file: the open file, or its descriptor.
        wait: wait until other processes release it.
        shared: let other processes hold a shared lock at the same time; the default is an exclusive one.

    Returns:
        Whether it is locked now; always False on Windows.

    Raises:
        OSError: this disk has no locks.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool | None]:
    """Try to lock a folder while the block runs; nothing is written into it.

    Yields:
        True if this process holds the lock, False if another one does, None if there are no locks or no such folder.
        Processes that this one forks do not hold it.
    """
    try:
        descriptor = os.open(folder, _OPEN_FOLDER)
    except OSError:  # no folder (a pipe would block); on Windows, none can be opened
        yield None
        return
    _held.add(descriptor)
    is_held: bool | None = None
    try:
        with suppress(OSError):
            is_held = try_lock(descriptor)
        yield is_held
    finally:
        if descriptor in _held:  # not in a forked process
            _held.discard(descriptor)
            os.close(descriptor)


def _close_copies() -> None:
    """Close a forked process's copies: a data loader worker that outlives a killed run must not keep its folder."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)
