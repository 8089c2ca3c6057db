"""Uncertainty of scores: intervals by resampling encounters, paired differences with permutation p-values.

Photos and questions of an encounter depend on each other, so encounters are drawn, never photos. Most scores
follow from sums over encounters (records.EncounterSums): a resample is a row of integer weights times these sums.
Scores of ranks (AUROC, a median) are computed anew for each row of weights (metrics/row_scores.py).

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
Below FEWEST encounters no interval is given: simulated ones of 2 encounters hold the true score in 47 % of the cases,
of 3 in 70 %, of 5 in 84 to 90 %.
For scores of ranks over many rows there are fewer resamples (`resampling.resamples_of`), and the jackknife leaves out
groups of encounters (Kott, The Delete-a-Group Jackknife, 2001). The jackknife is inconsistent for a median, so its
standard error is the bootstrap's, its degrees of freedom are encounters - 1.
An interval is for the average score of other sets of as many encounters from the same source. For means and ratios
that is nearly the score of infinitely many; macro-F1 itself depends on the number of encounters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem
from magic_cli.metrics import resampling
from magic_cli.metrics.resampling import Floats, Resampled, Scores, alone, gap, resamples_of, total
from magic_cli.metrics.row_scores import leaves
from magic_cli.records import EncounterScores, EncounterSums, Interval

LEVEL = 0.95

EXACT = 13

"""Up to this many encounters all 2^n swaps are tried, and the p-value is exact."""

FEWEST = 5

"""Fewer encounters than this give no interval."""

FEW = 20

"""Intervals of fewer encounters than this are too narrow, which is said beside them."""

_LEAST_DF = 3.0

_SAME = 1e-10

"""Scores closer than this, relative to their size, differ by rounding only."""

_ZERO = 1e-9

"""Bounds of differences closer to 0 are 0: where few encounters differ they are 0 up to rounding, of either sign."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of one system minus that of another, its 95 % interval, and a p-value in (0, 1].

    The difference is in [-1, 1], that of ranks in [1 - gallery, gallery - 1].
    """

    difference: float
    low: float
    high: float
    p: float


def intervals(
    scores: EncounterScores, resamples: int = 10_000, seed: int = 2025, level: float = LEVEL
) -> dict[str, Interval]:
    """Return the confidence interval of every score, by name, all from the same resamples of encounters.

    Args:
        scores: of encounters.
        resamples: at least 2; with 10,000, bounds vary by about a hundredth of the interval's width. Fewer are drawn
            if `resamples_of` says so.
        seed: same seed, same bounds, for any order of the encounters.
        level: nominal coverage, inside (0, 1).

    Each interval contains its score and is within the score's limits, mostly [0, 1]. Bounds are NaN where resampling is
    uninformative: fewer than FEWEST encounters; no spread, as when every answer is right (with 56 encounters a true
    accuracy of 0.95 gives that 1 time in 18); a score undefined without one of the encounters, or in more resamples
    than a tail has ((1 - level) / 2), or in so many as a score that fewer than FEWEST of the encounters define. Fewer
    undefined resamples are left out. Below FEW encounters intervals are too narrow; `remark_on_few` says so.

    Raises:
        ValueError: resamples or level out of range, ids that do not fit the rows.

    Source: see the top of this module.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    ordered = _sorted(scores)
    bounds = _bounds(alone(ordered), resamples_of(scores, resamples), seed, level)
    pairs = zip(scores.names, bounds.T.tolist(), strict=True)
    return {name: Interval(low, high) for name, (low, high) in pairs}


