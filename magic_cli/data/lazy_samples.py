"""Sequences of samples that are made when they are asked for, so that a list of them is never in memory."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

from magic_cli.records import Sample


class LazySamples(Sequence[Sample]):
    """Samples that are made on access; subclasses define `__len__`, `sample` and, for shards, `blocks`."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Return sample 0..len-1; equal ones, but not the same object, if it is asked for again."""

    @property
    def blocks(self) -> Sequence[int]:
        """Numbers of samples that lie together, such as those of each shard, in order; their sum is the length."""
        return (len(self),)

    @property
    def window(self) -> int:
        """How many blocks an order should stay within at a time, as they are only read as a whole; 0 for any order."""
        return 0

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Return a sample, or the list of those of a slice."""
        if isinstance(index, slice):
            return [self.sample(number) for number in range(len(self))[index]]
        return self.sample(range(len(self))[index])


class JoinedSamples(LazySamples):
    """Sequences one after another."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def sample(self, index: int) -> Sample:
        """Return the sample of the part that it falls into."""
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]

    @property
    def blocks(self) -> Sequence[int]:
        """The blocks of all parts."""
        return [block for part in self._parts for block in blocks_of(part)]

    @property
    def window(self) -> int:
        """The widest window of a part that needs one."""
        return max(map(window_of, self._parts), default=0)


def blocks_of(samples: Sequence[Sample]) -> Sequence[int]:
    """Return the numbers of samples that lie together; a sequence in memory is one block."""
    return samples.blocks if isinstance(samples, LazySamples) else (len(samples),)


def window_of(samples: Sequence[Sample]) -> int:
    """Return how many blocks an order should stay within at a time; 0 for any order."""
    return samples.window if isinstance(samples, LazySamples) else 0


def chained(parts: Sequence[Sequence[Sample]]) -> Sequence[Sample]:
    """Return sequences one after another: the only one itself, a list of those in memory, else a lazy sequence."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, LazySamples) for part in parts):
        return JoinedSamples(parts)
    return [sample for part in parts for sample in part]
