"""Outlines and run lengths, drawn: known areas, the photo they fit, and what is refused in one line."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from brush_code import packed

from magic_cli.data.imaging.drawn_masks import (
    Brush,
    DrawnMask,
    Polygons,
    RunLengths,
    coco_counts,
    ellipse,
    rectangle,
    united,
)
from magic_cli.errors import DataError

NAN, INFINITY = math.nan, math.inf
SQUARE = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], np.uint8)


def ring(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


def runs(counts: Sequence[int], size: tuple[int, int] = (4, 4), **options: object) -> RunLengths:
    return RunLengths(np.array(counts, np.int64), size, **options)


@pytest.mark.parametrize(
    ("outline", "pixels"),
    [
        (rectangle(0, 0, 10, 10), 100),  # pixel x covers [x, x + 1)
        (rectangle(10, 10, 0, 0), 100),
        (rectangle(3.25, 2, 8.25, 6), 20),
        (rectangle(0.75, 0.75, 1.25, 1.25), 0),  # no centre in it
        (rectangle(0.25, 0.25, 0.75, 0.75), 1),
        (rectangle(-1.5, -1.5, 3, 3), 9),  # cut at the photo
        (rectangle(35, 25, 41.5, 31), 25),
        (ring((0, 0), (20, 0), (0, 20)), 210),  # centres on the outline count
        (ring((5, 5), (5, 5), (5, 5)), 0),
    ],
)
def test_areas_of_outlines(outline: np.ndarray, pixels: int) -> None:
    mask = Polygons((outline,)).draw(30, 40)
    assert (mask.shape, mask.dtype, int(mask.sum())) == ((30, 40), np.uint8, pixels)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_an_ellipse_has_its_area_at_any_angle(angle: float) -> None:
    mask = Polygons((ellipse(100, 80, 60, 30, angle),)).draw(160, 200)
    assert mask.sum() == pytest.approx(math.pi * 60 * 30, rel=0.01)


def test_rings_are_united_or_cut_holes() -> None:
    rings = (rectangle(0, 0, 10, 10), rectangle(2, 2, 6, 6), rectangle(20, 20, 22, 22))
    assert Polygons(rings).draw(30, 30).sum() == 104
    assert Polygons(rings, even_odd=True).draw(30, 30).sum() == 88


def test_a_large_outline_is_drawn_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    outline = Polygons((ellipse(50, 40, 45, 35, 0.3),))
    whole = outline.draw(80, 100)
    monkeypatch.setattr("magic_cli.data.imaging.drawn_masks._CANVAS", 1)
    np.testing.assert_array_equal(outline.draw(80, 100), whole)


def test_run_lengths_go_down_the_columns() -> None:
    """The examples of pycocotools' documentation: 0 0 1 1 1 0 1 is 2 3 1 1, and 1 1 1 1 1 1 0 is 0 6 1."""
    assert runs([2, 3, 1, 1], (7, 1)).draw(7, 1).ravel().tolist() == [0, 0, 1, 1, 1, 0, 1]
    assert runs([0, 6, 1], (7, 1)).draw(7, 1).ravel().tolist() == [1, 1, 1, 1, 1, 1, 0]
    np.testing.assert_array_equal(runs([5, 2, 2, 2, 5]).draw(4, 4), SQUARE)
    assert runs([1, 2, 3], (3, 2)).draw(3, 2).tolist() == [[0, 0], [1, 0], [1, 0]]


def test_run_lengths_along_rows_within_a_box() -> None:
    mask = runs([1, 2, 3], (4, 5), by_columns=False, box=(1, 2, 3, 2)).draw(4, 5)
    assert mask.tolist() == [[0] * 5, [0] * 5, [0, 0, 1, 1, 0], [0] * 5]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("52203", [5, 2, 2, 2, 5]),  # pycocotools: encode(asfortranarray(SQUARE))
        ("", []),
        ("P`0Yi0", [512, 809]),  # as pycocotools 2.0 writes these
        ("^7We1", [238, 1703]),
        ("5j24WMh12", [5, 90, 4, 1, 60, 3]),
    ],
)
def test_compressed_run_lengths(text: str, counts: list[int]) -> None:
    assert coco_counts(text).tolist() == counts


@pytest.mark.parametrize("text", ["5P", "5é", "5 2", "\0", "o" * 40])
def test_compressed_run_lengths_that_are_none(text: str) -> None:
    with pytest.raises(DataError, match="run lengths"):
        coco_counts(text)


@pytest.mark.parametrize("literal", [True, False])
def test_a_brush_stroke_is_what_is_opaque(literal: bool) -> None:
    mask = np.zeros((6, 5), np.uint8)
    mask[1:4, 2:4] = 1
    np.testing.assert_array_equal(Brush(packed(mask, literal), (6, 5)).draw(6, 5), mask)


def test_instances_are_united() -> None:
    parts = [Polygons((rectangle(0, 0, 2, 2),), (4, 4)), runs([5, 2, 2, 2, 5])]
    mask = united(parts)
    assert (int(mask.draw(4, 4).sum()), mask.kind) == (7, "polygons and run lengths")
    assert united(parts[:1]).kind == "polygons"


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (Polygons((rectangle(0, 0, 2, 2),), (5, 4)), "got a mask of 5 x 4, expected 4 x 4, as its photo"),
        (Polygons((ring((0, 0), (NAN, 1), (2, 2)),)), "got an outline with NaN or infinity"),
        (Polygons((ring((0, 0), (INFINITY, 1), (2, 2)),)), "got an outline with NaN or infinity"),
        (Polygons((ring((0, 0), (1e300, 1), (2, 2)),)), "got an outline from 0, 0 to 1000"),
        (Polygons((ring((-9, 0), (1, 1), (2, 2)),)), "got an outline from -9, 0 to 2, 2, expected one within 4 x 4"),
        (Polygons((ring((0, 0), (1, 1)),)), "got an outline of 2 points"),
        (Polygons((np.zeros((100_001, 2)),)), "got an outline of 100,001 points"),
        (runs([16], (4, 5)), "got a mask of 4 x 5, expected 4 x 4"),
        (runs([5, 2, 2]), "got runs of other than 16 pixels, expected 4 x 4"),
        (runs([20, -4]), "got runs of other than 16 pixels"),
        (runs([2**62, 2**62, 2**62, 2**62, 16]), "got runs of other than 16 pixels"),
        (runs([], (4, 4)), "got runs of other than 16 pixels"),
        (runs([1], (4, 4), box=(4, 0, 1, 1)), "got a box of 1 x 1 at 4, 0, expected one within 4 x 4"),
        (runs([1], (4, 4), box=(-1, 0, 1, 1)), "got a box of 1 x 1 at -1, 0"),
        (Brush(b"", (4, 4)), "got a brush's code that ends early"),
        (Brush(bytes(8), (4, 4)), "got a brush's code of 0 values, expected 64, four per pixel"),
        (Brush(packed(SQUARE)[:12], (4, 4)), "got a brush's code that ends early"),
    ],
)
def test_masks_that_do_not_fit(mask: DrawnMask, line: str) -> None:
    with pytest.raises(DataError) as caught:
        mask.draw(4, 4)
    assert caught.value.problems[0].startswith(line)
    assert len(caught.value.problems) == 1
    assert len(caught.value.problems[0]) < 500
