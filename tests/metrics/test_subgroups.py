"""Scores by subgroup against sums by hand, and against a permutation test that tries all labels."""

from itertools import combinations

import numpy as np
import pytest

from magic_cli.metrics.bootstrap import against_rest
from magic_cli.metrics.subgroups import MISSING, MOST, OTHERS, binned, subgroups, widest_gaps
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


def test_subgroups_add_up_to_the_whole() -> None:
    rows = subgroups(means(VALUES), SITES, 200)
    assert sum(row.encounters for row in rows) == len(VALUES)
    total = sum(row.encounters * row.scores["mean"] for row in rows)
    assert total / len(VALUES) == pytest.approx(np.mean(VALUES))


def test_the_widest_gap_has_an_interval_and_a_p_value_that_knows_how_many_subgroups_there_are() -> None:
    rng = np.random.default_rng(0)
    site = {f"e{n}": ["arm", "leg", "hand", "rare"][min(n // 30, 3)] for n in range(95)}  # 30, 30, 30 and 5
    values = rng.random(95).tolist()
    gap = widest_gaps(means(values), site, 500)["mean"]
    of_each = {
        name: np.mean([values[n] for n in range(95) if site[f"e{n}"] == name]) for name in ("arm", "leg", "hand")
    }
    assert (gap.best, gap.worst) == (max(of_each, key=of_each.__getitem__), min(of_each, key=of_each.__getitem__))
    assert gap.difference == pytest.approx(max(of_each.values()) - min(of_each.values()))
    assert gap.low < gap.difference < gap.high
    assert gap.p > 0.05  # they are drawn alike, and the widest of three gaps is expected to be wide
    unlike = [value + (0.5 if site[f"e{n}"] == "leg" else 0) for n, value in enumerate(values)]
    assert widest_gaps(means(unlike), site, 500)["mean"].p == pytest.approx(1 / 501)
    assert widest_gaps(means(values), dict.fromkeys(site, "arm"), 500) == {}
