"""Splits where a source has none: whole groups are dealt, labels spread evenly, by a seed.

A source's own splits are kept, as follows:

- It has none, or split train alone: train, valid and test are dealt.
- It has test but no valid: valid is dealt from its train; `SplitRule.valid` is then the share of train.
- It has valid but no test: nothing is dealt, as the source scores on its valid.
- Cases without a split among others with one: to the last split that a case of their group has, else to train.

The challenge's splits are never touched.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import ConfigError, problem
from magic_cli.records import SPLITS

TRAIN, VALID, TEST = range(len(SPLITS))

NO_SPLIT = -1

OFFICIAL, DEALT, VALID_DEALT = "official", "dealt", "valid from train"  # what was done, `PrepareSettings.split_rule`


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How splits are dealt: shares of the cases, in [0, 1), and a seed."""

    valid: float = 0.15
    test: float = 0.15
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError for shares that leave nothing for train, and for a negative seed."""
        for name, share in (("--valid", self.valid), ("--test", self.test)):
            if not (math.isfinite(share) and 0 <= share < 1):
                raise ConfigError(problem(name, share, "a share from 0 to 1, such as 0.15", "choose one"))
        if self.valid + self.test >= 1:
            got = f"{self.valid:g} and {self.test:g}"
            raise ConfigError(problem("--valid and --test", got, "less than 1 together", "leave a share for train"))
        if self.seed < 0:
            raise ConfigError(problem("--seed", self.seed, "0 or more", "choose another"))


def deal(
    groups: NDArray[np.int64], labels: NDArray[np.int64], shares: tuple[float, ...], seed: int
) -> NDArray[np.int8]:
    """Return the number of the split of each case, (cases,).

    The largest groups come first, those of one size in random order. Each goes to the split to which it adds least to
    the sum of (dealt - due)^2 / share, over its labels and over all cases alike, where `due` is the split's share of
    what has been dealt so far. So every split keeps to its share throughout, for all cases, for each label, and for the
    rare labels taken together, each of which has too few cases for all splits.

    Args:
        groups: (cases,); cases of the same number are never divided.
        labels: (cases,); each number is a class of its own, also the one that stands for no label.
        shares: of the splits, each in [0, 1], 1 in all; nothing is dealt to a split with 0.
        seed: for the order and for ties.
    """
    if not len(groups):
        return np.zeros(0, np.int8)
    _, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    classes, size = int(label.max()) + 1, np.bincount(group)
    pairs, amount = np.unique(group.astype(np.int64) * classes + label, return_counts=True)
    draw = np.random.default_rng(seed)
    order = np.lexsort((draw.random(len(size)), -size))
    first = draw.integers(len(shares), size=len(size))
    starts = np.searchsorted(pairs // classes, np.arange(len(size) + 1)).tolist()
    kinds, amounts = (pairs % classes).tolist(), amount.tolist()
    ways = [[s % len(shares) for s in range(k, k + len(shares)) if shares[s % len(shares)]] for k in range(len(shares))]
    tally = _Tally(shares, classes)
    chosen = np.zeros(len(size), np.int8)
    for number, way in zip(order.tolist(), first[order].tolist(), strict=True):
        span = slice(starts[number], starts[number + 1])
        chosen[number] = tally.place(kinds[span], amounts[span], ways[way])
    return chosen[group]


class _Tally:
    """What has been dealt to each split, by label; the last column counts all cases."""

    def __init__(self, shares: tuple[float, ...], classes: int) -> None:
        self.shares = shares
        self.dealt = [[0] * (classes + 1) for _ in shares]
        self.seen = [0] * (classes + 1)

    def place(self, kinds: list[int], amounts: list[int], way: list[int]) -> int:
        """Deal a group with so many cases of each kind to the best split; of equal ones, the first on the way."""
        seen = self.seen
        kinds, amounts = [*kinds, -1], [*amounts, sum(amounts)]
        for kind, amount in zip(kinds, amounts, strict=True):
            seen[kind] += amount
        best, least = way[0], math.inf
        for split in way:
            share, dealt = self.shares[split], self.dealt[split]
            cost = 0.0
            for kind, amount in zip(kinds, amounts, strict=True):
                cost += amount * (2 * (dealt[kind] - share * seen[kind]) + amount)
            cost = round(cost / share, 9)  # sums that are equal but for their rounding are ties
            if cost < least:
                best, least = split, cost
        dealt = self.dealt[best]
        for kind, amount in zip(kinds, amounts, strict=True):
            dealt[kind] += amount
        return best


def settle_splits(
    official: NDArray[np.int8], groups: NDArray[np.int64], labels: NDArray[np.int64], rule: SplitRule
) -> tuple[NDArray[np.int8], str]:
    """Return the number of the split of each case, (cases,), and what was done: OFFICIAL, DEALT or VALID_DEALT.

    Args:
        official: (cases,) TRAIN, VALID or TEST as the source says, else NO_SPLIT.
        groups: (cases,), see `deal`.
        labels: (cases,), see `deal`.
        rule: shares and seed.
    """
    known = set(np.unique(official).tolist())
    if known <= {NO_SPLIT, TRAIN}:
        return deal(groups, labels, (1 - rule.valid - rule.test, rule.valid, rule.test), rule.seed), DEALT
    splits = _followed(official, groups)
    train = splits == TRAIN
    if VALID in known or not rule.valid or not train.any():
        return splits, OFFICIAL
    splits[train] = deal(groups[train], labels[train], (1 - rule.valid, rule.valid), rule.seed)
    return splits, VALID_DEALT


def _followed(official: NDArray[np.int8], groups: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the splits with those of cases without one: the last split that their group has, else train."""
    _, group = np.unique(groups, return_inverse=True)
    last = np.full(int(group.max()) + 1, TRAIN, np.int8)
    np.maximum.at(last, group, official)
    return np.where(official == NO_SPLIT, last[group], official)


def divided(splits: NDArray[np.int8], groups: NDArray[np.int64]) -> int:
    """Return how many groups have cases in several splits."""
    _, group = np.unique(groups, return_inverse=True)
    pairs = np.unique(group.astype(np.int64) * len(SPLITS) + splits)
    return int(np.count_nonzero(np.bincount(pairs // len(SPLITS)) > 1)) if len(pairs) else 0
