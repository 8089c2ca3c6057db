"""metrics/tally.py: 0/0 by rule and as official, terms that add up, figures by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magic_cli.metrics import tally
from magic_cli.metrics.tally import FIGURES, TERMS, figures, ratios, terms

EMPTY = (0, 0, 0)
PAIR = (3, 5, 5)  # 3 pixels in both of 5 and 5: Jaccard 3/7, Dice 6/10


def figures_of(rows: list[list[float]], empty: str) -> dict[str, float]:
    sums = np.array(rows).reshape(-1, len(TERMS)).sum(0)
    return dict(zip(FIGURES, figures(sums, empty).tolist(), strict=True))


@pytest.mark.parametrize(("empty", "value"), [("one", 1.0), ("zero", 0.0), ("skip", math.nan), ("nan", math.nan)])
def test_empty_against_empty(empty: str, value: float) -> None:
    assert ratios(EMPTY, empty) == pytest.approx((value, value), nan_ok=True)
    assert ratios(EMPTY, empty, fault=True) == (0.0, 0.0)


@pytest.mark.parametrize("empty", ["one", "zero", "skip", "nan"])
def test_ratios(empty: str) -> None:
    assert ratios(PAIR, empty) == (3 / 7, 6 / 10)
    assert ratios((0, 0, 4), empty) == ratios((0, 4, 0), empty) == (0.0, 0.0)
    assert ratios(PAIR, empty, fault=True) == (0.0, 0.0)


def test_terms_by_hand() -> None:
    assert terms([PAIR, (5, 5, 5)], (4, 5, 6), "one") == [1.0, (3 / 7 + 1) / 2, 1.0, 0.8, 1.0, 4.0, 1.0, 2.0, 0.0]
    assert terms([PAIR], (0, 0, 6), "one", fault=True) == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 6.0, 1.0]


def test_one_undefined_pair_of_several() -> None:
    pairs = [(0, 0, 9), EMPTY]
    assert terms(pairs, EMPTY, "one")[:5] == [1.0, 0.5, 1.0, 0.5, 1.0]
    assert terms(pairs, EMPTY, "zero")[:5] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert terms(pairs, EMPTY, "skip")[:5] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert all(map(math.isnan, terms(pairs, EMPTY, "nan")[:4]))
    assert all(map(math.isnan, terms(pairs[::-1], EMPTY, "nan")[:4]))


def test_a_photo_without_any_pair_is_left_out() -> None:
    assert terms([EMPTY, EMPTY], EMPTY, "skip") == [0.0] * len(TERMS)
    assert terms([EMPTY, EMPTY], EMPTY, "skip", fault=True)[4] == 1.0


def test_figures_by_hand() -> None:
    """Two photos: J = (1, 3/7) and (0,); pooled 5 of 7 and 0 of 16 pixels."""
    rows = [terms([(5, 5, 5), PAIR], (5, 5, 7), "nan"), terms([(0, 5, 11)], (0, 5, 11), "nan")]
    found = figures_of(rows, "nan")
    assert found["jaccard_meanofmax"] == pytest.approx(0.5)
    assert found["jaccard_meanofmean"] == pytest.approx((1 + 3 / 7) / 4)
    assert found["dice_meanofmax"] == pytest.approx(0.5)
    assert found["dice_meanofmean"] == pytest.approx((1 + 6 / 10) / 4)
    assert found["jaccard"] == pytest.approx(5 / (7 + 16))
    assert found["dice"] == pytest.approx(10 / (12 + 16))


def test_nan_spreads_to_the_means_alone() -> None:
    found = figures_of([terms([PAIR], PAIR, "nan"), terms([EMPTY], (0, 0, 4), "nan")], "nan")
    assert [name for name, value in found.items() if math.isnan(value)] == list(FIGURES[:4])
    assert found["dice"] == pytest.approx(6 / 14)


@pytest.mark.parametrize(
    ("empty", "fault", "value"),
    [("one", False, 1.0), ("one", True, 0.0), ("zero", False, 0.0), ("skip", False, 0.0), ("nan", False, math.nan)],
)
def test_nothing_found_and_nothing_there_at_all(empty: str, fault: bool, value: float) -> None:
    found = figures_of([terms([EMPTY], EMPTY, empty), terms([EMPTY], EMPTY, empty, fault)], empty)
    assert [found["jaccard"], found["dice"]] == pytest.approx([value, value], nan_ok=True)


@pytest.mark.parametrize("empty", ["one", "zero", "skip", "nan"])
def test_no_photo_is_zero(empty: str) -> None:
    assert figures_of([], empty) == dict.fromkeys(FIGURES, 0.0)


counts = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).map(
    lambda c: (c[0], c[0] + c[1], c[0] + c[2])
)
photos = st.lists(st.tuples(st.lists(counts, min_size=1, max_size=4), counts, st.booleans()), min_size=1, max_size=6)


@given(photos, st.sampled_from(["one", "zero", "skip"]))
def test_strict_figures_are_always_defined_and_follow_from_sums_in_any_grouping(
    given_: list[tuple[list[tally.Pair], tally.Pair, bool]], empty: str
) -> None:
    rows = np.array([terms(pairs, pooled, empty, fault) for pairs, pooled, fault in given_])
    found = figures(rows.sum(0), empty)
    assert ((found >= 0) & (found <= 1)).all()
    half = len(rows) // 2
    np.testing.assert_allclose(figures(rows[:half].sum(0) + rows[half:].sum(0), empty), found, atol=1e-12)
    stacked = figures(np.stack([rows.sum(0), 0 * rows.sum(0)]), empty)
    np.testing.assert_array_equal(stacked[0], found)
