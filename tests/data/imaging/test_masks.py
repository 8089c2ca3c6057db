"""Masks: every kind people have is read as {0, 1}, other things are refused in one line."""

import errno
import importlib.util
import io
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from magic_cli.data.imaging import masks
from magic_cli.data.imaging.masks import (
    Unreadable,
    decode_mask,
    merge_masks,
    read_mask,
    read_raw,
    read_stored,
    write_mask,
)
from magic_cli.errors import ConfigError, DataError

MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
BIG = np.random.default_rng(0).integers(0, 2, (60, 80), np.uint8)


def tiff(array: np.ndarray, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return io.BytesIO(buffer.getvalue())


def pillow(image: Image.Image, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (MASK, "0/1"),
        (MASK * 255, "0/255"),
        (MASK.astype(bool), "bool"),
        (MASK[..., None], "0/1"),
        (MASK.astype(np.int32), "0/1"),
        (MASK.astype(np.float32), "0/1"),
        (MASK.astype(np.uint16) * 255, "0/255"),
    ],
)
def test_kinds_that_are_accepted(array: np.ndarray, kind: str) -> None:
    mask, found = decode_mask(array, "m")
    assert found == kind
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, MASK)


@pytest.mark.parametrize(("value", "kind", "pixels"), [(0, "0/1", 0), (1, "0/1", 6), (255, "0/255", 6)])
def test_masks_of_one_value(value: int, kind: str, pixels: int) -> None:
    mask, found = decode_mask(np.full((2, 3), value, np.uint8), "m")
    assert (mask.sum(), found) == (pixels, kind)


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (MASK * 2, "values {0, 2}"),
        (MASK * 128 + 64, "values {64, 192}"),
        (np.array([[0, 1, 255]], np.uint8), "values {0, 1, 255}"),
        (-MASK.astype(np.int8), "values {-1, 0}"),
        (MASK * 0.7, "values {0, 0.7}"),
        (np.array([[np.nan, 1.0]]), "values {1, nan}"),
        (np.zeros((2, 2, 3), np.uint8), "shape (2, 2, 3)"),
        (np.zeros((0, 3), np.uint8), "shape (0, 3)"),
        (np.zeros(3, np.uint8), "shape (3,)"),
        (MASK.astype(complex), "dtype complex128"),
    ],
)
def test_arrays_that_are_no_mask(array: np.ndarray, got: str) -> None:
    with pytest.raises(DataError) as caught:
        decode_mask(array, "IMG_mask.tiff")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"IMG_mask.tiff: got {got}, expected")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 7}, {"compression": "deflate"}])
def test_tifffile_reads(options: dict[str, object]) -> None:
    np.testing.assert_array_equal(read_mask(tiff(BIG, **options), "m"), BIG)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
def test_bilevel_and_compressions_of_pillow(compression: str | None) -> None:
    source = pillow(Image.fromarray(BIG * 255).convert("1"), compression=compression)
    assert read_raw(source, "m").dtype == bool
    source.seek(0)
    np.testing.assert_array_equal(read_mask(source, "m"), BIG)


