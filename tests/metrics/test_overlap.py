"""metrics/overlap.py against hand counts, a slow reference, sklearn and an identity."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, jaccard_score

from magic_cli.errors import DataError
from magic_cli.metrics import answer_sets, mask_scores
from magic_cli.metrics import overlap as overlap_module
from magic_cli.metrics.mask_scores import dice, jaccard
from magic_cli.metrics.overlap import Counts, count_cells, majority, overlap_counts, overlap_of, pack

PREDICTED = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.uint8)
GOLD = np.array([[1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.uint8)
EMPTY = np.zeros_like(PREDICTED)
shapes = st.tuples(st.integers(1, 13), st.integers(1, 13))


def masks(n: int) -> st.SearchStrategy[list[np.ndarray]]:
    """n masks of one odd shape, so that packed rows do not end on a byte."""
    return shapes.flatmap(lambda s: st.lists(arrays(np.uint8, s, elements=st.integers(0, 1)), min_size=n, max_size=n))


def slow_majority(masks_: list[np.ndarray]) -> np.ndarray:
    return np.sum([m.astype(int) for m in masks_], axis=0) >= math.ceil(len(masks_) / 2)


def test_hand_counts() -> None:
    counts = overlap_counts(PREDICTED, GOLD)
    assert counts == Counts(tp=3, fp=2, fn=2)
    assert dice(*counts) == pytest.approx(6 / 10)
    assert jaccard(*counts) == pytest.approx(3 / 7)


def test_documented_examples() -> None:
    for module in (overlap_module, mask_scores, answer_sets):
        failed, tried = doctest.testmod(module)
        assert (failed, tried > 0) == (0, True)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int64])
def test_every_integer_type_counts_alike(dtype: type) -> None:
    assert overlap_counts(PREDICTED.astype(dtype), GOLD.astype(np.uint8)) == Counts(3, 2, 2)


def test_views_count_like_their_copies() -> None:
    assert overlap_counts(PREDICTED.T, GOLD.T) == Counts(3, 2, 2)
    assert overlap_counts(PREDICTED[::2, 1:], GOLD[::2, 1:]) == overlap_counts(
        PREDICTED[::2, 1:].copy(), GOLD[::2, 1:].copy()
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (PREDICTED * 255, "0 and 1 only"),
        (PREDICTED * 2, "0 and 1 only"),
        (-PREDICTED.astype(np.int8), "0 and 1 only"),
        (PREDICTED.astype(np.float32), "float32"),
        (PREDICTED[:3], r"\(3, 4\)"),
        (PREDICTED.reshape(2, 8), r"\(2, 8\)"),
    ],
)
def test_refused(found: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text):
        overlap_counts(found, GOLD)


@given(masks(2))
def test_equals_sklearn_and_dice_is_a_function_of_jaccard(pair: list[np.ndarray]) -> None:
    predicted, gold = pair
    counts = overlap_counts(predicted, gold)
    j, d = jaccard(*counts), dice(*counts)
    if counts == Counts(0, 0, 0):
        assert math.isnan(j)
        assert math.isnan(d)
        return
    flat = gold.ravel(), predicted.ravel()
    assert d == pytest.approx(f1_score(*flat, zero_division=0.0), abs=1e-12)
    assert j == pytest.approx(jaccard_score(*flat, zero_division=0.0), abs=1e-12)
    assert d == pytest.approx(2 * j / (1 + j))


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1 << 18, (1 << 18) + 1, (1 << 19) + 77])
@pytest.mark.parametrize("fill", ["random", "empty", "full", "last"])
def test_packed_bits_are_the_mask(size: int, fill: str) -> None:
    mask = np.random.default_rng(size).integers(0, 2, (1, size), np.uint8) if fill == "random" else None
    mask = np.full((1, size), fill == "full", np.uint8) if mask is None else mask
    mask[0, -1] |= fill == "last"
    packed = pack(mask)
    assert packed is not None
    assert packed.dtype == np.uint64
    bits = np.unpackbits(packed.view(np.uint8))
    np.testing.assert_array_equal(bits[:size], mask[0])
    assert not bits[size:].any()


@pytest.mark.parametrize("place", [0, 3, (1 << 18) + 5, -1])
def test_other_values_are_seen_wherever_they_are(place: int) -> None:
    mask = np.zeros((2, 1 << 18), np.uint8)
    mask.reshape(-1)[place] = 2
    assert pack(mask) is None


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float32])
def test_only_bytes_are_packed(dtype: type) -> None:
    assert pack(PREDICTED.astype(dtype)) is None
    assert pack(PREDICTED.astype(bool)) is not None


def packed(masks_: list[np.ndarray]) -> list[np.ndarray]:
    return [bits for bits in map(pack, masks_) if bits is not None]


def slow_cells(masks_: list[np.ndarray]) -> list[int]:
    codes = sum(m.astype(np.int64) << bit for bit, m in enumerate(masks_))
    return np.bincount(np.ravel(codes), minlength=1 << len(masks_)).tolist()


@given(st.integers(1, 5).flatmap(masks))
def test_cells_are_the_pixels_of_every_combination(found: list[np.ndarray]) -> None:
    assert count_cells(packed(found), found[0].size).tolist() == slow_cells(found)


def test_cells_of_masks_larger_than_a_chunk() -> None:
    rng = np.random.default_rng(1)
    found = [(rng.random((1100, 1013)) < share).astype(np.uint8) for share in (0.5, 0.01, 0.9)]
    found[1][:900] = 0  # chunks with nothing in common
    found[2][:, :] = 1
    assert count_cells(packed(found), found[0].size).tolist() == slow_cells(found)


def test_too_many_masks_are_refused() -> None:
    with pytest.raises(DataError, match="13 of one photo, expected at most 12"):
        count_cells(packed([PREDICTED] * 13), PREDICTED.size)


@given(st.tuples(st.integers(1, 2), st.integers(1, 5)).flatmap(lambda n: st.tuples(st.just(n[0]), masks(sum(n)))))
def test_pairs_majority_and_majorities_of_all_but_one(case: tuple[int, list[np.ndarray]]) -> None:
    systems, found = case
    golds = found[systems:]
    overlap = overlap_of(count_cells(packed(found), found[0].size), systems)
    left = [slow_majority(golds[:k] + golds[k + 1 :]) for k in range(len(golds))] if len(golds) > 1 else []
    columns = [*found, slow_majority(golds), *left]
    assert overlap.pixels == found[0].size
    assert overlap.majority == len(found)
    expected = [[int((np.asarray(a, bool) & np.asarray(b, bool)).sum()) for a in columns] for b in columns]
    assert overlap.both == expected
    for column, mask in enumerate(found):
        assert overlap.area(column) == int(mask.sum())
        against = [overlap_counts(mask, gold) for gold in golds]
        assert overlap.against_annotators(column) == against
        assert overlap.against_majority(column) == overlap_counts(mask, slow_majority(golds).astype(np.uint8))
        for k, rest in enumerate(left):
            assert overlap.against_annotators(column, without=k) == against[:k] + against[k + 1 :]
            assert overlap.against_majority(column, without=k) == overlap_counts(mask, rest.astype(np.uint8))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_majority_counts_ties_as_foreground(n: int) -> None:
    votes = np.arange(n + 1)
    assert majority(votes, n).tolist() == [2 * v >= n for v in range(n + 1)]
