"""The training mean mask: shares of photos by hand, any size, the same bytes in any order."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from magic_cli.data.imaging.mean_mask import SIDE, TrainingMeanMask
from magic_cli.records import Mask


def half(shape: tuple[int, int], side: str) -> Mask:
    mask = np.zeros(shape, np.uint8)
    middle = shape[1] // 2
    mask[:, :middle] = side == "left"
    mask[:, middle:] = side == "right"
    return mask


def mean_of(*photos: list[Mask]) -> np.ndarray:
    mean = TrainingMeanMask()
    for masks in photos:
        mean.add(masks)
    image = mean.image()
    assert image is not None
    assert (image.size, image.mode) == ((SIDE, SIDE), "L")
    return np.asarray(image)


def test_share_of_photos() -> None:
    shapes = [(128, 256), (600, 64), (1000, 1500)]
    found = mean_of(*([half(shape, side)] for shape, side in zip(shapes, ("left", "left", "right"), strict=True)))
    assert (found.shape, found.dtype) == ((SIDE, SIDE), np.uint8)
    assert (found[:, :32] == round(255 * 2 / 3)).all()
    assert (found[:, 32:] == round(255 / 3)).all()


def test_area_counts_not_the_nearest_pixel() -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[::2, ::2] = 1  # one pixel of four in each of the 64 x 64 cells
    assert (mean_of([mask]) == 64).all()
    odd = np.random.default_rng(0).integers(0, 2, (301, 457), dtype=np.uint8)
    assert mean_of([odd]).mean() / 255 == pytest.approx(odd.mean(), abs=0.01)


def test_annotators_of_a_photo_share_its_weight() -> None:
    one, none, full = half((64, 64), "left"), np.zeros((64, 64), np.uint8), np.ones((64, 64), np.uint8)
    found = mean_of([one, none, none, none], [full])
    assert (found[:, :32] == round((round(255 / 4) + 255) / 2)).all()
    assert (found[:, 32:] == round(255 / 2)).all()


def test_small_masks_are_enlarged() -> None:
    assert (mean_of([half((2, 2), "right")]) == 255 * half((SIDE, SIDE), "right")).all()


def test_order_and_threads_change_nothing() -> None:
    rng = np.random.default_rng(1)
    photos = [[rng.integers(0, 2, (80, 70), dtype=np.uint8) for _ in range(1 + k % 3)] for k in range(40)]
    mean = TrainingMeanMask()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mean.add, photos[::-1]))
    image = mean.image()
    assert image is not None
    assert image.tobytes() == mean_of(*photos).tobytes()
    assert mean.photos == 40


def test_no_photo_has_no_mean() -> None:
    assert TrainingMeanMask().image() is None
