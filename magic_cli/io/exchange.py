"""Renames that the standard library does not have: two folders exchanged in one step, and a name that must be free."""

import ctypes
import errno
import os
import sys
from pathlib import Path

_NO_REPLACE, _EXCHANGE = 1, 2  # flags of renameat2(2)

_AT_FDCWD = -100  # a path relative to the working folder, openat(2)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; return False if the system or the file system cannot."""
    return _rename(first, second, _EXCHANGE) == 0


def move(source: Path, target: Path) -> None:
    """Rename a file to a name that nothing has.

    Raises:
        OSError: FileExistsError if something has it, and as `os.rename`.
    """
    number = _rename(source, target, _NO_REPLACE)
    if number in (None, errno.EINVAL, errno.ENOSYS):  # this system or this disk cannot
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        source.rename(target)
    elif number:
        raise OSError(number, os.strerror(number), str(target))


def _rename(source: Path, target: Path, flag: int) -> int | None:
    """Return 0 or the number of the error of renameat2; None where the system has no such call."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return 0
    return ctypes.get_errno()
