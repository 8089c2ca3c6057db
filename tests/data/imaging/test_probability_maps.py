"""data/imaging/probability_maps.py: means over models of different input sizes, against averaging at full size."""

import numpy as np
import pytest
from PIL import Image

from magic_cli.data.imaging.probability_maps import mean_map, resize_map


def maps(*sides: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.random((side, side), np.float32) for side in sides]


def test_maps_of_one_size_are_averaged_as_they_are() -> None:
    three = maps(4, 4, 4)
    found = mean_map(three, (30, 40))
    assert found.shape == (4, 4)
    assert found.dtype == np.float32
    assert found == pytest.approx(sum(three) / 3)


@pytest.mark.parametrize("sides", [(4, 6), (4, 4, 8), (8, 4, 4, 4, 6)])
def test_maps_of_several_sizes_are_averaged_at_the_photos_size(sides: tuple[int, ...]) -> None:
    """Every model counts once, whatever its size: two small ones and a large one are three."""
    shape = (31, 17)
    some = maps(*sides)
    full = [np.asarray(Image.fromarray(m).resize((17, 31), Image.Resampling.BILINEAR)) for m in some]
    found = mean_map(some, shape)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert found == pytest.approx(np.mean(full, axis=0), abs=1e-6)


def test_without_a_shape_the_largest_map_gives_it() -> None:
    assert mean_map(maps(4, 6), None).shape == (6, 6)


def test_numbers_are_averaged_too() -> None:
    found = mean_map([np.array(0.3, np.float32), np.array(0.5, np.float32)], (9, 9))
    assert found.shape == ()
    assert float(found) == pytest.approx(0.4)


def test_same_size_is_not_resized() -> None:
    [one] = maps(5)
    assert resize_map(one, (5, 5)) is one
