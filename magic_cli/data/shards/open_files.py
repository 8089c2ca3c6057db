"""Bytes at a place of a large file: each process keeps the files open that it read last."""

import atexit
import os
import threading
from collections import OrderedDict
from typing import IO

from magic_cli.errors import DataError, printable, problem
from magic_cli.io.regular_file import open_regular

_MOST = 64  # open files of a process


def _read(file: IO[bytes], offset: int, size: int) -> bytes:
    """Return what the file holds now: what Python read ahead of it may have changed since."""
    if not hasattr(os, "pread"):
        file.seek(offset)
        return file.read(size)
    data = os.pread(file.fileno(), size, offset)
    while 0 < len(data) < size and (more := os.pread(file.fileno(), size - len(data), offset + len(data))):
        data += more  # a signal, or a network's disk that returns less at once
    return data


class OpenFiles:
    """The files that this process read last; a process that was forked from it opens its own."""

    def __init__(self, most: int = _MOST) -> None:
        self.most = most
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on; raises OSError."""
        if self._owner != os.getpid():  # the parent's files and, if a thread of it held it, its lock
            self.close()
            self._owner, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            file = self._files.pop(path, None) or open_regular(path)
            self._files[path] = file
            if len(self._files) > self.most:
                self._files.popitem(last=False)[1].close()
            return _read(file, offset, size)

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()


_open = OpenFiles()

atexit.register(_open.close)


def read_at(path: str, offset: int, size: int, place: str) -> bytes:
    """Return `size` bytes of a file from `offset` on.

    Args:
        path: of a regular file.
        offset: of the first byte.
        size: number of bytes.
        place: what is read, for messages.

    Raises:
        DataError: the file cannot be read, or is shorter; one line.
    """
    try:
        data = _open.read(path, offset, size)
    except MemoryError:
        raise DataError(problem(place, "no memory left to read it", "enough for its bytes", "free memory")) from None
    except OSError as error:
        raise DataError(printable(f"{place}: cannot be read ({error.strerror}); check the file")) from None
    if len(data) < size:
        remedy = "it has changed since it was indexed: start the command again"
        raise DataError(problem(place, f"{len(data):,} bytes", f"{size:,} from byte {offset:,} on", remedy))
    return data
