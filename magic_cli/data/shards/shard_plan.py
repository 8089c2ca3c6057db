"""Which shard each pair of a prepared dataset goes into: splits apart, groups whole, in an order that mixes a source.

Groups (patients) are ordered by a hash of their names, and shards are filled with whole groups in that order, so that
every shard is a random part of its split, whatever the order of the source, and one that is held out or lost takes no
part of a patient with it. The same dataset gives the same shards.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.shards.shard_index import group_hash
from magic_cli.data.texts.pair_texts import has_text
from magic_cli.errors import ConfigError, DataError, problem
from magic_cli.records import SPLITS, Case, ImageRecord

MOST_SHARDS = 99_999

Hashes = NDArray[np.uint64]


def check_shards(number: int) -> None:
    """Raise ConfigError for a number of shards that no dataset can have; 0 is for none."""
    if not 0 <= number <= MOST_SHARDS:
        expected = f"1 to {MOST_SHARDS:,}"
        raise ConfigError(problem("--shards", f"{number:,}", expected, "a tar of 1,000 to 10,000 pairs is usual"))


def group_of(case: Case) -> str:
    """Return what must not be divided: the group of a case, else the case."""
    return case.group_id or case.case_id


@dataclass(frozen=True)
class ShardPlan:
    """Where pairs go, by split: hashes of its groups in order, and of each shard the end in that order.

    `pairs` are those of each shard, one shard after another in the order of `SPLITS`.
    """

    groups: Mapping[str, Hashes]
    ends: Mapping[str, NDArray[np.int64]]
    pairs: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tars, whose splits `magic train` reads from them."""
        return tuple(f"{split}-{number:06}.tar" for split in SPLITS for number in range(len(self.ends[split])))

    def by_split(self) -> dict[str, dict[str, int]]:
        """Return the numbers of tars and pairs of each split that has any."""
        rows, first = {}, 0
        for split in SPLITS:
            tars = len(self.ends[split])
            if tars:
                rows[split] = {"tars": tars, "pairs": sum(self.pairs[first : first + tars])}
            first += tars
        return rows

    def shard_of(self, case: Case) -> int:
        """Return the number of the shard for the photos of a case that has a text."""
        split = case.split
        place = np.searchsorted(self.groups[split], np.uint64(group_hash(group_of(case))))
        before = sum(len(self.ends[other]) for other in SPLITS[: SPLITS.index(split)])
        return before + int(np.searchsorted(self.ends[split], place, "right"))


class ShardPlanner:
    """Sees all cases, then all photos, and decides how `number` shards are filled; some 24 bytes a pair."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._cases, self._groups = array("Q"), array("Q")
        self._photos = {split: array("Q") for split in SPLITS}

    def add_case(self, case: Case) -> None:
        """See a case; without shards to make, or without any text, nothing is kept."""
        if self.number and has_text(case):
            self._cases.append(group_hash(case.case_id))
            self._groups.append(group_hash(group_of(case)))

    def add_image(self, image: ImageRecord) -> None:
        """See a photo."""
        if self.number and image.path is not None:
            self._photos[image.split].append(group_hash(image.case_id))

    @cached_property
    def plan(self) -> ShardPlan:
        """Which shard has which pairs, at least one each; asked for once all are seen.

        Raises:
            DataError: there is no pair, or there are fewer groups than shards, or fewer shards than splits; one line.
        """
        groups, sizes = {}, {}
        for split in SPLITS:
            groups[split], sizes[split] = np.unique(self._groups_of(split), return_counts=True)
        numbers = dict.fromkeys(SPLITS, 0)
        if self.number:
            numbers = self._dealt({split: (len(groups[split]), int(sizes[split].sum())) for split in SPLITS})
        ends = {split: _ends(sizes[split], numbers[split]) for split in SPLITS}
        starts = {split: np.append(0, ends[split])[:-1] for split in SPLITS}
        pairs = [n for split in SPLITS if numbers[split] for n in np.add.reduceat(sizes[split], starts[split]).tolist()]
        return ShardPlan(groups, ends, tuple(pairs))

    def _groups_of(self, split: str) -> Hashes:
        """Return the hash of the group of each pair of a split."""
        cases, owners = np.array(self._cases, np.uint64), np.array(self._groups, np.uint64)
        order = np.argsort(cases)
        cases, owners = cases[order], owners[order]
        photos = np.array(self._photos[split], np.uint64)
        if not len(cases):
            return photos[:0]
        places = np.searchsorted(cases, photos).clip(max=len(cases) - 1)
        found: Hashes = owners[places[cases[places] == photos]]
        return found

    def _dealt(self, sizes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Return the number of shards of each split, in proportion to its pairs, from its groups and pairs."""
        there = [split for split in SPLITS if sizes[split][1]]
        groups = sum(number for number, _ in sizes.values())
        if not there:
            got, remedy = "no pair of a photo and a text", "leave it out, or give captions, labels or answers"
            raise DataError(problem("--shards", got, "at least one", remedy))
        if not len(there) <= self.number <= groups:
            expected = f"{len(there)} to {groups:,}, as splits ({', '.join(there)}) share none, and a patient is in one"
            raise DataError(problem("--shards", f"{self.number:,}", expected, "choose another number"))
        numbers = {split: int(split in there) for split in SPLITS}
        for _ in range(self.number - len(there)):
            open_splits = [split for split in there if numbers[split] < sizes[split][0]]
            numbers[max(open_splits, key=lambda split: sizes[split][1] / numbers[split])] += 1
        return numbers


def _ends(sizes: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return where each of `number` shards ends among groups of these sizes: equal pairs, at least one group each."""
    shards = np.arange(number)
    if not number:
        return shards
    total = int(sizes.sum())
    wanted = -(-total * (shards + 1) // number)
    ends = np.searchsorted(np.cumsum(sizes), wanted) + 1
    ends = np.maximum.accumulate(ends - shards) + shards  # no shard without a group, nor any later one
    return np.minimum(ends, len(sizes) - number + 1 + shards)
