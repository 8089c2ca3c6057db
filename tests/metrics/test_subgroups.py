"""Scores by subgroup against sums by hand, and against a permutation test that tries all labels."""

from itertools import combinations

import numpy as np
import pytest

from magic_cli.metrics.bootstrap import against_rest
from magic_cli.metrics.subgroups import MISSING, MOST, OTHERS, binned, subgroups
from magic_cli.records import EncounterSums


def means(values: list[float], ids: list[str] | None = None) -> EncounterSums:
    """Return encounters whose score is the mean of their values."""
    sums = np.column_stack([values, np.ones(len(values))])
    names = tuple(ids or [f"e{n}" for n in range(len(values))])
    return EncounterSums(names, ("mean",), sums, lambda total: (total[..., :1] / total[..., 1:]).astype(np.float64))


VALUES = [0.1, 0.2, 0.3, 0.4, 0.6, 0.5, 0.7, 0.9, 0.8, 1.0]
SITES = {f"e{n}": "arm" if n < 5 else "leg" for n in range(9)}


def test_each_subgroup_has_the_score_of_its_own_encounters() -> None:
    arm, leg, missing = subgroups(means(VALUES), SITES, 500)
    assert [(row.value, row.encounters) for row in (arm, leg, missing)] == [("arm", 5), ("leg", 4), (MISSING, 1)]
    assert arm.scores["mean"] == pytest.approx(np.mean(VALUES[:5]))
    assert leg.scores["mean"] == pytest.approx(np.mean(VALUES[5:9]))
    assert arm.intervals["mean"].low <= arm.scores["mean"] <= arm.intervals["mean"].high
    assert np.isnan(leg.intervals["mean"].low)  # of four encounters there is none
    assert not leg.differences
    assert arm.differences["mean"].difference == pytest.approx(np.mean(VALUES[:5]) - np.mean(VALUES[5:]))


def test_the_order_of_the_encounters_changes_nothing() -> None:
    ids = [f"e{n}" for n in range(10)]
    assert repr(subgroups(means(VALUES[::-1], ids[::-1]), SITES, 300)) == repr(subgroups(means(VALUES), SITES, 300))


def test_the_p_value_is_that_of_all_ways_to_deal_the_labels() -> None:
    inside = np.arange(10) < 5
    observed = abs(np.mean(VALUES[:5]) - np.mean(VALUES[5:]))
    ways = list(combinations(range(10), 5))
    reached = 0
    for rows in ways:
        chosen = np.isin(np.arange(10), rows)
        gap = np.mean(np.array(VALUES)[chosen]) - np.mean(np.array(VALUES)[~chosen])
        reached += abs(gap) >= observed - 1e-9
    found = against_rest(means(VALUES), inside, 20_000)["mean"]
    assert found.p == pytest.approx(reached / len(ways), abs=0.005)
    assert found.low < found.difference < found.high < 0


def test_equal_subgroups_do_not_differ() -> None:
    found = against_rest(means([0.2, 0.4, 0.6, 0.8, 1.0] * 2), np.arange(10) < 5, 1000)["mean"]
    assert found.difference == pytest.approx(0)
    assert found.p == 1
    assert found.low < 0 < found.high


def test_numbers_are_put_in_ranges() -> None:
    ages = binned("age_approximate", {"a": "29.9", "b": "30", "c": "44", "d": "75", "e": "", "f": "45"})
    assert ages == {
        "a": "below 30",
        "b": "30 to 44",
        "c": "30 to 44",
        "d": "75 and above",
        "e": MISSING,
        "f": "45 to 59",
    }
    depths = binned("depth", {f"e{n}": f"{n / 10}" for n in range(30)})
    assert sorted(set(depths.values())) == ["0.966667 to below 1.93333", "1.93333 and above", "below 0.966667"]
    assert binned("streaks", {"a": "1", "b": "0"}) == {"a": "1", "b": "0"}
    assert binned("stage", {"a": "2"}) == {"a": "2"}  # "age" is a word, not a part of one


def test_rare_values_are_put_together() -> None:
    many = {f"e{n}": f"site {n % 40:02}" for n in range(45)}
    found = binned("site", many)
    assert len(set(found.values())) == MOST
    assert found["e0"] == "site 00"
    assert found["e39"] == OTHERS
