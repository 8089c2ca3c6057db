"""Every mask that people have, and those that nobody should unpack: by prepare, by package and by score."""

import io
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from challenge_folders import draw_lesion, image_id
from harness import CANARY, Magic, accepted, clean, copied, left, refused
from PIL import Image
from tiny_dataset import encoded, files_of, make_prepared, tiff, write_folder

from magic_cli.data.imaging.masks import Unreadable, read_raw
from magic_cli.errors import DataError

SIZE = (48, 64)
LESION = draw_lesion(SIZE)


def pillow(array: np.ndarray, kind: str = "TIFF", **options: Any) -> bytes:
    return encoded(Image.fromarray(array), kind, **options)


def bilevel(**options: Any) -> bytes:
    return pillow(LESION.astype(bool), **options)


def pages(count: int) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for _ in range(count):
            file.write(np.ones((2, 2), np.uint8), metadata=None, contiguous=False)
    return buffer.getvalue()


def made(tags: dict[int, tuple[int, int]], data: bytes = b"", following: int = 0) -> bytes:
    """A TIFF of one page by hand: tag to (type, value), data behind it at offset 512."""
    rows = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())]
    head = b"II*\0" + struct.pack("<IH", 8, len(rows)) + b"".join(rows) + struct.pack("<I", following)
    return head.ljust(512, b"\0") + data


def claimed(height: int, width: int, data: bytes = b"\1" * 64, compression: int = 1, **more: int) -> bytes:
    """A TIFF whose header claims a size, whatever its one strip holds."""
    tags = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, compression), 262: (3, 1), 273: (4, 512)}
    tags |= {277: (3, 1), 278: (4, height), 279: (4, more.get("bytecount", len(data)))}
    return made(tags, data, more.get("following", 0))


def deflated(megabytes: int) -> bytes:
    """A zlib stream of zeros, made of one block again and again: 1 MB is a GB."""
    packer = zlib.compressobj(9)
    head = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (megabytes - 1) + packer.flush()


# what a mask's file holds, and a word of what `prepare` says of it
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "an unreadable file"),
    "a text": (lambda: CANARY.encode(), "an unreadable file"),
    "null bytes": (lambda: bytes(999), "an unreadable file"),
    "header alone": (lambda: tiff(LESION)[:8], "an unreadable file"),
    "cut in its tags": (lambda: tiff(LESION)[:60], "got"),
    "cut in half": (lambda: tiff(LESION)[:1500], "got"),
    "zlib cut in half": (lambda: tiff(LESION, compression="zlib", metadata=None)[:-40], "got"),
    "zlib with wrong bytes": (lambda: claimed(*SIZE, b"\x78\x9c" + b"\xaa" * 60, 8), "got"),
    "another size": (lambda: tiff(draw_lesion((40, 60))), "expected 48 x 64"),
    "transposed": (lambda: tiff(LESION.T.copy()), "a transposed mask"),
    "several pages": (lambda: tiff(np.stack([LESION, LESION]), photometric="minisblack"), "shape (2, 48, 64)"),
    "a hundred pages": (lambda: pages(100), "100 pages"),
    "RGB": (lambda: tiff(np.stack([LESION] * 3, -1), photometric="rgb"), "shape (48, 64, 3)"),
    "RGB in PNG": (lambda: pillow(np.stack([LESION] * 3, -1), "PNG"), "shape (48, 64, 3)"),
    "JPEG in a TIFF's name": (lambda: pillow(LESION * np.uint8(255), "JPEG"), "an unreadable file"),
    "values 0 and 7": (lambda: tiff(LESION * np.uint8(7)), "values {0, 7}"),
    "values 0, 1 and 255": (lambda: tiff(LESION * np.uint8(255) | draw_lesion(SIZE, 3)), "values {0, 1, 255"),
    "negative": (lambda: tiff(-LESION.astype(np.int8)), "values {-1, 0}"),
    "probabilities": (lambda: tiff(LESION * np.float32(0.7)), "values {0, 0.7}"),
    "NaN": (lambda: tiff(np.where(LESION == 1, np.nan, 0).astype(np.float32)), "values {"),
    "infinity": (lambda: tiff(np.where(LESION == 1, np.inf, 0).astype(np.float64)), "values {0, inf}"),
    "complex": (lambda: tiff(LESION.astype(np.complex64)), "dtype complex64"),
    "no pixels": (lambda: claimed(0, 0), "got"),
    "10^9 pixels claimed": (lambda: claimed(31_623, 31_623), "1000 megapixels"),
    "10^9 pixels claimed, packed": (lambda: claimed(31_623, 31_623, deflated(2), 8), "1000 megapixels"),
    "4 x 10^9 rows of one pixel": (lambda: claimed(2**32 - 1, 1), "4295 megapixels"),
    "3,000 pixels that unpack to 1.1 GB": (lambda: claimed(*SIZE, deflated(1100), 8), "1 GiB of compressed pixels"),
    "200 megapixels of float64": (lambda: made_floats(), "1.5 GiB of pixels"),
    "4 GB of PackBits claimed": (lambda: claimed(*SIZE, b"\x81\0" * 32, 32773, bytecount=2**32 - 1), "PackBits"),
    "strip far outside": (lambda: claimed(*SIZE, b"", bytecount=3072), "got"),
    "unknown compression": (lambda: claimed(*SIZE, bytes(3072), 9999), "got"),
    "G4": (lambda: bilevel(compression="group4"), "CCITT (fax) compression, expected none, zlib or LZW; save it"),
    "G3": (lambda: bilevel(compression="group3"), "CCITT (fax) compression, expected none, zlib or LZW; save it"),
    "EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\nshowpage\n", "an unreadable file"),
}


