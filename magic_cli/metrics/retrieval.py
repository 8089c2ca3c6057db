"""Scores of case retrieval: where queries find photos of their own class, with expected values under ties.

The tie rule (`TIE_RULE`). Photos whose similarities are equal as float32 are in random order, and every value is the
expected one over these orders, exactly: average precision, Acc@K, the neighbours' vote and nDCG follow from the blocks
of equal similarity (McSherry & Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence
of Tied Scores, ECIR 2008). Classes that tie in a vote share it. So no score depends on the order of the gallery.

A similarity of NaN: the photo is no part of this query's gallery, as those of its own patient. Minus infinity: it is,
but was not returned (the end of a run that was cut off); it is never found, and counts among the positives, as in
trec_eval. Queries without any positive have no scores, and are counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics.votes import win_probability

KS = (1, 2, 4, 10)

TIE_RULE = "photos of equal similarity (float32) count as in random order: all scores are expected values"

_CELLS = 1 << 21
"""Numbers in a chunk of the similarity matrix: 16 MiB of float64."""

_LAST = 2**32 - 1

_MINUS_INFINITY = 0xFF800000
"""Its bits; also the place of minus infinity among keys of `_ranked`."""

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

Relevance = Callable[[slice], NDArray[np.floating]]
"""Graded relevance (q, G) in [0, 1] of the gallery for some queries."""


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Scores of every query, NaN for queries without positives; rows are queries.

    Attributes:
        ap: (Q,) average precision over the full ranking.
        any_in: (Q, K) probability that a positive is among the first k (Acc@k, Success@k).
        hits: (Q, K) expected number of positives among the first k.
        vote: (Q, K) probability that most of the first k are of the query's class.
        ndcg: (Q, K) normalised discounted cumulative gain of the first k, linear gains; NaN where no gain is there.
    """

    ap: Floats
    any_in: Floats
    hits: Floats
    vote: Floats
    ndcg: Floats


