"""Intervals and paired comparisons: against scipy, closed forms, invariances, made data with known scores."""

import math
import tracemalloc
from collections.abc import Callable

import encounter_sums
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from magic_cli.errors import DataError
from magic_cli.metrics import bootstrap, resampling
from magic_cli.metrics.bootstrap import Difference, intervals, paired
from magic_cli.records import EncounterSums, Interval


def mean_score(sums: np.ndarray) -> np.ndarray:
    """Return the ratio of the first term to the second, NaN for nothing at all."""
    with np.errstate(invalid="ignore"):
        return sums[..., :1] / sums[..., 1:2]


def of_means(values: np.ndarray) -> EncounterSums:
    """Return sums of a value per encounter, with the mean of all values as the score."""
    return encounter_sums.from_table(np.column_stack([values, np.ones(len(values))]), mean_score, ("mean",))


def of_ratios(top: np.ndarray, bottom: np.ndarray) -> EncounterSums:
    return encounter_sums.from_table(np.column_stack([top, bottom]), mean_score, ("ratio",))


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Return macro-F1 of a slot of three options, from 3 right and 3 answered + gold."""
    right, each = sums[..., :3], sums[..., 3:]
    return (2 * right / np.maximum(each, 1)).sum(-1, keepdims=True) / (each > 0).sum(-1, keepdims=True)


def only(result: dict[str, Interval]) -> tuple[float, float]:
    (interval,) = result.values()
    return interval.low, interval.high


def skewed(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).beta(4, 1.2, n)


# intervals against scipy and closed forms


def expected_level(values: np.ndarray, error: float, spread: float) -> float:
    """Return the level of the percentiles that the module's rule leads to, from scipy's own t and kurtosis."""
    n = len(values)
    freedom = np.clip(2 * n / (stats.kurtosis(values, fisher=False) - 1), 3, n - 1)
    return float(2 * stats.norm.cdf(stats.t.ppf(0.975, freedom) * error / spread) - 1)


@pytest.mark.parametrize("n", [12, 30, 100])
def test_mean_is_scipys_percentile_interval_at_the_wider_level(n: int) -> None:
    values = skewed(n, n)
    level = expected_level(values, values.std(ddof=1), values.std())  # both over sqrt(n)
    theirs = stats.bootstrap((values,), np.mean, confidence_level=level, n_resamples=20_000, method="percentile", rng=1)
    shift = values.mean() - np.median(theirs.bootstrap_distribution)
    low, high = only(intervals(of_means(values), 20_000))
    tolerance = 0.04 * (high - low)
    assert low == pytest.approx(theirs.confidence_interval.low + shift, abs=tolerance)
    assert high == pytest.approx(theirs.confidence_interval.high + shift, abs=tolerance)


def test_ratio_is_scipys_percentile_interval_at_the_wider_level() -> None:
    rng = np.random.default_rng(3)
    bottom = np.exp(rng.normal(0, 1.3, 40)) * 1000
    top = bottom * rng.beta(5, 2, 40)

    def ratio(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.sum(axis) / y.sum(axis)

    options = {"paired": True, "vectorized": True, "n_resamples": 20_000, "method": "percentile", "rng": 1}
    plain = stats.bootstrap((top, bottom), ratio, **options)
    without = np.array([ratio(np.delete(top, i), np.delete(bottom, i)) for i in range(40)])
    error = math.sqrt(39 * without.var())
    level = expected_level(without, error, plain.standard_error)
    theirs = stats.bootstrap((top, bottom), ratio, confidence_level=level, **options)
    shift = ratio(top, bottom) - np.median(theirs.bootstrap_distribution)
    low, high = only(intervals(of_ratios(top, bottom), 20_000))
    assert level > 0.96  # a few big ones count most
    assert low == pytest.approx(theirs.confidence_interval.low + shift, abs=0.04 * (high - low))
    assert high == pytest.approx(theirs.confidence_interval.high + shift, abs=0.04 * (high - low))


def test_resamples_are_those_of_a_bootstrap() -> None:
    values = skewed(5, 25)
    drawn = np.concatenate(list(bootstrap._drawn(25, 25, 20_000, 1))) @ of_means(values).sums
    assert (drawn[:, 1] == 25).all()
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=1)
    assert (drawn[:, 0] / 25).std() == pytest.approx(theirs.standard_error, rel=0.02)
    assert drawn[:, 0].mean() / 25 == pytest.approx(values.mean(), abs=4 * theirs.standard_error / math.sqrt(20_000))
    identity = np.concatenate(list(bootstrap._drawn(25, 25, 4000, 1)))
    assert (identity == np.floor(identity)).all()
    assert (identity.sum(1) == 25).all()
    assert identity.var(0).mean() == pytest.approx(24 / 25, rel=0.05)  # that of a multinomial count


def test_many_normal_values_give_the_t_interval() -> None:
    values = 0.5 + 0.05 * stats.norm.ppf((np.arange(400) + 0.5) / 400)
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20
    low, high = only(intervals(of_means(values), 20_000))
    assert low == pytest.approx(0.5 - half, abs=0.04 * half)
    assert high == pytest.approx(0.5 + half, abs=0.04 * half)
    wider = stats.t.ppf(0.995, 399) * values.std(ddof=1) / 20
    assert only(intervals(of_means(values), 20_000, level=0.99))[1] == pytest.approx(0.5 + wider, abs=0.06 * wider)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = skewed(2, 17)
    error, freedom = bootstrap._jackknife(resampling.alone(of_means(values)))
    assert error[0] == pytest.approx(values.std(ddof=1) / math.sqrt(17), rel=1e-12)
    assert freedom[0] == pytest.approx(min(16, 2 * 17 / (stats.kurtosis(values, fisher=False) - 1)), rel=1e-12)
    lone = np.eye(17)[0] * 0.5
    assert bootstrap._jackknife(resampling.alone(of_means(lone)))[1] == 3  # a single encounter carries it all


@pytest.mark.parametrize("share", [0.9, 0.95, 0.99])
def test_student(share: float) -> None:
    freedom = np.array([3.0, 3.7, 5.0, 12.0, 29.0, 55.5, 1000.0])
    z = stats.norm.ppf((1 + share) / 2)
    rel = 3e-3 if share < 0.99 else 0.02
    assert bootstrap._t(z, freedom) == pytest.approx(stats.t.ppf((1 + share) / 2, freedom), rel=rel)


def test_quantiles_are_numpys_without_the_undefined() -> None:
    rng = np.random.default_rng(1)
    columns = np.sort(np.where(rng.random((101, 3)) < [0, 0.1, 0.9], np.nan, rng.random((101, 3))), 0)
    share = np.array([0.03, 0.5, 0.97])
    result = bootstrap._quantile(columns, share)
    assert result == pytest.approx([np.nanquantile(c, q) for c, q in zip(columns.T, share, strict=True)], rel=1e-12)
    assert np.isnan(bootstrap._quantile(np.full((4, 1), np.nan), np.array([0.5]))).all()


# what encounters do


def test_photos_of_an_encounter_count_once() -> None:
    values = skewed(1, 20)
    single, fivefold = of_means(values), of_ratios(5 * values, np.full(20, 5.0))
    assert only(intervals(single)) == pytest.approx(only(intervals(fivefold)), abs=1e-12)


def test_coverage_of_made_encounters() -> None:
    """The small form of tests/benchmarks/coverage.py: 600 data sets of 30 encounters, nominal 95 %."""
    rng = np.random.default_rng(30)
    held: list[list[bool]] = []
    photos_held: list[list[bool]] = []
    for seed in range(600):
        terms, starts = encounter_sums.single_photos(rng, 30)
        tries = [(np.add.reduceat(terms, starts), held)] + [(terms, photos_held)] * (seed < 200)
        for rows, into in tries:
            result = intervals(encounter_sums.from_table(rows, encounter_sums.seg_scores), 400, seed).values()
            into.append([i.low <= t <= i.high for i, t in zip(result, encounter_sums.SEG_TRUE, strict=True)])
    cover, without_clusters = np.mean(held, 0), np.mean(photos_held, 0)
    assert (cover >= 0.92).all(), cover
    assert (cover <= 0.97).all(), cover
    assert (without_clusters[:4] < 0.92).all(), without_clusters  # resampling photos is too sure
    assert without_clusters.mean() < cover.mean() - 0.04


def test_true_scores_of_made_encounters() -> None:
    assert encounter_sums.truth(encounter_sums.photos, encounter_sums.seg_scores, 40) == pytest.approx(
        encounter_sums.SEG_TRUE, abs=0.02
    )


def test_biased_score_is_held_around_itself() -> None:
    """Resamples hold fewer kinds of answer than the data, so that diversity is lower in all of them."""
    kinds = np.eye(22)[[*range(22), 0, 0, 1]]
    table = encounter_sums.from_table(kinds, lambda sums: 1 - ((sums / 25) ** 2).sum(-1, keepdims=True), ("diversity",))
    (value,) = table.scores(kinds.sum(0))
    resampled = np.concatenate(
        [table.weighted(block) for block in bootstrap._drawn(len(kinds), max(kinds.shape), 1000, 1)]
    )
    assert (resampled < value).mean() > 0.97
    low, high = only(intervals(table, 1000))
    assert value - low == pytest.approx(high - value, rel=0.7)
    assert low < value < high


def test_bounds_stay_in_range() -> None:
    kinds = np.eye(22)[[*range(22), 0, 0, 1]]
    table = encounter_sums.from_table(kinds, lambda sums: (sums > 0).mean(-1, keepdims=True), ("kinds seen",))
    low, high = only(intervals(table, 1000))
    assert 0.5 < low < 0.9
    assert high == 1.0


# determinism and invariance


def shuffled(table: EncounterSums, seed: int = 0) -> EncounterSums:
    order = np.random.default_rng(seed).permutation(len(table.ids))
    return EncounterSums(tuple(table.ids[i] for i in order), table.names, table.sums[order], table.scores)


def test_same_seed_same_bounds_in_any_order() -> None:
    table = encounter_sums.from_table(encounter_sums.photos(np.random.default_rng(0), 40), encounter_sums.seg_scores)
    before = table.sums.copy()
    first = intervals(table)
    assert intervals(table) == first == intervals(shuffled(table))
    assert intervals(table, seed=1) != first
    for name, interval in intervals(table, seed=1).items():
        width = first[name].high - first[name].low
        assert interval.low == pytest.approx(first[name].low, abs=0.1 * width)
    assert (table.sums == before).all()


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (
        encounter_sums.from_table(encounter_sums.photos(np.random.default_rng(s), 30), encounter_sums.seg_scores)
        for s in (0, 1)
    )
    few = [encounter_sums.from_table(table.sums[:9], table.scores) for table in (a, b)]
    before = intervals(a, 999), paired(a, b, 999), paired(*few, 999)
    monkeypatch.setattr(resampling, "BLOCK", 30 * 8 * 7)
    after = intervals(a, 999), paired(a, b, 999), paired(*few, 999)
    for old, new in zip(before, after, strict=True):
        for name in old:
            for part in type(old[name]).__dataclass_fields__:
                assert getattr(new[name], part) == pytest.approx(getattr(old[name], part), rel=1e-9, abs=1e-12)


def test_all_scores_come_from_the_same_resamples() -> None:
    values = skewed(7, 30)

    def twice(sums: np.ndarray) -> np.ndarray:
        return np.concatenate([mean_score(sums), 1 - mean_score(sums)], -1)

    result = intervals(encounter_sums.from_table(of_means(values).sums, twice, ("right", "wrong")))
    assert result["right"].low == pytest.approx(1 - result["wrong"].high, abs=1e-12)
    assert result["right"].high == pytest.approx(1 - result["wrong"].low, abs=1e-12)


def test_units_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    bottom = rng.random(30)
    top = bottom * rng.random(30)
    small, large = (only(intervals(of_ratios(top * k, bottom * k))) for k in (1, 1e9))
    assert small == pytest.approx(large, rel=1e-9)


# where there is no interval


@pytest.mark.parametrize("values", [[], [0.7], [1.0] * 30, [0.0] * 30, [1 / 3] * 7])
def test_no_spread_no_interval(values: list[float]) -> None:
    low, high = only(intervals(of_means(np.array(values)), 100))
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("n", [2, 4, 5, 19, 20])
def test_few_encounters_give_no_interval_or_one_that_is_remarked_on(n: int) -> None:
    values = skewed(1, n)
    low, _ = only(intervals(of_means(values)))
    compared = paired(of_means(values), of_means(values[::-1] ** 2))["mean"]
    same = paired(of_means(values), of_means(values))["mean"]
    for bound in (low, compared.low, compared.high, same.low, same.high):
        assert math.isnan(bound) is (n < 5)
    assert 0 < compared.p <= 1
    text = bootstrap.remark_on_few(n)
    assert text.startswith({2: "no 95 %", 4: "no 95 %", 5: "95 % intervals of 5 encounters", 19: "95 %"}.get(n, ""))
    assert bool(text) is (n < 20)


@pytest.mark.parametrize("n", [6, 10, 30, 300])
def test_a_score_that_few_of_many_encounters_define_has_no_interval(n: int) -> None:
    for defined in (4, 5):
        weights = (np.arange(n) < defined).astype(float)
        low, high = only(intervals(of_ratios(skewed(1, n) * weights, weights)))
        assert math.isnan(low) is math.isnan(high) is (defined < 5)


def test_bounds_that_are_zero_but_for_rounding_are_zero() -> None:
    """Two of 300 encounters differ: a bound is 0 up to rounding of either sign, which would decide on "excludes 0"."""
    base = np.random.default_rng(3).random(300)
    for seed in range(6):
        moved = base.copy()
        moved[np.random.default_rng(seed).choice(300, 2, replace=False)] += 0.13
        result = paired(of_means(moved), of_means(base), 2000, seed)["mean"]
        assert result.low == 0
        assert math.copysign(1, result.low) == 1


def test_one_wrong_answer_gives_an_interval() -> None:
    low, high = only(intervals(of_means(np.array([0.0] + [1.0] * 29))))
    assert low < 0.9
    assert high == 1.0


def test_no_score_of_no_encounter_is_asked_for() -> None:
    sums = encounter_sums.answers(np.random.default_rng(0), 1)
    table = encounter_sums.from_table(sums, encounter_sums.ANSWERS.scores)
    assert all(math.isnan(interval.low) for interval in intervals(table, 100).values())


@pytest.mark.parametrize(("defined", "is_defined"), [(1, False), (3, False), (4, False), (5, True), (12, True)])
def test_undefined_resamples(defined: int, is_defined: bool) -> None:
    """A score that `defined` of 30 encounters define is undefined in ((30 - defined) / 30) ** 30 of the resamples."""
    values, weights = skewed(1, 30), (np.arange(30) < defined).astype(float)
    both = encounter_sums.from_table(
        np.column_stack([values * weights, weights, values, np.ones(30)]),
        lambda sums: np.concatenate([mean_score(sums), mean_score(sums[..., 2:])], -1),
        ("partial", "all"),
    )
    result = intervals(both)
    partial = result["partial"]
    assert math.isnan(partial.low) is math.isnan(partial.high) is not is_defined
    if is_defined:
        value = values[:defined].mean()
        assert 0 < partial.low < value < partial.high <= 1
    alone = only(intervals(of_means(values)))
    assert (result["all"].low, result["all"].high) == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("options", [{"resamples": 1}, {"resamples": 0}, {"level": 0.0}, {"level": 1.0}])
def test_settings_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"resamples|level"):
        intervals(of_means(skewed(1, 5)), **options)


def test_ids_must_fit() -> None:
    table = of_means(skewed(1, 3))
    for ids in (("a", "b"), ("a", "b", "b")):
        with pytest.raises(ValueError, match="different ids"):
            intervals(EncounterSums(ids, table.names, table.sums, table.scores))


# paired comparisons


def scipys_p(a: EncounterSums, b: EncounterSums, resamples: float, rng: int = 0) -> float:
    """Return scipy's p-value of |score(a) - score(b)|; its samples are row numbers, so that rows swap whole."""
    rows, n = np.vstack([a.sums, b.sums]), len(a.sums)

    def statistic(x: np.ndarray, y: np.ndarray) -> float:
        return abs(float(a.scores(rows[x].sum(0))[0] - a.scores(rows[y].sum(0))[0]))

    result = stats.permutation_test(
        (np.arange(n), np.arange(n, 2 * n)),
        statistic,
        permutation_type="samples",
        alternative="greater",
        n_resamples=resamples,
        vectorized=False,
        rng=rng,
    )
    return float(result.pvalue)


