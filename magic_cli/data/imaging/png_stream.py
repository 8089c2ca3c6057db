"""PNG photos without their metadata: Pillow is given the pixels alone, and no text is unpacked for nothing."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")

_MAX_CHUNKS = 500_000

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type

_MAX_TEXT = 1 << 20  # bytes of a text in which an orientation is looked for

_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"  # the latter is ImageMagick's


class PngStream(NamedTuple):
    """A PNG as it is given to Pillow, with what was left out of it.

    `exif` and `xmp` are b"" where there are none; `frames` is 1 for a PNG that is not animated, `is_whole` is False if
    its end is missing (which says nothing about its pixels).
    """

    data: bytes
    exif: bytes
    xmp: bytes
    frames: int
    is_whole: bool


def without_metadata(data: bytes) -> PngStream:
    """Return a PNG reduced to the chunks that make its pixels.

    Chunks of metadata are passed over, whatever their size and their checksum. A last chunk of pixels that is cut is
    completed: the decoder finds out whether rows are missing.

    Raises:
        ValueError: a chunk of pixels has a wrong checksum, or there are more than 500,000 chunks.
    """
    kept, exif, texts, frames, is_whole = [SIGNATURE], b"", dict[bytes, bytes](), 1, False
    for kind, body, chunk in _chunks(data):
        if kind in _PIXELS:
            kept.append(chunk)
            is_whole = kind == b"IEND"
        elif kind == b"eXIf":
            exif = exif or body
        elif kind == b"acTL" and len(body) >= 4:
            frames = int.from_bytes(body[:4], "big")
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _text(kind, body)
            texts.setdefault(keyword, text)
    exif = exif or _unhex(texts.get(_RAW_EXIF, b""))
    return PngStream(b"".join(kept), exif, texts.get(_XMP, b""), frames, is_whole)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the kind of each chunk, what it holds, and all of its bytes; of metadata, at most what is looked into."""
    start, number = len(SIGNATURE), 0
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        number += 1
        if number > _MAX_CHUNKS:
            raise ValueError("more than 500,000 chunks")
        if kind in (b"eXIf", b"acTL") or data.startswith((_XMP, _RAW_EXIF), start + 8):
            yield kind, data[start + 8 : start + 8 + min(length, _MAX_TEXT)], b""
        elif kind not in _PIXELS:
            pass
        elif end <= len(data):
            if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise ValueError("a wrong checksum")
            yield kind, b"", data[start:end]
        elif kind == b"IDAT":
            rest = data[start + 4 : start + 8 + length]
            yield kind, b"", struct.pack(">I", len(rest) - 4) + rest + struct.pack(">I", zlib.crc32(rest))
        start = end
        if kind == b"IEND":
            return


def _text(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return keyword and text of a chunk, unpacked up to a limit."""
    keyword, _, rest = body.partition(b"\0")
    is_packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        is_packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    if not is_packed:
        return keyword, rest
    try:
        return keyword, zlib.decompressobj().decompress(rest, _MAX_TEXT)
    except zlib.error:
        return keyword, b""


def _unhex(text: bytes) -> bytes:
    """Return the EXIF block of a raw profile: three lines of header, then hexadecimal digits."""
    digits = b"".join(text.split(b"\n")[3:])
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""


def lacks_rows(png: bytes) -> bool:
    """Return whether the pixels of a PNG, unpacked and counted in pieces, are fewer than its size needs.

    Decoders take the end of packed pixels for the end of the picture, and leave the rest black.
    """
    needed, unpack = _unpacked_size(png), zlib.decompressobj()
    for kind, _, chunk in _chunks(png):
        rest = chunk[8:-4] if kind == b"IDAT" else b""
        while rest and needed > 0 and not unpack.eof:
            needed -= len(unpack.decompress(rest, 1 << 20))
            rest = unpack.unconsumed_tail
    return needed > 0


def _unpacked_size(png: bytes) -> int:
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", png, len(SIGNATURE) + 8)
    bits = depth * _CHANNELS.get(colour, 1)
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
