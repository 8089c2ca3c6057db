"""Segmentation: one binary mask a photo; scored against every annotator, written as official TIFF files."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import Gold, GoldImage
from magic_cli.data.masks import write_mask
from magic_cli.data.prepared import Prepared
from magic_cli.errors import DataError, EmptySplit, SubmissionError, problem
from magic_cli.metrics.overlap import ImageOverlap, dice, image_overlap, jaccard, overlap_figures, undefined
from magic_cli.questions import QuestionSchema
from magic_cli.records import ImageRecord, Mask, Prediction, Report, Sample
from magic_cli.submission import MASKS, SUFFIX, mask_name, missing_lines

if TYPE_CHECKING:
    from magic_cli.config import SegConfig
    from magic_cli.engine import TaskModel

MONITOR = "dice_meanofmax"
_TOLERANCE = 1e-6


def samples(prepared: Prepared, split: str, config: "SegConfig") -> tuple[Sample, ...]:  # noqa: ARG001  the seam's
    """Return one sample a photo; train and valid: of photos that have a mask.

    Where the masks were prepared with `--merge each`, a train photo gives one sample an annotator, each
    with the same id and that annotator's mask.

    Raises:
        DataError: there is no such photo.
    """
    each = split == "train" and prepared.manifest["settings"]["merge"] == "each"
    found = []
    for image in prepared.images_of(split):
        known = image.mask if split == "train" and not each else image.mask or image.annotators
        if image.path is not None and (known or split == "test"):
            encounter = prepared.encounters[image.encounter_id]
            found += [Sample(image.image_id, encounter, (photo,)) for photo in _photos(image, each)]
    if not found:
        expected = "photos" if split == "test" else "photos with masks"
        raise EmptySplit(problem(prepared.root, f"none in split {split!r}", expected, "see its prepare.json"))
    return tuple(found)


def _photos(image: ImageRecord, each: bool) -> tuple[ImageRecord, ...]:
    if each and image.annotators:
        return tuple(replace(image, mask=path) for _, path in sorted(image.annotators.items()))
    return (image,)


def build(config: "SegConfig", questions: QuestionSchema) -> "TaskModel":
    """Make the model; torch is imported here and not before."""
    from magic_cli.tasks.seg_model import build as make

    return make(config, questions)


def to_mask(prediction: Prediction, threshold: float = 0.5) -> NDArray[Any]:
    """Decide a mask: probabilities are resized to the photo's size first, then cut at `threshold`.

    Args:
        prediction: "mask" is (h, w) floating point in [0, 1] at any resolution, or integers, which pass unchanged.
        threshold: foreground is what lies above it.

    Returns:
        uint8 (H, W) in {0, 1}, never empty: where nothing is above the threshold, the pixels at the map's
        maximum (within 1e-6) are foreground, as an empty mask risks the official scorer's NaN (peers.md case 43).

    Raises:
        DataError: a probability is NaN.
    """
    array = prediction.arrays["mask"]
    if array.dtype.kind != "f":
        return array
    full = _resize(array.astype(np.float32), prediction.shape or array.shape)
    top = float(full.max())
    if not np.isfinite(top):
        raise DataError(problem(prediction.id, "NaN", "probabilities", "training diverged: lower lr and train again"))
    return (full > (threshold if top > threshold else top - _TOLERANCE)).view(np.uint8)


def _resize(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Resize bilinearly to (H, W), pixel centres at (i + 0.5) / size."""
    if array.shape == shape:
        return array
    from PIL import Image

    return np.asarray(Image.fromarray(array).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def score(gold: Gold, predictions: Iterable[Prediction]) -> Report:
    """Score masks as they come; only a few numbers an image are kept.

    The figures are the official six and their number of images; an image is 0/0, hence NaN, where nothing
    was predicted and an annotator drew nothing (a note counts them). Predictions without gold are left out.

    Raises:
        DataError: there is no gold mask, or one is damaged.
        SubmissionError: photos without a prediction, unreadable masks, masks of another size or with other
            values than 0 and 1; all of them at once.
    """
    if not gold.images:
        raise DataError(problem(gold.source, "no gold masks", "IMG_*_mask_ann[0-3].tiff", "give their folder"))
    images: dict[str, ImageOverlap] = {}
    faults: dict[str, str] = {}
    ignored = 0
    for prediction in predictions:
        truth = gold.images.get(prediction.id)
        if truth is None:
            ignored += 1
        elif prediction.id in images or prediction.id in faults:
            faults[prediction.id] = problem(prediction.id, "two predictions", "one", "remove one")
        else:
            overlap = _compare(prediction, truth)
            if isinstance(overlap, str):
                faults[prediction.id] = overlap
            else:
                images[prediction.id] = overlap
    missing = [image for image in gold.images if image not in images and image not in faults]
    lines = [*faults.values(), *missing_lines(missing, gold.images, "images")]
    if lines:
        raise SubmissionError(lines)
    figures = overlap_figures(images.values()) | {"number_segmentation_instances": len(images)}
    rows = tuple(_row(image, gold.images[image], images[image]) for image in gold.images)
    return Report("seg", figures, rows, _notes(images, ignored))


def _compare(prediction: Prediction, truth: GoldImage) -> ImageOverlap | str:
    """Return the overlap with each annotator, or the line that says what is wrong with the prediction."""
    remedy = "`magic package --check-only` says more"
    if "mask" not in prediction.arrays:
        return problem(prediction.id, "an unreadable file", "a TIFF mask", remedy)
    mask, masks = to_mask(prediction), truth.masks()
    first = next(masks)
    if mask.shape != first.shape:
        turned = " (transposed)" if mask.shape == first.shape[::-1] else ""
        return problem(prediction.id, f"shape {mask.shape}{turned}", first.shape, "keep the photo's (H, W)")
    if mask.max() > 1 or (mask.dtype.kind == "i" and mask.min() < 0):
        return problem(prediction.id, "values other than 0 and 1", "{0, 1}", f"officially counts as empty; {remedy}")
    binary = mask.view(np.bool_) if mask.dtype.itemsize == 1 else mask.astype(np.bool_)
    return image_overlap(binary, chain((first,), masks))


def _row(image: str, truth: GoldImage, overlap: ImageOverlap) -> dict[str, Any]:
    row: dict[str, Any] = {"image": image, "encounter": truth.encounter_id, "annotators": len(truth.annotators)}
    for name, ratio in (("jaccard", jaccard), ("dice", dice)):
        values = np.array([ratio(counts) for counts in overlap.annotators])
        row |= {f"{name}_max": float(values.max()), f"{name}_mean": float(values.mean())}
    return row


def _notes(images: dict[str, ImageOverlap], ignored: int) -> tuple[str, ...]:
    notes = []
    empty = [image for image, overlap in images.items() if undefined(overlap)]
    if empty:
        some = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        notes.append(
            f"{len(empty)} of {len(images)} images are 0/0 (nothing predicted, and an annotator drew nothing: {some}): "
            "the official scorer prints NaN for the four mean-of figures, and so do we."
        )
    if ignored:
        notes.append(f"{ignored} predicted images have no gold and are left out, as the official scorer does.")
    return tuple(notes)


def baselines(train: Sequence[Sample], gold: Gold) -> dict[str, float]:  # noqa: ARG001  the seam's
    """Return what a trivial answer scores on `gold`, as the figure that MONITOR names: everything is lesion."""
    full = (Prediction(i, {"mask": np.ones_like(next(truth.masks()), np.uint8)}) for i, truth in gold.images.items())
    return {"all foreground": score(gold, full).figures[MONITOR]}


def write(predictions: Iterable[Prediction], prepared: Prepared, out: Path) -> list[Path]:  # noqa: ARG001  the seam's
    """Write out/masks_preds/IMG_*_mask_sys.tiff one by one, uint8 {0, 1}, the photo's (H, W), never empty.

    Afterwards the folder holds the masks of these predictions only: older ones under official names are removed,
    as the official scorer and `package` would take them for predictions of this split.

    Raises:
        DataError: a prediction is no mask, or the folder cannot be written.
    """
    paths = []
    for prediction in predictions:
        path = out / MASKS / mask_name(prediction.id)
        mask: Mask = to_mask(prediction)
        write_mask(path, mask)
        paths.append(path)
    for stale in set((out / MASKS).glob(f"*{SUFFIX}")) - set(paths):
        stale.unlink()
    return paths
