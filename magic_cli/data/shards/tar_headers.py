"""The members of a tar with the places of their bytes; only headers are read, and damage costs only what it hit."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from magic_cli.errors import DataError, problem

BLOCK = 512  # bytes

_AHEAD = 8192  # bytes read with a header: the texts of a pair and the next header mostly lie within them

_SEARCHED = 1 << 20  # bytes read at once where the next header is searched for

_LONGEST_NAME = 1 << 16  # bytes; a longer one is damage

_REGULAR = (b"0", b"\0", b"7")

_PACKERS = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}

_OCTAL = re.compile(rb"[0-7]+")

_PAX = re.compile(rb"(\d{1,5}) ([^=]*)=")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its bytes are `size` from `offset` on."""

    name: str
    offset: int
    size: int


@dataclass
class TarReader:
    """Walks the headers of an open tar.

    Attributes:
        file: the tar, seekable, in binary mode.
        name: as messages show it.
        problems: one line per kind of damage that was met so far, with its place.
    """

    file: IO[bytes]
    name: str
    problems: list[str] = field(default_factory=list)
    _start: int = 0
    _buffer: bytes = b""
    _skipped: int = 0

    def __post_init__(self) -> None:
        """Refuse a file that is packed, or no tar at all.

        Raises:
            DataError: one line.
        """
        self.size = self.file.seek(0, os.SEEK_END)
        head = self.read(0, BLOCK)
        for magic, (packer, remedy) in _PACKERS.items():
            if head.startswith(magic):
                advice = f"unpack it, for example with `{remedy} {self.name}`: its photos cannot be reached one by one"
                raise DataError(problem(self.name, f"a tar packed with {packer}", "a plain tar", advice))
        if not _is_header(head) and head.strip(b"\0"):
            raise DataError(problem(self.name, "a file that does not begin as a tar", "a tar", "download it again"))

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at a place; fewer at the end of the file."""
        first = offset - self._start
        if first < 0 or first + size > len(self._buffer):
            self.file.seek(offset)
            self._start, self._buffer = offset, self.file.read(max(size, _AHEAD))
            first = 0
        return self._buffer[first : first + size]

    def members(self) -> Iterator[Member]:
        """Yield the regular files in order; what is damaged, cut off or of another kind is told in `problems`."""
        offset, long_name, pax = 0, "", dict[str, str]()
        while (header := self.read(offset, BLOCK)).strip(b"\0"):
            if not _is_header(header):
                offset = self._next_header(offset)
                long_name, pax = "", {}
                continue
            kind, data = header[156:157], offset + BLOCK
            size = int(pax.get("size", _number(header[124:136])))
            if kind in (b"L", b"x") and size <= _LONGEST_NAME:
                content = self.read(data, size)
                long_name = _text(content) if kind == b"L" else long_name
                pax = _pax(content) if kind == b"x" else pax
            elif kind in _REGULAR:
                member = Member(pax.get("path") or long_name or _name(header), data, size)
                long_name, pax = "", {}
                if data + size > self.size:
                    self._cut(offset, member.name)
                    return
                yield member
            else:
                self._skipped += kind in b"12S"
                long_name, pax = "", {}
            offset = data + -(-size // BLOCK) * BLOCK
        self._end(offset, header)

    def _end(self, offset: int, last: bytes) -> None:
        if self._skipped:
            line = problem(self.name, f"{self._skipped:,} links or sparse files", "plain files", "they are left out")
            self.problems.append(line)
        if len(last) < BLOCK:
            got, remedy = f"no end mark at byte {offset:,}", "what is there is used; compare its size with the source's"
            self.problems.append(problem(self.name, got, "a whole tar", remedy))

    def _cut(self, offset: int, name: str) -> None:
        got = f"the end of the file at byte {self.size:,}, inside {name} (its header is at {offset:,})"
        remedy = "download it again; the pairs before it are used"
        self.problems.append(problem(self.name, got, "a whole tar", remedy))

    def _next_header(self, offset: int) -> int:
        """Return the place of the next header after a damaged one, or the end of the file; tell what was skipped."""
        place = offset + BLOCK
        while place < self.size:
            self.file.seek(place)
            chunk = self.file.read(_SEARCHED)
            found = next((at for at in _marked(chunk) if _is_header(chunk[at : at + BLOCK])), None)
            if found is not None:
                place += found
                break
            place += _SEARCHED
        place = min(place, self.size)
        got, remedy = f"damage from byte {offset:,} to {place:,}", "download it again; the other pairs are used"
        self.problems.append(problem(self.name, got, "a whole tar", remedy))
        return place


def _marked(chunk: bytes) -> Iterator[int]:
    """Yield the places of blocks with the mark of a header."""
    at = chunk.find(b"ustar")
    while at >= 0:
        if at % BLOCK == 257:
            yield at - 257
        at = chunk.find(b"ustar", at + 1)


def _is_header(block: bytes) -> bool:
    """Return whether the checksum of a block is that of a header; old tars sum signed bytes."""
    if len(block) < BLOCK:
        return False
    written = block[148:156].strip(b" \0")
    if not written or not all(48 <= digit < 56 for digit in written):
        return False
    stated = int(written, 8)
    total = sum(block) - sum(block[148:156]) + 8 * 32
    if total == stated:
        return True
    return total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]) == stated


def _number(data: bytes) -> int:
    """Return a number of a header: octal, or of base 256 with the first bit set; huge where it is neither."""
    if data[0] & 0x80:
        return int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
    digits = data.strip(b" \0") or b"0"
    return int(digits, 8) if _OCTAL.fullmatch(digits) else 1 << 62


def _name(header: bytes) -> str:
    name, prefix = header[:100], header[345:500] if header[257:263] == b"ustar\0" else b""
    return f"{_text(prefix)}/{_text(name)}" if prefix.strip(b"\0") else _text(name)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _pax(content: bytes) -> dict[str, str]:
    """Return the path and the size of an extended header; lengths in it count bytes, so values may have anything."""
    found, at = {}, 0
    while match := _PAX.match(content, at):
        end = at + int(match[1])
        if end <= match.end():
            break
        value = content[match.end() : end - 1].decode("utf-8", "replace")
        key = match[2].decode("utf-8", "replace")
        if key == "path" or (key == "size" and value.isdigit() and len(value) < 19):
            found[key] = value
        at = end
    return found
