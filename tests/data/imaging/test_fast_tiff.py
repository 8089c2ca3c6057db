"""data/imaging/fast_tiff.py: what it reads is what tifffile reads; what is not plain is left to tifffile."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_dataset import tiff

from magic_cli.data.imaging import fast_tiff
from magic_cli.data.imaging.fast_tiff import read_simple_tiff
from magic_cli.data.imaging.masks import read_stored
from magic_cli.errors import DataError

MASK = np.random.default_rng(0).integers(0, 2, (37, 29), np.uint8)


def pillow(mode: str = "L", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(MASK * 255).convert(mode).save(buffer, "TIFF", **options)
    return buffer.getvalue()


PLAIN = {
    "raw": tiff(MASK),
    "zlib": tiff(MASK, compression="zlib"),
    "several strips": tiff(MASK, rowsperstrip=5),
    "several strips, zlib": tiff(MASK, rowsperstrip=5, compression="zlib"),
    "as magic writes": tiff(MASK, metadata=None, software=False, compression="zlib", photometric="minisblack"),
    "with resolution": tiff(MASK, resolution=(72, 72), resolutionunit="INCH"),
    "pillow": pillow(),
    "pillow, zlib": pillow(compression="tiff_adobe_deflate"),
    "other values": tiff(MASK * 201),
}
OTHER = {
    "white is zero": tiff(MASK, photometric="miniswhite"),
    "turned": tiff(MASK, extratags=[(274, 3, 1, 6, True)]),
    "16 bits": tiff(MASK.astype(np.uint16)),
    "signed": tiff(MASK.astype(np.int8)),
    "float": tiff(MASK.astype(np.float32)),
    "one bit": tiff(MASK.astype(bool)),
    "channel": tiff(MASK[..., None]),
    "colours": tiff(np.dstack([MASK] * 3), photometric="rgb"),
    "pages": tiff(np.stack([MASK, MASK]), photometric="minisblack"),
    "pages without a text": tiff(np.stack([MASK, MASK]), photometric="minisblack", metadata=None),
    "one row": tiff(MASK[:1]),
    "one column": tiff(MASK[:, :1]),
    "big-endian": tiff(MASK, byteorder=">"),
    "BigTIFF": tiff(MASK, bigtiff=True),
    "ImageJ": tiff(MASK, imagej=True),
    "OME": tiff(MASK, ome=True),
    "tiles": tiff(MASK, tile=(16, 16)),
    "shape in the text": tiff(MASK[None]),
    "another text": tiff(MASK, description="a mask", metadata=None),
    "another program": tiff(MASK, software="SIS"),
    "palette": pillow("P"),
    "LZW": pillow(compression="tiff_lzw"),
    "packbits": pillow(compression="packbits"),
    "PNG": b"\x89PNG\r\n\x1a\n",
    "nothing": b"",
    "a zip": b"PK\x03\x04" + bytes(99),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_files_are_read_as_tifffile_reads_them(kind: str) -> None:
    found = read_simple_tiff(PLAIN[kind])
    assert found is not None
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, tifffile.imread(io.BytesIO(PLAIN[kind])))


@pytest.mark.parametrize("kind", OTHER)
def test_other_files_are_left_to_tifffile(kind: str) -> None:
    assert read_simple_tiff(OTHER[kind]) is None


def test_strips_in_another_order_are_left_to_tifffile() -> None:
    data = bytearray(PLAIN["several strips"])
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        at = file.pages[0].tags["StripOffsets"].valueoffset
    data[at : at + 4], data[at + 4 : at + 8] = data[at + 4 : at + 8], data[at : at + 4]
    assert read_simple_tiff(bytes(data)) is None


def test_huge_files_are_left_to_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_tiff, "MAX_PIXELS", MASK.size - 1)
    assert read_simple_tiff(PLAIN["raw"]) is None
    assert read_simple_tiff(PLAIN["zlib"]) is None


def test_pixels_of_a_raw_file_are_not_copied() -> None:
    found = read_simple_tiff(PLAIN["raw"])
    assert found is not None
    assert not found.flags.owndata
    assert not found.flags.writeable


def as_tifffile(data: bytes) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(tifffile.imread(io.BytesIO(data)))
    except Exception:
        return None


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(list(PLAIN)),
    changes=st.lists(st.tuples(st.integers(0, 420), st.integers(0, 255)), max_size=3),
    share=st.just(1.0) | st.floats(0, 1),
)
def test_damaged_files_are_never_read_otherwise(kind: str, changes: list[tuple[int, int]], share: float) -> None:
    data = bytearray(PLAIN[kind])
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: int(len(data) * share)]
    found = read_simple_tiff(bytes(data))
    if found is not None:
        expected = as_tifffile(bytes(data))
        assert expected is not None
        assert expected.dtype == found.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [*PLAIN, "16 bits", "one bit", "LZW"])
def test_files_give_the_same_array(tmp_path: Path, kind: str) -> None:
    data = PLAIN.get(kind) or OTHER[kind]
    (tmp_path / "m.tiff").write_bytes(data)
    found, error, _ = read_stored(tmp_path / "m.tiff", "m")
    expected = as_tifffile(data)
    if expected is None:
        assert error == "ValueError: needs imagecodecs"
    else:
        assert error == ""
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["empty.tiff", "gone.tiff", "."])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.tiff").touch()
    with pytest.raises(DataError) as caught:
        read_stored(tmp_path / name, "m")
    assert len(caught.value.problems) == 1
