"""Overlap of masks of one photo: pixels counted once for every combination of masks, all else follows from these.

With P masks there are 2^P cells: cell i holds the pixels that are foreground in exactly the masks whose bit is set
in i. Pairs, majority votes and votes with one annotator left out are sums of cells, in whole numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem

Bits = NDArray[np.uint64]
Cells = NDArray[np.int64]
MOST_MASKS = 12  # 4,096 cells
_PIXELS = 1 << 18  # a chunk and its bits stay in the second-level cache
_WORDS = 1 << 13


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels found and there (tp), found only (fp), there only (fn)."""

    tp: int
    fp: int
    fn: int


def dice(counts: Counts) -> float:
    """Return 2 tp / (2 tp + fp + fn), in [0, 1]; NaN where nothing was found and nothing is there."""
    pixels = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / pixels if pixels else float("nan")


def jaccard(counts: Counts) -> float:
    """Return tp / (tp + fp + fn), in [0, 1]; NaN where nothing was found and nothing is there."""
    pixels = counts.tp + counts.fp + counts.fn
    return counts.tp / pixels if pixels else float("nan")


def overlap_counts(found: NDArray[Any], gold: NDArray[Any]) -> Counts:
    """Count the pixels on which two binary masks agree and disagree.

    Args:
        found: (H, W) mask, bool or integer in {0, 1}; other values are refused.
        gold: (H, W) mask of the same shape, same rule.

    Raises:
        DataError: shapes differ, or a value other than 0 and 1 is present.

    >>> overlap_counts(np.array([[1, 1]]), np.array([[1, 0]]))
    Counts(tp=1, fp=1, fn=0)
    """
    if gold.shape != found.shape:
        raise DataError(problem("mask", f"shape {found.shape}", gold.shape, "keep the photo's (H, W)"))
    bits = [pack(_small(mask)) for mask in (found, gold)]
    for mask, packed in zip((found, gold), bits, strict=True):
        if packed is None:
            raise DataError(problem("mask", f"{mask.dtype} with other values", "0 and 1 only", "threshold the mask"))
    _, only_found, only_gold, both = count_cells([b for b in bits if b is not None], found.size)
    return Counts(int(both), int(only_found), int(only_gold))


def _small(mask: NDArray[Any]) -> NDArray[Any]:
    """Return integers in {0, 1} as uint8; what is not in {0, 1} stays so."""
    if mask.dtype.kind not in "iu" or mask.dtype == np.uint8:
        return mask
    return np.where((mask == 0) | (mask == 1), mask, 2).astype(np.uint8)


def pack(mask: NDArray[Any]) -> Bits | None:
    """Return a mask in one bit a pixel, rows one after the other: 1/8 of the memory, 64 pixels an operation.

    None for a dtype other than bool and uint8, or a value other than 0 and 1. Padding bits are 0.
    """
    if mask.dtype != np.uint8 and mask.dtype != np.bool_:
        return None
    flat = np.ascontiguousarray(mask).reshape(-1).view(np.uint8)
    packed = np.zeros(-(-flat.size // 64) * 8, np.uint8)
    for start in range(0, flat.size, _PIXELS):
        chunk = flat[start : start + _PIXELS]
        highest = np.maximum.reduce(chunk)
        if highest > 1:
            return None
        if highest:
            packed[start // 8 : -(-(start + chunk.size) // 8)] = np.packbits(chunk)
    return packed.view(np.uint64)


def count_cells(planes: Sequence[Bits], pixels: int) -> Cells:
    """Return the (2^P,) pixels of every combination of P packed masks of `pixels` pixels each.

    Raises:
        DataError: there are more than 12 masks.
    """
    if len(planes) > MOST_MASKS:
        raise DataError(problem("masks", f"{len(planes)} of one photo", f"at most {MOST_MASKS}", "leave some out"))
    cells = np.zeros(1 << len(planes), np.int64)  # at first: pixels that are foreground in at least these masks
    for start in range(0, planes[0].size, _WORDS):
        common: dict[int, Bits] = {}
        for code in range(1, cells.size):
            lowest = code & -code
            rest = code ^ lowest
            if (rest and rest not in common) or (code != lowest and lowest not in common):
                continue  # nothing in common with fewer masks, hence nothing with more
            plane = planes[lowest.bit_length() - 1][start : start + _WORDS]
            bits = common[rest] & plane if rest else plane
            ones = int(np.add.reduce(np.bitwise_count(bits), dtype=np.uint32))
            if ones:
                common[code] = bits
                cells[code] += ones
    cells[0] = pixels
    for bit in range(len(planes)):  # from "at least" to "exactly": take away what also has the bit
        halves = cells.reshape(-1, 2, 1 << bit)
        halves[:, 0] -= halves[:, 1]
    return cells


@lru_cache(maxsize=64)
def memberships(masks: int) -> NDArray[np.bool_]:
    """Return (2^masks, masks) bool: which masks a cell is in."""
    found: NDArray[np.bool_] = (np.arange(1 << masks)[:, None] >> np.arange(masks)) & 1 == 1
    return found


def majority(votes: NDArray[Any], annotators: int) -> NDArray[np.bool_]:
    """Return where at least ceil(annotators / 2) vote: a tie is foreground.

    Source: examples/official-scorer.md, cases 55 and 56.
    """
    return np.asarray(votes >= -(-annotators // 2))


@dataclass(frozen=True, slots=True)
class Overlap:
    """What cells tell of some masks ("systems") and the annotators of a photo.

    `pixels` is the photo's. For columns that are the systems, the annotators, their majority and the majorities of
    all annotators but one, in this order, `both[i, j]` is the number of pixels that are in both i and j.
    """

    systems: int
    annotators: int
    pixels: int
    both: NDArray[np.int64]

    @property
    def majority(self) -> int:
        """Column of the annotators' majority; the next are those with annotator 0, 1, ... left out."""
        return self.systems + self.annotators


@lru_cache(maxsize=64)
def _columns(systems: int, annotators: int) -> NDArray[np.int64]:
    members = memberships(systems + annotators)
    votes = members[:, systems:].sum(1)
    found = [*members.T, majority(votes, annotators)]
    if annotators > 1:
        found += [majority(votes - member, annotators - 1) for member in members.T[systems:].astype(np.int64)]
    return np.array(found, np.int64).T


def overlap_of(cells: Cells, systems: int) -> Overlap:
    """Return the pairwise counts of cells whose first `systems` masks are systems and whose others are annotators."""
    annotators = cells.size.bit_length() - 1 - systems
    columns = _columns(systems, annotators)
    return Overlap(systems, annotators, int(cells.sum()), columns.T @ (cells[:, None] * columns))
