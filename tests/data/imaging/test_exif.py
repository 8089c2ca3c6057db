"""The orientation of a photo is read whatever else its metadata hold, and by the same function everywhere."""

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from challenge_folders import draw_photo
from PIL import Image

from magic_cli.data.imaging.exif import as_stored, orientation
from magic_cli.data.imaging.images import check_photo, open_photo

SIZE = (40, 64)
TURN = (0x0112, 3, 1, struct.pack("<H", 6))


def block(*entries: tuple[int, int, int, bytes], offset: int = 8, next_at: int = 0) -> bytes:
    """An EXIF block of tag, type, count and value; what has more than four bytes lies behind the directory."""
    out, data, at = struct.pack("<H", len(entries)), b"", offset + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        inner = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(data))
        out += struct.pack("<HHI", tag, kind, count) + inner
        data += value if len(value) > 4 else b""
    return b"Exif\0\0II*\0" + struct.pack("<I", offset) + bytes(offset - 8) + out + struct.pack("<I", next_at) + data


def saved(kind: str, exif: bytes) -> bytes:
    buffer = io.BytesIO()
    draw_photo(SIZE).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        (block(TURN), 6),
        (block((0x0110, 12, 1, struct.pack("<d", 1.0)), TURN), 6),
        (block((0x02BC, 7, 3, b"abc"), TURN), 6),
        (block((0x8769, 4, 1, struct.pack("<I", 8)), TURN, next_at=8), 6),
        (block((0x0112, 4, 1, struct.pack("<I", 6))), 6),
        (block(TURN, (0x0112, 3, 1, struct.pack("<H", 3))), 3),
        (block((0x0112, 3, 1, struct.pack("<H", 9))), 1),
        (block((0x0112, 2, 2, b"6\0")), 1),
        (block((0x0112, 3, 2, struct.pack("<HH", 6, 6))), 1),
        (block(TURN)[:-9], 1),
        (b"Exif\0\0" + block(TURN), 6),
        (b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0", 6),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", 1),
        (b"", 1),
    ],
)
def test_orientation(exif: bytes, expected: int) -> None:
    assert orientation(exif, b"") == expected


def test_orientation_of_an_xmp_packet_counts_where_exif_has_none() -> None:
    assert orientation(b"", b'<x tiff:Orientation="8"/>') == 8
    assert orientation(block((0x0110, 2, 2, b"x\0")), b"<tiff:Orientation>3</tiff:Orientation>") == 3
    assert orientation(block(TURN), b'tiff:Orientation="8"') == 6
    assert orientation(b"", b'tiff:Orientation="9"') == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_prepare_takes_is_opened(kind: str, tmp_path: Path) -> None:
    """Drawn damage: other types, counts, offsets and bytes around an orientation."""
    draw = random.Random(7)  # noqa: S311
    path = tmp_path / "p"
    for _ in range(120):
        tags = draw.sample([0x010F, 0x0110, 0x0131, 0x02BC, 0x8769, 0x8825, 0xA005, 0x9286], 3)
        entries = [(tag, draw.randrange(14), draw.randrange(5), draw.randbytes(draw.choice((2, 4, 8)))) for tag in tags]
        entries.insert(draw.randrange(4), (0x0112, 3, 1, struct.pack("<H", draw.randrange(1, 9))))
        exif = bytearray(block(*entries, next_at=draw.choice((0, 8, 1 << 31))))
        if draw.random() < 0.5:
            exif[draw.randrange(6, len(exif))] = draw.randrange(256)
        path.write_bytes(saved(kind, bytes(exif)))
        size = check_photo(str(path), "p").size
        assert open_photo(path, upright=False).size == size.raw[::-1]
        assert open_photo(path, upright=True).size == size.upright[::-1]


def test_thousands_of_damaged_blocks() -> None:
    draw, sound = random.Random(3), block((0x0110, 2, 20, b"a camera's long name"), TURN)  # noqa: S311
    for _ in range(5000):
        changed = bytearray(sound)
        for _ in range(draw.randrange(1, 6)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        assert 1 <= orientation(bytes(changed[: draw.randrange(len(changed) + 1)]), b"") <= 8


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("number", range(1, 9))
def test_tiff_photos_are_turned_once(number: int, compression: str, tmp_path: Path) -> None:
    """Pillow turns them itself when it reads them."""
    exif = Image.Exif()
    exif[0x0112] = number
    photo = draw_photo(SIZE)
    photo.save(tmp_path / "p.tif", compression=compression, exif=exif)
    size = check_photo(str(tmp_path / "p.tif"), "p").size
    assert (size.raw, size.orientation) == (SIZE, number)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "p.tif", upright=False)), np.asarray(photo))
    photo.save(tmp_path / "p.png", exif=exif)
    turned = open_photo(tmp_path / "p.png", upright=True)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "p.tif", upright=True)), np.asarray(turned))
    assert as_stored(photo.tobytes()) == photo.tobytes()


@pytest.mark.parametrize("number", range(1, 9))
def test_tiff_photos_whose_orientation_is_in_xmp_alone_are_turned_once(number: int, tmp_path: Path) -> None:
    """Pillow turns these too, so that the photo lay otherwise than its masks."""
    photo, packet = draw_photo(SIZE), f'<x:xmpmeta tiff:Orientation="{number}"/>'.encode()
    tags = [(700, "B", len(packet), packet, True)]
    tifffile.imwrite(tmp_path / "p.tif", np.asarray(photo), photometric="rgb", extratags=tags)
    size = check_photo(str(tmp_path / "p.tif"), "p").size
    assert (size.raw, size.orientation) == (SIZE, number)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "p.tif", upright=False)), np.asarray(photo))
    exif = Image.Exif()
    exif[0x0112] = number
    photo.save(tmp_path / "p.png", exif=exif)
    turned = open_photo(tmp_path / "p.png", upright=True)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "p.tif", upright=True)), np.asarray(turned))
