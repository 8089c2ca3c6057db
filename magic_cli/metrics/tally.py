"""The six official figures from sums over photos, with what to do about 0/0: as official, or decided by a rule.

Formulas: examples/official-scorer.md, "Figures". A photo's terms add up over photos, so that figures
of any set of photos, or of resampled encounters, follow from sums.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import MASK_FIGURES

FIGURES = MASK_FIGURES
TERMS = (*FIGURES[:4], "images", "tp", "fp", "fn", "faults")
OFFICIAL = "nan"
_IMAGES, _TP, _FP, _FN, _FAULTS = range(4, 9)
Pair = tuple[int, int, int]
"""Pixels in both masks, in the first, in the second."""


def ratios(pair: Pair, empty: str, fault: bool = False) -> tuple[float, float]:
    """Return Jaccard and Dice of two masks, each in [0, 1], NaN where the pair is left out.

    Args:
        pair: their pixels.
        empty: two empty masks are "one", "zero", or left out ("skip", and the official "nan").
        fault: the first mask is not there or not valid: 0, whatever the second is.
    """
    both, first, second = pair
    if fault:
        return 0.0, 0.0
    if not first + second:
        value = {"one": 1.0, "zero": 0.0}.get(empty, math.nan)
        return value, value
    return both / (first + second - both), 2 * both / (first + second)


def terms(pairs: Sequence[Pair], pooled: Pair, empty: str, fault: bool = False) -> list[float]:
    """Return what one photo adds to the sums of TERMS.

    Args:
        pairs: the system against each annotator.
        pooled: the system against the annotators' majority.
        empty, fault: as in `ratios`. With "skip" a photo without any pair adds nothing at all; with "nan" one pair
            without a value makes the photo's values NaN, as the official scorer does.
    """
    values = [ratios(pair, empty, fault) for pair in pairs]
    if empty == "skip":
        values = [pair for pair in values if not math.isnan(pair[0])]
        if not values:
            return [0.0] * len(TERMS)
    found: list[float] = []
    for scores in zip(*values, strict=True):
        undefined = any(map(math.isnan, scores))
        found += [math.nan if undefined else max(scores), sum(scores) / len(scores)]
    both, first, second = pooled
    return [*found, 1.0, float(both), float(first - both), float(second - both), float(fault)]


def figures(sums: NDArray[np.float64], empty: str) -> NDArray[np.float64]:
    """Return the six figures, (..., 6) in the order of FIGURES, from sums (..., 9) of TERMS.

    meanofmax and meanofmean: best and mean annotator of each photo, averaged over photos; jaccard and dice: pixels
    pooled over photos, against majority masks. Without a photo all six are 0.0, as official. Where nothing at all
    was found and nothing is there, the pooled ones are NaN as official ("nan"), 1.0 for "one" if no photo has a
    fault, else 0.0.
    """
    images, tp = sums[..., _IMAGES], sums[..., _TP]
    wrong = sums[..., _FP] + sums[..., _FN]
    means = sums[..., :4] / np.maximum(images, 1)[..., None]
    hollow = 0.0
    if empty == OFFICIAL:
        hollow = math.nan
    elif empty == "one":
        hollow = 1.0
    undefined = np.where((images > 0) & (sums[..., _FAULTS] == 0), hollow, 0.0)
    pooled = [
        np.where(tp + wrong > 0, weight * tp / np.maximum(weight * tp + wrong, 1), undefined) for weight in (1, 2)
    ]
    return np.concatenate([means, np.stack(pooled, -1)], -1)
