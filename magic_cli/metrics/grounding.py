"""Scores of grounding: whether a map of similarities is high where the mask is (BioViL, Boecking et al., ECCV 2022)."""

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Of BioViL's mean IoU on MS-CXR."""


def contrast_to_noise(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the contrast-to-noise ratio (m_in - m_out) / sqrt(v_in + v_out) of a map (h, w), with its sign.

    BioViL takes the absolute value, by which a map that is low on the mask is as good as one that is high there.

    Args:
        values: the map; m and v are its means and variances inside and outside the mask.
        mask: of the same shape.

    Returns:
        NaN where the mask is empty or the whole map, 0 for a map that is flat; infinite where only both sides are.
    """
    if mask.all() or not mask.any():
        return float("nan")
    inside, outside = np.asarray(values[mask], np.float64), np.asarray(values[~mask], np.float64)
    contrast, noise = inside.mean() - outside.mean(), float(np.sqrt(inside.var() + outside.var()))
    if abs(contrast) <= 1e-12:
        return 0.0
    return float(contrast / noise) if noise > 0 else float(np.copysign(np.inf, contrast))


def mean_iou(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the mean over BioViL's thresholds of the Jaccard of what is above one with the mask; 0/0 is 1."""
    scores = []
    for threshold in THRESHOLDS:
        above = values > threshold
        union = int((above | mask).sum())
        scores.append(int((above & mask).sum()) / union if union else 1.0)
    return float(np.mean(scores))