def pair(kind: str, seed: int, n: int) -> tuple[EncounterSums, EncounterSums]:
    rng = np.random.default_rng(seed)
    if kind == "f1":
        gold, eye = rng.integers(0, 3, n), np.eye(3)
        answered = [np.where(rng.random(n) < right, gold, rng.integers(0, 3, n)) for right in (0.8, 0.2)]
        rows = [np.hstack([eye[labels] * eye[gold], eye[labels] + eye[gold]]) for labels in answered]
        first, second = (encounter_sums.from_table(sums, macro_f1, ("f1",)) for sums in rows)
        return first, second
    bottom = np.exp(rng.normal(0, 1, n)) * 100 if kind == "ratio" else np.ones(n)
    right = [rng.random(n) ** power for power in (0.7, 1.3)]
    if kind == "ties":
        right = [np.round(2 * values) / 2 for values in right]
    return of_ratios(right[0] * bottom, bottom), of_ratios(right[1] * bottom, bottom)


@pytest.mark.parametrize("kind", ["mean", "ties", "ratio", "f1"])
@pytest.mark.parametrize("n", [2, 5, 9])
def test_exact_p_is_scipys(kind: str, n: int) -> None:
    a, b = pair(kind, n, n)
    (result,) = paired(a, b, 100).values()
    assert result.p == pytest.approx(scipys_p(a, b, np.inf), abs=1e-12)