@dataclass(frozen=True, eq=False)
class CaseRetrieval:
    """What a ranking gives to every query, and what random orders of the same galleries give on average.

    Attributes:
        ks: the k of each column, ascending.
        positives: (Q,) photos of the query's class in its gallery.
        gallery: (Q,) photos in its gallery.
        cut: (Q,) photos of its gallery that were not returned.
        found: scores of the ranking.
        chance: scores of a random order, analytic.
    """

    ks: tuple[int, ...]
    positives: Ints
    gallery: Ints
    cut: Ints
    found: QueryScores
    chance: QueryScores


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A chunk in order of rank; arrays are (q, G) by place.

    `order` are the columns of the gallery. Those of equal similarity make a block: its `start`, from 0, and its `size`
    are given at each of its places. `is_found` is False beyond what was returned.
    """

    order: Ints
    start: Ints
    size: Ints
    is_found: NDArray[np.bool_]

    def expected(self, values: NDArray[Any], most: int) -> Floats:
        """Return the expected value at each of the first `most` places, (q, most), of values (q, G) by place."""
        sums = _sums(values)
        start, size = self.start[:, :most], self.size[:, :most]
        mean = (np.take_along_axis(sums, start + size, 1) - np.take_along_axis(sums, start, 1)) / size
        return np.where(self.is_found[:, :most], mean, 0.0)


def rank_classes(
    similar: NDArray[np.floating],
    labels: tuple[Ints, Ints],
    ks: Sequence[int] = KS,
    relevance: Relevance | None = None,
    chunk: int | None = None,
    positive: Callable[[slice], NDArray[np.bool_]] | None = None,
) -> CaseRetrieval:
    """Score rankings of a gallery by class, in chunks of queries.

    Args:
        similar: (Q, G) similarities, higher is nearer; compared as float32. NaN and minus infinity: see above.
        labels: (Q,) and (G,) class indices from 0: a photo is a positive of the queries of its class.
        ks: wanted k, each at least 1.
        relevance: graded relevance for nDCG; None: 1 for positives, 0 for others.
        chunk: queries per chunk, chosen by memory if None; no result depends on it.
        positive: (q, G) what is a positive of some queries, instead of their class; the vote still goes by class.

    Raises:
        ValueError: shapes that do not fit, an empty gallery, or k below 1.

    >>> own = rank_classes(np.array([[0.9, 0.1, 0.5]]), (np.array([0]), np.array([0, 0, 1])))
    >>> round(float(own.found.ap[0]), 4)  # (1/1 + 2/3) / 2
    0.8333
    """
    mine, theirs = (np.asarray(part, np.int64) for part in labels)
    if similar.shape != (len(mine), len(theirs)) or not len(theirs):
        raise ValueError(f"similarities of shape {similar.shape} for {len(mine)} queries and {len(theirs)} photos")
    wanted = tuple(sorted(set(ks)))
    if not wanted or wanted[0] < 1:
        raise ValueError(f"k {ks}: at least 1")
    step = max(1, _CELLS // len(theirs)) if chunk is None else chunk
    is_of = (theirs[:, None] == np.arange(int(max(theirs.max(), mine.max(initial=0))) + 1)).astype(np.float64)
    counts, ranked, random = [], [], []
    for first in range(0, max(len(mine), 1), step):
        rows = slice(first, first + step)
        part = np.asarray(similar[rows], np.float32)
        gains = None if relevance is None else np.asarray(relevance(rows), np.float64)
        is_positive = mine[rows, None] == theirs if positive is None else positive(rows)
        numbers, found, chance = _scored(part, mine[rows], (theirs, is_of), wanted, (is_positive, gains))
        counts.append(numbers)
        ranked.append(found)
        random.append(chance)
    positives, gallery, cut = (np.concatenate(column) for column in zip(*counts, strict=True))
    return CaseRetrieval(wanted, positives, gallery, cut, _joined(ranked), _joined(random))


def _joined(parts: Sequence[QueryScores]) -> QueryScores:
    names = ("ap", "any_in", "hits", "vote", "ndcg")
    return QueryScores(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _scored(
    similar: NDArray[np.float32],
    mine: Ints,
    theirs: tuple[Ints, Floats],
    ks: Sequence[int],
    worth: tuple[NDArray[np.bool_], Floats | None],
) -> tuple[tuple[Ints, Ints, Ints], QueryScores, QueryScores]:
    """Return counts, scores and chance levels of a chunk of queries; `worth` are positives and gains."""
    ranked, most = _ranked(similar), min(max(ks), similar.shape[1])
    is_there = ~np.isnan(similar)
    counts = is_there @ theirs[1]  # (q, classes) of the gallery
    rel = np.take_along_axis(worth[0] & is_there, ranked.order, 1)
    size, positives = is_there.sum(1), rel.sum(1)
    fixed, drawn, places = _first_classes(ranked, theirs[0][ranked.order], theirs[1].shape[1], ks)
    vote = np.column_stack([win_probability(fixed[k], drawn[k], places[k], mine, ks[k]) for k in range(len(ks))])
    fixed, drawn, places = _first_classes(ranked, rel.astype(np.int64), 2, ks)
    any_in = np.column_stack([_any(fixed[k][:, 1], drawn[k][:, 1], drawn[k].sum(1), places[k]) for k in range(len(ks))])
    first = ranked.expected(rel, most)
    if worth[1] is None:
        gained, ideal, total = first, np.arange(most) < positives[:, None], positives
    else:
        gains = np.where(is_there, worth[1], 0.0)
        gained = ranked.expected(np.take_along_axis(gains, ranked.order, 1), most)
        ideal, total = -np.sort(np.partition(-gains, most - 1, 1)[:, :most], 1), gains.sum(1)
    best = _discounted(ideal, ks)
    with np.errstate(invalid="ignore", divide="ignore"):
        ndcg = _discounted(gained, ks) / best
        precision = _precision(ranked, rel) / positives
    found = QueryScores(precision, any_in, _at(np.cumsum(first, 1), ks), vote, ndcg)
    chance = _at_random(mine, (positives, counts), ks, (total, best))
    kept = positives > 0
    return (positives, size, (similar == -np.inf).sum(1)), _only(found, kept), _only(chance, kept)


def _only(scores: QueryScores, kept: NDArray[np.bool_]) -> QueryScores:
    def of(values: Floats) -> Floats:
        return np.where(kept if values.ndim == 1 else kept[:, None], values, np.nan)

    return QueryScores(*map(of, (scores.ap, scores.any_in, scores.hits, scores.vote, scores.ndcg)))


def _ranked(similar: NDArray[np.float32]) -> _Ranked:
    """Return similarities (q, G) by rank.

    They are sorted as integers of 64 bits, which is fast: above, a float32 such that larger ones come first and NaN
    last; below, the column.
    """
    bits = (similar + np.float32(0)).view(np.uint32)  # without the sign of zero
    key = np.where(bits >> 31, bits, ~(bits | np.uint32(1 << 31)))
    key[np.isnan(similar)] = _LAST
    width = similar.shape[1]
    both = (key.astype(np.uint64) << np.uint64(32)) | np.arange(width, dtype=np.uint64)
    both.sort(axis=1)
    by_rank, place = (both >> np.uint64(32)).astype(np.uint32), np.arange(width)
    is_new = np.ones(similar.shape, bool)
    np.not_equal(by_rank[:, 1:], by_rank[:, :-1], out=is_new[:, 1:])
    start = np.maximum.accumulate(np.where(is_new, place, 0), 1)
    after = np.full(similar.shape, width)
    np.copyto(after[:, :-1], place[1:], where=is_new[:, 1:])
    stop = np.minimum.accumulate(after[:, ::-1], 1)[:, ::-1]
    order = (both & np.uint64(_LAST)).astype(np.int64)
    return _Ranked(order, start, stop - start, by_rank < _MINUS_INFINITY)


def _sums(values: NDArray[Any]) -> Floats:
    """Return (q, G + 1): the sum of what stands before each place."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, 1, out=sums[:, 1:])
    return sums


