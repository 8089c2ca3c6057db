"""The order of an epoch as a function: which sample stands at a place, computed and never stored.

A permutation of 0..n-1 is a Feistel network over pairs of digits of base ceil(sqrt(n)) (generalised as in Black and
Rogaway, CT-RSA 2002): about n + 2 sqrt(n) numbers, of which those from n on are mapped once more until they fall below
(cycle walking). It takes a few bytes however large n is, and any place can be asked for first: a training that goes on
in the middle needs nothing but the number of its step. The order depends on the seed and the epoch alone, not on the
number of processes or of workers.
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]

_ROUNDS = 12

_GAMMA, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Permutation:
    """A permutation of 0..size-1 that `key` chooses, such as the seed and the epoch; size is at most 2^62."""

    def __init__(self, size: int, *key: int | str) -> None:
        self.size = size
        self._base = np.uint64(max(2, _root(size)))
        digest = hashlib.shake_128("/".join(map(str, key)).encode()).digest(8 * _ROUNDS)
        self._keys = np.frombuffer(digest, "<u8").astype(np.uint64)

    def __call__(self, places: Places) -> Places:
        """Return what stands at places: (k,) int64 in 0..size-1 for (k,) int64 in 0..size-1.

        Raises:
            IndexError: a place is out of range.
        """
        if len(places) and not (places.min() >= 0 and places.max() < self.size):
            raise IndexError(f"places {places.min()}..{places.max()} of {self.size}")
        found = self._mixed(places.astype(np.uint64))
        while (outside := found >= self.size).any():
            found[outside] = self._mixed(found[outside])
        return found.astype(np.int64)

    def _mixed(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers // self._base, numbers % self._base
        for key in self._keys:
            left, right = right, (left + _hashed(right ^ key) % self._base) % self._base
        return left * self._base + right


def _root(size: int) -> int:
    """Return the smallest number whose square is at least `size`."""
    return math.isqrt(size - 1) + 1 if size else 0


def _hashed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64 well mixed bits of each value: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    values = values + _GAMMA
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


class WindowPermutation:
    """An order that reads few shards at a time: shards are permuted, then samples within `window` shards at a time.

    For shards on a network or a slow disk, which are read fast only in large pieces. A batch then holds samples of at
    most a few windows; with a window of all shards the order is as random as that of `Permutation`. Memory is a few
    numbers per shard.
    """

    def __init__(self, blocks: Sequence[int], window: int, *key: int | str) -> None:
        """Choose an order.

        Args:
            blocks: number of samples of each shard, in order.
            window: number of shards whose samples are mixed, at least 1.
            key: as for `Permutation`.
        """
        self.size, self._key = sum(blocks), key
        sizes = np.array(blocks, np.int64)
        shards = Permutation(len(sizes), *key, "shards")(np.arange(len(sizes)))
        self._firsts = np.array([0, *accumulate(sizes)][:-1], np.int64)[shards]  # of each shard, as they are permuted
        self._starts = np.array([0, *accumulate(sizes[shards])], np.int64)
        self._windows = np.append(self._starts[:-1:window], self.size)

    def __call__(self, places: Places) -> Places:
        """Return what stands at places; as `Permutation`."""
        found = np.empty_like(places)
        numbers = np.searchsorted(self._windows, places, "right") - 1
        for number in np.unique(numbers):
            mine, first = numbers == number, self._windows[number]
            mixed = Permutation(int(self._windows[number + 1] - first), *self._key, int(number))
            found[mine] = first + mixed(places[mine] - first)
        shards = np.searchsorted(self._starts, found, "right") - 1
        return self._firsts[shards] + found - self._starts[shards]