@pytest.mark.parametrize("kind", ["mean", "ratio", "f1"])
def test_random_p_is_near_scipys(kind: str) -> None:
    a, b = pair(kind, 2, 24)
    (result,) = paired(a, b, 8000).values()
    theirs = scipys_p(a, b, 4000)
    assert 0.001 < theirs < 0.9
    assert result.p == pytest.approx(theirs, abs=4 * math.sqrt(theirs * (1 - theirs) / 2600))


def test_exact_up_to_13_encounters_random_above() -> None:
    better = np.arange(1, 15) / 100
    for n in (12, 13):
        assert paired(of_means(0.5 + better[:n]), of_means(np.full(n, 0.5)), 100)["mean"].p == 2 / 2**n
    assert paired(of_means(0.5 + better), of_means(np.full(14, 0.5)), 99)["mean"].p == 1 / 100
    exact = paired(*pair("mean", 3, 13), 100)
    assert exact["ratio"].p == paired(*pair("mean", 3, 13), 100, seed=1)["ratio"].p


def test_random_p_counts_the_observed_one() -> None:
    """One encounter differs: each swap gives the same size, so that all of them are at least as large, and p is 1."""
    a, b = np.full(20, 0.5), np.full(20, 0.5)
    a[3] = 1 / 3
    result = paired(of_means(a), of_means(b), 50)["mean"]
    assert result.difference == pytest.approx((1 / 3 - 0.5) / 20)
    assert result.p == 1.0