def _precision(ranked: _Ranked, rel: NDArray[np.bool_]) -> Floats:
    """Return (q,) the expected sum of precisions at the places of positives."""
    is_tied = ((ranked.size > 1) & ranked.is_found).any(1)
    rows, places = np.nonzero(rel & ranked.is_found)
    counts = np.bincount(rows, minlength=len(rel))
    number = np.arange(1, len(rows) + 1) - (np.cumsum(counts) - counts)[rows]
    sums = np.bincount(rows, number / (places + 1), len(rel))
    if is_tied.any():
        sums[is_tied] = _tied_precision(ranked, rel, np.flatnonzero(is_tied))
    return np.asarray(sums, np.float64)


def _tied_precision(ranked: _Ranked, rel: NDArray[np.bool_], rows: Ints) -> Floats:
    """Return `_precision` of some rows.

    At place i of a block of b places and r positives, after a others with p positives: a positive stands there with
    probability r / b, and then p + 1 + (i - a - 1) (r - 1) / (b - 1) positives are expected among the first i.
    """
    start, size, above = ranked.start[rows], ranked.size[rows], _sums(rel[rows])
    before = np.take_along_axis(above, start, 1)
    within = np.take_along_axis(above, start + size, 1) - before
    place = np.arange(1, rel.shape[1] + 1)
    others = (place - start - 1) * (within - 1) / np.maximum(size - 1, 1)
    terms = within / size * (before + 1 + others) / place
    return np.asarray(np.where(ranked.is_found[rows], terms, 0.0).sum(1), np.float64)


