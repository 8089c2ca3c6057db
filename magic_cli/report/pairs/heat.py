"""Similarity maps as colours over a photo.

The photo is grey below them, so that red skin is not taken for a high value. The colours are stops of viridis (van der
Walt and Smith, matplotlib 1.5): their lightness rises evenly, and people with any colour vision can tell them apart.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STOPS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")

STRENGTH = 0.55  # of the colours over the photo

_COLOURS = np.array([[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in STOPS], float)


def colours(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Return RGB (..., 3) of values: `low` and below are the first stop, `high` and above the last.

    >>> colours(np.array([0.0, 1.0]), 0, 1).tolist()
    [[68, 1, 84], [253, 231, 37]]
    """
    place = np.clip((np.asarray(values, float) - low) / max(high - low, 1e-9), 0, 1) * (len(STOPS) - 1)
    stops = np.arange(len(STOPS))
    return np.stack([np.interp(place, stops, _COLOURS[:, k]) for k in range(3)], -1).round().astype(np.uint8)


def heat(photo: Image.Image, values: NDArray[np.floating], low: float, high: float) -> Image.Image:
    """Return a photo, RGB of its own size, with a map (h, w) over it.

    Args:
        photo: of any mode.
        values: of patches that cover the whole photo evenly, as encoders see it: resized without cropping.
        low, high: values of the first and the last colour.
    """
    size = photo.size
    smooth = Image.fromarray(np.asarray(values, np.float32)).resize(size, Image.Resampling.BILINEAR)
    layer = Image.fromarray(colours(np.asarray(smooth), low, high))
    return Image.blend(photo.convert("L").convert("RGB"), layer, STRENGTH)


def limits(maps: Sequence[NDArray[np.floating]]) -> tuple[float, float]:
    """Return the lowest and the highest value of maps, at least one."""
    return min(float(each.min()) for each in maps), max(float(each.max()) for each in maps)
