"""Dealing encounters into folds: each once, even sizes, even labels."""

from collections import Counter
from collections.abc import Sequence
from statistics import pvariance

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.stratify import assign_folds
from magic_cli.errors import ConfigError

ANSWERS = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sets(st.sampled_from("xyz")), min_size=2)


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.data())
def test_every_encounter_once_and_sizes_differ_by_one_at_most(labels: dict[str, set[str]], data: st.DataObject) -> None:
    folds = data.draw(st.integers(2, len(labels)))
    found = assign_folds(labels, folds, data.draw(st.integers(0, 9)))
    assert sorted(one for part in found for one in part) == sorted(labels)
    assert {len(part) for part in found} <= {len(labels) // folds, -(-len(labels) // folds)}
    assert all(list(part) == sorted(part) for part in found)


def test_a_label_is_spread_as_evenly_as_it_can_be() -> None:
    """One label an encounter: counts of a fold differ by one at most, where chance alone would not do it."""
    labels = {f"E{n:03}": ["small" if n < 20 else "medium" if n < 45 else "large"] for n in range(60)}
    for seed in range(5):
        counts = [Counter(labels[one][0] for one in part) for part in assign_folds(labels, 5, seed)]
        assert [count["small"] for count in counts] == [4] * 5
        assert [count["medium"] for count in counts] == [5] * 5
        assert [count["large"] for count in counts] == [3] * 5


def test_several_labels_are_spread_better_than_by_chance() -> None:
    labels = {f"E{n:03}": [f"a{n % 2}", f"b{n % 3}", f"c{(n * n) % 7}"] for n in range(100)}

    def unevenness(parts: Sequence[Sequence[str]]) -> float:
        counts = [Counter(label for one in part for label in labels[one]) for part in parts]
        return sum(pvariance([count[label] for count in counts]) for label in set().union(*counts))

    even, chance = 0.0, 0.0
    for seed in range(5):
        ids = np.random.default_rng(seed).permutation(sorted(labels)).tolist()
        even += unevenness(assign_folds(labels, 5, seed))
        chance += unevenness([ids[fold::5] for fold in range(5)])
    assert even < 0.3 * chance, (even, chance)


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    labels = {f"E{n}": [str(n % 3)] for n in range(30)}
    turned = dict(reversed(labels.items()))
    assert assign_folds(labels, 3, 1) == assign_folds(labels, 3, 1) == assign_folds(turned, 3, 1)
    assert assign_folds(labels, 3, 1) != assign_folds(labels, 3, 2)


def test_a_label_of_one_encounter_alone_and_none_at_all() -> None:
    assert sum(map(len, assign_folds({"A": ["rare"], "B": [], "C": []}, 3, 0))) == 3


@pytest.mark.parametrize("folds", [1, 4])
def test_too_few_or_too_many_folds_is_one_line(folds: int) -> None:
    with pytest.raises(ConfigError, match=rf"--folds: got {folds}, expected 2 to 3.*choose") as caught:
        assign_folds({"A": [], "B": [], "C": []}, folds, 0)
    assert len(caught.value.problems) == 1
