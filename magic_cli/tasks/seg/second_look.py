"""A second look at a small lesion: the part of the photo around the first mask is segmented as if it were a photo.

A model of 256 pixels sees a lesion that takes a tenth of the photo's side on 26 of them, and draws it too large: its
training views show lesions mostly larger. Cut out, it has the size of those that were learned from. The probabilities
of both looks are averaged. The idea is that of the fixed-point model for small organs (Zhou et al., A Fixed-Point Model
for Pancreas Segmentation, MICCAI 2017), with one model for both looks; what it gains is in examples/evidence.md.
"""

import math
from dataclasses import replace

import numpy as np

from magic_cli.data.imaging.images import Box
from magic_cli.data.imaging.probability_maps import resize_map
from magic_cli.tasks.seg.decide import MaskPrediction

_LEAST, _MOST = 0.15, 0.7  # of the photo's sides, that a part takes: less is mostly blur, more is no closer look

_FINEST = 4  # times the side of the map, of the map of both looks


def closer(first: MaskPrediction, factor: float) -> Box | None:
    """Return the part of the photo around the first mask; None without a mask, or if the part is most of the photo.

    The part has the photo's proportions, and `factor` times the longer side of the box around the mask, relative to
    the photo's sides. It begins and ends between cells of the map.

    Args:
        first: the prediction for the whole photo; probabilities (h, w), cut at the model's own threshold.
        factor: above 1.
    """
    probability = first.probability
    if probability is None:
        return None
    rows, columns = (np.flatnonzero((probability > first.threshold).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    height, width = probability.shape
    spans = [(rows[0] / height, (rows[-1] + 1) / height), (columns[0] / width, (columns[-1] + 1) / width)]
    side = max(_LEAST, factor * max(end - start for start, end in spans))
    if side >= _MOST:
        return None
    (top, bottom), (left, right) = (
        _aligned(span, side, cells) for span, cells in zip(spans, (height, width), strict=True)
    )
    return left, top, right, bottom


def both_looks(first: MaskPrediction, second: MaskPrediction, box: Box) -> MaskPrediction:
    """Return the prediction for the whole photo: in the part that the second look saw, the mean of both.

    The map becomes finer, to hold the detail of the second look, but not finer than the photo.

    Args:
        first: probabilities (h, w) for the whole photo.
        second: probabilities for the part.
        box: the part, as `closer` returned it.
    """
    if first.probability is None or second.probability is None:
        raise ValueError(f"{first.id}: no probabilities")
    (height, width), (left, top, right, bottom) = first.probability.shape, box
    rows_of_photo, columns_of_photo = first.shape or (_FINEST * height, _FINEST * width)
    wanted = math.ceil(1 / max(right - left, bottom - top))
    finer = max(1, min(_FINEST, wanted, rows_of_photo // height, columns_of_photo // width))
    whole = resize_map(first.probability.astype(np.float32), (height * finer, width * finer)).copy()
    rows = slice(round(top * height) * finer, round(bottom * height) * finer)
    part = whole[rows, round(left * width) * finer : round(right * width) * finer]
    part += (resize_map(second.probability.astype(np.float32), part.shape) - part) / 2
    return replace(first, probability=whole)


def _aligned(span: tuple[float, float], side: float, cells: int) -> tuple[float, float]:
    """Return a window of length `side` around the middle of a span, inside 0..1 and on the borders of cells."""
    length = min(cells, max(1, round(side * cells)))
    start = min(max(round((sum(span) - side) / 2 * cells), 0), cells - length)
    return start / cells, (start + length) / cells
