"""Dice and Jaccard, and the six mask scores of the challenge, from pixel counts.

These are the only formulas of Dice and Jaccard; metrics/overlap.py counts the pixels. A photo has nine additive terms
(TERMS): their sums over any photos, or over resampled encounters, give the scores of these photos.
Source of the six: examples/official-scorer.md, "Figures".

Dice and Jaccard of two empty masks are 0/0. Only this module decides what they count as, by the rule `empty`:

    rule      a pair of empty masks                     pooled pixels, if all masks are empty
    "one"     1                                         1, but 0 if a photo has a fault
    "zero"    0                                         0
    "skip"    left out; a photo without others too      0
    "nan"     NaN, and so is the photo (official)       NaN (official), but 0 if a photo has a fault
"""

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics.overlap import Counts, Overlap

Floats = NDArray[np.float64]

MASK_SCORES = ("jaccard_meanofmax", "jaccard_meanofmean", "dice_meanofmax", "dice_meanofmean", "jaccard", "dice")

TERMS = (*MASK_SCORES[:4], "images", "tp", "fp", "fn", "faults")

OFFICIAL = "nan"

_EMPTY_PAIR = {"one": 1.0, "zero": 0.0, "skip": math.nan, OFFICIAL: math.nan}

_EMPTY_POOL = {"one": 1.0, "zero": 0.0, "skip": 0.0, OFFICIAL: math.nan}

_IMAGES, _TP, _FP, _FN, _FAULTS = range(4, 9)


@overload
def dice(tp: float, fp: float, fn: float, if_undefined: float = ...) -> float: ...


@overload
def dice(tp: Floats, fp: Floats, fn: Floats, if_undefined: float | Floats = ...) -> Floats: ...


def dice(tp: Any, fp: Any, fn: Any, if_undefined: Any = math.nan) -> Any:
    """Return the Dice coefficient 2 tp / (2 tp + fp + fn), in [0, 1].

    Args:
        tp, fp, fn: pixels as in Counts, or their sums over photos: numbers, or float64 arrays of one shape.
        if_undefined: the value where all three are 0 because both masks are empty; a number, or an array of that
            shape. The rules for it are at the top of this module.

    Source: Dice, Measures of the amount of ecologic association between species (1945); of masks,
    2 |A ∩ B| / (|A| + |B|).

    >>> dice(3, 2, 2)
    0.6
    >>> dice(np.array([3.0, 0.0]), np.array([2.0, 0.0]), np.array([2.0, 0.0]), if_undefined=1.0)
    array([0.6, 1. ])
    """
    total = 2 * tp + fp + fn
    if isinstance(total, np.ndarray):
        return _divide(2 * tp, total, if_undefined)
    return 2 * tp / total if total else if_undefined  # plain numbers are much faster, and a photo has dozens of pairs


@overload
def jaccard(tp: float, fp: float, fn: float, if_undefined: float = ...) -> float: ...


@overload
def jaccard(tp: Floats, fp: Floats, fn: Floats, if_undefined: float | Floats = ...) -> Floats: ...


def jaccard(tp: Any, fp: Any, fn: Any, if_undefined: Any = math.nan) -> Any:
    """Return the Jaccard index tp / (tp + fp + fn), in [0, 1]; also known as intersection over union.

    Args:
        tp, fp, fn, if_undefined: as for `dice`.

    Source: Jaccard, The distribution of the flora in the alpine zone (1912); of masks, |A ∩ B| / |A ∪ B|.

    >>> jaccard(3, 2, 1)
    0.5
    >>> jaccard(0, 0, 0)
    nan
    """
    total = tp + fp + fn
    if isinstance(total, np.ndarray):
        return _divide(tp, total, if_undefined)
    return tp / total if total else if_undefined


def _divide(part: Floats, total: Floats, if_undefined: float | Floats) -> Floats:
    """Return part / total, and `if_undefined` where the total is 0."""
    ratio = np.empty(total.shape)
    ratio[...] = if_undefined
    return np.divide(part, total, out=ratio, where=total > 0)


def jaccard_and_dice(counts: Counts, empty: str, fault: bool = False) -> tuple[float, float]:
    """Return Jaccard and Dice of two masks, each in [0, 1]; NaN if the pair is left out.

    Args:
        counts: their pixel counts.
        empty: the rule for two empty masks, see the top of this module.
        fault: the predicted mask is missing or invalid: both scores are 0 for any gold mask.

    >>> jaccard_and_dice(Counts(3, 2, 1), "one")
    (0.5, 0.6666666666666666)
    """
    if fault:
        return 0.0, 0.0
    tp, fp, fn = counts
    if_undefined = _EMPTY_PAIR[empty]
    return jaccard(tp, fp, fn, if_undefined), dice(tp, fp, fn, if_undefined)


def image_terms(pairs: Sequence[Counts], pooled: Counts, empty: str, fault: bool = False) -> list[float]:
    """Return the nine TERMS of one photo.

    Args:
        pairs: the predicted mask against each annotator; at least one.
        pooled: the predicted mask against the annotators' majority.
        empty, fault: as for `jaccard_and_dice`.

    >>> image_terms([Counts(3, 2, 1), Counts(5, 0, 0)], Counts(4, 1, 0), "one")
    [1.0, 0.75, 1.0, 0.8333333333333333, 1.0, 4, 1, 0, 0.0]
    """
    scores = [jaccard_and_dice(pair, empty, fault) for pair in pairs]
    if empty == "skip":
        scores = [pair for pair in scores if not math.isnan(pair[0])]
        if not scores:
            return [0.0] * len(TERMS)
    terms: list[float] = []
    for values in zip(*scores, strict=True):  # Jaccard against each annotator, then Dice
        mean = sum(values) / len(values)
        terms += [math.nan if math.isnan(mean) else max(values), mean]
    return [*terms, 1.0, *pooled, float(fault)]


def column_terms(
    overlap: Overlap, column: int, empty: str, fault: bool = False, without: int | None = None
) -> list[float]:
    """Return the terms of one mask of a photo, a column of `overlap`, against the photo's annotators.

    Args:
        empty, fault: as for `jaccard_and_dice`.
        without: the number of an annotator to leave out, of the majority too; None for none.
    """
    pairs = overlap.against_annotators(column, without)
    return image_terms(pairs, overlap.against_majority(column, without), empty, fault)


def scores_from_sums(sums: Floats, empty: str) -> Floats:
    """Return the six scores, float64 (..., 6) in the order of MASK_SCORES.

    meanofmax and meanofmean: best and mean annotator per photo, averaged over photos; jaccard and dice: pixels
    pooled over photos, against majority masks. Without any photo all six are 0.0, as official.

    Args:
        sums: (..., 9) sums over photos, in the order of TERMS.
        empty: the rule for empty masks, see the top of this module.

    >>> terms = image_terms([Counts(3, 2, 1), Counts(5, 0, 0)], Counts(4, 1, 0), "one")
    >>> scores_from_sums(np.array(terms), "one").round(2).tolist()
    [1.0, 0.75, 1.0, 0.83, 0.8, 0.89]
    """
    images = sums[..., _IMAGES]
    means = sums[..., :4] / np.maximum(images, 1)[..., None]
    if_undefined = np.where((images > 0) & (sums[..., _FAULTS] == 0), _EMPTY_POOL[empty], 0.0)
    counts = sums[..., _TP], sums[..., _FP], sums[..., _FN]
    pooled = np.stack([jaccard(*counts, if_undefined), dice(*counts, if_undefined)], -1)
    return np.concatenate([means, pooled], -1)
