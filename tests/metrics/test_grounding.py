"""metrics/grounding.py: contrast to noise and mean IoU of maps against masks, by hand and by their invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from magic_cli.metrics.grounding import THRESHOLDS, contrast_to_noise, mean_iou

MASK = np.zeros((4, 4), bool)
MASK[1:3, 1:3] = True


def test_contrast_to_noise_by_hand() -> None:
    values = np.where(MASK, 0.8, 0.2)
    values[1, 1:3], values[0] = 0.6, 0.4
    inside, outside = np.array([0.6, 0.6, 0.8, 0.8]), np.array([0.4] * 4 + [0.2] * 8)
    expected = (inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var())
    assert contrast_to_noise(values, MASK) == pytest.approx(expected)
    assert contrast_to_noise(-values, MASK) == pytest.approx(-expected)


def test_contrast_of_flat_maps_and_of_no_mask() -> None:
    assert contrast_to_noise(np.full((4, 4), 0.3), MASK) == 0
    assert contrast_to_noise(MASK.astype(float), MASK) == np.inf
    assert np.isnan(contrast_to_noise(np.ones((4, 4)), np.zeros((4, 4), bool)))
    assert np.isnan(contrast_to_noise(np.ones((4, 4)), np.ones((4, 4), bool)))


@settings(deadline=None, derandomize=True)
@given(arrays(np.float64, (4, 4), elements=st.integers(0, 100)), st.floats(0.1, 10), st.floats(-5, 5))
def test_contrast_does_not_depend_on_the_scale_of_the_map(values: np.ndarray, scale: float, shift: float) -> None:
    before = contrast_to_noise(values, MASK)
    after = contrast_to_noise(values * scale + shift, MASK)
    assert (np.isinf(before) and abs(after) > 1e6) or after == pytest.approx(before, rel=1e-6, abs=1e-9)


def test_mean_iou_is_over_the_thresholds_of_biovil() -> None:
    assert THRESHOLDS == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert mean_iou(MASK.astype(float), MASK) == 1
    assert mean_iou(np.where(MASK, 0.25, 0.0), MASK) == pytest.approx(2 / 5)  # found at 0.1 and 0.2 only
    assert mean_iou(np.ones((4, 4)), MASK) == pytest.approx(4 / 16)
    assert mean_iou(np.zeros((4, 4)), np.zeros((4, 4), bool)) == 1