def made_floats() -> bytes:
    tags = {256: (4, 20_000), 257: (4, 10_000), 258: (3, 64), 259: (3, 1), 262: (3, 1), 273: (4, 512)}
    return made(tags | {277: (3, 1), 278: (4, 10_000), 279: (4, 2**32 - 1), 339: (3, 3)}, bytes(64))


@pytest.mark.parametrize("how", BAD)
def test_an_annotators_mask_is_left_out_and_named(
    magic: Magic, raw: Path, tmp_path: Path, how: str, memory: None
) -> None:
    data, (make, word) = copied(raw, tmp_path / "raw"), BAD[how]
    path = next(data.rglob(f"{image_id(1)}_mask_ann1.tiff"))
    path.write_bytes(make())
    ended = accepted(magic("prepare", "--data", data, "--dry-run"), "left out: 1 mask")
    [line] = [line for line in ended.out.splitlines() if line.startswith("problem:")]
    assert path.name in line
    assert word in line


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset and a sound submission for its valid split. Read it, never write to it."""
    root = tmp_path_factory.mktemp("sound")
    make_prepared(root / "prepared")
    write_folder(root / "sub", files_of("valid"))
    return root


MASK = "masks_preds/IMG_ENC00011_00001_mask_sys.tiff"  # of a photo of 24 x 32


@pytest.mark.parametrize("how", BAD)
def test_a_predicted_mask_is_refused_before_upload_and_scores_zero(
    magic: Magic, sound: Path, tmp_path: Path, how: str, memory: None
) -> None:
    sub = copied(sound / "sub", tmp_path / "sub")
    (sub / MASK).write_bytes(BAD[how][0]())
    words = ("--data", sound / "prepared", "--split", "valid")
    refused(magic("package", "--seg", sub, *words), 4, MASK)
    assert left(Path()) == []
    ended = clean(magic("score", sub, sound / "prepared", "--resamples", 100, "--strict"))
    assert ended.code == 4
    assert "IMG_ENC00011_00001" in ended.out + ended.err


@pytest.mark.parametrize("how", ["a next page that is this page", "cut in half"])
def test_tifffile_logs_nothing_beside_our_lines(
    magic: Magic, sound: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logger without a handler writes to stderr."""
    log = logging.getLogger("tifffile")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", False)  # to pytest's own handler
    sub = copied(sound / "sub", tmp_path / "sub")
    (sub / MASK).write_bytes((GOOD | BAD)[how][0]())
    words = ("package", "--seg", sub, "--data", sound / "prepared", "--split", "valid")
    assert all(line.startswith("error: ") for line in magic(*words).err.splitlines())
    assert "tifffile" not in magic("score", sub, sound / "prepared", "--resamples", 100).err


