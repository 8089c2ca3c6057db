"""metrics/answers.py against hand figures of specs/peers.md section 2, properties and sklearn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from magic_cli.metrics.answers import f1_macro, f1_macro_slots, iom, iom_means, mean

sets = st.frozensets(st.integers(0, 9), max_size=6)
labels = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("found", "gold", "expected"),
    [
        ({2}, {2, 7}, 0.5),
        ({7}, {2, 7}, 0.5),
        ({2, 3, 7}, {2, 7}, 2 / 3),
        ({7, 2}, {2, 7}, 1.0),
        ({1}, {2, 7}, 0.0),
        (set(), set(), 0.0),
    ],
)
def test_cases_21_to_24(found: set[int], gold: set[int], expected: float) -> None:
    assert iom(found, gold) == pytest.approx(expected)


@given(sets, sets)
def test_iom_is_symmetric_bounded_and_one_only_for_equal_sets(a: frozenset[int], b: frozenset[int]) -> None:
    assert iom(a, b) == iom(b, a)
    assert 0.0 <= iom(a, b) <= 1.0
    assert (iom(a, b) == 1.0) == (a == b and bool(a))


def test_means_by_parent_keep_the_order() -> None:
    pairs = [
        ({"CQID020": {1}, "CQID010": {0}}, {"CQID020": {1, 2}, "CQID010": {0}}),
        ({"CQID020": {3}, "CQID010": {1}}, {"CQID020": {3}, "CQID010": {0}}),
    ]
    found = iom_means(pairs, ["CQID020", "CQID010"])
    assert list(found.items()) == [("CQID020", 0.75), ("CQID010", 0.5)]
    assert mean(list(found.values())) == 0.625


def test_nothing_is_zero() -> None:
    assert iom_means([], ["CQID010"]) == {"CQID010": 0.0}
    assert f1_macro([], []) == f1_macro_slots({}) == mean([]) == 0.0


@given(labels)
def test_f1_equals_sklearn(pairs: list[tuple[int, int]]) -> None:
    found, gold = map(np.array, zip(*pairs, strict=True))
    assert f1_macro(found.tolist(), gold.tolist()) == pytest.approx(f1_score(gold, found, average="macro"), abs=1e-12)


def test_f1_of_slots_is_their_unweighted_mean() -> None:
    slots = {"a": ([0, 0, 1], [0, 0, 1]), "b": ([0, 0, 0], [1, 1, 1])}
    assert f1_macro_slots(slots) == 0.5


def test_f1_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        f1_macro([0], [0, 1])
