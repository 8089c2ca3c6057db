"""metrics/mask_scores.py: 0/0 by rule and as official, terms that add up, scores by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from magic_cli.metrics.mask_scores import (
    MASK_SCORES,
    TERMS,
    dice,
    image_terms,
    jaccard,
    jaccard_and_dice,
    scores_from_sums,
)
from magic_cli.metrics.overlap import Counts

EMPTY = Counts(0, 0, 0)
PAIR = Counts(3, 2, 2)  # Jaccard 3/7, Dice 6/10


def scores_of(rows: list[list[float]], empty: str) -> dict[str, float]:
    sums = np.array(rows).reshape(-1, len(TERMS)).sum(0)
    return dict(zip(MASK_SCORES, scores_from_sums(sums, empty).tolist(), strict=True))


@pytest.mark.parametrize(("empty", "value"), [("one", 1.0), ("zero", 0.0), ("skip", math.nan), ("nan", math.nan)])
def test_only_empty_against_empty_follows_the_rule(empty: str, value: float) -> None:
    assert jaccard_and_dice(EMPTY, empty) == pytest.approx((value, value), nan_ok=True)
    assert jaccard_and_dice(PAIR, empty) == (3 / 7, 6 / 10)
    assert jaccard_and_dice(Counts(0, 0, 4), empty) == jaccard_and_dice(Counts(0, 4, 0), empty) == (0.0, 0.0)
    for counts in (EMPTY, PAIR):
        assert jaccard_and_dice(counts, empty, fault=True) == (0.0, 0.0)


def test_terms_by_hand() -> None:
    pairs = [PAIR, Counts(5, 0, 0)]
    assert image_terms(pairs, Counts(4, 1, 2), "one") == [1.0, (3 / 7 + 1) / 2, 1.0, 0.8, 1.0, 4.0, 1.0, 2.0, 0.0]
    assert image_terms([PAIR], Counts(0, 0, 6), "one", fault=True) == [0.0] * 4 + [1.0, 0.0, 0.0, 6.0, 1.0]


def test_one_undefined_pair_of_several() -> None:
    pairs = [Counts(0, 0, 9), EMPTY]
    assert image_terms(pairs, EMPTY, "one")[:5] == [1.0, 0.5, 1.0, 0.5, 1.0]
    assert image_terms(pairs, EMPTY, "zero")[:5] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert image_terms(pairs, EMPTY, "skip")[:5] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert all(map(math.isnan, image_terms(pairs, EMPTY, "nan")[:4]))
    assert all(map(math.isnan, image_terms(pairs[::-1], EMPTY, "nan")[:4]))


def test_a_photo_without_any_pair_is_left_out() -> None:
    assert image_terms([EMPTY, EMPTY], EMPTY, "skip") == [0.0] * len(TERMS)
    assert image_terms([EMPTY, EMPTY], EMPTY, "skip", fault=True)[4] == 1.0


def test_scores_by_hand() -> None:
    """Two photos: J = (1, 3/7) and (0,); pooled 5 of 7 and 0 of 16 pixels."""
    rows = [
        image_terms([Counts(5, 0, 0), PAIR], Counts(5, 0, 2), "nan"),
        image_terms([Counts(0, 5, 11)], Counts(0, 5, 11), "nan"),
    ]
    scores = scores_of(rows, "nan")
    assert scores["jaccard_meanofmax"] == pytest.approx(0.5)
    assert scores["jaccard_meanofmean"] == pytest.approx((1 + 3 / 7) / 4)
    assert scores["dice_meanofmax"] == pytest.approx(0.5)
    assert scores["dice_meanofmean"] == pytest.approx((1 + 6 / 10) / 4)
    assert scores["jaccard"] == pytest.approx(5 / (7 + 16))
    assert scores["dice"] == pytest.approx(10 / (12 + 16))


def test_nan_spreads_to_the_means_alone() -> None:
    scores = scores_of([image_terms([PAIR], PAIR, "nan"), image_terms([EMPTY], Counts(0, 0, 4), "nan")], "nan")
    assert [name for name, value in scores.items() if math.isnan(value)] == list(MASK_SCORES[:4])
    assert scores["dice"] == pytest.approx(6 / 14)


@pytest.mark.parametrize(
    ("empty", "fault", "value"),
    [("one", False, 1.0), ("one", True, 0.0), ("zero", False, 0.0), ("skip", False, 0.0), ("nan", False, math.nan)],
)
def test_nothing_found_and_nothing_there_at_all(empty: str, fault: bool, value: float) -> None:
    scores = scores_of([image_terms([EMPTY], EMPTY, empty), image_terms([EMPTY], EMPTY, empty, fault)], empty)
    assert [scores["jaccard"], scores["dice"]] == pytest.approx([value, value], nan_ok=True)


@pytest.mark.parametrize("empty", ["one", "zero", "skip", "nan"])
def test_no_photo_is_zero(empty: str) -> None:
    assert scores_of([], empty) == dict.fromkeys(MASK_SCORES, 0.0)


counts = st.builds(Counts, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
photos = st.lists(st.tuples(st.lists(counts, min_size=1, max_size=4), counts, st.booleans()), min_size=1, max_size=6)


@given(photos, st.sampled_from(["one", "zero", "skip"]))
def test_strict_scores_are_always_defined_and_follow_from_sums_in_any_grouping(
    given_: list[tuple[list[Counts], Counts, bool]], empty: str
) -> None:
    rows = np.array([image_terms(pairs, pooled, empty, fault) for pairs, pooled, fault in given_])
    scores = scores_from_sums(rows.sum(0), empty)
    assert ((scores >= 0) & (scores <= 1)).all()
    half = len(rows) // 2
    np.testing.assert_allclose(scores_from_sums(rows[:half].sum(0) + rows[half:].sum(0), empty), scores, atol=1e-12)
    stacked = scores_from_sums(np.stack([rows.sum(0), 0 * rows.sum(0)]), empty)
    np.testing.assert_array_equal(stacked[0], scores)


@pytest.mark.parametrize("if_undefined", [0.0, 1.0, math.nan])
def test_only_empty_against_empty_is_undefined(if_undefined: float) -> None:
    for score in (dice, jaccard):
        assert score(0, 0, 0, if_undefined) == pytest.approx(if_undefined, nan_ok=True)
        assert score(0, 4, 0, if_undefined) == score(0, 0, 4, if_undefined) == 0.0
        assert score(4, 0, 0, if_undefined) == 1.0


@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 4), st.just(3)), elements=st.integers(0, 9)))
def test_arrays_of_counts_score_as_each_of_them_alone(counts: np.ndarray) -> None:
    """Bit by bit, whole axes at once; the value of 0/0 may differ from place to place."""
    if_undefined = np.random.default_rng(0).random(counts.shape[:-1])
    before = counts.copy()
    for score in (dice, jaccard):
        scores = score(*np.moveaxis(counts, -1, 0), if_undefined)
        assert scores.shape == counts.shape[:-1]
        for place in np.ndindex(scores.shape):
            assert scores[place] == score(*counts[place].tolist(), if_undefined[place])
    np.testing.assert_array_equal(counts, before)
