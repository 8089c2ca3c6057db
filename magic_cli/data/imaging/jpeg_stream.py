"""JPEG photos without their metadata, judged before they are decoded: how many scans there are, and where they end."""

import re
import struct
from dataclasses import dataclass, field

START, END = b"\xff\xd8", b"\xff\xd9"

MAX_SCANS = 500

MAX_SCANNED = 2_400_000_000  # pixels times scans: about five seconds; 12 scans of the largest photo

_MAX_SEGMENTS = 100_000

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # not those within coded pixels: FF00, restarts

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}

_PROGRESSIVE = (0xC2, 0xCA)

_SCAN, _HEIGHT = 0xDA, 0xDC

_FRAME_HEAD = 6  # bytes before the components

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

# beside frames and scans: tables, restart intervals, JFIF and Adobe's colour transform
_NEEDED = {0xC4, 0xCC, 0xDB, 0xDD, _SCAN, 0xE0, 0xEE} | _FRAMES

_KINDS = {  # by marker of the frame
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA), "an arithmetic-coded JPEG"),
}

# what could follow the last coded pixel, if it were not the last: noise of two kinds, between restart markers
_NOISE = tuple(
    b"".join(noise * 32 + bytes((0xFF, 0xD0 + number % 8)) for number in range(16))
    for noise in (b"\xaa\x55\x33\x0f", b"\x5a\xc3\x96\x78")
)


@dataclass
class JpegStream:
    """A JPEG as it is given to Pillow, from its first to its last marker, and what was left out of it.

    `data` always ends with an end marker; `is_ended` tells whether the file has one. `exif` and `xmp` are b"" where
    there are none. `kind` names a coding that Pillow may not read, "" for a usual one. `missing` holds, for each
    component, how many bits of each of its 64 coefficients the headers of its scans leave out, and 1 for never coded.
    """

    data: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    scans: int = 0
    size: tuple[int, int] = (0, 0)  # height, width
    is_ended: bool = False
    kind: str = ""
    frame: int = 0  # its marker
    missing: dict[int, list[int]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every component has all bits of its coefficients, as far as the headers of scans tell."""
        return bool(self.missing) and not any(map(any, self.missing.values()))

    @property
    def excess(self) -> str:
        """How the scans exceed the limits, "" if they do not."""
        pixels = self.size[0] * self.size[1]
        if self.scans > MAX_SCANS:
            return f"a JPEG of {self.scans:,} scans"
        if self.scans > 1 and self.scans * pixels > MAX_SCANNED:
            return f"a JPEG of {self.scans:,} scans of {pixels / 1e6:.0f} megapixels"
        return ""

    def continued(self) -> list[bytes]:
        """Return the same JPEG with noise before its end, twice: if its pixels stay the same, they are all there."""
        return [self.data[: -len(END)] + noise + END for noise in _NOISE]


def without_metadata(data: bytes) -> JpegStream:
    """Return a JPEG reduced to the segments that make its pixels, and to its first picture.

    A height that follows the pixels (DNL) is written into the header, where decoders expect it.

    Raises:
        ValueError: more than 100,000 segments.
    """
    stream, kept, copied, position = JpegStream(), [START], len(START), len(START)
    height_at, height, stop = 0, 0, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if not found:
            break
        start, code = found.start(), data[found.start() + 1]
        if code == END[1]:
            stream.is_ended, stop = True, start
            break
        length = int.from_bytes(data[start + 2 : start + 4], "big") if code != START[1] else 0
        position = min(start + 2 + length, len(data))
        body = data[start + 4 : position]
        if code in _FRAMES and not stream.frame and len(body) >= _FRAME_HEAD:
            _read_frame(stream, code, body)
            height_at = start + 5
        elif code == _SCAN and body:
            _read_scan(stream, body)
        elif code == _HEIGHT and not height:
            height = int.from_bytes(body[:2], "big")
        elif code not in _NEEDED and code != START[1]:
            _read_metadata(stream, code, body)
        if code not in _NEEDED and code != START[1]:
            kept.append(data[copied:start])
            copied = position
    else:
        raise ValueError("more than 100,000 segments")
    if height and height_at and not stream.size[0]:
        return without_metadata(data[:height_at] + height.to_bytes(2, "big") + data[height_at + 2 :])
    kept += [data[copied : stop if stream.is_ended else _end_of_pixels(data, position)], END]
    stream.data = b"".join(kept)
    return stream


def _read_frame(stream: JpegStream, code: int, body: bytes) -> None:
    precision, height, width, number = struct.unpack_from(">BHHB", body)
    stream.frame, stream.size = code, (height, width)
    stream.kind = _KINDS.get(code, "" if precision == 8 else f"a {precision}-bit JPEG")
    ids = body[_FRAME_HEAD : _FRAME_HEAD + 3 * number : 3]
    stream.missing = {component: [1] * 64 for component in ids}


def _read_scan(stream: JpegStream, body: bytes) -> None:
    stream.scans += 1
    number = body[0]
    first, last, bits = (*body[1 + 2 * number : 4 + 2 * number], 0, 0, 0)[:3]
    if stream.frame not in _PROGRESSIVE:
        first, last, bits = 0, 63, 0
    for component in body[1 : 1 + 2 * number : 2]:
        if component in stream.missing:
            for coefficient in range(first, min(last, 63) + 1):
                stream.missing[component][coefficient] = bits & 15


def _read_metadata(stream: JpegStream, code: int, body: bytes) -> None:
    if code == 0xE1 and body.startswith(_EXIF):
        stream.exif += body[len(_EXIF) :]  # a long block is spread over several
    elif code == 0xE1 and body.startswith(_XMP):
        stream.xmp = body[len(_XMP) :]
    elif code == 0xF7 and not stream.frame:
        stream.kind = "a JPEG-LS"


def _end_of_pixels(data: bytes, least: int) -> int:
    """Return where the coded pixels of a JPEG without an end marker end: before the zeros that fill up a file.

    Coded pixels may end with a zero themselves, but hardly with many; one too many does no harm.
    """
    end = len(data.rstrip(b"\0\xff"))
    few = len(data) - end <= 2
    last = re.compile(rb"(?:\xff\0|\0){0,%d}" % (2 if few else 1)).match(data, end)  # FF00 is how 255 is coded
    return max(last.end() if last else end, least)
