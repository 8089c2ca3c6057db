"""The threshold that is best for an official figure, found on scored photos in one pass over their probabilities.

For each photo, pixels are counted once by which annotators have them and by how many thresholds lie below their
probability: all masks of all thresholds follow. Only sums of a few terms a threshold are kept from photo to photo.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import Gold, GoldImage
from magic_cli.data.probability_maps import Map
from magic_cli.metrics.mask_scores import MASK_SCORES, TERMS, column_terms, scores_from_sums
from magic_cli.metrics.overlap import overlaps_of
from magic_cli.tasks.seg.decide import MaskPrediction, cut_of, full_map

GRID = tuple(round(0.02 * step, 2) for step in range(1, 50))

_PIXELS = 1 << 18

Counts = NDArray[np.int64]


def best_threshold(gold: Gold, predictions: Iterable[MaskPrediction], figure: str, fixed: float) -> dict[str, Any]:
    """Return the threshold of GRID, or the fixed one, with the highest figure; of equals the nearest to the fixed one.

    Args:
        gold: annotators' masks; predictions of other photos are left out.
        predictions: probabilities, as they come; each photo's are dropped after they were counted.
        figure: one of MASK_SCORES.

    Returns:
        {"settings": {"threshold"}, "figure", "fixed", "before", "after"}; `after` is optimistic, as it is the highest
        of many on the photos that it was chosen on.

    Raises:
        DataError: a gold mask is damaged, or a probability is NaN.
    """
    grid = sorted({*GRID, fixed})
    values = scores_at(gold, predictions, grid)[:, MASK_SCORES.index(figure)]
    order = sorted(range(len(grid)), key=lambda k: (-values[k], abs(grid[k] - fixed)))
    chosen = {"settings": {"threshold": grid[order[0]]}, "figure": figure, "fixed": fixed}
    return chosen | {"before": float(values[grid.index(fixed)]), "after": float(values[order[0]])}


def scores_at(gold: Gold, predictions: Iterable[MaskPrediction], grid: Sequence[float]) -> NDArray[np.float64]:
    """Return the strict scores at each threshold: (len(grid), 6), columns as in MASK_SCORES; see above."""
    cuts = np.array(grid, np.float32)
    sums = np.zeros((len(grid), len(TERMS)))
    for prediction in predictions:
        if prediction.id in gold.images:
            cells = _cells(full_map(prediction), gold.images[prediction.id], cuts)
            sums += [column_terms(overlap, 0, "one") for overlap in overlaps_of(cells, 1)]
    return scores_from_sums(sums, "one")


def _cells(full: Map, gold: GoldImage, cuts: NDArray[np.float32]) -> Counts:
    """Return (thresholds, 2^(1 + annotators)) pixels of a photo by what has them; bit 0 is the mask of a threshold."""
    codes = np.zeros(full.size, np.uint16)
    for number, mask in enumerate(gold.masks()):
        codes |= mask.reshape(-1).astype(np.uint16) << number
    cells, bins = 1 << len(gold.annotators), len(cuts) + 1
    counts = np.zeros(cells * bins, np.int64)
    flat = full.reshape(-1)
    for start in range(0, flat.size, _PIXELS):
        part = slice(start, start + _PIXELS)
        below = np.searchsorted(cuts, flat[part])  # foreground at cut k: those with more than k cuts below them
        counts += np.bincount(codes[part].astype(np.int64) * bins + below, minlength=counts.size)
    whole = counts.reshape(cells, bins)
    inside = whole[:, ::-1].cumsum(1)[:, -2::-1].T
    for k in np.flatnonzero(cuts >= full.max()):  # nothing lies above these: the mask is never empty
        inside[k] = np.bincount(codes[flat > cut_of(full, float(cuts[k]))], minlength=cells)
    return np.stack([whole.sum(1) - inside, inside], 2).reshape(len(cuts), 2 * cells)
