"""The orientation of a photo, read from its metadata: nothing else in them is looked at or can do harm."""

import re
import struct
from typing import NamedTuple

_ORIENTATION = 274  # the tag, in EXIF as in TIFF

_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q"}  # TIFF field type to its `struct` code

_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


class Place(NamedTuple):
    """Where an orientation is in TIFF-structured data: its entry's position, its `struct` code, and its value."""

    entry: int
    code: str
    value: int


def orientation(exif: bytes, xmp: bytes) -> int:
    """Return a photo's orientation, 1 to 8: that of its EXIF block, else that of its XMP packet, else 1.

    Args:
        exif: the EXIF block, with or without "Exif" before it; b"" for none. Damaged ones count as far as they go.
        xmp: the XMP packet; b"" for none.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    places = orientation_places(exif)
    if places:
        value = places[-1].value
        return value if 1 <= value <= 8 else 1
    found = _XMP.search(xmp)
    return int(found[1]) if found and found[1] in b"12345678" else 1


def orientation_places(data: bytes) -> list[Place]:
    """Return all orientation entries, one value each, in the first directory of a TIFF file or EXIF block."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return []
    is_big = data[2:4] in (b"+\0", b"\0+")
    offset, count, width = ("Q", "Q", 20) if is_big else ("L", "H", 12)
    try:
        (start,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count, data, start)
    except (struct.error, OverflowError):
        return []
    first = start + struct.calcsize(order + count)
    places = []
    for entry in range(first, min(first + entries * width, len(data) - width + 1), width):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag == _ORIENTATION and kind in _INTEGERS:
            (number,) = struct.unpack_from(order + offset, data, entry + 4)
            code = order + _INTEGERS[kind]
            value = entry + 4 + struct.calcsize(order + offset)
            if number == 1 and struct.calcsize(code) <= struct.calcsize(order + offset):
                places.append(Place(value, code, struct.unpack_from(code, data, value)[0]))
    return places


def as_stored(tiff: bytes) -> bytes:
    """Return a TIFF whose orientation is 1, so that its pixels are read as they are stored; other data is unchanged.

    Where it has no such tag, Pillow would turn it by its XMP packet: the name of the orientation in it is misspelt.
    """
    if tiff[:2] not in (b"II", b"MM"):
        return tiff
    places = orientation_places(tiff)
    if not places:
        return tiff.replace(b"tiff:Orientation", b"tiff:0rientation")
    changed = bytearray(tiff)
    for place in places:
        struct.pack_into(place.code, changed, place.entry, 1)
    return bytes(changed)
