"""Overlap of one predicted mask with several annotators' masks: counts, Dice, Jaccard, the official six figures.

Formulas: specs/peers.md section 2 ("Metric identity facts"). Undefined cases are a written decision:
0/0 (nothing found, nothing there) is NaN, as in the official scorer, and spreads to every mean over images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem

FIGURES = ("jaccard_meanofmax", "jaccard_meanofmean", "dice_meanofmax", "dice_meanofmean", "jaccard", "dice")
Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels found and there (tp), found only (fp), there only (fn)."""

    tp: int
    fp: int
    fn: int


@dataclass(frozen=True, slots=True)
class ImageOverlap:
    """One image: counts against each annotator, in the order given, and against their majority mask."""

    annotators: tuple[Counts, ...]
    majority: Counts


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
    return image_overlap(found, (gold,)).annotators[0]


def image_overlap(found: NDArray[Any], annotators: Iterable[NDArray[Any]]) -> ImageOverlap:
    """Compare one (H, W) mask with those of its annotators, which may be read lazily, one at a time.

    Args:
        found: (H, W) mask, bool or integer in {0, 1}.
        annotators: at least one mask of the same shape, same rule.

    Raises:
        DataError: no annotator, shapes differ, or a value other than 0 and 1 is present.
    """
    system = _pack(found)
    total = _ones(system)
    packed: list[Bits] = []
    for gold in annotators:
        if gold.shape != found.shape:
            raise DataError(problem("mask", f"shape {found.shape}", gold.shape, "keep the photo's (H, W)"))
        packed.append(_pack(gold))
    if not packed:
        raise DataError(problem("mask", "no annotator", "at least one", "check the folder of gold masks"))
    return ImageOverlap(
        tuple(_counts(system, total, bits) for bits in packed), _counts(system, total, _majority(packed))
    )


def overlap_figures(images: Iterable[ImageOverlap]) -> dict[str, float]:
    """Return the six official figures, each in [0, 1] or NaN, under the official keys and in their order.

    meanofmax and meanofmean: best and mean annotator of each image, averaged over images; one undefined
    pair makes all four NaN. jaccard and dice: pixels pooled over all images against the majority masks.
    Without any image all six are 0.0, as official.
    """
    rows = list(images)
    if not rows:
        return dict.fromkeys(FIGURES, 0.0)
    means = []
    for ratio in (jaccard, dice):
        scores = [np.array([ratio(counts) for counts in row.annotators]) for row in rows]
        means += [float(np.mean([s.max() for s in scores])), float(np.mean([s.mean() for s in scores]))]
    pooled = pool(row.majority for row in rows)
    return dict(zip(FIGURES, [*means, jaccard(pooled), dice(pooled)], strict=True))


def pool(counts: Iterable[Counts]) -> Counts:
    """Add up counts of several images."""
    rows = list(counts)
    return Counts(sum(c.tp for c in rows), sum(c.fp for c in rows), sum(c.fn for c in rows))


def undefined(image: ImageOverlap) -> bool:
    """Say whether a pair of this image is 0/0: nothing found, and at least one annotator drew nothing."""
    return any(c.tp + c.fp + c.fn == 0 for c in image.annotators)


def _pack(mask: NDArray[Any]) -> Bits:
    """Return one bit a pixel: 1/8 of the memory, and 64 pixels an operation. Padding bits are 0."""
    binary = mask.dtype == np.bool_ or (np.issubdtype(mask.dtype, np.integer) and _within(mask))
    if not binary:
        raise DataError(problem("mask", f"{mask.dtype} with other values", "0 and 1 only", "threshold the mask"))
    bytes_ = np.packbits(mask if mask.dtype.itemsize == 1 else mask.astype(np.bool_))
    padded = np.zeros(-(-bytes_.size // 8) * 8, np.uint8)
    padded[: bytes_.size] = bytes_
    return padded.view(np.uint64)


def _within(mask: NDArray[Any]) -> bool:
    return mask.size == 0 or (int(mask.max()) <= 1 and (mask.dtype.kind == "u" or int(mask.min()) >= 0))


def _ones(bits: Bits) -> int:
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def _counts(system: Bits, found: int, gold: Bits) -> Counts:
    tp = _ones(system & gold)
    return Counts(tp, found - tp, _ones(gold) - tp)


def _majority(masks: Sequence[Bits]) -> Bits:
    """Return the pixels that at least ceil(n / 2) masks hold: a tie is foreground (peers.md case 55/56).

    `least[k]` collects the pixels that at least k + 1 of the masks seen so far hold.
    """
    need = -(-len(masks) // 2)
    least = [np.zeros_like(masks[0]) for _ in range(need)]
    for mask in masks:
        for k in range(need - 1, 0, -1):
            least[k] |= least[k - 1] & mask
        least[0] |= mask
    return least[-1]