def paired(a: EncounterScores, b: EncounterScores, resamples: int = 10_000, seed: int = 2025) -> dict[str, Difference]:
    """Compare two systems on the same encounters: score(a) - score(b), 95 % interval and p-value of each score.

    Args:
        a, b: scores of the same encounters, in any order, under the same names.
        resamples: number of resamples for the interval, the same for both systems, and of random swaps; at least 2.
            Fewer are drawn if `resamples_of` says so.
        seed: same seed, same result.

    The p-value is that of a two-sided sign-flip permutation test (Good, Permutation, Parametric and Bootstrap Tests
    of Hypotheses, 2005): if both systems are equivalent, the results of each encounter are exchangeable. p is the
    share of swaps whose difference is at least as large, the observed one counted in: (1 + those) / (1 + resamples),
    exact over all 2^n for n <= 13 encounters, so never below 1 / 2^(n - 1) there. No correction for the
    number of scores compared. A score equal in all encounters has difference, low and high 0, and p 1; otherwise,
    and below FEWEST encounters, bounds are NaN as in `intervals`. An undefined score has NaN throughout; a swap that
    makes it undefined counts as at least as large. For AUROC, ranks within each system are swapped
    (row_scores.concept_scores).

    Raises:
        DataError: the encounters, or the scores, are not the same.
        ValueError: resamples out of range, ids that do not fit the rows.
    """
    _check_same("encounters", a.ids, b.ids)
    _check_same("scores", a.names, b.names)
    resamples = resamples_of(a, resamples)
    ours, theirs = _sorted(a), _sorted(b)
    both, swapped = gap(ours, theirs)
    low, high = _bounds(both, resamples, seed, LEVEL)
    size = np.abs(total(ours)) + np.abs(total(theirs))
    p, alike = _swap(both, swapped, _SAME * size, resamples, seed)
    low, high = (np.where(np.abs(bound) <= _ZERO, 0.0, bound) for bound in (low, high))
    value = np.where(alike, 0.0, both.total)
    if both.n >= FEWEST:
        low, high = (np.where(alike, 0.0, bound) for bound in (low, high))
    columns = (column.tolist() for column in (value, low, high, p))
    return {name: Difference(*row) for name, *row in zip(a.names, *columns, strict=True)}


def against_rest(
    scores: EncounterSums, inside: NDArray[np.bool_], resamples: int = 10_000, seed: int = 2025
) -> dict[str, Difference]:
    """Compare some encounters with all others: score(inside) - score(rest), 95 % interval and p-value of each score.

    Args:
        scores: of all encounters.
        inside: (encounters,), True for those that are compared with the rest; some of both.
        resamples: number of resamples for the interval, and of random labels; at least 2.
        seed: same seed, same result.

    The p-value is that of a two-sided permutation test: the labels are dealt anew among the encounters, and p is the
    share of deals whose difference is at least as large, the observed one counted in. An undefined score has NaN.

    Raises:
        ValueError: resamples out of range.
    """
    parts = resampling.parted(scores, inside)
    low, high = _bounds(parts, resamples, seed, LEVEL)
    rng, reached = np.random.default_rng([seed, 2]), np.ones(parts.total.shape)
    size = np.abs(parts.total)
    for rows in _rows(resamples, len(inside)):
        labels = rng.permuted(np.tile(inside, (rows, 1)), axis=1).astype(np.float64)
        dealt = scores.weighted(labels) - scores.weighted(1 - labels)
        reached += (~(np.abs(dealt) < size - _SAME)).sum(0)
    p = np.where(np.isnan(size), np.nan, reached / (resamples + 1))
    columns = (column.tolist() for column in (parts.total, low, high, p))
    return {name: Difference(*row) for name, *row in zip(scores.names, *columns, strict=True)}


def remark_on_few(encounters: int) -> str:
    """Return what intervals of so few encounters lack, "" where nothing: FEW encounters and more.

    >>> remark_on_few(12)
    '95 % intervals of 12 encounters are too narrow: they miss the true score more often than 1 time in 20'
    """
    if encounters >= FEW:
        return ""
    if encounters < FEWEST:
        return f"no 95 % intervals: of {encounters} encounters, fewer than {FEWEST}, they would mostly be too narrow"
    often = "they miss the true score more often than 1 time in 20"
    return f"95 % intervals of {encounters} encounters are too narrow: {often}"


