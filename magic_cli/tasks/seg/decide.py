"""The decision about one photo: from probabilities at any resolution to a binary mask at full size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data import regions
from magic_cli.data.probability_maps import Map, resize_map
from magic_cli.errors import DataError, problem
from magic_cli.records import Mask, Prediction

_TOLERANCE = 1e-6


def to_mask(
    prediction: Prediction, threshold: float | None = None, largest: bool = False, fill_holes: bool = False
) -> NDArray[Any]:
    """Decide a mask: probabilities are resized to the photo's size first, then cut at the threshold.

    Args:
        prediction: "mask" is (h, w) floating point in [0, 1] at any resolution, or integers, which pass unchanged;
            "threshold", if it is there, is the model's own.
        threshold: foreground is what lies above it; None for the model's own, or 0.5.
        largest: keep the largest connected region only.
        fill_holes: fill what foreground surrounds, after that.

    Returns:
        uint8 (H, W) in {0, 1}, never empty: where nothing is above the threshold, the pixels at the map's
        maximum (within 1e-6) are foreground, as an empty mask risks the official scorer's NaN
            (examples/official-scorer.md, case 43).

    Raises:
        DataError: a probability is NaN.
    """
    array = prediction.arrays["mask"]
    if array.dtype.kind != "f":
        return array
    full = full_map(prediction)
    own = prediction.arrays.get("threshold", np.float32(0.5)) if threshold is None else threshold
    mask: Mask = (full > cut_of(full, float(own))).view(np.uint8)
    mask = regions.largest_region(mask) if largest else mask
    return regions.fill_holes(mask) if fill_holes else mask


def full_map(prediction: Prediction) -> Map:
    """Return the probabilities of a prediction at the photo's size; raises as `to_mask`."""
    array = prediction.arrays["mask"]
    full = resize_map(array.astype(np.float32), prediction.shape or array.shape)
    if not np.isfinite(full.max()):
        raise DataError(problem(prediction.id, "NaN", "probabilities", "training diverged: lower lr and train again"))
    return full


def cut_of(full: Map, threshold: float) -> np.float32:
    """Return what a map's foreground lies above: the threshold, or just under the maximum where nothing else would."""
    top, cut = full.max(), np.float32(threshold)
    return cut if top > cut else np.float32(top - _TOLERANCE)


def mean_mask(prior: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decide the (h, w) training mean mask at a photo's (H, W) as `to_mask` does, in less time and memory.

    Between two rows of the small map, values change in a straight line: rows that lie between two rows below the
    threshold, or two above it, need no pixel of their own. (The enlarged map of 12 megapixels takes 48 MB and 0.1 s.)
    """
    height, width = shape
    if height < prior.shape[0] or width < prior.shape[1]:
        return np.asarray(to_mask(Prediction("mean mask", {"mask": prior}, shape)), np.uint8)
    columns, places = _centres(width, prior.shape[1]), np.arange(prior.shape[1])
    lines = np.array([np.interp(columns, places, row) for row in prior], np.float32)
    rows = _centres(height, prior.shape[0]).astype(np.float32)
    above = np.minimum(rows.astype(np.int64), max(prior.shape[0] - 2, 0))
    bands = []
    for k in np.unique(above):
        first, last = np.searchsorted(above, (k, k + 1))
        share = rows[first:last] - k
        change = lines[min(k + 1, len(lines) - 1)] - lines[k]
        bands.append((first, last, share, lines[k], change, np.array([lines[k] + t * change for t in share[[0, -1]]])))
    top = max(float(ends.max()) for *_, ends in bands)
    threshold = 0.5 if top > 0.5 else top - _TOLERANCE
    found = np.zeros(shape, np.uint8)
    for first, last, share, line, change, ends in bands:
        if ends.min() > threshold:
            found[first:last] = 1
        elif ends.max() > threshold:
            found[first:last] = line + share[:, None] * change > threshold
    return found


def _centres(many: int, few: int) -> NDArray[np.float64]:
    """Return the places of `many` pixel centres among those of `few`, kept inside the outermost two."""
    return np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
