"""The prediction for one photo, and its decision: from probabilities to a binary mask at full size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging import regions
from magic_cli.data.imaging.probability_maps import Map, mean_map, resize_map
from magic_cli.errors import DataError, problem
from magic_cli.records import Mask, Prediction

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrediction(Prediction):
    """A model's prediction for one photo; `id` is the image id.

    probability: foreground probability, floating point (h, w) in [0, 1] at any resolution.
    mask: instead of probabilities, a mask already decided: integers (H, W).
    shape: the photo's (H, W); None for that of the array.
    threshold: the model's own; pixels with a higher probability are foreground.
    """

    probability: NDArray[np.floating[Any]] | None = None
    mask: NDArray[np.integer[Any]] | None = None
    shape: tuple[int, int] | None = None
    threshold: float = 0.5

    @classmethod
    def mean_of(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean of the probabilities and of the thresholds; maps of different sizes at the photo's (H, W).

        Raises:
            ValueError: a prediction is a decided mask.
        """
        maps = [prediction.probability for prediction in predictions if prediction.probability is not None]
        if len(maps) < len(predictions):
            raise ValueError("decided masks have no mean")
        thresholds = np.array([prediction.threshold for prediction in predictions], np.float32)
        first = predictions[0]
        return replace(first, probability=mean_map(maps, first.shape), threshold=float(np.mean(thresholds)))


def to_mask(
    prediction: MaskPrediction, threshold: float | None = None, largest: bool = False, fill_holes: bool = False
) -> NDArray[Any]:
    """Decide a mask: probabilities are resized to the photo's size first, then compared with the threshold.

    Args:
        prediction: probabilities, or a decided mask, which is returned unchanged.
        threshold: pixels with a higher probability are foreground; None for the model's own.
        largest: keep only the largest connected region.
        fill_holes: after that, fill the holes that foreground encloses.

    Returns:
        uint8 (H, W) in {0, 1}, never empty: if no pixel is above the threshold, the pixels at the map's
        maximum (within 1e-6) are foreground, as an empty mask risks the official scorer's NaN
        (examples/official-scorer.md, case 43).

    Raises:
        DataError: a probability is NaN.
    """
    if prediction.mask is not None:
        return prediction.mask
    full = full_map(prediction)
    mask: Mask = (full > cut_of(full, prediction.threshold if threshold is None else threshold)).view(np.uint8)
    mask = regions.largest_region(mask) if largest else mask
    return regions.fill_holes(mask) if fill_holes else mask


def full_map(prediction: MaskPrediction) -> Map:
    """Return the probabilities of a prediction at the photo's size, float32 (H, W); raises like `to_mask`."""
    array = prediction.probability
    if array is None:
        raise ValueError(f"{prediction.id}: a decided mask has no probabilities")
    full = resize_map(array.astype(np.float32), prediction.shape or array.shape)
    if not np.isfinite(full.max()):
        raise DataError(problem(prediction.id, "NaN", "probabilities", "training diverged: lower lr and train again"))
    return full


def cut_of(full: Map, threshold: float) -> np.float32:
    """Return the effective threshold of a map: the given one, or just below the maximum if no pixel is above it."""
    top, cut = full.max(), np.float32(threshold)
    return cut if top > cut else np.float32(top - _TOLERANCE)


def mean_mask(prior: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decide the (h, w) training mean mask at a photo's (H, W) as `to_mask` does, in less time and memory.

    Between two rows of the small map, values change linearly: bands between two rows that are both below or both above
    the threshold are filled without computing pixels. (Enlarging to 12 megapixels would take 48 MB and 0.1 s.)
    """
    height, width = shape
    if height < prior.shape[0] or width < prior.shape[1]:
        return np.asarray(to_mask(MaskPrediction("mean mask", prior, shape=shape)), np.uint8)
    columns, positions = _centres(width, prior.shape[1]), np.arange(prior.shape[1])
    lines = np.array([np.interp(columns, positions, row) for row in prior], np.float32)
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
    mask = np.zeros(shape, np.uint8)
    for first, last, share, line, change, ends in bands:
        if ends.min() > threshold:
            mask[first:last] = 1
        elif ends.max() > threshold:
            mask[first:last] = line + share[:, None] * change > threshold
    return mask


def _centres(many: int, few: int) -> NDArray[np.float64]:
    """Return the positions of `many` pixel centres in units of `few` pixels, clipped to the outermost centres."""
    return np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