@pytest.mark.parametrize(
    "how", ["cut in half", "RGB", "10^9 pixels claimed", "3,000 pixels that unpack to 1.1 GB", "empty", "G4"]
)
def test_a_gold_mask_is_an_error(magic: Magic, sound: Path, tmp_path: Path, how: str, memory: None) -> None:
    root = copied(sound, tmp_path / "sound")
    name = f"{Path(MASK).name.removesuffix('_sys.tiff')}_ann1.tiff"
    next((root / "prepared").rglob(name)).write_bytes(BAD[how][0]())
    refused(magic("score", root / "sub", root / "prepared", "--resamples", 100), 3, name)


# what works, and the kind of values that `prepare` counts
GOOD: dict[str, tuple[Callable[[], bytes], str]] = {
    "uncompressed": (lambda: tiff(LESION), "0/1"),
    "zlib": (lambda: tiff(LESION, compression="zlib"), "0/1"),
    "tiles and predictor": (lambda: tiff(LESION, compression="zlib", tile=(16, 16), predictor=2), "0/1"),
    "big-endian": (lambda: tiff(LESION, byteorder=">"), "0/1"),
    "BigTIFF": (lambda: tiff(LESION, bigtiff=True), "0/1"),
    "LZW": (lambda: pillow(LESION, compression="tiff_lzw"), "0/1"),
    "PackBits": (lambda: pillow(LESION, compression="packbits"), "0/1"),
    "1 bit": (lambda: bilevel(), "bool"),
    "0/255": (lambda: tiff(LESION * np.uint8(255)), "0/255"),
    "float 0/1": (lambda: tiff(LESION.astype(np.float32)), "0/1"),
    "int64": (lambda: tiff(LESION.astype(np.int64)), "0/1"),
    "one channel": (lambda: tiff(LESION[..., None]), "0/1"),
    "PNG in a TIFF's name": (lambda: pillow(LESION * np.uint8(255), "PNG"), "0/255"),
    "empty mask": (lambda: tiff(np.zeros(SIZE, np.uint8)), "0/1"),
    "full mask": (lambda: tiff(np.full(SIZE, 255, np.uint8)), "0/255"),
    "a next page that is this page": (lambda: claimed(*SIZE, LESION.tobytes(), following=8), "0/1"),
    "a description": (lambda: tiff(LESION, description="x" * 5000, metadata=None), "0/1"),
}


@pytest.mark.parametrize("how", GOOD)
def test_works_and_is_counted(magic: Magic, raw: Path, tmp_path: Path, how: str) -> None:
    data, (make, kind) = copied(raw, tmp_path / "raw"), GOOD[how]
    next(data.rglob(f"{image_id(1)}_mask_ann1.tiff")).write_bytes(make())
    accepted(magic("prepare", "--data", data, "--dry-run", "--strict"), f" with {kind}")


def test_a_strip_that_holds_more_than_its_pixels_is_never_unpacked(memory: None) -> None:
    """Both readers: ours for plain files, and tifffile, whose zlib knows no limit."""
    with pytest.raises(Unreadable, match="1 GiB of compressed pixels"):
        read_raw(io.BytesIO(claimed(*SIZE, deflated(1100), 32946)), "m.tiff")


def test_a_mask_that_names_another_file_does_not_open_it(tmp_path: Path) -> None:
    """OME-TIFF can say that its pixels are in a file beside it."""
    secret = tmp_path / "secret.tiff"
    secret.write_bytes(tiff(np.full(SIZE, 9, np.uint8)))
    head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
    sizes = 'DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="48" SizeZ="1" SizeC="1" SizeT="2">'
    other = '<TiffData FirstT="1" PlaneCount="1"><UUID FileName="secret.tiff">urn:uuid:1</UUID></TiffData>'
    text = f"{head}{sizes}<TiffData PlaneCount='1'/>{other}</Pixels></Image></OME>"
    path = tmp_path / "m.tiff"
    path.write_bytes(tiff(LESION, description=text, metadata=None))
    with pytest.raises(DataError, match="pixels in other files"):
        read_raw(path, "m.tiff")
