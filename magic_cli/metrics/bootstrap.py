"""Uncertainty of scores: intervals by resampling encounters, paired differences with permutation p-values.

Photos and questions of an encounter depend on each other, so encounters are drawn, never photos. Every score
follows from sums over encounters (records.EncounterSums): a resample is a row of integer weights times these sums.

The interval. Bootstrap over clusters as in Efron & Tibshirani, An Introduction to the Bootstrap (1993). Plain
percentiles are too narrow for few encounters (Hesterberg, What Teachers Should Know About the Bootstrap, 2015),
and for pooled pixels, where a few big lesions dominate; BCa was worse there. Chosen by simulation of coverage
(tests/benchmarks/coverage.py prints the table):
  - the level of the percentiles is raised until a normal spread would be t standard errors wide, the standard error
    being the jackknife's; for a mean this is Hesterberg's expanded percentile interval;
  - the degrees of freedom of t are Satterthwaite's (1946) for the jackknife's variance: if a few encounters
    carry most of it, they are fewer, but at least 3;
  - the distances from the bootstrap's median to these percentiles are measured from the score itself: resamples
    lack some of the rare answers, which shifts their macro-F1 on average.
In that table, nominal 95 % intervals cover 92.7 to 95.8 % for means and ratios of 20 to 100 encounters, 89 to 95 %
for 10; for accuracies of 0.9 and more, which take few values in few encounters, up to 100 % of the intervals given.
An interval is for the average score of other sets of as many encounters from the same source. For means and ratios
that is nearly the score of infinitely many; macro-F1 itself depends on the number of encounters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem
from magic_cli.records import EncounterSums, Interval

LEVEL = 0.95

EXACT = 13

"""Up to this many encounters all 2^n swaps are tried, and the p-value is exact."""

_BLOCK = 2_000_000

"""Bytes of the largest array of a block; a few such arrays exist at a time."""

_LEAST_DF = 3.0

_SAME = 1e-10

"""Scores closer than this, relative to their size, differ by rounding only."""

_SHOWN = 5

Floats = NDArray[np.float64]

Scores = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of one system minus that of another, in [-1, 1], its 95 % interval, and a p-value in (0, 1]."""

    difference: float
    low: float
    high: float
    p: float


