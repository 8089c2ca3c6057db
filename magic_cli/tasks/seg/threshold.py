"""Choose the threshold with the highest score, in one pass over the probabilities of photos with gold.

The pixels of each photo are counted once, by the annotators that marked them and by the number of thresholds below
their probability; the scores at all thresholds follow from these counts. Only sums of a few terms per threshold are
stored across photos.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import GoldImage, MaskGold
from magic_cli.data.imaging.probability_maps import Map
from magic_cli.metrics.mask_scores import MASK_SCORES, TERMS, column_terms, scores_from_sums
from magic_cli.metrics.overlap import overlaps_of
from magic_cli.tasks.seg.decide import MaskPrediction, cut_of, full_map
from magic_cli.training.task import ChosenSettings

GRID = tuple(round(0.02 * step, 2) for step in range(1, 50))

_PIXELS = 1 << 18

Counts = NDArray[np.int64]


def best_threshold(
    datasets: Sequence[tuple[MaskGold, Iterable[MaskPrediction]]], score: str, fixed: float
) -> ChosenSettings:
    """Return the threshold of GRID, or the fixed one, with the highest score; of ties, the nearest to the fixed.

    The score is the mean over the datasets.

    Args:
        datasets: of each, annotators' masks and probabilities. Predictions for photos without masks are left out, and
            each photo's are discarded once counted.
        score: one of MASK_SCORES.
        fixed: the threshold in the settings.

    Raises:
        DataError: a gold mask is damaged, or a probability is NaN.
    """
    grid = sorted({*GRID, fixed})
    columns = [scores_at(gold, found, grid)[:, MASK_SCORES.index(score)] for gold, found in datasets]
    values = np.mean(columns, axis=0)
    best = min(range(len(grid)), key=lambda k: (-values[k], abs(grid[k] - fixed)))
    return ChosenSettings(
        {"threshold": grid[best]}, score, fixed, float(values[grid.index(fixed)]), float(values[best])
    )


def scores_at(gold: MaskGold, predictions: Iterable[MaskPrediction], grid: Sequence[float]) -> NDArray[np.float64]:
    """Return the strict scores at each threshold: (len(grid), 6), columns as in MASK_SCORES."""
    cuts = np.array(grid, np.float32)
    sums = np.zeros((len(grid), len(TERMS)))
    for prediction in predictions:
        if prediction.id in gold.images:
            cells = _cells(full_map(prediction), gold.images[prediction.id], cuts)
            sums += [column_terms(overlap, 0, "one") for overlap in overlaps_of(cells, 1)]
    return scores_from_sums(sums, "one")


def _cells(full: Map, gold: GoldImage, cuts: NDArray[np.float32]) -> Counts:
    """Return (thresholds, 2^(1 + annotators)) counts of a photo's pixels by the masks in which they are foreground.

    Bit 0 of the second index stands for the mask of a threshold, the other bits for the annotators.
    """
    codes = np.zeros(full.size, np.uint16)
    for number, mask in enumerate(gold.masks()):
        codes |= mask.reshape(-1).astype(np.uint16) << number
    cells, bins = 1 << len(gold.annotators), len(cuts) + 1
    counts = np.zeros(cells * bins, np.int64)
    flat = full.reshape(-1)
    for start in range(0, flat.size, _PIXELS):
        part = slice(start, start + _PIXELS)
        below = np.searchsorted(cuts, flat[part])  # foreground at cut k: pixels with more than k cuts below them
        counts += np.bincount(codes[part].astype(np.int64) * bins + below, minlength=counts.size)
    total = counts.reshape(cells, bins)
    inside = total[:, ::-1].cumsum(1)[:, -2::-1].T
    for k in np.flatnonzero(cuts >= full.max()):  # no pixel is above these cuts, yet the mask is never empty
        inside[k] = np.bincount(codes[flat > cut_of(full, float(cuts[k]))], minlength=cells)
    return np.stack([total.sum(1) - inside, inside], 2).reshape(len(cuts), 2 * cells)
