"""A second look at a small lesion: the part of the photo around the first mask is segmented as if it were a photo.

A model of 256 pixels sees a lesion that takes a tenth of the photo's side on 26 of them, and draws it too large: its
training views show lesions mostly larger. Cut out, it has the size of those that were learned from. The probabilities
of both looks are averaged. The idea is that of the fixed-point model for small organs (Zhou et al., A Fixed-Point Model
for Pancreas Segmentation, MICCAI 2017), with one model for both looks; what it gains is in examples/evidence.md.
"""

import math
from dataclasses import replace

import numpy as np

from magic_cli.data.imaging.probability_maps import resize_map
from magic_cli.records import Sample
from magic_cli.tasks.seg.decide import MaskPrediction

_LEAST, _MOST = 0.15, 0.7  # of the photo's sides, that a part takes: less is mostly blur, more is no closer look

_FINEST = 4  # times the side of the map, of the map of both looks


def closer(sample: Sample, first: MaskPrediction, factor: float) -> Sample | None:
    """Return the sample with its photo cut to the surroundings of the first mask; None if they are most of the photo.

    The part has the photo's proportions, and `factor` times the longer side of the box around the mask, relative to
    the photo's sides. It begins and ends between cells of the map of both looks (`both_looks`).

    Args:
        sample: a photo that is seen whole.
        first: the prediction for it; probabilities.
        factor: above 1.
    """
    probability = first.probability
    if probability is None:
        return None
    rows, columns = (np.flatnonzero((probability > first.threshold).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    (height, width), photo = probability.shape, sample.images[0]
    spans = [(rows[0] / height, (rows[-1] + 1) / height), (columns[0] / width, (columns[-1] + 1) / width)]
    side = max(_LEAST, factor * max(end - start for start, end in spans))
    if side >= _MOST:
        return None
    finer = _finer(side)
    (top, bottom), (left, right) = (
        _aligned(span, side, cells * finer) for span, cells in zip(spans, (height, width), strict=True)
    )
    return replace(sample, images=(replace(photo, box=(left, top, right, bottom)), *sample.images[1:]))


def both_looks(first: MaskPrediction, second: MaskPrediction, sample: Sample) -> MaskPrediction:
    """Return the prediction for the whole photo: in the part that the second look saw, the mean of both.

    Args:
        first: probabilities (h, w) for the whole photo.
        second: probabilities for the part.
        sample: what `closer` returned.
    """
    box = sample.images[0].box
    if first.probability is None or second.probability is None or box is None:
        raise ValueError(f"{first.id}: no probabilities, or no part")
    height, width = first.probability.shape
    finer = _finer(box[2] - box[0])
    whole = resize_map(first.probability.astype(np.float32), (height * finer, width * finer)).copy()
    left, right = (round(part * width * finer) for part in (box[0], box[2]))
    top, bottom = (round(part * height * finer) for part in (box[1], box[3]))
    part = whole[top:bottom, left:right]
    part += (resize_map(second.probability.astype(np.float32), part.shape) - part) / 2
    return replace(first, probability=whole)


def _finer(side: float) -> int:
    """Return how many times finer the map of both looks is, so that it holds the detail of the second one."""
    return min(_FINEST, math.ceil(1 / side))


def _aligned(span: tuple[float, float], side: float, cells: int) -> tuple[float, float]:
    """Return a window of length `side` around the middle of a span, inside 0..1 and on the borders of cells."""
    length = min(cells, round(side * cells))
    start = round((sum(span) - side) / 2 * cells)
    start = min(max(start, 0), cells - length)
    return start / cells, (start + length) / cells