def intervals(
    encounter_sums: EncounterSums, resamples: int = 10_000, seed: int = 2025, level: float = LEVEL
) -> dict[str, Interval]:
    """Return the confidence interval of every score, by name, all from the same resamples of encounters.

    Args:
        encounter_sums: sums of (encounters, terms), and scores in [0, 1].
        resamples: at least 2; with 10,000, bounds vary by about a hundredth of the interval's width.
        seed: same seed, same bounds, for any order of the encounters.
        level: nominal coverage, inside (0, 1).

    Each interval contains its score and is within [0, 1]. Bounds are NaN where resampling is uninformative: fewer
    than two encounters; no spread, as when every answer is right (with 56 encounters a true accuracy of 0.95 gives
    that 1 time in 18); a score undefined without one of the encounters, or in more resamples than a tail has
    ((1 - level) / 2). Fewer undefined resamples are left out. Below about 20 encounters intervals are too narrow.

    Raises:
        ValueError: resamples or level out of range, ids that do not fit the rows.

    Source: see the top of this module.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    _, sums = _sorted(encounter_sums)
    bounds = _bounds(sums, encounter_sums.scores, resamples, seed, level, least=0.0)
    pairs = zip(encounter_sums.names, bounds.T.tolist(), strict=True)
    return {name: Interval(low, high) for name, (low, high) in pairs}


def paired(a: EncounterSums, b: EncounterSums, resamples: int = 10_000, seed: int = 2025) -> dict[str, Difference]:
    """Compare two systems on the same encounters: score(a) - score(b), 95 % interval and p-value of each score.

    Args:
        a, b: sums of the same encounters, in any order, and the same scores in [0, 1].
        resamples: number of resamples for the interval, the same for both systems, and of random swaps; at least 2.
        seed: same seed, same result.

    The p-value is that of a two-sided sign-flip permutation test (Good, Permutation, Parametric and Bootstrap Tests
    of Hypotheses, 2005): if both systems are equivalent, the results of each encounter are exchangeable. p is the
    share of swaps whose difference is at least as large, the observed one counted in: (1 + those) / (1 + resamples),
    exact over all 2^n for n <= 13 encounters, so never below 1 / 2^(n - 1) there. No correction for the
    number of scores compared. A score equal in all encounters has difference, low and high 0, and p 1; otherwise
    bounds are NaN as in `intervals`. An undefined score has NaN throughout; a swap that makes it undefined counts as
    at least as large.

    Raises:
        DataError: the encounters, or the scores, are not the same.
        ValueError: resamples out of range, ids that do not fit the rows.
    """
    _check_same("encounters", a.ids, b.ids)
    _check_same("scores", a.names, b.names)
    (_, ours), (_, theirs) = _sorted(a), _sorted(b)
    terms = ours.shape[1]

    def gap(sums: Floats) -> Floats:
        return a.scores(sums[..., :terms]) - b.scores(sums[..., terms:])

    both = np.hstack([ours, theirs])
    value = gap(both.sum(0))
    low, high = _bounds(both, gap, resamples, seed, LEVEL, least=-1.0)
    size = np.abs(a.scores(ours.sum(0))) + np.abs(b.scores(theirs.sum(0)))
    p, alike = _swap(both, gap, np.abs(value), _SAME * size, resamples, seed)
    value, low, high = (np.where(alike, 0.0, numbers) for numbers in (value, low, high))
    columns = (column.tolist() for column in (value, low, high, p))
    return {name: Difference(*row) for name, *row in zip(a.names, *columns, strict=True)}


def _check_same(what: str, a: tuple[str, ...], b: tuple[str, ...]) -> None:
    """Check that ids or names are the same, in any order; the DataError lists those of one system only."""
    odd = sorted(set(a) ^ set(b))
    if odd:
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        got = f"{', '.join(odd[:_SHOWN])}{more} of one system only"
        raise DataError(problem("comparison", got, f"the same {what}", "score both against the same gold"))
    if what == "scores" and a != b:
        raise ValueError("scores of the systems are in another order")


def _sorted(encounter_sums: EncounterSums) -> tuple[tuple[str, ...], Floats]:
    """Return ids and sums in the order of ids, so that results do not depend on the order of the gold."""
    ids, sums = encounter_sums.ids, np.asarray(encounter_sums.sums, np.float64)
    if sums.ndim != 2 or len(set(ids)) != len(ids) or len(ids) != len(sums):
        raise ValueError(f"{len(set(ids))} different ids for sums of shape {sums.shape}")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    is_sorted = order == list(range(len(ids)))  # mostly; saves a copy
    return tuple(ids[index] for index in order), sums if is_sorted else sums[order]


def _bounds(sums: Floats, scores: Scores, resamples: int, seed: int, level: float, least: float) -> Floats:
    """Return the lower and upper bounds of all scores, (2, scores), in [least, 1]."""
    if resamples < 2:
        raise ValueError(f"{resamples} resamples: at least 2")
    value = scores(sums.sum(0))
    if len(sums) < 2:
        return np.full((2, value.size), np.nan)
    resampled = np.concatenate([scores(block) for block in _resampled(sums, resamples, seed)])
    lost = np.isnan(resampled).mean(0) > (1 - level) / 2
    error, freedom = _jackknife(sums, scores)
    z = NormalDist().inv_cdf((1 + level) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = _spread(resampled)
        width = _t(z, freedom) * error / spread
        resampled.sort(axis=0)  # NaN last
        middle = _quantile(resampled, np.full(value.size, 0.5))
        tails = [_quantile(resampled, _normal(sign * width)) for sign in (-1, 1)]
        bounds = np.clip(value + (np.stack(tails) - middle), least, 1.0)
    bounds[:, lost | ~(np.minimum(error, spread) > _SAME)] = np.nan
    return bounds


def _rows(count: int, wide: int) -> Iterator[int]:
    """Yield the sizes of blocks of `count` rows, such that rows of `wide` 8-byte numbers stay within _BLOCK."""
    most = max(1, _BLOCK // (8 * max(wide, 1)))
    for start in range(0, count, most):
        yield min(most, count - start)


def _resampled(sums: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of the sums of resampled encounters, (rows, terms)."""
    rng, n = np.random.default_rng(seed), len(sums)
    for rows in _rows(resamples, max(sums.shape)):
        drawn = rng.integers(0, n, (rows, n))
        drawn += np.arange(0, rows * n, n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64) @ sums


