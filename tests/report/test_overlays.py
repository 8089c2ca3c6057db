"""Overlays: contours lie where masks end, annotators and prediction look different, photos lie as their masks do."""

from pathlib import Path

import numpy as np
import pytest
from challenge_folders import draw_photo, save_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageColor

from magic_cli.report import overlays


def square(size: tuple[int, int] = (40, 60), low: int = 10, high: int = 30) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[low:high, low:high] = 1
    return mask


def area(loop: np.ndarray) -> float:
    """Signed area of a closed path; positive where the foreground is at the right hand (y points down)."""
    x, y = loop[:-1].T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def test_the_contour_of_a_square_is_its_edge() -> None:
    (loop,) = overlays.contours(square().astype(bool))
    assert (loop[0] == loop[-1]).all()
    assert len(loop) == 4 * 20 + 1
    assert (loop.min(0) == 10).all()
    assert (loop.max(0) == 30).all()
    assert area(loop) == 400


def test_a_hole_is_walked_the_other_way_and_the_rim_is_an_edge() -> None:
    mask = np.ones((4, 5), bool)
    mask[1, 2] = False
    assert sorted(area(loop) for loop in overlays.contours(mask)) == [-1, 20]
    assert list(overlays.contours(np.zeros((3, 3), bool))) == []


def test_pixels_that_touch_at_a_corner_have_edges_of_their_own() -> None:
    assert [area(loop) for loop in overlays.contours(np.eye(3, dtype=bool))] == [1, 1, 1]
    assert sorted(area(loop) for loop in overlays.contours(~np.eye(2, dtype=bool)[::-1])) == [1, 1]


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_loops_close_and_enclose_what_is_foreground(mask: np.ndarray) -> None:
    loops = list(overlays.contours(mask))
    assert sum(area(loop) for loop in loops) == mask.sum()
    edges = sum(len(loop) - 1 for loop in loops)
    padded = np.pad(mask, 1).astype(int)
    assert edges == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()


def near(image: Image.Image, colour: str) -> np.ndarray:
    """Return where an image has nearly that colour."""
    wanted = np.array(ImageColor.getrgb(colour))
    return np.abs(np.asarray(image, int) - wanted).max(-1) < 30


def test_contours_are_drawn_where_the_masks_end() -> None:
    gold, found = square((400, 600), 100, 300), square((400, 600), 150, 350)
    image = overlays.overlay(None, [gold], found, side=600)
    assert image.size == (600, 400)
    rows, columns = np.nonzero(near(image, overlays.PREDICTION.colour))
    assert abs(rows.min() - 150) < 4
    assert abs(columns.max() - 350) < 4
    rows, columns = np.nonzero(near(image, overlays.ANNOTATORS[0].colour))
    assert abs(rows.min() - 100) < 4
    assert abs(columns.max() - 300) < 4
    assert image.getpixel((5, 5)) == overlays.GREY


def test_lines_differ_in_more_than_colour() -> None:
    lines = [overlays.PREDICTION, *overlays.ANNOTATORS]
    assert len({(line.width, line.dashes) for line in lines}) == len(lines)
    assert len({line.colour for line in lines}) == len(lines)
    assert overlays.PREDICTION.width > max(line.width for line in overlays.ANNOTATORS)
    assert overlays.line_of(5) == overlays.line_of(1)
    size = (400, 600)
    solid = near(overlays.overlay(None, [], square(size, 50, 350), 600), overlays.PREDICTION.colour).sum()
    dashed = near(overlays.overlay(None, [square(size, 50, 350)], None, 600), overlays.line_of(0).colour).sum()
    assert dashed < 0.7 * solid


def test_a_tiny_lesion_does_not_vanish() -> None:
    mask = np.zeros((3000, 4000), np.uint8)
    mask[1500, 2000] = 1
    assert overlays.shrink(mask, (360, 480)).sum() == 1
    assert near(overlays.overlay(None, [mask], None), overlays.line_of(0).colour).any()
    assert not overlays.shrink(np.zeros_like(mask), (360, 480)).any()
    assert overlays.shrink(np.ones_like(mask), (360, 480)).all()


def test_masks_of_another_size_or_none() -> None:
    gold = square((400, 600), 100, 300)
    alone = overlays.overlay(None, [gold], None)
    assert np.array_equal(overlays.overlay(None, [gold], gold.T), alone)
    assert overlays.overlay(None, [], gold).size == (480, 320)
    assert overlays.overlay(None, [np.zeros((4, 4), np.uint8)], None).size == (240, 240)
    with pytest.raises(ValueError, match="no mask"):
        overlays.overlay(None, [], None)


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("turned", [False, True])
def test_the_photo_lies_as_its_masks_do(tmp_path: Path, orientation: int, turned: bool) -> None:
    save_photo(tmp_path / "a.jpg", draw_photo((300, 400)), orientation)
    turned = turned and orientation != 1
    with Image.open(tmp_path / "a.jpg") as stored:
        expected = (
            (stored.transpose(Image.Transpose.ROTATE_270 if orientation == 6 else Image.Transpose.ROTATE_90))
            if (turned)
            else stored.copy()
        )
    mask = np.zeros((400, 300) if turned else (300, 400), np.uint8)
    image = overlays.overlay(tmp_path / "a.jpg", [mask], None, 400)
    difference = np.abs(np.asarray(image, int) - np.asarray(expected, int))
    assert difference.mean() < 3


def test_a_half_turn_has_to_be_told(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg", draw_photo((300, 400)), 3)
    mask = [np.zeros((300, 400), np.uint8)]
    stored, turned = (
        np.asarray(overlays.overlay(tmp_path / "a.jpg", mask, None, 400, up), int) for up in (False, True)
    )
    assert np.abs(stored - turned).mean() > 3
    assert np.abs(stored[::-1, ::-1] - turned).mean() < 3
    assert np.array_equal(stored, overlays.overlay(tmp_path / "a.jpg", mask, None, 400))


def test_a_photo_that_is_no_help_is_grey(tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"nothing")
    save_photo(tmp_path / "other.jpg", draw_photo((100, 300)))
    for name in ("missing.jpg", "damaged.jpg", "other.jpg"):
        assert overlays.overlay(tmp_path / name, [np.zeros((300, 400), np.uint8)], None).getcolors() == [
            (300 * 400, overlays.GREY)
        ]


def test_the_same_masks_give_the_same_picture() -> None:
    masks = [square((300, 400), 20 + shift, 200 + shift) for shift in range(6)]
    first, second = (overlays.overlay(None, masks, masks[2]).tobytes() for _ in range(2))
    assert first == second
