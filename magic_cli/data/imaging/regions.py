"""Connected regions of a mask, from runs of pixels at full size: keep the largest one, fill holes.

A run is a stretch of foreground (or background) in one row. Runs that touch from row to row form a region. Time and
memory are linear in the pixels (a byte or two each) and in the runs, of which a lesion has a few per row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import Mask

Places = NDArray[np.int64]


def largest_region(mask: Mask) -> Mask:
    """Return only the mask's largest region; diagonal neighbours are connected, and of equal regions the topmost wins.

    Args:
        mask: (H, W) uint8 {0, 1}; an empty mask stays empty.
    """
    starts, ends = _runs(mask)
    if not starts.size:
        return mask
    regions = _regions(starts, ends, mask.shape[1] + 1, diagonal=1)
    sizes = np.bincount(regions, ends - starts)
    largest = regions == sizes.argmax()
    return _painted(starts[largest], ends[largest], mask.shape)


def region_count(mask: Mask) -> int:
    """Return the number of a mask's regions; diagonal neighbours are connected.

    Args:
        mask: (H, W) uint8 {0, 1}.
    """
    starts, ends = _runs(mask)
    return len(np.unique(_regions(starts, ends, mask.shape[1] + 1, diagonal=1))) if starts.size else 0


def fill_holes(mask: Mask) -> Mask:
    """Return the mask with its holes filled: background that is not 4-connected to the border of the photo.

    Args:
        mask: (H, W) uint8 {0, 1}.
    """
    height, width = mask.shape
    starts, ends = _runs(mask ^ 1)
    if not starts.size:
        return mask
    regions = _regions(starts, ends, width + 1, diagonal=0)
    rows, columns = np.divmod(starts, width + 1)
    outside = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns + ends - starts == width)
    hole = ~np.isin(regions, np.unique(regions[outside]))
    return mask | _painted(starts[hole], ends[hole], mask.shape)


def _runs(mask: NDArray[Any]) -> tuple[Places, Places]:
    """Return where runs start and end (exclusive) as row * (W + 1) + column: a gap ends each row."""
    height, width = mask.shape
    flat = np.zeros(height * (width + 1) + 1, np.int8)
    flat[1:].reshape(height, width + 1)[:, :width] = mask
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return changes[::2], changes[1::2]


def _regions(starts: Places, ends: Places, stride: int, diagonal: int) -> Places:
    """Return the region of each run, as the index of its first run; `diagonal` 1 lets runs touch at corners."""
    first = np.searchsorted(ends, starts + stride - diagonal, "right")
    after = np.searchsorted(starts, ends + stride + diagonal, "left")
    touching = np.maximum(after - first, 0)
    upper = np.repeat(np.arange(starts.size), touching)
    lower = np.arange(upper.size) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    regions = np.arange(starts.size)
    while True:
        upper_region, lower_region = regions[upper], regions[lower]
        apart = upper_region != lower_region
        if not apart.any():
            return regions
        upper, lower = upper[apart], lower[apart]
        pair = upper_region[apart], lower_region[apart]
        np.minimum.at(regions, np.maximum(*pair), np.minimum(*pair))
        while not np.array_equal(regions, further := regions[regions]):
            regions = further


def _painted(starts: Places, ends: Places, shape: tuple[int, ...]) -> Mask:
    height, width = shape
    steps = np.zeros(height * (width + 1), np.int8)
    steps[starts] = 1
    steps[ends] = -1  # no run starts where another ends
    return np.add.accumulate(steps, dtype=np.int8).reshape(height, width + 1)[:, :width].astype(np.uint8)