def _check_same(what: str, a: tuple[str, ...], b: tuple[str, ...]) -> None:
    """Check that ids or names are the same, in any order; the DataError lists those of one system only."""
    odd = sorted(set(a) ^ set(b))
    if odd:
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        got = f"{', '.join(odd[:_SHOWN])}{more} of one system only"
        raise DataError(problem("comparison", got, f"the same {what}", "score both against the same gold"))
    if what == "scores" and a != b:
        raise ValueError("scores of the systems are in another order")


def _sorted(scores: EncounterScores) -> EncounterScores:
    """Return the scores with encounters in the order of ids, so that results do not depend on the order of the gold."""
    ids = scores.ids
    if isinstance(scores, EncounterSums):
        scores = replace(scores, sums=np.asarray(scores.sums, np.float64))
    rows = [part.sums.shape for part in leaves(scores) if isinstance(part, EncounterSums)]
    if len(set(ids)) != len(ids) or any(len(shape) != 2 or shape[0] != len(ids) for shape in rows):
        raise ValueError(f"{len(set(ids))} different ids for sums of shape {rows}")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    is_sorted = order == list(range(len(ids)))  # mostly; saves a copy
    return scores if is_sorted else scores.ordered(order)


def _bounds(scores: Resampled, resamples: int, seed: int, level: float) -> Floats:
    """Return the lower and upper bounds of all scores, (2, scores), within their limits."""
    if resamples < 2:
        raise ValueError(f"{resamples} resamples: at least 2")
    value, n = scores.total, scores.n
    if n < FEWEST:
        return np.full((2, value.size), np.nan)
    resampled = np.concatenate([scores.weighted(block) for block in _drawn(n, scores.width, resamples, seed)])
    of_few = (1 - (FEWEST - 0.5) / n) ** n  # resamples that draw none of the encounters that define a score
    lost = np.isnan(resampled).mean(0) > min(of_few, (1 - level) / 2)
    error, freedom = _jackknife(scores)
    z = NormalDist().inv_cdf((1 + level) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = _spread(resampled)
        error = np.where(scores.smooth, error, spread * np.sqrt(n / (n - 1)))
        freedom = np.where(scores.smooth, freedom, max(_LEAST_DF, n - 1))
        width = _t(z, freedom) * error / spread
        resampled.sort(axis=0)  # NaN last
        middle = _quantile(resampled, np.full(value.size, 0.5))
        tails = [_quantile(resampled, _normal(sign * width)) for sign in (-1, 1)]
        bounds = np.clip(value + (np.stack(tails) - middle), *scores.limits)
    bounds[:, lost | ~(np.minimum(error, spread) > _SAME)] = np.nan
    return bounds


def _rows(count: int, wide: int) -> Iterator[int]:
    """Yield the sizes of blocks of `count` rows, such that rows of `wide` 8-byte numbers stay within BLOCK."""
    most = max(1, resampling.BLOCK // (8 * max(wide, 1)))
    for start in range(0, count, most):
        yield min(most, count - start)


def _drawn(n: int, wide: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks (rows, n) of how often each encounter is in a resample."""
    rng = np.random.default_rng(seed)
    for rows in _rows(resamples, wide):
        drawn = rng.integers(0, n, (rows, n))
        drawn += np.arange(0, rows * n, n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _jackknife(scores: Resampled) -> tuple[Floats, Floats]:
    """Return each score's standard error and its degrees of freedom, leaving out one group at a time.

    Satterthwaite: 2 / (relative variance of the error's square), which is (kurtosis - 1) / n over groups.
    NaN where a score is undefined without one of the groups.
    """
    n, start = scores.groups, 0
    blocks = []
    for rows in _rows(n, scores.lean):
        blocks.append(scores.without(start, start + rows))
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
    scores: Resampled, swapped: Scores, tie: Floats, resamples: int, seed: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the p-value of each difference, and whether no swap changes it."""
    n, observed = scores.n, np.abs(scores.total)
    most, reached = np.zeros(observed.shape), np.zeros(observed.shape)
    count = 0
    for swaps in _swaps(n, scores.width, resamples, seed):
        size = np.abs(swapped(swaps))
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
