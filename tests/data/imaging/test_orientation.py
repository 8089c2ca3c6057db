"""Drawn and cleaned masks beside their photo: which of its two sizes they are drawn for, and which files are kept."""

from pathlib import Path

import numpy as np
import pytest
from challenge_folders import draw_lesion, draw_photo, save_mask, save_photo
from PIL import Image

from magic_cli.data.imaging.drawn_masks import Polygons, RunLengths, rectangle
from magic_cli.data.imaging.orientation import PhotoWithMasks, match_masks

SIZE = (24, 40)  # height and width as stored


@pytest.fixture
def photo(tmp_path: Path) -> str:
    save_photo(tmp_path / "IMG.jpg", draw_photo(SIZE), orientation=6)
    return str(tmp_path / "IMG.jpg")


def matched(photo: str, cleans: bool = True, **masks: object) -> PhotoWithMasks:
    return match_masks(photo, masks, lambda path: Path(path).name, cleans)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "upright"), [(SIZE, False), (SIZE[::-1], True), (None, True)], ids=["stored", "upright", "unknown"]
)
def test_a_drawn_mask_says_by_its_size_how_the_photo_lies(photo: str, size: tuple[int, int], upright: bool) -> None:
    read = matched(photo, ann0=Polygons((rectangle(2, 2, 12, 12),), size))
    assert (read.upright, read.masks["ann0"].shape) == (upright, SIZE[::-1] if upright else SIZE)
    assert (read.kinds, read.remade, read.digests) == ({"ann0": "polygons"}, {"ann0"}, {})


def test_an_outline_that_leaves_the_upright_photo_is_that_of_the_stored_one(photo: str) -> None:
    assert matched(photo, ann0=Polygons((rectangle(2, 2, 39, 20),))).upright is False


def test_a_drawn_mask_of_another_photo_is_left_out(photo: str) -> None:
    read = matched(photo, ann0=RunLengths(np.array([9]), (3, 3)), ann1=Polygons((rectangle(0, 0, 5, 5),), SIZE))
    line = "IMG.jpg, mask ann0: got a mask of 3 x 3, expected 40 x 24, as its photo; is it the mask of another photo?"
    assert read.problems == (f"{line} left out",)
    assert list(read.masks) == ["ann1"]


def test_only_masks_that_the_official_rules_refuse_are_cleaned(photo: str, tmp_path: Path) -> None:
    plain, grey = tmp_path / "plain.png", tmp_path / "grey.jpg"
    Image.fromarray(draw_lesion(SIZE) * 255).save(plain)
    Image.fromarray(draw_lesion(SIZE) * 255).convert("RGB").save(grey, quality=95, subsampling=0)
    save_mask(tmp_path / "zero.tiff", draw_lesion(SIZE))
    masks = {"ann0": str(plain), "ann1": str(grey), "ann2": str(tmp_path / "zero.tiff")}
    read = matched(photo, **masks)
    assert (read.remade, read.problems, len(read.digests)) == ({"ann1"}, (), 3)
    assert all(np.array_equal(mask, draw_lesion(SIZE)) for mask in read.masks.values())
    official = matched(photo, cleans=False, **masks)
    assert list(official.masks) == ["ann0", "ann2"]
    assert official.problems[0].startswith("grey.jpg: got an unreadable file")
