"""metrics/calibration.py: the expected calibration error by hand, against a slow reference, and at its ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magic_cli.metrics.calibration import COVERAGES, best_temperature, confidence_scores, ece, reliability, tempered


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


def drawn(size: int, decimals: int = 1) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Answers whose confidence is what it says, with ties; two of each encounter."""
    rng = np.random.default_rng(3)
    confidence = np.round(rng.random(size), decimals)
    return [f"e{number // 2}" for number in range(size)], confidence, rng.random(size) < confidence


def test_selective_prediction_is_the_mean_over_orders_of_ties() -> None:
    encounters, confidence, correct = drawn(40)
    scores = confidence_scores(encounters, confidence, correct)
    found = dict(zip(scores.names, scores.over(range(20)), strict=True))
    rng, areas, risks = np.random.default_rng(0), [], []
    for _ in range(3000):
        shuffled = rng.permutation(40)
        order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
        curve = (~correct[order]).cumsum() / np.arange(1, 41)
        areas.append(curve.mean())
        risks.append(curve[[9, 29]])
    assert found["aurc"] == pytest.approx(np.mean(areas), abs=0.002)
    assert [found["risk@0.25"], found["risk@0.75"]] == pytest.approx(np.mean(risks, 0), abs=0.005)
    best = (~np.sort(correct)[::-1]).cumsum() / np.arange(1, 41)
    assert found["aurc_oracle"] == pytest.approx(best.mean())
    assert found["risk@1"] == found["aurc_random"] == pytest.approx((~correct).mean())
    assert (found["accuracy"], found["ece"]) == pytest.approx((correct.mean(), ece(confidence, correct)))
    assert found["gain"] == pytest.approx(found["aurc_random"] - found["aurc"])
    assert len(scores.names) == 6 + len(COVERAGES)


def test_an_encounter_of_weight_two_is_there_twice() -> None:
    encounters, confidence, correct = drawn(20)
    weights = np.ones((1, 10))
    weights[0, 4] = 2
    twice = [*range(20), 8, 9]
    repeated = confidence_scores([str(at) for at in range(22)], confidence[twice], correct[twice])
    weighted = confidence_scores(encounters, confidence, correct).weighted(weights)[0]
    np.testing.assert_allclose(weighted, repeated.over(range(22)), atol=1e-12)


def test_doubt_that_tells_nothing_has_the_risk_of_chance() -> None:
    scores = confidence_scores(["a", "b", "c", "d"], np.full(4, 0.7), np.array([True, False, True, True]))
    found = dict(zip(scores.names, scores.over(range(4)), strict=True))
    assert (found["aurc"], found["gain"]) == (pytest.approx(0.25), pytest.approx(0))
    assert {found[f"risk@{c:g}"] for c in COVERAGES} == {0.25}


def test_the_bins_of_the_plot_sum_to_the_error() -> None:
    _, confidence, correct = drawn(60, 3)
    bins = reliability(confidence, correct)
    assert sum(row.answers for row in bins) == 60
    gaps = sum(row.answers * abs(row.correct - row.confidence) for row in bins)
    assert gaps / 60 == pytest.approx(ece(confidence, correct))


def test_the_temperature_that_made_answers_too_sure_is_found() -> None:
    rng = np.random.default_rng(1)
    logits = [rng.normal(size=(4000, options)) for options in (2, 5)]
    gold = [np.array([rng.choice(len(p), p=p) for p in np.exp(z) / np.exp(z).sum(1, keepdims=True)]) for z in logits]
    assert best_temperature([3 * z for z in logits], gold) == pytest.approx(3, rel=0.06)
    assert best_temperature([], []) == 1
    sharp = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert tempered(sharp, 1.0) is sharp
    cooled = tempered(sharp, 2.0)
    assert cooled.dtype == np.float32
    assert cooled.max(1) == pytest.approx([0.75, 2 / 3])
