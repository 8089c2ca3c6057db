"""Duplicate photos: the same bytes, or nearly the same picture at any size, format and brightness.

Two photos are near duplicates if their perceptual hashes differ in at most 10 of 64 bits and their 16 x 16 thumbnails
correlate by 0.955 at least (data/imaging/fingerprint.py). Measured on isic2017 (1,201 dermoscopic photos) and pad-magic
(799 of a phone): examples/evidence.md, "Duplicates". Clusters are connected: a photo is in one with all that it
resembles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BITS, CORRELATION = 10, 0.955

_BANDS, _WIDTH = 4, 16  # two hashes of at most 10 other bits have at most 2 other ones in one of four bands

_FEW = BITS // _BANDS

_CHUNK = 1 << 20  # pairs that are compared at a time

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Duplicates:
    """For each photo, the number of the first one with the same bytes, and of the first one of its cluster.

    Both are (photos,) int64. A cluster joins near duplicates and photos with the same bytes.
    """

    exact: Numbers
    cluster: Numbers


def find_duplicates(
    digests: NDArray[np.uint8], hashes: NDArray[np.uint64], known: NDArray[np.bool_], thumbnails: NDArray[np.uint8]
) -> Duplicates:
    """Find all duplicates among photos.

    Args:
        digests: SHA-256 of each photo, (photos, 32).
        hashes: perceptual hash of each photo, (photos,).
        known: whether a photo has a hash, (photos,); those without have exact duplicates only.
        thumbnails: grey values, (photos, 256); may be memory-mapped.
    """
    exact = same_bytes(digests)
    clusters = Clusters(exact)
    candidates = np.flatnonzero(known & (exact == np.arange(len(exact))))  # one photo of the same bytes
    for pairs in close_pairs(hashes[candidates]):
        left, right = candidates[pairs[:, 0]], candidates[pairs[:, 1]]
        similar = correlations(thumbnails[left], thumbnails[right]) >= CORRELATION
        clusters.join(left[similar], right[similar])
    return Duplicates(exact, clusters.first())


def same_bytes(digests: NDArray[np.uint8]) -> Numbers:
    """Return for each row of (n, 32) the number of the first row that equals it, (n,)."""
    if not len(digests):
        return np.zeros(0, np.int64)
    rows = np.ascontiguousarray(digests).view(np.dtype((np.void, digests.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def correlations(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the correlation of each row with the row beside it, (n,) in [-1, 1]; 0 for a row of equal values."""
    one, other = left.astype(np.float32), right.astype(np.float32)
    one -= one.mean(1, keepdims=True)
    other -= other.mean(1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other))
    products: NDArray[np.float32] = np.einsum("ij,ij->i", one, other)
    found = np.zeros_like(products)
    np.divide(products, norms, out=found, where=norms > 0)
    return found


def close_pairs(hashes: NDArray[np.uint64]) -> Iterator[Numbers]:
    """Yield all pairs of hashes that differ in at most `BITS` bits, each once, as rows (i, j) with i < j.

    Multi-index hashing (Norouzi, Punjani & Fleet, Fast Search in Hamming Space with Multi-Index Hashing, 2012): a pair
    is close in one of four bands, so each band is looked up with every change of up to two bits. Bands take every
    fourth bit, as neighbouring ones depend on each other. Memory: one chunk of pairs.
    """
    keys = _bands(hashes)
    for band, key in enumerate(keys):
        order = np.argsort(key, kind="stable")
        for left, right in _close_in_band(hashes[order], key[order]):
            pairs = np.sort(np.stack([order[left], order[right]], 1), axis=1)
            for earlier in keys[:band]:  # those were found there
                pairs = pairs[np.bitwise_count(earlier[pairs[:, 0]] ^ earlier[pairs[:, 1]]) > _FEW]
            if len(pairs):
                yield pairs


def _bands(hashes: NDArray[np.uint64]) -> list[Numbers]:
    """Return the values of the four bands, each (n,) in [0, 2**16)."""
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    weights = 1 << np.arange(_WIDTH)
    return [bits[:, band::_BANDS] @ weights for band in range(_BANDS)]


def _close_in_band(hashes: NDArray[np.uint64], keys: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the close pairs whose keys differ in at most two bits, each once; hashes are sorted by their keys."""
    counts = np.bincount(keys, minlength=1 << _WIDTH)
    ends = np.cumsum(counts)
    for change in _changes():
        wanted = keys ^ change
        if change:
            left = np.flatnonzero(keys < wanted)
            wanted = wanted[left]
            first, number = ends[wanted] - counts[wanted], counts[wanted]
        else:
            left = np.arange(len(keys))
            first, number = left + 1, ends[keys] - left - 1
        for begin, end in _chunks(number):
            many = number[begin:end]
            offset = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
            right = np.repeat(first[begin:end], many) + offset
            other = np.repeat(hashes[left[begin:end]], many)
            near = np.flatnonzero(np.bitwise_count(other ^ hashes[right]) <= BITS)
            yield np.repeat(left[begin:end], many)[near], right[near]


def _changes() -> list[int]:
    """Return all numbers of 16 bits of which at most two are set."""
    places = (place for number in range(_FEW + 1) for place in combinations(range(_WIDTH), number))
    return [sum(1 << bit for bit in place) for place in places]


def _chunks(numbers: Numbers) -> Iterator[tuple[int, int]]:
    """Yield ranges of an array whose numbers sum to about `_CHUNK`, at least one number each; none if all are 0."""
    ends, begin = np.cumsum(numbers), 0
    while begin < len(numbers) and ends[-1] > (ends[begin - 1] if begin else 0):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        yield begin, end
        begin = end


class Clusters:
    """Numbers that are joined into clusters; the lowest number of a cluster names it (union by path halving)."""

    def __init__(self, first: Numbers) -> None:
        """Start with number i joined to first[i] <= i."""
        self._parents: list[int] = first.tolist()

    def join(self, left: Numbers, right: Numbers) -> None:
        """Join left[i] with right[i]."""
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parents[high] = low

    def first(self) -> Numbers:
        """Return for each number the lowest of its cluster."""
        return np.array([self._root(number) for number in range(len(self._parents))], np.int64)

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number