def test_ties_count_in_spite_of_rounding() -> None:
    a = np.array([0.1, 0.2, 0.3, 0.7, 0.9, 0.4])
    b = a[[1, 2, 3, 4, 5, 0]]  # the same sum in another order
    assert paired(of_means(a), of_means(b))["mean"].p == 1.0
    thirds = of_means(np.array([1, 2, 0, 2, 1, 2]) / 3), of_means(np.array([0, 1, 1, 1, 0, 0]) / 3)
    signs = (np.arange(64)[:, None] >> np.arange(6) & 1) * 2 - 1
    sizes = np.abs(signs @ np.array([1, 1, -1, 1, 1, 2]))
    assert paired(*thirds)["mean"].p == (sizes >= 5).mean()


def test_identical_systems() -> None:
    for n in (1, 9, 40):
        table = encounter_sums.from_table(encounter_sums.photos(np.random.default_rng(0), n), encounter_sums.seg_scores)
        for result in paired(table, shuffled(table), 200).values():
            if n > 4:
                assert result == Difference(0.0, 0.0, 0.0, 1.0)
            assert (result.difference, result.p) == (0.0, 1.0)


def test_sides() -> None:
    a, b = pair("ratio", 5, 30)
    (ahead,), (behind,) = paired(a, b).values(), paired(b, a).values()
    value = float(mean_score(a.sums.sum(0))[0] - mean_score(b.sums.sum(0))[0])
    assert ahead.difference == pytest.approx(value, abs=1e-12)
    assert value > 0
    assert ahead.low < value < ahead.high
    assert (ahead.low, ahead.high) == pytest.approx((-behind.high, -behind.low), abs=1e-9)
    assert ahead.p == behind.p


