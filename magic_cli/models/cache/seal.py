"""The form of a cached file: a name that proves itself, and in the file its key and a checksum of all that it holds.

A file that is cut, zeroed, swapped or of another kind is as good as missing. The checksum (CRC-32: 3 GB/s, where
BLAKE2b reaches 0.55 and SHA-256 1.25) finds damage, not intent: whoever may write into a shared cache can write a
checksum, too.
"""

import hashlib
import json
import re
import zlib
from pathlib import Path

from magic_cli.io.regular_file import open_regular

MOST_BYTES = 1 << 28  # of a cached file; features of a photo take 5 MB at most

_LABEL = "magic-cache 2"  # the number of the format

_NEAR = 256  # bytes from the start or the end of a file, within which its mark is

_DIGEST = 8  # hex digits

_STEM = re.compile("[0-9a-f]{64}")

# of files without a checksum, as earlier versions wrote them
_OLD_HEADER = 4096
_OLD_TENSORS = re.compile(r"p[0-9]+|tap[0-9]+|text|pooled")
_OLD_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_OLD_PIXELS = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|u1', 'fortran_order': False, 'shape': \([0-9, ]+\), \} *\n", re.S
)


def name_of(key: str, suffix: str) -> str:
    """Return "ab/NAME.SUFFIX", the file of a key: 56 digits of a hash of it, and 8 that are computed from those."""
    digits = hashlib.sha256(f"{_LABEL} {key}".encode()).hexdigest()[:56]
    return f"{digits[:2]}/{digits}{_proof(digits)}{suffix}"


def is_stem(text: str) -> bool:
    """Return whether a file's name without suffix proves itself; one of four billion others of this form does, too."""
    return _STEM.fullmatch(text) is not None and _proof(text[:56]) == text[56:]


def _proof(digits: str) -> str:
    return f"{zlib.crc32(f'{_LABEL} {digits}'.encode()):08x}"


def blank_mark(key: str) -> str:
    """Return the text for `seal` to complete, to be put near the start or the end of a file."""
    return f"{_LABEL} {key} {'0' * _DIGEST}"


def seal(data: bytes, key: str) -> bytes:
    """Write the checksum into a file's content that contains `blank_mark(key)`."""
    end = _mark_end(data, key)
    return b"".join((data[:end], _checksum(data, end), data[end + _DIGEST :]))


def is_sealed(data: bytes, key: str) -> bool:
    """Return whether data are what `seal` returned for this key, bit by bit."""
    end = _mark_end(data, key)
    return end >= 0 and data[end : end + _DIGEST] == _checksum(data, end)


def _mark_end(data: bytes, key: str) -> int:
    """Return the position of the checksum, -1 if there is no mark of this key."""
    mark = f"{_LABEL} {key} ".encode()
    at = max(data.find(mark, 0, _NEAR), data.find(mark, max(0, len(data) - _NEAR)))
    return at + len(mark) if at >= 0 else -1


def _checksum(data: bytes, end: int) -> bytes:
    whole = memoryview(data)
    return f"{zlib.crc32(whole[end + _DIGEST :], zlib.crc32(whole[:end])):0{_DIGEST}x}".encode()


def is_old_file(path: Path, kind: str) -> bool:
    """Return whether a file is one that earlier versions, without checksums, wrote into the cache, by its header."""
    try:
        with open_regular(path) as file:
            start = file.read(_OLD_HEADER)
    except OSError:
        return False
    if kind == "pixels":
        return _OLD_PIXELS.match(start) is not None
    try:
        header = json.loads(start[8 : 8 + int.from_bytes(start[:8], "little")])
        names, dtypes = list(header), {entry["dtype"] for entry in header.values()}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return False
    return all(_OLD_TENSORS.fullmatch(name) for name in names) and dtypes == {_OLD_DTYPES[kind]}
