"""tasks/seg/decide.py: thresholds of a model, of an ensemble and of the command line; regions; never empty."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from magic_cli.data.imaging.probability_maps import otsu
from magic_cli.data.imaging.regions import fill_holes, largest_region
from magic_cli.tasks.seg.decide import MaskPrediction, cut_of, full_map, to_mask
from magic_cli.training.inference import average_predictions


def prediction(values: object, own: float = 0.5, shape: tuple[int, int] | None = None) -> MaskPrediction:
    return MaskPrediction("i", np.array(values, np.float32), shape=shape, threshold=own)


LINE = [[0.1, 0.3, 0.5, 0.7, 0.9]]


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (0.5, None, [[0, 0, 0, 1, 1]]),
        (0.2, None, [[0, 1, 1, 1, 1]]),
        (0.2, 0.8, [[0, 0, 0, 0, 1]]),
        (0.5, 0.05, [[1, 1, 1, 1, 1]]),
    ],
)
def test_the_threshold_is_the_given_one_the_models_or_a_half(
    own: float, given: float | None, expected: list[list[int]]
) -> None:
    assert to_mask(prediction(LINE, own), given).tolist() == expected


def test_an_ensemble_cuts_the_mean_at_the_mean_threshold() -> None:
    """(0.1 + 0.5) / 2 = 0.3 cuts the mean map; each model's own cut would have said otherwise."""
    one, other = prediction([[0.0, 0.2, 0.4]], 0.1), prediction([[0.4, 0.5, 0.45]], 0.5)
    [found] = average_predictions([[one], [other]])
    assert found.probability.tolist() == pytest.approx(np.array([[0.2, 0.35, 0.425]]))
    assert found.threshold == pytest.approx(0.3)
    assert to_mask(found).tolist() == [[0, 1, 1]]


def test_models_of_different_input_sizes() -> None:
    """A 2 x 2 and a 4 x 4 map of one photo: averaged where the photo's pixels are."""
    left = prediction([[1, 0], [1, 0]], 0.4, (8, 8))
    right = prediction([[0, 0, 0, 0.8]] * 4, 0.4, (8, 8))
    [found] = average_predictions([[left], [right]])
    assert found.probability.shape == (8, 8)
    expected = (full_map(left) + full_map(right)) / 2
    assert found.probability == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(to_mask(found), expected > 0.4)


BLOBS = [
    [0.9, 0.9, 0.9, 0.1, 0.1, 0.1],
    [0.9, 0.1, 0.9, 0.1, 0.1, 0.8],
    [0.9, 0.9, 0.9, 0.1, 0.1, 0.8],
]


def test_regions_only_if_asked_for() -> None:
    assert to_mask(prediction(BLOBS)).sum() == 10
    assert to_mask(prediction(BLOBS), largest=True)[:, 3:].sum() == 0
    assert to_mask(prediction(BLOBS), largest=True)[1, 1] == 0
    filled = to_mask(prediction(BLOBS), fill_holes=True)
    assert filled[1, 1] == 1
    assert filled[1, 5] == 1
    assert to_mask(prediction(BLOBS), largest=True, fill_holes=True).sum() == 9


def test_decisions_of_files_pass_whatever_is_asked() -> None:
    mask = np.array([[1, 0, 1]], np.uint8)
    assert to_mask(MaskPrediction("i", mask=mask), 0.7, largest=True, fill_holes=True) is mask


@settings(deadline=None, derandomize=True)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(0, 1, width=32)),
    st.floats(0.001, 0.999),
    st.booleans(),
    st.booleans(),
)
def test_never_empty_whatever_is_asked(array: np.ndarray, threshold: float, largest: bool, holes: bool) -> None:
    found = to_mask(prediction(array, shape=(7, 9)), threshold, largest, holes)
    assert found.shape == (7, 9)
    assert found.dtype == np.uint8
    assert found.any()
    assert found.max() == 1


def test_a_maximum_that_equals_the_threshold_but_for_rounding_is_not_empty() -> None:
    """0.43 in single precision is above 0.43 in double, and not above itself."""
    top = np.float32(0.43)
    assert float(top) > 0.43
    assert to_mask(prediction([[0.1, top]]), 0.43).tolist() == [[0, 1]]
    assert cut_of(np.array([[0.1, top]], np.float32), 0.43) < top


def test_the_full_map_is_the_photos_size() -> None:
    small = prediction([[0.0, 1.0]], shape=(3, 8))
    assert full_map(small).shape == (3, 8)
    assert full_map(dataclasses.replace(small, shape=None)).shape == (1, 2)


MAPS = arrays(np.float32, (6, 7), elements=st.floats(0, 1, width=32))


@settings(deadline=None, derandomize=True)
@given(MAPS, st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_masks_shrink_as_the_threshold_rises(array: np.ndarray, threshold: float, step: float) -> None:
    """Regions too: the largest one of a smaller mask is part of a region of the larger mask."""
    low, high = (to_mask(prediction(array), cut) for cut in (threshold, threshold + step))
    if array.max() > np.float32(threshold + step):
        assert not (high & ~low.astype(bool)).any()
        filled_low, filled_high = (fill_holes(mask) for mask in (low, high))
        assert filled_high.sum() <= filled_low.sum()
        assert largest_region(high).sum() <= largest_region(low).sum()


@settings(deadline=None, derandomize=True)
@given(arrays(np.uint8, (6, 7), elements=st.integers(0, 1)))
def test_deciding_again_changes_nothing(mask: np.ndarray) -> None:
    assert np.array_equal(largest_region(largest_region(mask)), largest_region(mask))
    assert np.array_equal(fill_holes(fill_holes(mask)), fill_holes(mask))
    both = fill_holes(largest_region(mask))
    assert np.array_equal(fill_holes(largest_region(both)), both)
    if mask.any():
        assert np.array_equal(to_mask(prediction(both), 0.5, largest=True, fill_holes=True), both)


@settings(deadline=None, derandomize=True)
@given(arrays(np.float32, (5, 6), elements=st.integers(0, 50).map(float)))
def test_otsu_divides_best(array: np.ndarray) -> None:
    """No other threshold leaves less variance within both sides."""

    def within(threshold: float) -> float:
        sides = [array[array > threshold], array[array <= threshold]]
        return float(sum(side.size * side.astype(np.float64).var() for side in sides if side.size))

    found = otsu(array)
    assert within(found) == pytest.approx(min(within(value) for value in np.unique(array)), abs=1e-3)


def test_otsu_of_two_values_is_between_them_and_of_one_itself() -> None:
    assert 0.3 < otsu(np.array([[0.2, 0.2, 0.9]], np.float32)) < 0.8
    assert otsu(np.full((2, 2), 0.25, np.float32)) == 0.25
