"""Pixel counts of one photo's masks: all mask scores follow from them (metrics/mask_scores.py).

Pixels are counted once per combination of masks: with P masks there are 2^P cells, and cell i counts the pixels that
are foreground in exactly the masks whose bit is set in i. Pairs, majority votes and votes with one annotator left out
are exact integer sums of cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem

Bits = NDArray[np.uint64]

Cells = NDArray[np.int64]

MOST_MASKS = 12  # 4,096 cells

_PIXELS = 1 << 18  # a chunk and its bits stay in the second-level cache

_WORDS = 1 << 13


class Counts(NamedTuple):
    """Pixels on which a predicted mask and a gold mask agree and disagree.

    tp: foreground in both; fp: in the predicted mask only; fn: in the gold mask only.
    """

    tp: int
    fp: int
    fn: int


def overlap_counts(predicted: NDArray[Any], gold: NDArray[Any]) -> Counts:
    """Count the pixels on which two binary masks agree and disagree.

    Args:
        predicted: (H, W) mask, bool or integer in {0, 1}; other values are an error.
        gold: (H, W) mask of the same shape, likewise.

    Raises:
        DataError: shapes differ, or a value other than 0 and 1 is present.

    >>> overlap_counts(np.array([[1, 1]]), np.array([[1, 0]]))
    Counts(tp=1, fp=1, fn=0)
    """
    if gold.shape != predicted.shape:
        raise DataError(problem("mask", f"shape {predicted.shape}", gold.shape, "keep the photo's (H, W)"))
    packed: list[Bits] = []
    for mask in (predicted, gold):
        bits = pack(_small(mask))
        if bits is None:
            raise DataError(problem("mask", f"{mask.dtype} with other values", "0 and 1 only", "threshold the mask"))
        packed.append(bits)
    _, only_predicted, only_gold, both = count_cells(packed, gold.size).tolist()
    return Counts(both, only_predicted, only_gold)


def _small(mask: NDArray[Any]) -> NDArray[Any]:
    """Return an integer mask as uint8, with 2 for values not in {0, 1}; other dtypes unchanged."""
    if mask.dtype.kind not in "iu" or mask.dtype == np.uint8:
        return mask
    return np.where((mask == 0) | (mask == 1), mask, 2).astype(np.uint8)


def pack(mask: NDArray[Any]) -> Bits | None:
    """Return a mask packed into one bit per pixel, row by row: 1/8 of the memory, 64 pixels per operation.

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
    """Return the (2^P,) pixel counts of all combinations of P packed masks of `pixels` pixels each.

    Raises:
        DataError: there are more than 12 masks.
    """
    if len(planes) > MOST_MASKS:
        raise DataError(problem("masks", f"{len(planes)} of one photo", f"at most {MOST_MASKS}", "leave some out"))
    cells = np.zeros(1 << len(planes), np.int64)  # first: pixels that are foreground in at least these masks
    for start in range(0, planes[0].size, _WORDS):
        common: dict[int, Bits] = {}
        for code in range(1, cells.size):
            lowest = code & -code
            rest = code ^ lowest
            if (rest and rest not in common) or (code != lowest and lowest not in common):
                continue  # fewer masks have no common pixel, hence more have none
            plane = planes[lowest.bit_length() - 1][start : start + _WORDS]
            bits = common[rest] & plane if rest else plane
            ones = int(np.add.reduce(np.bitwise_count(bits), dtype=np.uint32))
            if ones:
                common[code] = bits
                cells[code] += ones
    cells[0] = pixels
    for bit in range(len(planes)):  # from "at least" to "exactly": subtract the pixels that also have the bit
        halves = cells.reshape(-1, 2, 1 << bit)
        halves[:, 0] -= halves[:, 1]
    return cells


@lru_cache(maxsize=64)
def memberships(masks: int) -> NDArray[np.bool_]:
    """Return (2^masks, masks) bool: whether a cell (row) is foreground in a mask (column)."""
    return np.asarray((np.arange(1 << masks)[:, None] >> np.arange(masks)) & 1 == 1)


def majority(votes: NDArray[Any], annotators: int) -> NDArray[np.bool_]:
    """Return where at least ceil(annotators / 2) annotators vote foreground: a tie is foreground.

    Source: examples/official-scorer.md, cases 55 and 56.
    """
    return np.asarray(votes >= -(-annotators // 2))


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixel counts of every pair of one photo's masks: the systems', the annotators' and their majorities.

    Attributes:
        systems: their number.
        annotators: their number.
        pixels: number of pixels of the photo.
        both: `both[i][j]` is the number of pixels that are foreground in columns i and j. The columns are the systems,
            the annotators, the annotators' majority, and the majorities without the first annotator, the second, ...;
            the latter only with two annotators or more.
    """

    systems: int
    annotators: int
    pixels: int
    both: Sequence[Sequence[int]]

    @property
    def majority(self) -> int:
        """Column of the annotators' majority; the next are those with annotator 0, 1, ... left out."""
        return self.systems + self.annotators

    def area(self, column: int) -> int:
        """Return the number of foreground pixels of a column."""
        return self.both[column][column]

    def counts(self, predicted: int, gold: int) -> Counts:
        """Return the counts of the mask in column `predicted` against the one in column `gold`."""
        row = self.both[predicted]
        tp = row[gold]
        return Counts(tp, row[predicted] - tp, self.both[gold][gold] - tp)

    def against_annotators(self, predicted: int, without: int | None = None) -> list[Counts]:
        """Return the counts of a column against each annotator, in order, except the one numbered `without`."""
        return [self.counts(predicted, self.systems + k) for k in range(self.annotators) if k != without]

    def against_majority(self, predicted: int, without: int | None = None) -> Counts:
        """Return the counts of a column against the majority of all annotators, or of all but `without`."""
        return self.counts(predicted, self.majority if without is None else self.majority + 1 + without)


@lru_cache(maxsize=64)
def _columns(systems: int, annotators: int) -> NDArray[np.int64]:
    """Return (2^(systems + annotators), columns of Overlap): 1 where a cell is foreground in a column, else 0."""
    members = memberships(systems + annotators)
    votes = members[:, systems:].sum(1)
    columns = [*members.T, majority(votes, annotators)]
    if annotators > 1:
        columns += [majority(votes - member, annotators - 1) for member in members.T[systems:].astype(np.int64)]
    return np.array(columns, np.int64).T


def overlap_of(cells: Cells, systems: int) -> Overlap:
    """Return the pairwise counts of cells whose first `systems` masks are systems and whose others are annotators.

    Args:
        cells: (2^P,) pixels of every combination of P masks, as `count_cells` returns them.
    """
    return overlaps_of(cells[None], systems)[0]


def overlaps_of(cells: Cells, systems: int) -> list[Overlap]:
    """Return `overlap_of` for each row of (N, 2^P) cells of one photo, as for N thresholds; vectorised."""
    annotators = cells.shape[1].bit_length() - 1 - systems
    columns = _columns(systems, annotators)
    both: list[list[list[int]]] = (columns.T @ (cells[:, :, None] * columns)).tolist()
    return [Overlap(systems, annotators, int(pixels), rows) for pixels, rows in zip(cells.sum(1), both, strict=True)]
