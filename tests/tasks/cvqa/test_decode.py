"""tasks/cvqa/decode.py against brute force over all canonical answers and all sets that slots can hold."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from magic_cli.metrics.answer_sets import iom
from magic_cli.tasks.cvqa.decode import best_set, inclusion

Floats = NDArray[np.float64]


@st.composite
def parents(draw: st.DrawFn) -> tuple[Floats, int]:
    """Slots' probabilities, some of them zero, and the padding's index."""
    slots, options = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    cells = st.lists(st.sampled_from((0.0, 0.1, 1.0, 2.5, 7.0)), min_size=options, max_size=options)
    rows = np.array(
        [row if sum(row) else [1.0] * options for row in draw(st.lists(cells, min_size=slots, max_size=slots))]
    )
    return rows / rows.sum(1, keepdims=True), draw(st.integers(0, options - 1))


def answers(slots: Floats, padding: int) -> dict[frozenset[int], float]:
    """Every canonical answer's probability: each slot chooses among what may follow the one before."""
    found: dict[frozenset[int], float] = {}
    for row in product(range(slots.shape[1]), repeat=len(slots)):
        chance, last = 1.0, -1
        for number, option in enumerate(row):
            allowed = [o for o in range(slots.shape[1]) if o == padding or (last != padding and o > last)]
            allowed = allowed if number else list(range(slots.shape[1]))
            total = slots[number, allowed].sum()
            if option not in allowed:
                chance = 0.0
            elif total > 0:
                chance *= slots[number, option] / total
            else:
                chance *= option == padding
            last = option
        if chance:
            found[frozenset(row)] = found.get(frozenset(row), 0.0) + chance
    return found


def writable(slots: int, options: int, padding: int) -> list[frozenset[int]]:
    values = [o for o in range(options) if o != padding]
    padded = [frozenset({padding, *some}) for n in range(slots) for some in combinations(values, n)]
    return padded + [frozenset(some) for some in combinations(values, slots)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(parents())
def test_inclusion_counts_every_answer(parent: tuple[Floats, int]) -> None:
    slots, padding = parent
    expected = np.zeros((slots.shape[1], len(slots) + 1))
    every = answers(slots, padding)
    for some, chance in every.items():
        expected[sorted(some), len(some)] += chance
    assert sum(every.values()) == pytest.approx(1.0)
    assert inclusion(slots, padding) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(parents())
def test_no_set_that_can_be_written_is_expected_to_score_more(parent: tuple[Floats, int]) -> None:
    slots, padding = parent
    every = answers(slots, padding)

    def expected(found: frozenset[int]) -> float:
        return sum(chance * iom(found, some) for some, chance in every.items())

    sets = writable(*slots.shape, padding)
    best = best_set(slots, padding)
    assert best in sets
    assert expected(best) == pytest.approx(max(expected(some) for some in sets), abs=1e-9)


def test_a_likely_second_value_is_taken_in() -> None:
    slots = np.array([[0.9, 0.05, 0.05], [0.0, 0.6, 0.4]])
    assert best_set(slots, 2) == {0, 1}
    assert best_set(np.array([[0.9, 0.05, 0.05], [0.0, 0.3, 0.7]]), 2) == {0, 2}


def test_nothing_is_likeliest() -> None:
    assert best_set(np.array([[0.2, 0.1, 0.7]] * 3), 2) == {2}
