"""What viewers show, what the official scorer reads and what we take: they agree, or the file is named.

The official scorer: examples/official-scorer.md, cases 65 to 68.
"""

import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny_dataset import encoded, tiff

from magic_cli.data.imaging.appearance import PALETTE, TURNED, WHITE_IS_ZERO, appearance_lines
from magic_cli.data.imaging.lesion_share import LesionShare, implausible, lesion_share
from magic_cli.data.imaging.masks import decode_mask, read_stored
from magic_cli.errors import DataError
from magic_cli.submission.lint import mask_faults

MASK = np.zeros((24, 40), np.uint8)
MASK[5:14, 8:19] = 1
MASK[3, 25] = 1

ORIENTATION, PHOTOMETRIC, PREDICTOR = 274, 262, 317


def differences(data: bytes) -> list[Any]:
    return list(read_stored(io.BytesIO(data), "m").appearance.differences())


def turned(orientation: int) -> list[tuple[int, int, int, int, bool]]:
    return [(ORIENTATION, 3, 1, orientation, True)] if orientation != 1 else []


def written_by_tifffile() -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Every way of writing that needs no imagecodecs."""
    dtypes = (bool, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.float32)
    layouts: list[dict[str, Any]] = [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}]
    layouts += [{"metadata": None}, {"resolution": (72, 72), "resolutionunit": "INCH"}, {"iccprofile": b"icc"}]
    for dtype, layout, compression in itertools.product(dtypes, layouts, (None, "zlib")):
        if not (dtype is bool and "tile" in layout):
            name = f"{np.dtype(dtype).name}, {layout}, {compression}"
            yield name, MASK.astype(dtype), layout | {"compression": compression}
    yield "ImageJ", MASK, {"imagej": True}
    yield "OME", MASK, {"ome": True}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_array_is_that_of_tifffile_and_a_turn_is_named(orientation: int) -> None:
    for name, array, options in written_by_tifffile():
        extra = {} if options.get("ome") else {"extratags": turned(orientation)}
        data = tiff(array, **options, **extra)
        expected = tifffile.imread(io.BytesIO(data))
        stored, error, appearance = read_stored(io.BytesIO(data), "m")
        assert (error, stored.dtype) == ("", expected.dtype), name
        np.testing.assert_array_equal(stored, expected, err_msg=name)
        assert (TURNED in appearance.differences()) == (bool(extra) and orientation != 1), name


PACKINGS = (None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_pillow_decodes_is_as_stored(orientation: int) -> None:
    """Pillow turns the image, inverts white-is-zero, and takes -1 for 255."""
    grey = [(Image.fromarray(MASK * np.uint8(255)), mode) for mode in ("1", "L", "P", "I;16", "I", "F")]
    for (image, mode), packing, predictor, white in itertools.product(grey, PACKINGS, (1, 2), (1, 0)):
        if (predictor == 2 and (mode not in ("L", "I;16") or packing in (None, "packbits"))) or (
            white == 0 and mode not in ("1", "L")
        ):
            continue
        tags = {ORIENTATION: orientation, **({PREDICTOR: 2} if predictor == 2 else {})}
        tags |= {PHOTOMETRIC: 0} if white == 0 else {}
        picture = image.convert("I").point(lambda v: v).convert("I;16") if mode == "I;16" else image.convert(mode)
        try:
            data = encoded(picture, compression=packing, tiffinfo=tags)
        except (OSError, ValueError, RuntimeError, KeyError):
            continue  # this build of Pillow cannot write it
        name = f"{mode}, {packing}, predictor {predictor}, photometric {white}"
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            assert int(page.photometric) == (3 if mode == "P" else white), name
        try:
            expected = tifffile.imread(io.BytesIO(data))
        except (ValueError, ImportError):  # imagecodecs is missing
            plain = {tag: value for tag, value in tags.items() if tag != PREDICTOR}
            written = encoded(picture, tiffinfo=plain)  # the same without compression, which tifffile reads
            expected = tifffile.imread(io.BytesIO(written))
        stored, _, appearance = read_stored(io.BytesIO(data), "m")
        np.testing.assert_array_equal(stored, expected, err_msg=name)
        kinds = [WHITE_IS_ZERO] if white == 0 else []
        kinds += [TURNED] if orientation != 1 else []
        assert list(appearance.differences()) == kinds, name


def lzw(codes_of: np.ndarray, tags: dict[int, int]) -> bytes:
    """An LZW TIFF of the given rows of bytes, with its tags changed afterwards: what Pillow does not write itself."""
    data = bytearray(encoded(Image.fromarray(codes_of), compression="tiff_lzw", tiffinfo={339: 1, 266: 1}))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        places = {tag.code: tag for tag in file.pages[0].tags}
    for tag, value in tags.items():
        at = places[tag].offset + 8
        data[at : at + 2] = value.to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize(("bits", "value"), [(2, 1), (2, 3), (4, 1), (4, 15)])
def test_bits_of_lzw_are_not_stretched(bits: int, value: int) -> None:
    """Pillow stretches 2 and 4 bits to 0..255: 3 of two bits looked like 255."""
    per = 8 // bits
    shifts = np.arange(per)[::-1] * bits
    packed = ((MASK * np.uint8(value)).reshape(24, -1, per).astype(np.uint8) << shifts).sum(2).astype(np.uint8)
    data = lzw(packed, {256: 40, 258: bits})
    stored = read_stored(io.BytesIO(data), "m").array
    np.testing.assert_array_equal(stored, MASK * np.uint8(value))


def test_signed_bytes_of_lzw_stay_signed() -> None:
    stored = read_stored(io.BytesIO(lzw(MASK * np.uint8(255), {339: 2})), "m").array
    np.testing.assert_array_equal(stored, -MASK.astype(np.int8))
    with pytest.raises(DataError, match=r"values \{-1, 0\}"):
        decode_mask(stored, "m")


WHITE: dict[str, bytes] = {
    "1 bit": encoded(Image.fromarray(MASK * 255).convert("1"), tiffinfo={PHOTOMETRIC: 0}),
    "1 bit, LZW": encoded(Image.fromarray(MASK * 255).convert("1"), tiffinfo={PHOTOMETRIC: 0}, compression="tiff_lzw"),
    "8 bits": tiff(MASK, photometric="miniswhite"),
    "0/255": tiff(MASK * 255, photometric="miniswhite"),
    "8 bits, zlib": tiff(MASK, photometric="miniswhite", compression="zlib"),
    "16 bits": tiff(MASK.astype(np.uint16), photometric="miniswhite"),
    "tiles": tiff(MASK, photometric="miniswhite", tile=(16, 16)),
    "BigTIFF": tiff(MASK, photometric="miniswhite", bigtiff=True),
    "inverted, by tifffile": tiff(MASK == 0),
    "bool of another program": tiff(MASK == 1, software="libvips"),
}


@pytest.mark.parametrize("kind", WHITE)
def test_white_is_zero_is_named_and_refused_before_upload(kind: str) -> None:
    assert differences(WHITE[kind]) == [WHITE_IS_ZERO]
    if kind != "1 bit, LZW":  # refused for its compression
        lines = [f"{fault.got}; {fault.remedy}" for fault in mask_faults(io.BytesIO(WHITE[kind]), MASK.shape)]
        assert "white-is-zero: officially read inverted; write MINISBLACK 0/1" in lines


def test_bool_arrays_of_tifffile_mean_what_they_store() -> None:
    """tifffile writes them white-is-zero by itself: case 37."""
    data = tiff(MASK == 1)
    assert differences(data) == []
    assert list(mask_faults(io.BytesIO(data), MASK.shape)) == []


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(MASK).convert("P")
    image = Image.frombytes("P", image.size, MASK.tobytes())
    image.putpalette([value for colour in colours for value in colour])
    return image


BLACK, GREY_WHITE, RED, SKIN = (0, 0, 0), (255, 255, 255), (128, 0, 0), (222, 178, 150)


@pytest.mark.parametrize("packing", [None, "tiff_lzw"])
def test_palettes_of_tiffs(packing: str | None) -> None:
    for colours, kinds in (((BLACK, GREY_WHITE), []), ((BLACK, RED), []), ((GREY_WHITE, BLACK), [PALETTE])):
        data = encoded(palette(*colours), compression=packing)
        np.testing.assert_array_equal(read_stored(io.BytesIO(data), "m").array, MASK)
        assert differences(data) == kinds


def test_palettes_of_pictures_are_read_as_shown() -> None:
    for kind in ("PNG", "GIF", "BMP"):
        for colours in ((BLACK, GREY_WHITE), (BLACK, RED), (GREY_WHITE, BLACK)):
            data = encoded(palette(*colours), kind)
            shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).sum(2) > 0
            mask, _ = decode_mask(read_stored(io.BytesIO(data), "m").array, "m")
            np.testing.assert_array_equal(mask, shown, err_msg=f"{kind}, {colours}")
    for colours in ((SKIN, RED), (BLACK, BLACK)):
        with pytest.raises(DataError, match="a palette whose colours do not show which index is the lesion"):
            read_stored(io.BytesIO(encoded(palette(*colours), "PNG")), "m")


def test_a_png_with_an_orientation_is_as_stored_and_named() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(Image.fromarray(MASK * 255), "PNG", exif=exif)
    np.testing.assert_array_equal(read_stored(io.BytesIO(data), "m").array, MASK * 255)
    assert differences(data) == [TURNED]


@pytest.mark.parametrize("packing", [None, "tiff_lzw"])
def test_a_thumbnail_behind_the_mask_is_not_read(packing: str | None) -> None:
    image, small = Image.fromarray(MASK * 255), Image.fromarray(MASK[::4, ::4] * 255)
    data = encoded(image, save_all=True, append_images=[small], compression=packing)
    np.testing.assert_array_equal(read_stored(io.BytesIO(data), "m").array, MASK * 255)
    if packing is None:
        [fault] = [f for f in mask_faults(io.BytesIO(data), MASK.shape) if "page" in f.got]
        assert fault.got == "a mask with another page behind it, such as a thumbnail"


def test_sentences_count_and_name() -> None:
    seen = read_stored(io.BytesIO(WHITE["8 bits"]), "m").appearance
    [line] = appearance_lines([("a", seen), ("b", seen)])
    assert line.startswith("2 masks are white-is-zero (a, b): viewers show 0 as white")
    assert line.endswith("write MINISBLACK 0/1")
    [line] = appearance_lines([("a", seen)], "predicted")
    assert line.startswith("1 predicted mask is white-is-zero (a)")


def test_inverted_masks_are_implausible() -> None:
    sound, inverted, empty = (lesion_share(mask) for mask in (MASK, 1 - MASK, MASK * 0))
    full = lesion_share(MASK * 0 + 1)
    assert [share.looks_inverted for share in (sound, inverted, empty, full)] == [False, True, False, False]
    assert implausible({}) == ""
    assert implausible({"a": sound, "b": empty}) == ""
    assert implausible({"a": empty, "b": empty}) == "no lesion in any of 2 masks"
    assert implausible({"a": full}) == "a median lesion of 100% of the photo"
    assert implausible({"a": inverted, "b": sound, "c": sound}) == "1 of 3 masks that look inverted (a)"
    assert implausible({"a": LesionShare(0.6, 0.2)}) == ""
