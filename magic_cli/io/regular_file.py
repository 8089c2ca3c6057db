"""Open files that cannot block: regular ones only, no pipe, socket or device, and none that the kernel makes up."""

import errno
import os
import stat
from functools import cache
from pathlib import Path
from typing import IO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_KERNEL = ("/proc", "/sys")  # /proc/kmsg says that it is a regular file, and waits for ever where there is no news

_UNITS = ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB"), (0, "bytes"))

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):  # not all systems have each
    _FLAGS |= getattr(os, _name, 0)


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading, at any place that links lead to; never waits.

    Raises:
        OSError: the file is missing or may not be read; or, with a `strerror` that says so, it is no regular file
            ("a named pipe, not a regular file") or one that the kernel makes up, as those of /proc.
    """
    _refuse_irregular(os.stat(path), path)  # noqa: PTH116  before opening, which a device may notice
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  its name is the path, as tifffile needs
    try:
        _refuse_irregular(os.fstat(file.fileno()), path)  # what was opened may be another file
    except BaseException:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS)


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the bytes of a regular file, opened as by `open_regular`.

    Raises:
        OSError: as there, or, with a `strerror` that says so, it is larger than `most` bytes, which is seen before
            anything is read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(size + 1) or b""  # None: one that would block
        while size < len(data) <= most:  # it grew, or never told its size
            size = len(data)
            data += file.read(1 << 20) or b""
    if max(size, len(data)) > most:
        raise OSError(errno.EFBIG, f"{binary_size(max(size, len(data)))}, more than {binary_size(most)}", str(path))
    return data


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Return whether `open_regular` would open a file as far as its kind is concerned; False where it is missing."""
    try:
        return not irregular_kind(os.stat(path))  # noqa: PTH116
    except (OSError, ValueError):
        return False


def irregular_kind(status: os.stat_result) -> str:
    """Return what a file is that is not read, for people: "a named pipe", "a folder"; "" for a regular file."""
    if not stat.S_ISREG(status.st_mode):
        return _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
    return "a file of the kernel" if status.st_dev in _kernel_devices() else ""


def binary_size(size: int) -> str:
    """Return a number of bytes for people.

    >>> binary_size(1 << 40), binary_size(1 << 30), binary_size(5 << 19)
    ('1 TiB', '1 GiB', '2.5 MiB')
    """
    power, name = next(unit for unit in _UNITS if size >= 1 << 10 * unit[0] or not unit[0])
    return f"{size / (1 << 10 * power):.4g} {name}"


def _refuse_irregular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    kind = irregular_kind(status)
    if kind:
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))


@cache
def _kernel_devices() -> frozenset[int]:
    devices = {_device(folder) for folder in _KERNEL}
    return frozenset(devices - {_device("/"), -1})  # a folder of this name on the main disk is like any other


def _device(folder: str) -> int:
    try:
        return Path(folder).stat().st_dev
    except OSError:
        return -1
