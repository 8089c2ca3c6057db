"""data/imaging/regions.py against scipy, on random, drawn and awkward masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from magic_cli.data.imaging.regions import fill_holes, largest_region

ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is the reference here")
EIGHT = np.ones((3, 3), int)
masks = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1))


def parsed(*rows: str) -> np.ndarray:
    return np.array([[int(c == "#") for c in row] for row in rows], np.uint8)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(masks)
def test_largest_against_scipy(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, EIGHT)
    found = largest_region(mask)
    assert found.dtype == np.uint8
    assert found.shape == mask.shape
    if not count:
        assert not found.any()
        return
    sizes = np.bincount(labels.ravel())[1:]
    own = set(np.unique(labels[found == 1]))
    assert len(own) == 1
    label = own.pop()
    assert np.array_equal(found, labels == label)
    assert sizes[label - 1] == sizes.max()
    assert label == sizes.argmax() + 1  # scipy numbers regions from the top too


@settings(deadline=None, derandomize=True, max_examples=300)
@given(masks)
def test_holes_against_scipy(mask: np.ndarray) -> None:
    found = fill_holes(mask)
    assert found.dtype == np.uint8
    assert np.array_equal(found, ndimage.binary_fill_holes(mask))
    assert np.array_equal(fill_holes(found), found)


@pytest.mark.parametrize("seed", range(5))
def test_noise_with_regions_that_merge_late(seed: int) -> None:
    mask = (np.random.default_rng(seed).random((83, 121)) < 0.45).astype(np.uint8)
    labels, _ = ndimage.label(mask, EIGHT)
    best = np.bincount(labels.ravel())[1:].argmax() + 1
    assert np.array_equal(largest_region(mask), labels == best)
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_diagonals_connect_lesions_and_close_holes() -> None:
    ring = parsed(".#.", "#.#", ".#.")
    assert np.array_equal(largest_region(ring), ring)
    assert np.array_equal(fill_holes(ring), parsed(".#.", "###", ".#."))


def test_rows_do_not_run_into_each_other() -> None:
    """The end of a row is no neighbour of the next row's start."""
    mask = parsed("...##", "#....", "#....", "#....")
    assert np.array_equal(largest_region(mask), parsed(".....", "#....", "#....", "#...."))


def test_a_spiral_is_one_region() -> None:
    mask = parsed("#######", "......#", "#####.#", "#...#.#", "#.#.#.#", "#.###.#", "#.....#", "#######")
    assert np.array_equal(largest_region(mask), mask)
    assert np.array_equal(fill_holes(mask), mask | parsed(*["......."] * 8))


def test_the_input_is_not_changed() -> None:
    mask = parsed("#.#", "###", "..#")
    before = mask.copy()
    largest_region(mask), fill_holes(mask)
    assert np.array_equal(mask, before)


def test_twelve_megapixels() -> None:
    """A lesion with a hole and specks, at the size of a phone's photo."""
    rows, columns = np.ogrid[:3000, :4000]
    far = ((rows - 1500) / 900) ** 2 + ((columns - 2000) / 1200) ** 2
    mask = ((far < 1) & (far > 0.1)).astype(np.uint8)
    mask[::97, ::89] = 1
    found = fill_holes(largest_region(mask))
    expected = (far < 1).astype(np.uint8)
    assert (found != expected).sum() < 200