def _first_classes(
    ranked: _Ranked, labels: Ints, classes: int, ks: Sequence[int]
) -> tuple[list[Floats], list[Floats], list[Ints]]:
    """Return what is among the first k of each ranking, for every k.

    Returns:
        (q, classes) counts of photos that are there in any order; counts of the block of which only some are; and
        (q,) how many places are left for that block, 0 where it ends with k.
    """
    width, rows = labels.shape[1], np.arange(len(labels))
    returned = ranked.is_found.sum(1)
    fixed, drawn, places = [], [], []
    for k in ks:
        last = np.minimum(k, returned)  # places that are filled
        at = np.clip(last - 1, 0, width - 1)
        start, size = ranked.start[rows, at], ranked.size[rows, at]
        is_whole = start + size <= last
        begin = np.where(is_whole, last, start)
        end = np.where(is_whole, last, start + size)
        fixed.append(_counted(labels, np.zeros_like(begin), begin, classes))
        drawn.append(_counted(labels, begin, end, classes))
        places.append(last - begin)
    return fixed, drawn, places


def _counted(labels: Ints, begin: Ints, end: Ints, classes: int) -> Floats:
    """Return (q, classes): labels from place `begin` to before `end` of each row."""
    widest = int((end - begin).max(initial=0))
    columns = begin[:, None] + np.arange(widest)
    is_in = columns < end[:, None]
    rows = np.broadcast_to(np.arange(len(labels))[:, None], columns.shape)
    keys = (rows * classes + np.take_along_axis(labels, np.minimum(columns, labels.shape[1] - 1), 1))[is_in]
    return np.bincount(keys, minlength=len(labels) * classes).reshape(len(labels), classes).astype(np.float64)


def _any(fixed: Floats, drawn: Floats, size: Floats, places: Ints) -> Floats:
    """Return (q,): probability of a positive among `places` of a block, 1 where there is one before it.

    C(size - drawn, places) / C(size, places) is the probability of none, a product of `places` factors.
    """
    missed = np.ones(len(fixed))
    for step in range(int(places.max(initial=0))):
        left = np.maximum(size - step, 1)
        missed = np.where(step < places, missed * np.maximum(size - drawn - step, 0) / left, missed)
    return np.where(fixed > 0, 1.0, 1 - missed)


def _at(cumulative: Floats, ks: Sequence[int]) -> Floats:
    """Return (q, K): a running sum at each k, at the end where fewer are there."""
    return cumulative[:, [min(k, cumulative.shape[1]) - 1 for k in ks]]


def _discounted(gains: Floats, ks: Sequence[int]) -> Floats:
    """Return (q, K): the sum of gains by rank, each divided by log2(rank + 1), of the first k."""
    most = gains[:, : max(ks)]
    return _at(np.cumsum(most / np.log2(np.arange(2, most.shape[1] + 2)), 1), ks)


def _at_random(mine: Ints, there: tuple[Ints, Floats], ks: Sequence[int], gains: tuple[Floats, Floats]) -> QueryScores:
    """Return the expected scores of a random order of each query's gallery.

    With R positives among n photos, the average precision is (H(n) + (R - 1) / (n - 1) (n - H(n))) / n, where H(n) is
    1 + 1/2 + ... + 1/n (Bestgen, Exact Expected Average Precision of the Random Baseline for System Evaluation, 2015).

    Args:
        mine: (q,) the queries' classes.
        there: (q,) positives, and (q, classes) photos of each class.
        ks: of the scores.
        gains: (q,) sum of all gains, and (q, K) discounted gains in the best order.
    """
    right, counts = there[0].astype(np.float64), there[1]
    size = counts.sum(1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(size.max(initial=0)) + 1))])[size.astype(np.int64)]
    nothing = np.zeros_like(counts)
    any_in, hits, vote, ndcg = (np.empty((len(mine), len(ks))) for _ in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = (harmonic + (right - 1) / np.maximum(size - 1, 1) * (size - harmonic)) / size
        for column, k in enumerate(ks):
            places = np.minimum(k, size).astype(np.int64)
            any_in[:, column] = _any(nothing[:, 0], right, size, places)
            hits[:, column] = places * right / size
            vote[:, column] = win_probability(nothing, counts, places, mine, k)
            discounts = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.maximum(places, 1) - 1]
            ndcg[:, column] = gains[0] / size * discounts / gains[1][:, column]
    return QueryScores(precision, any_in, hits, vote, ndcg)