def test_both_systems_are_resampled_alike() -> None:
    """Encounters vary much and the gap little: only resampling them together sees how sure the gap is."""
    values = skewed(1, 40) / 2
    gap = 0.2 + 0.01 * np.sin(np.arange(40))
    result = paired(of_means(values + gap), of_means(values))["mean"]
    assert result.difference == pytest.approx(gap.mean())
    assert 0 < result.high - result.low < 0.006
    alone = only(intervals(of_means(values)))
    assert alone[1] - alone[0] > 0.03
    constant = paired(of_means(values + 0.25), of_means(values))["mean"]
    assert math.isnan(constant.low)
    assert constant.p == pytest.approx(1 / 10_001)


def test_interval_of_a_gap_is_that_of_its_values() -> None:
    a, b = skewed(1, 30), skewed(2, 30)
    result = paired(of_means(a), of_means(b))["mean"]
    low, high = only(intervals(of_means((a - b + 1) / 2)))
    assert (result.low, result.high) == pytest.approx((2 * low - 1, 2 * high - 1), abs=1e-9)


def test_order_of_either_system_is_irrelevant() -> None:
    a, b = pair("ratio", 6, 20)
    assert paired(a, b, 500) == paired(shuffled(a, 1), shuffled(b, 2), 500)


def test_seed_of_the_swaps() -> None:
    a, b = pair("mean", 4, 30)
    p_values = [paired(a, b, 300, seed)["ratio"].p for seed in (0, 0, 1, 2, 3)]
    assert p_values[0] == p_values[1]
    assert len(set(p_values)) > 2


