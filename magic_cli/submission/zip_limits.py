"""Limits on zips, checked before anything is unpacked: the list of members, their sizes, and bytes that they share."""

import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import IO

from magic_cli.errors import SubmissionError, problem
from magic_cli.io.regular_file import binary_size

MAX_MEMBERS = 200_000

MAX_TOTAL = 1 << 36

MAX_MEMBER = 1 << 28  # a mask of 200 megapixels takes 200 MB, the answers a few

MAX_DIRECTORY = 1 << 23  # bytes of the list of members

_MOST_GROWTH = 1032  # bytes that a byte of deflate can become at most

_END, _LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"

_END_SIZE, _LOCATOR_SIZE, _END64_SIZE, _LONGEST_COMMENT = 22, 20, 56, 65_535

_ENCRYPTED = 1

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED

_READABLE = (_STORED, _DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

_METHODS = {1: "shrink", 6: "implode", 9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd"}

_LOCAL_HEADER = 30


class NoZip(Exception):  # noqa: N818  the name says what is wrong
    """The file has no list of members; the message is a few words for people."""


def check_directory(file: IO[bytes], source: str) -> None:
    """Refuse a list of members that is too large for memory, as zipfile would read all of it.

    Of the records that may give its size (the last one, and for zip64 the one before the locator and the one that the
    locator points to), the largest counts; a comment cannot stand in for them.

    Raises:
        NoZip: there is no list, or the file was cut before its end.
        SubmissionError: the list is over 8 MiB, or the file is one part of several.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_SIZE - _LONGEST_COMMENT))
    tail = file.read()
    at = _last_end(tail)
    if at < 0:
        file.seek(0)
        starts = file.read(4) == b"PK\x03\x04"
        raise NoZip("cut off before its end" if starts else "")
    disk, _, _, _, directory = struct.unpack_from("<HHHHI", tail, at + 4)
    if disk not in (0, 0xFFFF):
        remedy = "zip it as one file"
        raise SubmissionError(problem(source, f"part {disk + 1} of a split zip", "a whole zip", remedy))
    sizes = [0 if directory == 0xFFFFFFFF else directory]
    place = size - len(tail) + at
    locator = _read_at(file, place - _LOCATOR_SIZE, _LOCATOR_SIZE)
    if locator.startswith(_LOCATOR):
        for start in (place - _LOCATOR_SIZE - _END64_SIZE, struct.unpack_from("<Q", locator, 8)[0]):
            record = _read_at(file, start, _END64_SIZE) if start < size else b""
            if record.startswith(_END64):
                sizes.append(struct.unpack_from("<Q", record, 40)[0])
    if max(sizes) > MAX_DIRECTORY:
        got = f"a list of members of {binary_size(max(sizes))}"
        raise SubmissionError(problem(source, got, f"at most {binary_size(MAX_DIRECTORY)}", "zip the predictions only"))


def _last_end(tail: bytes) -> int:
    """Return where the record at the end begins, as zipfile looks for it; -1 where there is none."""
    last = len(tail) - _END_SIZE
    if last >= 0 and tail.startswith(_END, last) and tail.endswith(b"\0\0"):
        return last
    at = tail.rfind(_END)
    return at if 0 <= at <= last else -1


def _read_at(file: IO[bytes], start: int, size: int) -> bytes:
    if start < 0:
        return b""
    file.seek(start)
    data = file.read(size)
    return data if len(data) == size else b""


def check_members(source: str, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse too many members, too much in all, and members that share bytes of the zip.

    Raises:
        SubmissionError: one of these.
    """
    remedy = "zip the predictions only"
    if len(infos) > MAX_MEMBERS:
        raise SubmissionError(problem(source, f"{len(infos)} members", f"at most {MAX_MEMBERS}", remedy))
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL:
        got = f"{binary_size(total)} unpacked"
        raise SubmissionError(problem(source, got, f"at most {binary_size(MAX_TOTAL)}", remedy))
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            got = "members that share bytes, which unpack to far more than the zip holds"
            raise SubmissionError(problem(source, got, "members one after the other", "zip the files again"))
        end = info.header_offset + _LOCAL_HEADER + info.compress_size


def member_fault(info: zipfile.ZipInfo, twice: bool) -> tuple[str, str, str] | None:
    """Return (got, expected, remedy) for a member that must not be read; `twice`: its name was there before."""
    if not info.filename:
        return "no name", "a file's name", "zip the files again"
    path = PurePosixPath(info.orig_filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\\" in info.orig_filename or ":" in "".join(path.parts[:1]):
        return "an unsafe path", "a relative path with /", "zip the files from inside their folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a symbolic link", "a file", "zip the file itself"
    if info.flag_bits & _ENCRYPTED:
        return "an encrypted member", "a plain zip", "zip it without a password"
    if info.compress_type not in _READABLE:
        method = _METHODS.get(info.compress_type, f"compression method {info.compress_type}")
        return f"a member packed with {method}", "stored or deflated members", "zip the files with another program"
    if twice:
        return "the same name twice", "once", "remove one of the two"
    return _size_fault(info)


def _size_fault(info: zipfile.ZipInfo) -> tuple[str, str, str] | None:
    if info.file_size > MAX_MEMBER:
        return f"a file of {binary_size(info.file_size)}", f"at most {binary_size(MAX_MEMBER)}", "check the file"
    most = {_STORED: info.compress_size, _DEFLATED: info.compress_size * _MOST_GROWTH}.get(info.compress_type)
    if most is not None and info.file_size > most:
        got = f"{info.file_size} bytes from {info.compress_size}"
        return got, f"at most {most}", "zip the files again"
    return None
