"""Fast reader for simple TIFF files, which masks nearly always are; everything else is left to tifffile.

Simple means: little-endian, one page, one 8-bit channel in strips, uncompressed or zlib, 0 is black, not turned, and
only the usual tags. The arrays are tifffile's, and what viewers show (tests/data/imaging/test_fast_tiff.py).
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.limits import MAX_PIXELS

_WIDTH, _HEIGHT, _COMPRESSION, _DESCRIPTION = 256, 257, 259, 270

_OFFSETS, _ROWS, _SIZES = 273, 278, 279

# tag to the only values that it may have; the first is the default of an absent tag
_FIXED = {254: (0,), 258: (8,), 262: (1,), 266: (1,), 274: (1,), 277: (1,), 284: (1,), 339: (1,)}

_FREE = {282: 5, 283: 5, 296: 3}  # resolution, with its types: it does not change the array

_NAME, _SOFTWARE = 305, b"tifffile.py\0"

_RAW, _ZLIB = 1, (8, 32946)

_KINDS = {3: "H", 4: "I"}

Buffer = bytes | memoryview


def read_simple_tiff(data: Buffer) -> NDArray[np.uint8] | None:
    """Return the uint8 (H, W) array of a simple TIFF, a view of `data` if it is uncompressed; None for other files."""
    try:
        tags = _tags(data)
        return None if tags is None else _pixels(data, tags)
    except (struct.error, ValueError, KeyError, zlib.error):
        return None  # damaged: tifffile reports how


def _tags(data: Buffer) -> dict[int, tuple[int, ...]] | None:
    """Return the tags of the only page; None if anything about them is unusual."""
    if data[:4] != b"II*\0":
        return None
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    if struct.unpack_from("<I", data, start + 2 + 12 * count) != (0,):
        return None
    numbers: dict[int, tuple[int, ...]] = {}
    texts: dict[int, bytes] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, many = struct.unpack_from("<HHI", data, at)
        size = many * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}[kind]
        place = at + 8 if size <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        if not many or tag in numbers or tag in texts or not 8 <= place <= len(data) - size:
            return None
        if tag in (_DESCRIPTION, _NAME):
            texts[tag] = bytes(data[place : place + size])
        elif tag in _FREE and (kind != _FREE[tag] or many != 1):
            return None
        elif tag not in _FREE:
            numbers[tag] = struct.unpack_from(f"<{many}{_KINDS[kind]}", data, place)
    return numbers if _usual(numbers, texts) else None


def _usual(tags: dict[int, tuple[int, ...]], texts: dict[int, bytes]) -> bool:
    known = {_WIDTH, _HEIGHT, _COMPRESSION, _OFFSETS, _ROWS, _SIZES, *_FIXED}
    if not tags.keys() <= known or not tags.keys() >= {_WIDTH, _HEIGHT, _OFFSETS, _SIZES, 258, 262}:
        return False
    if any(tag in tags and (len(tags[tag]) != 1 or tags[tag][0] not in values) for tag, values in _FIXED.items()):
        return False
    if texts.get(_NAME, _SOFTWARE) != _SOFTWARE:
        return False
    if _DESCRIPTION not in texts:
        return True
    # tifffile takes the array's shape from this text, and gives meaning to those of some other programs
    return texts[_DESCRIPTION].rstrip(b"\0") == b'{"shape": [%d, %d]}' % (tags[_HEIGHT][0], tags[_WIDTH][0])


def _pixels(data: Buffer, tags: dict[int, tuple[int, ...]]) -> NDArray[np.uint8] | None:
    (height,), (width,) = tags[_HEIGHT], tags[_WIDTH]
    (rows,), (compression,) = tags.get(_ROWS, (height,)), tags.get(_COMPRESSION, (_RAW,))
    rows = min(rows, height)
    offsets, sizes, pixels = tags[_OFFSETS], tags[_SIZES], height * width
    # tifffile drops sides of one pixel in some cases
    if height < 2 or width < 2 or rows < 1 or pixels > MAX_PIXELS:
        return None
    if len(offsets) != -(-height // rows) or len(sizes) != len(offsets):
        return None
    expected = [min(rows, height - first) * width for first in range(0, height, rows)]
    if any(offset < 8 or not size or offset + size > len(data) for offset, size in zip(offsets, sizes, strict=True)):
        return None
    if compression == _RAW:
        if list(sizes) != expected or any(offsets[0] + i * rows * width != o for i, o in enumerate(offsets)):
            return None
        return np.frombuffer(data, np.uint8, pixels, offsets[0]).reshape(height, width)
    return _inflate(data, offsets, sizes, expected).reshape(height, width) if compression in _ZLIB else None


def _inflate(data: Buffer, offsets: tuple[int, ...], sizes: tuple[int, ...], expected: list[int]) -> NDArray[np.uint8]:
    pixels, at = np.empty(sum(expected), np.uint8), 0
    for offset, size, wanted in zip(offsets, sizes, expected, strict=True):
        # ask for one byte more at most: a strip of kilobytes can unpack to gigabytes
        inflator = zlib.decompressobj()
        strip = inflator.decompress(data[offset : offset + size], wanted + 1)
        if not inflator.eof:
            raise ValueError("the strip holds more or fewer pixels than expected")
        pixels[at : at + wanted] = np.frombuffer(strip, np.uint8)  # ValueError if the length differs
        at += wanted
    return pixels
