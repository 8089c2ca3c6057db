"""Probability maps of a photo: resized to its size, averaged over models with different input sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


def resize_map(array: Map, shape: tuple[int, ...]) -> Map:
    """Resize a float32 (h, w) map bilinearly to (H, W), pixel centres at (i + 0.5) / size."""
    if array.shape == shape:
        return array
    from PIL import Image

    return np.asarray(Image.fromarray(array).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def otsu(array: Map, bins: int = 256) -> float:
    """Return the threshold of a map with the largest variance between what is above it and what is not.

    Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979.

    Args:
        array: float32 (h, w), finite.
        bins: of the histogram between the least and the largest value.

    Returns:
        An edge between two bins; the value itself of a map that has only one.
    """
    least, most = float(array.min()), float(array.max())
    if not least < most:
        return least
    counts, edges = np.histogram(array, bins, (least, most))
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(np.histogram(array, bins, (least, most), weights=array.astype(np.float64))[0])
    with np.errstate(invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.nan_to_num(below * above * gap**2)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1 + best[len(best) // 2]])  # the middle of a gap between two values


def mean_map(maps: Sequence[NDArray[Any]], shape: tuple[int, int] | None) -> Map:
    """Return the mean of maps, float32; those of different sizes are resized to the photo's (H, W) first.

    Resizing is linear, so maps of the same size are averaged first: there is one full-size map per size, not per model.

    Args:
        maps: floating point (h, w) each; at least one.
        shape: the photo's (H, W); None for the largest of the maps' own. A single size is not resized.
    """
    sizes: dict[tuple[int, ...], list[NDArray[Any]]] = {}
    for array in maps:
        sizes.setdefault(array.shape, []).append(array)
    means = [np.asarray(np.mean(group, axis=0, dtype=np.float32)) for group in sizes.values()]
    if len(means) == 1:
        return means[0]
    full = shape or max(sizes)
    total = np.zeros(full, np.float32)
    for mean, group in zip(means, sizes.values(), strict=True):
        total += resize_map(mean, full) * np.float32(len(group) / len(maps))
    return total
