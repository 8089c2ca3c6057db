"""Limits on files: hostile ones claim gigabytes in a few bytes, and are refused before memory is allocated.

A TIFF's compressed strips are unpacked by libraries that take no limit. If a strip could unpack to more than a
mask of the allowed size, its bytes are counted first, in pieces that are discarded.
"""

import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

MAX_PIXELS = 200_000_000  # of a photo or mask

MAX_BYTES = 1 << 30  # of an array, of a photo's or mask's file, and of what a strip unpacks to

MAX_PAGES = 64

_NAMES_FILES = ("is_ome", "is_mmstack", "is_micromanager", "is_ndtiff", "is_scn")  # tifffile would open them

FAX = frozenset((2, 3, 4, 32771))  # CCITT compressions: libtiff and imagecodecs turn damaged codes into other pixels

COMPRESSION = 259  # the TIFF tag

_PIECE = 1 << 20

_LZMA, _PACKBITS = 34925, 32773

# compression to the most bytes that one byte can unpack to, in the libraries that tifffile uses without imagecodecs
# (its PackBits makes a list of pointers first)
_GROWTH = {8: 1032, 32946: 1032, _PACKBITS: 64 * 9, _LZMA: 8192}


def claims(file: Any) -> str:
    """Return how an open tifffile.TiffFile exceeds the limits, "" if it does not; no pixel is decoded."""
    pages = file.pages
    if len(pages) > MAX_PAGES:
        return f"{len(pages)} pages"
    if any(getattr(file, kind, False) for kind in _NAMES_FILES):
        text = str(file.pages[0].description)
        if "FileName" in text or not file.is_ome:
            return "pixels in other files, which it names"
    series = file.series[0]
    if int(series.size) > MAX_PIXELS:
        return f"{int(series.size) / 1e6:.0f} megapixels"
    if int(series.size) * series.dtype.itemsize > MAX_BYTES:
        return f"{int(series.size) * series.dtype.itemsize / (1 << 30):.1f} GiB of pixels"
    return next(filter(None, (_bomb(file.filehandle, page) for page in pages if page is not None)), "")


def _bomb(source: IO[bytes], page: Any) -> str:
    """Return how a page's compressed data exceeds the limit, "" if it does not."""
    growth = _GROWTH.get(int(page.compression), 0)
    sizes = page.databytecounts
    if sum(sizes) * growth <= MAX_BYTES:
        return ""
    if int(page.compression) == _PACKBITS:
        return f"{sum(sizes) / 1e6:.0f} MB of PackBits"
    total = 0
    for offset, size in zip(page.dataoffsets, sizes, strict=True):
        source.seek(offset)
        for piece in _pieces(source.read(size), int(page.compression)):
            total += piece
            if total > MAX_BYTES:
                return "more than 1 GiB of compressed pixels"
    return ""


def _pieces(data: bytes, compression: int) -> Iterator[int]:
    """Yield the sizes of the pieces that compressed data unpacks to; stop at damage, which decoders report better."""
    unpack: Any = lzma.LZMADecompressor() if compression == _LZMA else zlib.decompressobj()
    rest: Callable[[], bytes] = (lambda: b"") if compression == _LZMA else (lambda: unpack.unconsumed_tail)
    try:
        piece = unpack.decompress(data, _PIECE)
        while piece:
            yield len(piece)
            piece = unpack.decompress(rest(), _PIECE)
    except (zlib.error, lzma.LZMAError, EOFError):
        return
