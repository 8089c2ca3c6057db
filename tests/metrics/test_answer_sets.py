"""metrics/answer_sets.py against hand figures (examples/official-scorer.md, "Figures"), properties and sklearn."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from magic_cli.metrics.answer_sets import AnswerTerms, credit_per_option, iom

sets = st.frozensets(st.integers(0, 9), max_size=6)


@pytest.mark.parametrize(
    ("found", "gold", "expected"),
    [
        ({2}, {2, 7}, 0.5),
        ({7}, {2, 7}, 0.5),
        ({2, 3, 7}, {2, 7}, 2 / 3),
        ({7, 2}, {2, 7}, 1.0),
        ({1}, {2, 7}, 0.0),
        (set(), set(), 0.0),
        ({"2", None}, {2}, 0.0),
    ],
)
def test_cases_21_to_24(found: set[int], gold: set[int], expected: float) -> None:
    assert iom(found, gold) == pytest.approx(expected)


@given(sets, sets)
def test_iom_is_symmetric_bounded_and_one_only_for_equal_sets(a: frozenset[int], b: frozenset[int]) -> None:
    assert iom(a, b) == iom(b, a)
    assert 0.0 <= iom(a, b) <= 1.0
    assert (iom(a, b) == 1.0) == (a == b and bool(a))


@given(sets, sets)
def test_iom_is_the_credit_of_the_shared_options(a: frozenset[int], b: frozenset[int]) -> None:
    if a or b:
        assert iom(a, b) == float(len(a & b) * credit_per_option(len(a), len(b)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[AnswerTerms, np.ndarray, np.ndarray, np.ndarray]:
    terms = AnswerTerms(draw(st.integers(1, 3)), tuple(draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))))
    count = draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = np.stack([random.integers(-1, size, count) for size in terms.sizes], axis=1)
    gold = np.stack([random.integers(0, size, count) for size in terms.sizes], axis=1)
    return terms, random.random((count, terms.parents)), found, gold


@settings(max_examples=50, deadline=None)
@given(cases())
def test_figures_from_sums_equal_means_and_sklearn(
    case: tuple[AnswerTerms, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """sklearn is told the options that occur; -1, nothing valid found, is none of them."""
    terms, credit, found, gold = case
    figures = terms.scores(terms.sums(credit, found, gold).sum(0))
    slots = zip(found.T, gold.T, strict=True)
    f1 = [f1_score(g, f, average="macro", labels=np.setdiff1d(np.union1d(g, f), [-1])) for f, g in slots]
    assert figures == pytest.approx([*credit.mean(0), credit.mean(0).mean(), np.mean(f1)], abs=1e-12)


def test_sums_by_hand() -> None:
    """One parent, one slot of two options: how often right, then found plus gold, each for option 0 and 1."""
    terms = AnswerTerms(1, (2,))
    sums = terms.sums(np.array([[1.0], [0.0], [0.0]]), np.array([[1], [-1], [0]]), np.array([[1], [0], [1]]))
    assert sums.tolist() == [[1, 1, 0, 1, 0, 2], [0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 1, 1]]
    assert terms.scores(sums.sum(0)).tolist() == pytest.approx([1 / 3, 1 / 3, (0 / 2 + 2 / 3) / 2])


def test_one_missing_answer_is_a_miss_and_no_class_of_its_own() -> None:
    """80 of 81 encounters right in a slot that has one gold option only: F1 is 160 / 161, not half of that."""
    found, gold = np.zeros((81, 1), int), np.zeros((81, 1), int)
    found[0] = -1
    terms = AnswerTerms(1, (3,))
    assert terms.scores(terms.sums(np.ones((81, 1)), found, gold).sum(0))[-1] == pytest.approx(160 / 161)


def test_a_label_that_is_nowhere_does_not_count() -> None:
    terms = AnswerTerms(1, (5, 5))
    same = np.array([[3, 0], [3, 1]])
    assert terms.scores(terms.sums(np.ones((2, 1)), same, same).sum(0)).tolist() == [1.0, 1.0, 1.0]


@settings(max_examples=20, deadline=None)
@given(cases(), st.integers(1, 700))
def test_figures_take_any_leading_axes(
    case: tuple[AnswerTerms, np.ndarray, np.ndarray, np.ndarray], resamples: int
) -> None:
    terms, credit, found, gold = case
    sums = terms.sums(credit, found, gold)
    counts = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), (2, resamples))
    figures = terms.scores(counts @ sums)
    assert figures.shape == (2, resamples, terms.parents + 2)
    assert figures[1, -1] == pytest.approx(terms.scores(counts[1, -1] @ sums), abs=1e-12)
    rows = np.repeat(np.arange(len(sums)), counts[1, -1])
    again = terms.scores(terms.sums(credit[rows], found[rows], gold[rows]).sum(0))
    assert figures[1, -1] == pytest.approx(again, abs=1e-12)


def test_many_encounters_take_little_more_than_their_sums() -> None:
    sizes, rng = (3, 8, 5, 8, 4), np.random.default_rng(0)
    terms, number = AnswerTerms(2, sizes), 3_000
    found = np.stack([rng.integers(-1, size, number) for size in sizes], 1)
    gold = np.stack([rng.integers(0, size, number) for size in sizes], 1)
    credit = rng.random((number, 2))
    tracemalloc.start()
    try:
        sums = terms.sums(credit, found, gold)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * sums.nbytes
    for row in (0, 255, 256, 2_999):
        one = slice(row, row + 1)
        assert terms.sums(credit[one], found[one], gold[one]).tolist() == [sums[row].tolist()]
