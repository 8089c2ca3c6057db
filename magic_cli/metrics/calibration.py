"""Calibration: whether answers with probability p are correct in a share p of the cases."""

import numpy as np
from numpy.typing import NDArray

BINS = 15


def ece(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error, in [0, 1]; NaN without answers.

    Confidences are put into bins of equal width, ((m - 1) / bins, m / bins], 0 into the first; the error is the mean
    over answers of |share of correct answers - mean confidence| of their bin. Equal width and 15 bins as in Guo et al.,
    On Calibration of Modern Neural Networks (ICML 2017), equation 3 and section 5.

    Args:
        confidence: (N,), probability of the chosen answer, in [0, 1].
        correct: (N,), whether it was correct.
        bins: number of bins.

    >>> ece(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    if not len(confidence):
        return float("nan")
    bin_index = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_index, correct, bins) - np.bincount(bin_index, confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))
