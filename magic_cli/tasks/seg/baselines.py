"""Trivial answers of segmentation, the mean of training masks, and the lesion sizes that folds are stratified by."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.imaging.mean_mask import TrainingMeanMask
from magic_cli.io.progress import track
from magic_cli.records import Sample
from magic_cli.tasks.seg.decide import MaskPrediction, mean_mask

_SIZES = ("small", "medium", "large")


def lesion_sizes(samples: Sequence[Sample]) -> dict[str, tuple[str, ...]]:
    """Return each encounter's lesion size as a label: the tercile of the mean foreground share of its photos."""
    shares: dict[str, list[float]] = {}
    for sample in track(samples, "lesion sizes"):
        path = sample.images[0].mask
        if path is not None:
            shares.setdefault(sample.case.case_id, []).append(float(read_mask(path).mean()))
    order = sorted(shares, key=lambda encounter: (float(np.mean(shares[encounter])), encounter))
    return {encounter: (_SIZES[rank * len(_SIZES) // len(order)],) for rank, encounter in enumerate(order)}


def mean_masks(parts: Sequence[Sequence[Sample]]) -> Iterator[MaskPrediction]:
    """Yield, for every photo of each part, the mean mask of the other parts, decided at the photo's (H, W)."""
    means = [_mean_mask(part) for part in parts]
    for number, held_out in enumerate(parts):
        others = [mean for index, mean in enumerate(means) if index != number]
        masks = [(np.asarray(image, np.float32), mean.photos) for mean in others if (image := mean.image())]
        mean = np.average([mask for mask, _ in masks], 0, [photos for _, photos in masks])
        prior = np.asarray(mean / 255, np.float32)
        for sample in {sample.id: sample for sample in held_out}.values():
            photo = sample.images[0]
            shape = photo.height, photo.width
            yield MaskPrediction(sample.id, mask=mean_mask(prior, shape), shape=shape)


def mean_mask_of(train: Sequence[Sample], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[MaskPrediction]:
    """Yield the mean mask of training samples for photos of these (H, W), by id."""
    image = _mean_mask(train).image()
    if image is None:
        return
    prior = np.asarray(image, np.float32) / np.float32(255)
    for photo, (height, width) in shapes.items():
        yield MaskPrediction(photo, mask=mean_mask(prior, (height, width)), shape=(height, width))


def _mean_mask(part: Sequence[Sample]) -> TrainingMeanMask:
    mean = TrainingMeanMask()
    for sample in track(part, "mean mask"):
        path = sample.images[0].mask
        if path is not None:
            mean.add([read_mask(path)])
    return mean
