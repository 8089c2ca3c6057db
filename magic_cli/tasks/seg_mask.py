"""The decision about one photo: from probabilities at any resolution to a binary mask at full size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem
from magic_cli.records import Prediction

_TOLERANCE = 1e-6


def to_mask(prediction: Prediction, threshold: float = 0.5) -> NDArray[Any]:
    """Decide a mask: probabilities are resized to the photo's size first, then cut at `threshold`.

    Args:
        prediction: "mask" is (h, w) floating point in [0, 1] at any resolution, or integers, which pass unchanged.
        threshold: foreground is what lies above it.

    Returns:
        uint8 (H, W) in {0, 1}, never empty: where nothing is above the threshold, the pixels at the map's
        maximum (within 1e-6) are foreground, as an empty mask risks the official scorer's NaN (peers.md case 43).

    Raises:
        DataError: a probability is NaN.
    """
    array = prediction.arrays["mask"]
    if array.dtype.kind != "f":
        return array
    full = _resize(array.astype(np.float32), prediction.shape or array.shape)
    top = float(full.max())
    if not np.isfinite(top):
        raise DataError(problem(prediction.id, "NaN", "probabilities", "training diverged: lower lr and train again"))
    return (full > (threshold if top > threshold else top - _TOLERANCE)).view(np.uint8)


def _resize(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Resize bilinearly to (H, W), pixel centres at (i + 0.5) / size."""
    if array.shape == shape:
        return array
    from PIL import Image

    return np.asarray(Image.fromarray(array).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