def test_white_is_zero_is_read_alike_by_both_readers() -> None:
    image = Image.fromarray(BIG * 255).convert("1")
    stored = [read_raw(pillow(image, tiffinfo={262: 0}, compression=c), "m") for c in (None, "tiff_lzw")]
    np.testing.assert_array_equal(stored[0], stored[1])


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4", "tiff_raw_16"])
def test_fax_codes_are_refused_sound_or_damaged(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Decoders turn damaged codes into other pixels and raise nothing (examples/challenge-data.md, "Compressions")."""
    sound = pillow(Image.fromarray(BIG * 255).convert("1"), compression=compression).getvalue()
    for data in (sound, sound[:10] + bytes(4) + sound[14:]):
        with pytest.raises(Unreadable, match=r"^m\.tiff: got CCITT \(fax\) .*, zlib or LZW; save it with") as caught:
            read_raw(io.BytesIO(data), "m.tiff")
        if importlib.util.find_spec("imagecodecs") is None:
            assert caught.value.error.startswith("ValueError")
            assert caught.value.stored is None
    assert capfd.readouterr() == ("", "")


def test_a_fax_coded_file_that_tifffile_cannot_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "magic_cli.data.imaging.masks._read_tifffile", Mock(side_effect=tifffile.TiffFileError("no tags"))
    )
    with pytest.raises(Unreadable, match=r"got CCITT \(fax\) compression") as caught:
        read_raw(pillow(Image.fromarray(BIG * 255).convert("1"), compression="group4"), "m.tiff")
    assert caught.value.error == "TiffFileError"


def test_damaged_lzw_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    data = pillow(Image.fromarray(BIG * 255), compression="tiff_lzw").getvalue()
    np.testing.assert_array_equal(read_mask(io.BytesIO(data), "m"), BIG)
    with pytest.raises(DataError, match="an unreadable file"):
        read_mask(io.BytesIO(data[:12] + b"\xff" * 4 + data[16:]), "m")
    assert capfd.readouterr() == ("", ""), "libtiff's own words"


def test_png_mask_is_read() -> None:
    buffer = io.BytesIO()
    Image.fromarray(BIG * 255).save(buffer, "PNG")
    np.testing.assert_array_equal(read_mask(io.BytesIO(buffer.getvalue()), "m"), BIG)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_cut_off_files_are_one_line(
    share: float, options: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    data = tiff(BIG, **options).getvalue()
    with pytest.raises(DataError, match=r"^cut\.tiff: got an unreadable file .*; copy or download it again$"):
        read_mask(io.BytesIO(data[: int(len(data) * share)]), "cut.tiff")
    assert capfd.readouterr().err == ""


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tiff: cannot be read"):
        read_mask(tmp_path / "gone.tiff", "gone.tiff")


def test_several_pages_keep_their_shape_and_are_refused() -> None:
    source = tiff(np.stack([BIG, BIG]), photometric="minisblack")
    assert read_raw(source, "m").shape == (2, 60, 80)
    source.seek(0)
    with pytest.raises(DataError, match="shape"):
        read_mask(source, "m")
    pages = [Image.fromarray(BIG * 255)] * 2
    with pytest.raises(DataError, match="several pages"):
        read_mask(pillow(pages[0], save_all=True, append_images=pages[1:], compression="tiff_lzw"), "m")


def test_huge_mask_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("imaging.masks", "limits", "imaging.fast_tiff"):
        monkeypatch.setattr(f"magic_cli.data.{module}.MAX_PIXELS", 4799)
    for source in (tiff(BIG), pillow(Image.fromarray(BIG), compression="tiff_lzw")):
        with pytest.raises(DataError, match="0 megapixels"):
            read_raw(source, "m")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("or", [1, 1, 1, 1, 0]), ("majority", [0, 1, 1, 1, 0]), ("intersection", [0, 0, 0, 1, 0])],
)
def test_merge_rules(rule: str, expected: list[int]) -> None:
    votes = [[1, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]
    merged = merge_masks([np.array([row], np.uint8) for row in votes], rule)
    assert merged.dtype == np.uint8
    assert merged[0].tolist() == expected


@given(st.lists(hnp.arrays(np.uint8, (3, 4), elements=st.integers(0, 1)), min_size=1, max_size=5))
def test_merges_are_nested_and_one_mask_is_itself(masks: list[np.ndarray]) -> None:
    union, majority, common = (merge_masks(masks, rule) for rule in ("or", "majority", "intersection"))
    assert (common <= majority).all()
    assert (majority <= union).all()
    votes = np.sum(masks, axis=0)
    np.testing.assert_array_equal(majority, votes >= np.ceil(len(masks) / 2))  # the official rule
    if len(masks) == 1:
        np.testing.assert_array_equal(majority, masks[0])


def test_merge_refuses() -> None:
    with pytest.raises(DataError, match="sizes"):
        merge_masks([MASK, MASK.T], "or")
    with pytest.raises(DataError, match="sizes"):
        merge_masks([], "or")
    with pytest.raises(ConfigError, match="--merge: got mean, expected or or majority or intersection"):
        merge_masks([MASK], "mean")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_mask_that_is_cut_after_it_was_read_stays(tmp_path: Path, compression: str | None) -> None:
    """One that was mapped into memory ended the process (SIGBUS) when somebody copied another over it."""
    path = tmp_path / "m.tiff"
    large = np.ones((1000, 1000), np.uint8)
    path.write_bytes(tiff(large, compression=compression).getvalue())
    found = read_stored(path, "m").array  # as `score` does
    os.truncate(path, 200)
    if (child := os.fork()) == 0:
        os._exit(int(found.sum() != large.sum()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(DataError, match="m: got"):
        read_raw(path, "m")


def test_written_mask_is_what_the_official_scorer_reads(tmp_path: Path) -> None:
    write_mask(tmp_path / "a" / "m.tiff", BIG)
    first = (tmp_path / "a" / "m.tiff").read_bytes()
    write_mask(tmp_path / "m.tiff", BIG.astype(bool))
    assert (tmp_path / "m.tiff").read_bytes() == first
    with tifffile.TiffFile(tmp_path / "m.tiff") as file:
        page = file.pages[0]
        assert (page.dtype, page.shape, page.compression.name) == (np.uint8, (60, 80), "ADOBE_DEFLATE")
        assert not {270, 305, 306} & set(page.tags.keys())  # no description, software or date
        np.testing.assert_array_equal(file.asarray(), BIG)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["m.tiff"]


@pytest.mark.parametrize("array", [BIG * 255, BIG[..., None], BIG * 0.5, np.zeros((0, 4), np.uint8)])
def test_only_binary_masks_are_written(array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(H, W\) of 0 and 1"):
        write_mask(tmp_path / "m.tiff", array)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free space, or choose another place"), (errno.EACCES, "choose another place")],
)
def test_a_mask_that_cannot_be_written(
    number: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, "why")

    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(DataError, match=rf"m\.tiff: cannot be written \(why\); {remedy}$"):
        write_mask(tmp_path / "m.tiff", BIG)


def test_a_plain_mask_in_memory_is_read_without_a_tiff_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "import_tifffile", None)
    for data in (tiff(BIG), tiff(BIG, compression="zlib")):
        assert np.array_equal(read_raw(data, "m"), BIG)
        data.close()  # nothing holds its memory
