"""metrics/calibration.py: the expected calibration error by hand, against a slow reference, and at its ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magic_cli.metrics.calibration import ece


def slow(confidence: list[float], correct: list[bool], bins: int) -> float:
    """Guo et al. 2017, equation 3, bin after bin."""
    total = 0.0
    for m in range(1, bins + 1):
        low, high = (m - 1) / bins, m / bins
        inside = [i for i, p in enumerate(confidence) if low < p <= high or (m == 1 and p == 0)]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


def test_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False])
    assert ece(confidence, correct) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)


@pytest.mark.parametrize(("p", "right", "expected"), [(1.0, True, 0.0), (1.0, False, 1.0), (0.0, True, 1.0)])
def test_ends(p: float, right: bool, expected: float) -> None:
    assert ece(np.full(3, p), np.full(3, right)) == pytest.approx(expected)


def test_edges_belong_to_the_lower_bin() -> None:
    """0.5 ends the first of two bins: alone there, it is not averaged with 0.6."""
    confidence, correct = np.array([0.5, 0.6]), np.array([False, True])
    assert ece(confidence, correct, bins=2) == pytest.approx((0.5 + 0.4) / 2)
    assert ece(confidence, correct, bins=1) == pytest.approx(0.05)


def test_nothing() -> None:
    assert math.isnan(ece(np.array([]), np.array([], bool)))


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_against_a_slow_reference(pairs: list[tuple[int, bool]], bins: int) -> None:
    """Confidences off the edges, where rounding could tell both apart."""
    confidence = [(2 * n + 1) / 2002.7 for n, _ in pairs]
    correct = [right for _, right in pairs]
    expected = slow(confidence, correct, bins)
    assert ece(np.array(confidence), np.array(correct), bins) == pytest.approx(expected, abs=1e-12)