def _jackknife(sums: Floats, scores: Scores) -> tuple[Floats, Floats]:
    """Return each score's standard error and its degrees of freedom, leaving out one encounter at a time.

    Satterthwaite: 2 / (relative variance of the error's square), which is (kurtosis - 1) / n over encounters.
    NaN where a score is undefined without one of the encounters.
    """
    n, total, start = len(sums), sums.sum(0), 0
    blocks = []
    for rows in _rows(n, sums.shape[1]):
        blocks.append(scores(total - sums[start : start + rows]))
        start += rows
    values = np.concatenate(blocks)
    squares = (values - values.mean(0)) ** 2
    spread = squares.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kurtosis = n * (squares**2).sum(0) / spread**2
        freedom = np.clip(2 * n / np.maximum(kurtosis - 1, 1e-9), _LEAST_DF, max(_LEAST_DF, n - 1))
    return np.sqrt((n - 1) / n * spread), freedom


def _spread(resampled: Floats) -> Floats:
    """Return the standard deviation of each score over the resamples that define it."""
    defined = ~np.isnan(resampled)
    count = np.maximum(defined.sum(0), 1)
    mean = np.where(defined, resampled, 0.0).sum(0) / count
    squares = np.where(defined, resampled - mean, 0.0) ** 2
    return np.asarray(np.sqrt(squares.sum(0) / count), np.float64)


def _t(z: float, freedom: Floats) -> Floats:
    """Return Student's t for the normal quantile z, to 0.3 % from 3 degrees of freedom on.

    Source: Abramowitz & Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return np.asarray(sum(term / freedom**power for power, term in enumerate(terms)), np.float64)


def _normal(z: Floats) -> Floats:
    """Return the normal distribution function of each z, NaN for NaN."""
    return np.array([NormalDist().cdf(value) for value in z.tolist()])


def _quantile(ordered: Floats, share: Floats) -> Floats:
    """Return one quantile per column, interpolated linearly; columns of `ordered` ascend, with NaN last."""
    last = np.maximum((~np.isnan(ordered)).sum(0) - 1, 0)
    position = np.nan_to_num(share) * last
    below = np.floor(position).astype(np.intp)
    columns = np.arange(ordered.shape[1])
    low, high = ordered[below, columns], ordered[np.minimum(below + 1, last), columns]
    return np.asarray(low + (position - below) * (high - low), np.float64)


def _swap(
    both: Floats, gap: Scores, observed: Floats, tie: Floats, resamples: int, seed: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the p-value of each score, and whether no swap changes it."""
    n, terms = len(both), both.shape[1] // 2
    change, total = both[:, terms:] - both[:, :terms], both.sum(0)
    most, reached = np.zeros(observed.shape), np.zeros(observed.shape)
    count = 0
    for swaps in _swaps(n, max(both.shape), resamples, seed):
        moved = swaps @ change
        size = np.abs(gap(total + np.hstack([moved, -moved])))
        reached += (~(size < observed - tie)).sum(0)
        most = np.maximum(most, size.max(0))
        count += len(swaps)
    observed_count = 0 if n <= EXACT else 1  # all 2^n swaps include the observed one
    p = np.where(np.isnan(observed), np.nan, (reached + observed_count) / (count + observed_count))
    return p, most <= tie


def _swaps(n: int, wide: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks (rows, n) of 1 where an encounter's results are swapped, 0 elsewhere: all 2^n, or random ones."""
    rng, start = np.random.default_rng([seed, 1]), 0  # not the stream of the resamples
    for rows in _rows(2**n if n <= EXACT else resamples, wide):
        if n <= EXACT:
            codes = np.arange(start, start + rows)[:, None]
            yield ((codes >> np.arange(n)) & 1).astype(np.float64)
        else:
            yield rng.integers(0, 2, (rows, n)).astype(np.float64)
        start += rows
