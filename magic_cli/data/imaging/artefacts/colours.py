"""Ink and coloured patches: colours that skin and lesions do not have, thin or in one piece; and dark corners."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bools = NDArray[np.bool_]

Floats = NDArray[np.float32]

_STROKE = 25  # pixels: ink is drawn thinner, a patch is wider

_OTHER, _INK = (52.0, 300.0), (215.0, 315.0)  # hues in degrees that skin does not have, and those of ink

_INK_GREEN = 0.75  # of the photo's green at most: ink takes it away; blue light, stickers and fringes do not

_PATCH_BLUE = 1.45  # of its red, both as shares of the photo's, at least: a blue-grey lesion has less

_DARK, _CENTRE = 45.0, 80.0  # median grey values of a dark corner at most, and of the middle at least


def ink_of(photo: Image.Image) -> Bools:
    """Return (H, W): pixels in strokes that are blue or violet, by themselves and beside the rest of the photo.

    Brown and red lesions lose more blue than red; ink (gentian violet, blue pens) loses red and green. What is wider
    than a stroke, such as a cloth, a sticker or a blue-grey lesion, does not count, nor does what is around it or
    around what is black, where lenses draw blue fringes.

    Args:
        photo: RGB, about 384 pixels on its longer side.
    """
    hue, saturation, value = _hue_saturation_value(photo)
    red, green, blue = _balanced(photo)
    is_violet = (hue > _INK[0]) & (hue < _INK[1]) & (saturation > 0.28) & (value > 0.15)
    ink = opened(is_violet & (blue > 1.15 * red) & (green < _INK_GREEN), 3)
    wide = grown(opened(ink | _coloured(photo), _STROKE), 2 * _STROKE - 1)
    black = grown(opened(value < 0.28, 3), _STROKE)
    return ink & ~wide & ~black


def patch_share(photo: Image.Image) -> float:
    """Return the share of pixels in wide areas at an edge that are blue, green or yellow where the photo is not.

    Args:
        photo: RGB, about 384 pixels on its longer side.
    """
    red, green, blue = _balanced(photo)
    is_other = (np.maximum(green, blue) > _PATCH_BLUE * red) | (green > 1.5 * blue)
    wide = opened(_coloured(photo) & is_other, _STROKE)
    at_edge = wide[0].any() or wide[-1].any() or wide[:, 0].any() or wide[:, -1].any()
    return float(wide.mean()) if at_edge else 0.0


def _coloured(photo: Image.Image) -> Bools:
    hue, saturation, value = _hue_saturation_value(photo)
    return np.asarray((hue > _OTHER[0]) & (hue < _OTHER[1]) & (saturation > 0.3) & (value > 0.25))


def _hue_saturation_value(photo: Image.Image) -> tuple[Floats, Floats, Floats]:
    """Return hues in degrees, saturations and values in [0, 1], each (H, W)."""
    planes = np.moveaxis(np.asarray(photo.convert("HSV"), np.float32), 2, 0)
    return planes[0] * np.float32(360 / 256), planes[1] / np.float32(255), planes[2] / np.float32(255)


def _balanced(photo: Image.Image) -> tuple[Floats, Floats, Floats]:
    """Return red, green and blue, each (H, W) divided by its median over the photo, which is mostly skin."""
    pixels = np.asarray(photo, np.float32)
    planes = np.moveaxis(pixels / np.maximum(np.median(pixels, (0, 1)), 16.0), 2, 0)
    return planes[0], planes[1], planes[2]


def dark_corners(photo: Image.Image) -> int:
    """Return how many corners of a photo are nearly black while its middle is not: a dermatoscope's round view."""
    grey = np.asarray(photo.convert("L"), np.float32)
    height, width = grey.shape
    size = max(2, round(0.06 * min(height, width)))
    corners = (grey[rows, columns] for rows in _ends(size) for columns in _ends(size))
    middle = float(np.median(grey[height // 4 : height - height // 4, width // 4 : width - width // 4]))
    return sum(float(np.median(corner)) < _DARK for corner in corners) if middle > _CENTRE else 0


def _ends(size: int) -> tuple[slice, slice]:
    return slice(None, size), slice(-size, None)


def opened(mask: Bools, size: int) -> Bools:
    """Return what a square of size x size pixels (odd) covers where it fits into the mask."""
    return np.asarray(_around(_around(mask, size) == size * size, size) > 0)


def grown(mask: Bools, size: int) -> Bools:
    return np.asarray(_around(mask, size) > 0)


def _around(mask: Bools, size: int) -> NDArray[np.int32]:
    """Return (H, W): how many pixels of the mask are in the square around each pixel."""
    half = size // 2
    sums = np.pad(mask.astype(np.int32), ((half + 1, half), (half + 1, half))).cumsum(0).cumsum(1)
    total: NDArray[np.int32] = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return total
