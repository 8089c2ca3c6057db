"""Scores of ranks under resampling: against repeated rows, DeLong's error, the path of sums; comparisons; cost."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from magic_cli.errors import DataError
from magic_cli.metrics import bootstrap, resampling
from magic_cli.metrics.bootstrap import intervals, paired
from magic_cli.metrics.classification import auroc, classify
from magic_cli.metrics.ranking import rank_gallery
from magic_cli.metrics.resampling import resamples_of
from magic_cli.metrics.row_scores import (
    Groups,
    JoinedScores,
    RowScores,
    class_scores,
    concept_scores,
    joined,
    ranking_scores,
)
from magic_cli.records import EncounterScores, EncounterSums


def photos(n: int, per: int = 1) -> Groups:
    return Groups.of([f"E{at // per:05}" for at in range(n)])


def made(seed: int, n: int, classes: int = 6, better: float = 1.0, per: int = 2) -> JoinedScores:
    """Return the scores of one of several systems on the same photos; `seed` makes its noise."""
    gold = np.arange(n) % classes
    noise = np.random.default_rng(seed).normal(size=(n, classes))
    scores = noise + better * (gold[:, None] == np.arange(classes))
    return class_scores(scores, gold, photos(n, per), [f"c{at}" for at in range(classes)])


def concept(scores: np.ndarray, positive: np.ndarray, groups: Groups) -> RowScores:
    return concept_scores(scores[:, None], positive[:, None], None, groups, ["x"])


def total(scores: EncounterScores) -> dict[str, float]:
    return dict(zip(scores.names, scores.over(range(len(scores.ids))).tolist(), strict=True))


def test_a_mean_of_scores_is_of_those_that_are_defined_for_all_encounters() -> None:
    gold, groups = np.arange(12) % 2, photos(12)
    rng = np.random.default_rng(0)
    parts = [
        class_scores(rng.normal(size=(12, 2)), gold, groups, "ab"),
        concept(rng.normal(size=12), gold == 1, groups),
    ]
    both = joined(parts, "mean", ("balanced_accuracy", "auroc[x]", "not there"))
    assert both.names[-1] == "mean"
    assert len(joined(parts, "mean", ("not there",)).names) == len(both.names) - 1
    row = total(both)
    assert row["mean"] == pytest.approx((row["balanced_accuracy"] + row["auroc[x]"]) / 2)
    one_class = dict(zip(both.names, both.over([0, 2, 4]), strict=True))
    assert math.isnan(one_class["auroc[x]"])
    assert math.isnan(one_class["mean"])  # no other mean in a resample
    areas = concept(rng.normal(size=12), np.ones(12, bool), groups)
    alone = joined([parts[0], areas], "mean", ("balanced_accuracy", "auroc[x]"))
    assert total(alone)["mean"] == total(alone)["balanced_accuracy"]
    found, other = intervals(both, 200)["mean"], joined([parts[0].ordered(range(12)), parts[1]], "mean", both.names[:1])
    assert found.low < row["mean"] < found.high
    assert paired(both, both, 200)["mean"].difference == 0
    assert total(other)["mean"] == pytest.approx(row[both.names[0]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_weights_are_repeated_encounters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = Groups.of([f"E{at}" for at in rng.integers(0, 8, 30)], [f"E{at}" for at in range(8)])
    scores, gold = rng.integers(0, 4, (30, 3)) / 2, rng.integers(0, 3, 30)
    queries, gallery = rng.integers(0, 3, (30, 2)) / 2, rng.integers(0, 3, (9, 2)) / 2
    keys = rng.integers(0, 5, 30), rng.integers(0, 4, 9)
    ranking = rank_gallery(queries, gallery, keys)
    both = joined([class_scores(scores, gold, groups, "abc"), ranking_scores(ranking, groups, "to_text_")])
    weights = rng.integers(0, 3, (4, 8)).astype(np.float64)
    for row, found in zip(weights, both.weighted(weights), strict=True):
        rows = np.repeat(np.arange(30), row[groups.index].astype(int))
        result, part = (
            classify(scores[rows], gold[rows]),
            rank_gallery(queries[rows], gallery, (keys[0][rows], keys[1])),
        )
        expected = {
            **result.scores,
            **{f"recall[{label}]": value for label, value in zip("abc", result.recall, strict=True)},
            **{f"auroc[{label}]": value for label, value in zip("abc", result.auroc, strict=True)},
            **{f"to_text_{name}": value for name, value in part.scores().items()},
        }
        assert dict(zip(both.names, found.tolist(), strict=True)) == pytest.approx(expected, nan_ok=True)
    some = [1, 4, 5]
    chosen = np.isin(np.arange(8), some)[None].astype(float)
    assert both.over(some) == pytest.approx(both.weighted(chosen)[0], nan_ok=True)


def test_interval_of_auroc_is_as_wide_as_delongs() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(200) % 4 == 0
    scores = rng.normal(size=200) + positive
    above = np.greater.outer(scores[positive], scores[~positive])  # DeLong et al. 1988
    error = math.sqrt(above.mean(1).var(ddof=1) / positive.sum() + above.mean(0).var(ddof=1) / (~positive).sum())
    interval = intervals(concept(scores, positive, photos(200)))["auroc[x]"]
    value = metrics.roc_auc_score(positive, scores)
    assert interval.low < value < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_photos_of_an_encounter_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(100) % 3 == 0
    scores = rng.normal(size=100) + positive
    once = intervals(concept(scores, positive, photos(100)))["auroc[x]"]
    fourfold = concept(np.repeat(scores, 4), np.repeat(positive, 4), photos(400, 4))
    assert intervals(fourfold)["auroc[x]"] == once  # copies tell nothing new


def means(values: np.ndarray, groups: Groups, by_rows: bool) -> EncounterScores:
    if not by_rows:
        sums = groups.sums(np.column_stack([values, np.ones(len(values))]))
        return EncounterSums(groups.ids, ("mean",), sums, lambda x: x[..., :1] / x[..., 1:])

    def prepare(columns: tuple[np.ndarray, ...], index: np.ndarray) -> object:
        return lambda weights: (columns[0] @ weights[index] / weights[index].sum(0))[:, None]

    return RowScores(groups.ids, ("mean",), groups.index, (values,), prepare)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [20, 120])  # all swaps, random swaps
def test_a_mean_of_rows_is_treated_as_a_mean_of_sums(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.random(n), rng.random(n)
    rows, sums = ([means(values, photos(n, 2), by_rows) for values in (a, b)] for by_rows in (True, False))
    for ours, theirs in ((intervals(rows[0]), intervals(sums[0])), (paired(*rows), paired(*sums))):
        assert dataclasses.astuple(ours["mean"]) == pytest.approx(dataclasses.astuple(theirs["mean"]), abs=1e-9)


def test_same_bounds_in_any_order() -> None:
    scores, other = made(0, 60), made(1, 60)
    order = np.random.default_rng(0).permutation(30).tolist()
    moved = scores.ordered(order)
    assert moved.ids == tuple(scores.ids[at] for at in order)
    bounds, compared = ((intervals(one, 500), paired(one, other, 500)) for one in (scores, moved))
    for old, new in zip(bounds, compared, strict=True):
        assert list(map(dataclasses.astuple, new.values())) == [
            pytest.approx(dataclasses.astuple(row), nan_ok=True) for row in old.values()
        ]


def test_median_rank_has_an_interval_within_the_gallery() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(80, 8))
    ranking = rank_gallery(images, images + 2 * rng.normal(size=(80, 8)))
    found = intervals(ranking_scores(ranking, photos(80, 2)))
    for name, value in ranking.scores().items():
        assert found[name].low <= value <= found[name].high
    assert 1 <= found["median_rank"].low < found["median_rank"].high < 20
    drawn = np.random.default_rng(1).integers(0, 40, (4000, 40))
    medians = np.median(ranking.rank.reshape(40, 2)[drawn].reshape(4000, 80), axis=1)
    assert found["median_rank"].high - found["median_rank"].low == pytest.approx(
        np.diff(np.quantile(medians, [0.025, 0.975]))[0], rel=0.35
    )


def test_a_better_system_is_told_from_an_equal_one() -> None:
    base, equal, better = made(0, 120), made(1, 120), made(2, 120, better=2.5)
    assert paired(better, base, 1000)["macro_auroc"].p < 0.01
    assert paired(better, base, 1000)["macro_auroc"].low > 0
    assert paired(equal, base, 1000)["macro_auroc"].p > 0.05
    for row in paired(base, base, 300).values():
        assert dataclasses.astuple(row) == (0, 0, 0, 1)
    ahead, behind = paired(better, base, 300), paired(base, better, 300)
    assert {name: row.p for name, row in ahead.items()} == {name: row.p for name, row in behind.items()}


def test_units_of_scores_do_not_matter_to_auroc() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(60) % 2 == 0
    a, b = (rng.normal(size=60) + positive for _ in range(2))
    first, second, third = (concept(x, positive, photos(60)) for x in (a, b, np.exp(9 * b)))
    assert paired(first, second, 500) == paired(first, third, 500)
    alike = paired(concept(a, positive, photos(60)), concept(np.exp(a), positive, photos(60)))
    assert dataclasses.astuple(alike["auroc[x]"]) == (0, 0, 0, 1)


def test_p_is_uniform_if_both_systems_are_equivalent() -> None:
    positive = np.arange(40) % 2 == 0
    rng = np.random.default_rng(0)
    found = []
    for _ in range(150):
        shared = rng.normal(size=20).repeat(2) + 0.8 * positive
        a, b = (concept(shared + rng.normal(size=40), positive, photos(40, 2)) for _ in range(2))
        found.append(paired(a, b, 99)["auroc[x]"].p)
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.12)


def test_one_class_only_has_no_auroc_and_no_interval() -> None:
    scores = np.arange(20.0)
    lone = concept(scores, np.ones(20, bool), photos(20))
    assert math.isnan(total(lone)["mean_auroc"])
    assert math.isnan(intervals(lone, 50)["auroc[x]"].low)
    assert math.isnan(paired(lone, lone, 50)["auroc[x]"].p)
    rare = concept(scores, scores == 3, photos(20))  # in every third resample nobody has it
    assert not math.isnan(total(rare)["auroc[x]"])
    assert math.isnan(intervals(rare, 200)["auroc[x]"].low)


def test_unknown_labels_count_in_no_pair() -> None:
    rng = np.random.default_rng(0)
    scores, positive, known = rng.random((50, 2)), rng.random((50, 2)) < 0.5, rng.random((50, 2)) < 0.7
    found = total(concept_scores(scores, positive, known, photos(50), "ab"))
    areas = auroc(scores, positive, known).tolist()
    assert [found["auroc[a]"], found["auroc[b]"], found["mean_auroc"]] == pytest.approx([*areas, np.mean(areas)])


def test_209_photos_get_all_ten_thousand_resamples() -> None:
    assert resamples_of(made(0, 209), 10_000) == 10_000


def test_many_photos_get_fewer_resamples_and_sums_never() -> None:
    scores = made(0, 20_000)
    assert resamples_of(scores, 10_000) == resampling.WORK // (20_000 * 6)
    assert resamples_of(scores, 100) == 100
    assert resamples_of(scores.parts[0], 10_000) == 10_000


def test_leaving_out_groups_is_near_leaving_out_each(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = made(0, 600)
    exact = bootstrap._jackknife(resampling.alone(scores))[0]
    monkeypatch.setattr(resampling, "WORK", 1)
    grouped = resampling.alone(scores)
    assert grouped.groups == 100
    assert bootstrap._jackknife(grouped)[0] == pytest.approx(exact, rel=0.3)


def test_what_does_not_fit_is_refused() -> None:
    a = made(0, 20)
    with pytest.raises(ValueError, match="not in the list"):
        Groups.of(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="name twice"):
        joined([a, a])
    with pytest.raises(ValueError, match="other encounters"):
        joined([a, concept(np.arange(4.0), np.arange(4) > 1, photos(4))])
    with pytest.raises(DataError, match="the same encounters"):
        paired(a, made(0, 22))
