"""Scores of rankings: where queries find their positives in a gallery, with expected values under ties.

Ties. Items of the same score are in random order, and every value is the expected one over these orders, computed by
blocks of equal scores; the median rank is the median of expected ranks, which for one positive are mid ranks. So no
score depends on the order of the gallery (trec_eval goes by the ids, argsort by chance). Scores within `TIE` of a
positive's count as equal to it: equal features do not always have equal products to the last bit.

Two conventions of recall at k, which differ if a query has several positives, so both are named in full:
  - `recall_any@k`: 1 if any positive is among the first k, as in the papers on CLIP (elsewhere Success@k, Acc@k);
  - `recall_fraction@k`: the fraction of the query's positives among the first k, as in trec_eval.
Ranks are those of a query's best positive, from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem

KS = (1, 5, 10, 50, 100)

TIE = 1e-9

_CELLS = 1 << 22
"""Numbers in the largest chunk of the similarity matrix: 32 MiB of float64."""

Floats = NDArray[np.float64]

Keys = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each query found its positives among `gallery` items; rows are queries, in their order.

    Attributes:
        ks: the k of each column of `any_in` and `fraction_in`, ascending, each at most `gallery`.
        gallery: number of items ranked for each query.
        positives: (Q,) number of positives in the gallery.
        rank: (Q,) float64, expected rank of the best positive, in [1, gallery].
        any_in: (Q, len(ks)) float64, probability that a positive is among the first k, in [0, 1].
        fraction_in: (Q, len(ks)) float64, expected fraction of the positives among the first k, in [0, 1].

    A query without positives has 0 in `positives` and NaN elsewhere; it counts in no score.
    """

    ks: tuple[int, ...]
    gallery: int
    positives: Keys
    rank: Floats
    any_in: Floats
    fraction_in: Floats

    @property
    def queries(self) -> int:
        """Number of queries that have a positive, on which the scores are computed."""
        return int((self.positives > 0).sum())

    @property
    def without_positive(self) -> int:
        """Number of queries without a positive in the gallery, which are left out."""
        return int((self.positives == 0).sum())

    def scores(self) -> dict[str, float]:
        """Return every score by name (`names`), means over queries but for the median; NaN without any query."""
        kept = self.positives > 0
        if not kept.any():
            return dict.fromkeys(self.names, float("nan"))
        values = np.hstack([self.any_in[kept], self.fraction_in[kept]]).mean(0).tolist()
        ranks = self.rank[kept]
        return dict(zip(self.names, [*values, float(np.median(ranks)), float(ranks.mean())], strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, in the order of `scores` and `chance`."""
        recalls = [f"recall_{kind}@{k}" for kind in ("any", "fraction") for k in self.ks]
        return (*recalls, "median_rank", "mean_rank")

    def chance(self) -> dict[str, float]:
        """Return what a random order of the gallery gives on average for every score, by name.

        With R positives among G items: 1 - C(G - R, k) / C(G, k), k / G, and the rank (G + 1) / (R + 1), each the mean
        over queries. The median rank is the median of the ranks that random orders give to all these queries.
        """
        found, counts = np.unique(self.positives[self.positives > 0], return_counts=True)
        if not len(found):
            return dict.fromkeys(self.names, float("nan"))
        share, none = counts / counts.sum(), np.zeros(len(found), np.int64)
        size = np.full(len(found), self.gallery)
        any_in = share @ _any_in(none, size, found, np.array(self.ks))
        middle = _median_at_random(self.gallery, found, share)
        mean = float(share @ ((self.gallery + 1) / (found + 1)))
        values = [*any_in.tolist(), *(k / self.gallery for k in self.ks), middle, mean]
        return dict(zip(self.names, values, strict=True))


def caption_keys(captions: Sequence[str], group_identical: bool = False) -> Keys:
    """Return keys that say which rows are positives of each other, (N,) int64: row i's key for photo i and caption i.

    Args:
        captions: the caption of each pair.
        group_identical: any pair with the very same caption is a positive; otherwise only the own row is.

    >>> caption_keys(["eczema", "a scar", "eczema"], group_identical=True).tolist()
    [0, 1, 0]
    """
    if not group_identical:
        return np.arange(len(captions), dtype=np.int64)
    first: dict[str, int] = {}
    return np.array([first.setdefault(caption, len(first)) for caption in captions], np.int64)


def rank_gallery(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    keys: tuple[Keys, Keys] | None = None,
    ks: Sequence[int] = KS,
    chunk: int | None = None,
) -> Ranking:
    """Rank the gallery by its inner product with each query, in chunks of queries.

    Args:
        queries: (Q, d) features, L2-normalised for cosine similarity.
        gallery: (G, d) features, likewise.
        keys: (Q,) and (G,) integers: an item is a positive of the queries that have its key (`caption_keys`). Without
            keys, query i has item i.
        ks: wanted k, each at least 1; those beyond G are left out, with G = 1 remaining at least.
        chunk: queries per chunk, chosen by memory if None: at most 32 MiB of similarities exist at a time. Products are
            float64, and no result depends on it.

    Raises:
        DataError: a feature is not finite.
        ValueError: shapes that do not fit, an empty gallery, k or chunk below 1.

    >>> ranking = rank_gallery(np.eye(3), np.eye(3), ks=(1, 2))
    >>> ranking.scores()["recall_any@1"], ranking.chance()["median_rank"]
    (1.0, 2.0)
    """
    query_keys, gallery_keys = _checked_keys(queries, gallery, keys)
    wanted = tuple(sorted({k for k in ks if k <= len(gallery)})) or (1,)
    chunk = max(1, _CELLS // len(gallery)) if chunk is None else chunk
    if min([*ks, chunk]) < 1:
        raise ValueError(f"k {ks} and chunk {chunk}: at least 1")
    order = np.argsort(gallery_keys, kind="stable")
    sorted_keys = gallery_keys[order]
    first, last = (np.searchsorted(sorted_keys, query_keys, side) for side in ("left", "right"))
    items = np.ascontiguousarray(np.asarray(gallery, np.float64).T)
    parts = [(np.empty(0), np.empty((0, len(wanted))), np.empty((0, len(wanted))))]
    for start in range(0, len(queries), chunk):
        rows = slice(start, start + chunk)
        similar = np.asarray(queries[rows], np.float64) @ items
        parts.append(_ranked(similar, order, first[rows], last[rows], np.array(wanted)))
    rank, any_in, fraction_in = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Ranking(wanted, len(gallery), (last - first).astype(np.int64), rank, any_in, fraction_in)


def _checked_keys(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], keys: tuple[Keys, Keys] | None
) -> tuple[Keys, Keys]:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1] or not len(gallery):
        raise ValueError(f"features of shapes {queries.shape} and {gallery.shape}")
    for kind, features in (("query", queries), ("gallery", gallery)):
        bad = np.flatnonzero(~np.isfinite(features).all(1))
        if len(bad):
            got = f"features of row {bad[0] + 1} (one of {len(bad)}) that are not finite"
            raise DataError(problem(kind, got, "finite numbers", "embed it again, or leave it out"))
    if keys is None:
        if len(queries) != len(gallery):
            raise ValueError(f"{len(queries)} queries and {len(gallery)} items need keys")
        rows = np.arange(len(queries), dtype=np.int64)
        return rows, rows
    if (len(keys[0]), len(keys[1])) != (len(queries), len(gallery)):
        raise ValueError(f"{len(keys[0])} and {len(keys[1])} keys for {len(queries)} queries, {len(gallery)} items")
    return keys


def _ranked(similar: Floats, order: Keys, first: Keys, last: Keys, ks: Keys) -> tuple[Floats, Floats, Floats]:
    """Return rank (q,), any_in (q, K) and fraction_in (q, K) of a chunk, whose similarities (q, G) are sorted in place.

    The positives of row i are the items order[first[i]:last[i]].
    """
    counts = last - first
    rows = np.repeat(np.arange(len(similar)), counts)
    ends = np.cumsum(counts)
    columns = order[np.arange(ends[-1]) - np.repeat(ends - counts - first, counts)]
    scores = similar[rows, columns]
    similar.sort(axis=1)
    above, size = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for row, (stop, count) in enumerate(zip(ends.tolist(), counts.tolist(), strict=True)):
        own = slice(stop - count, stop)
        least = np.searchsorted(similar[row], scores[own] - TIE, "left")
        most = np.searchsorted(similar[row], scores[own] + TIE, "right")
        above[own], size[own] = similar.shape[1] - most, most - least
    found = counts > 0
    starts = (ends - counts)[found]
    rank, any_in, fraction_in = (np.full((len(counts), n), np.nan) for n in (1, len(ks), len(ks)))
    if len(starts):
        inside = np.clip((ks - above[:, None]) / size[:, None], 0.0, 1.0)
        fraction_in[found] = np.add.reduceat(inside, starts) / counts[found, None]
        best = np.maximum.reduceat(scores, starts)
        near = scores >= np.repeat(best, counts[found]) - TIE
        tied = np.add.reduceat(near.astype(np.int64), starts)
        highest = np.minimum.reduceat(above, starts)
        block = _of_best(scores, size, best, counts[found])
        rank[found, 0] = highest + (block + 1) / (tied + 1)
        any_in[found] = _any_in(highest, block, tied, ks)
    return rank[:, 0], any_in, fraction_in


def _of_best(scores: Floats, size: Keys, best: Floats, counts: Keys) -> Keys:
    """Return the size of the block of equal scores that holds each row's best positive."""
    is_best = scores == np.repeat(best, counts)
    return np.asarray(np.maximum.reduceat(np.where(is_best, size, 0), np.cumsum(counts) - counts), np.int64)


def _any_in(above: Keys, size: Keys, positives: Keys, ks: Keys) -> Floats:
    """Return (n, K): probability that any of the positives in a block in random order is among the first k.

    A block of `size` items starts after `above` others: k - above = r places of it are among the first k, and all of
    them are negatives with probability C(size - positives, r) / C(size, r).
    """
    log = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int(size.max()) + 1)))])  # of factorials
    size, positives = size[:, None], positives[:, None]
    places = np.clip(ks - above[:, None], 0, size)
    others = size - positives
    left = np.maximum(others - places, 0)
    missed = np.exp(log[others] - log[left] - log[size] + log[size - places])
    found = np.where(positives == 1, places / size, 1 - missed)  # the first without rounding
    return np.asarray(np.where(places > others, 1.0, np.where(places == 0, 0.0, found)), np.float64)


def _median_at_random(gallery: int, positives: Keys, share: Floats) -> float:
    """Return the median rank of the best positive over random orders, for shares of queries by number of positives."""
    ranks = np.arange(1, gallery + 1)
    within = np.zeros(gallery)
    for number, weight in zip(positives.tolist(), share.tolist(), strict=True):
        within += weight * _any_in(np.zeros(1, np.int64), np.array([gallery]), np.array([number]), ranks)[0]
    low, high = (int(np.argmax(within >= 0.5 + slack)) + 1 for slack in (-1e-9, 1e-9))
    return (low + high) / 2