def test_one_encounter_tells_nothing() -> None:
    result = paired(of_means(np.array([0.9])), of_means(np.array([0.2])))["mean"]
    assert result.difference == pytest.approx(0.7)
    assert math.isnan(result.low)
    assert result.p == 1.0


def test_undefined_scores_of_pairs() -> None:
    nothing = of_ratios(np.zeros(5), np.zeros(5))
    partial = of_ratios(np.ones(5), np.full(5, 2.0))
    result = paired(partial, nothing)["ratio"]
    assert all(math.isnan(number) for number in (result.difference, result.low, result.high, result.p))
    weights = np.array([1.0, 0, 0, 0, 0])  # defined by a single encounter each: half of the swaps empty a side
    a, b = of_ratios(weights, weights), of_ratios(np.zeros(5), weights[::-1].copy())
    assert paired(a, b)["ratio"].p == 1.0


def test_other_encounters_are_named() -> None:
    table = of_means(skewed(1, 9))
    ids = ("ENC90000", *table.ids[1:])
    with pytest.raises(DataError) as caught:
        paired(table, EncounterSums(ids, table.names, table.sums, table.scores))
    assert len(caught.value.problems) == 1
    assert "ENC00000, ENC90000 of one system only" in str(caught.value)
    with pytest.raises(DataError, match=r"ENC00006 and 2 more of one system only"):
        paired(table, EncounterSums(table.ids[:2], table.names, table.sums[:2], table.scores))
    with pytest.raises(DataError, match="mean, ratio of one system only, expected the same scores"):
        paired(table, EncounterSums(table.ids, ("ratio",), table.sums, table.scores))


def test_scores_in_another_order_are_refused() -> None:
    sums = encounter_sums.photos(np.random.default_rng(0), 5)
    table = encounter_sums.from_table(sums, encounter_sums.seg_scores)
    with pytest.raises(ValueError, match="another order"):
        paired(table, EncounterSums(table.ids, table.names[::-1], sums, table.scores))


# properties

tables = arrays(np.float64, st.tuples(st.integers(2, 12), st.just(2)), elements=st.integers(0, 8).map(float))


def of_table(rows: np.ndarray) -> EncounterSums:
    top, more = rows.T
    return of_ratios(top, top + more)


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(0, 5))
def test_an_interval_holds_its_score(rows: np.ndarray, seed: int) -> None:
    table = of_table(rows)
    (value,) = mean_score(table.sums.sum(0))
    low, high = only(intervals(table, 200, seed))
    assert math.isnan(low) == math.isnan(high)
    assert math.isnan(low) or 0 <= low <= value <= high <= 1
    assert only(intervals(shuffled(table), 200, seed)) == pytest.approx((low, high), nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(0, 5))
def test_a_comparison_is_fair(table: np.ndarray, seed: int) -> None:
    a, b = of_table(table), of_table(table[::-1] + np.array([1, 0]))
    (ahead,), (behind,) = paired(a, b, 100, seed).values(), paired(b, a, 100, seed).values()
    if math.isnan(ahead.difference):
        assert math.isnan(behind.difference)
        return
    assert ahead.difference == pytest.approx(-behind.difference, abs=1e-12)
    assert ahead.p == behind.p
    assert 2 / 2 ** len(table) <= ahead.p <= 1
    assert math.isnan(ahead.low) or -1 <= ahead.low <= ahead.difference + 1e-12
    assert math.isnan(ahead.high) or ahead.difference - 1e-12 <= ahead.high <= 1


# cost


def test_memory_is_bounded_whatever_the_number_of_encounters() -> None:
    sums = np.random.default_rng(0).random((5000, 40))
    scores: Callable[[np.ndarray], np.ndarray] = lambda x: x[..., :6] / x[..., 6:12].clip(1)  # noqa: E731
    table = encounter_sums.from_table(sums, scores)
    tracemalloc.start()
    try:
        intervals(table, 2000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6
