"""metrics/overlap.py against hand counts, a slow reference, sklearn and an identity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, jaccard_score

from magic_cli.errors import DataError
from magic_cli.metrics import overlap
from magic_cli.metrics.overlap import Counts, dice, image_overlap, jaccard, overlap_counts, overlap_figures

FOUND = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.uint8)
GOLD = np.array([[1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.uint8)
EMPTY = np.zeros_like(FOUND)
shapes = st.tuples(st.integers(1, 13), st.integers(1, 13))


def masks(n: int) -> st.SearchStrategy[list[np.ndarray]]:
    """n masks of one odd shape, so that packed rows do not end on a byte."""
    return shapes.flatmap(lambda s: st.lists(arrays(np.uint8, s, elements=st.integers(0, 1)), min_size=n, max_size=n))


def slow_majority(masks_: list[np.ndarray]) -> np.ndarray:
    return np.sum([m.astype(int) for m in masks_], axis=0) >= math.ceil(len(masks_) / 2)


def test_hand_counts() -> None:
    counts = overlap_counts(FOUND, GOLD)
    assert counts == Counts(tp=3, fp=2, fn=2)
    assert dice(counts) == pytest.approx(6 / 10)
    assert jaccard(counts) == pytest.approx(3 / 7)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int64])
def test_every_integer_type_counts_alike(dtype: type) -> None:
    assert overlap_counts(FOUND.astype(dtype), GOLD.astype(np.uint8)) == Counts(3, 2, 2)


def test_views_count_like_their_copies() -> None:
    assert overlap_counts(FOUND.T, GOLD.T) == Counts(3, 2, 2)
    assert overlap_counts(FOUND[::2, 1:], GOLD[::2, 1:]) == overlap_counts(FOUND[::2, 1:].copy(), GOLD[::2, 1:].copy())


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (FOUND * 255, "0 and 1 only"),
        (FOUND * 2, "0 and 1 only"),
        (-FOUND.astype(np.int8), "0 and 1 only"),
        (FOUND.astype(np.float32), "float32"),
        (FOUND[:3], r"\(3, 4\)"),
        (FOUND.reshape(2, 8), r"\(2, 8\)"),
    ],
)
def test_refused(found: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text):
        overlap_counts(found, GOLD)


def test_no_annotator_is_refused() -> None:
    with pytest.raises(DataError, match="no annotator"):
        image_overlap(FOUND, ())


@given(masks(2))
def test_equals_sklearn(pair: list[np.ndarray]) -> None:
    found, gold = pair
    counts = overlap_counts(found, gold)
    if counts == Counts(0, 0, 0):
        assert math.isnan(dice(counts))
        assert math.isnan(jaccard(counts))
        return
    flat = gold.ravel(), found.ravel()
    assert dice(counts) == pytest.approx(f1_score(*flat, zero_division=0.0), abs=1e-12)
    assert jaccard(counts) == pytest.approx(jaccard_score(*flat, zero_division=0.0), abs=1e-12)


@given(masks(2))
def test_dice_is_a_function_of_jaccard(pair: list[np.ndarray]) -> None:
    counts = overlap_counts(*pair)
    j, d = jaccard(counts), dice(counts)
    assert (math.isnan(j) and math.isnan(d)) or d == pytest.approx(2 * j / (1 + j))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_majority_counts_ties_as_foreground(n: int) -> None:
    rng = np.random.default_rng(n)
    golds = [rng.integers(0, 2, (9, 11), dtype=np.uint8) for _ in range(n)]
    found = rng.integers(0, 2, (9, 11), dtype=np.uint8)
    assert image_overlap(found, iter(golds)).majority == overlap_counts(found, slow_majority(golds))


def test_one_undefined_pair_makes_the_means_nan_but_not_the_pooled_figures() -> None:
    rows = [image_overlap(FOUND, [GOLD, GOLD]), image_overlap(EMPTY, [GOLD, EMPTY])]
    figures = overlap_figures(rows)
    assert [k for k, v in figures.items() if math.isnan(v)] == list(overlap.FIGURES[:4])
    assert figures["dice"] == pytest.approx(6 / (10 + GOLD.sum()))
    assert [overlap.undefined(row) for row in rows] == [False, True]


def test_all_empty_is_nan_and_no_image_is_zero() -> None:
    assert all(math.isnan(v) for v in overlap_figures([image_overlap(EMPTY, [EMPTY])]).values())
    assert overlap_figures([]) == dict.fromkeys(overlap.FIGURES, 0.0)


def test_figures_by_hand() -> None:
    """Two images: J = (1, 3/7) and (0,), so max (1, 0) and mean (5/7, 0); majority of two is their union."""
    rows = [image_overlap(FOUND, [FOUND, GOLD]), image_overlap(FOUND, [1 - FOUND])]
    figures = overlap_figures(rows)
    assert tuple(figures) == overlap.FIGURES
    assert figures["jaccard_meanofmax"] == pytest.approx(0.5)
    assert figures["jaccard_meanofmean"] == pytest.approx((1 + 3 / 7) / 4)
    assert figures["dice_meanofmax"] == pytest.approx(0.5)
    assert figures["dice_meanofmean"] == pytest.approx((1 + 6 / 10) / 4)
    assert figures["jaccard"] == pytest.approx(5 / (7 + 16))
    assert figures["dice"] == pytest.approx(10 / (12 + 16))
