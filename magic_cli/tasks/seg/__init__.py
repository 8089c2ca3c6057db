"""Segmentation: one binary mask a photo; scored against every annotator, written as official TIFF files."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from magic_cli.data.gold import Gold
from magic_cli.data.masks import write_mask
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import EmptySplit, problem
from magic_cli.io import run_record
from magic_cli.io.staging import replace_results
from magic_cli.records import ImageRecord, Mask, Sample
from magic_cli.submission.reader import MASKS, SUFFIX, mask_name
from magic_cli.tasks.seg.baselines import guesses as guesses
from magic_cli.tasks.seg.baselines import strata as strata
from magic_cli.tasks.seg.decide import MaskPrediction, to_mask
from magic_cli.tasks.seg.score import score
from magic_cli.tasks.seg.threshold import best_threshold

if TYPE_CHECKING:
    from magic_cli.tasks.seg.config import SegConfig
    from magic_cli.training.task_model import TaskModel


MONITOR = "dice_meanofmax"


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
            encounter = prepared.cases[image.case_id]
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
    from magic_cli.tasks.seg.model import build as make

    return make(config, questions)


def baselines(train: Sequence[Sample], gold: Gold) -> dict[str, float]:  # noqa: ARG001  the seam's
    """Return what a trivial answer scores on `gold`, as the figure that MONITOR names: everything is lesion."""
    full = (MaskPrediction(i, mask=np.ones_like(next(g.masks()), np.uint8)) for i, g in gold.images.items())
    return {"all foreground": score(gold, full).scores[MONITOR]}


def choose(gold: Gold, predictions: Iterable[MaskPrediction], config: "SegConfig") -> dict[str, Any]:
    """Choose the threshold that config.threshold_for asks for (tasks/seg/threshold.py); {} for "none"."""
    if config.threshold_for == "none":
        return {}
    return best_threshold(gold, predictions, config.threshold_for, config.threshold)


def checks(prepared: Prepared, samples: Sequence[Sample], config: "SegConfig") -> tuple[str, ...]:  # noqa: ARG001
    """Return nothing: `magic prepare` compared photos and masks already."""
    return ()


def review(
    gold: Gold,  # noqa: ARG001  the seam's
    predictions: Iterable[MaskPrediction],  # noqa: ARG001  not asked for: it would cost another pass
    guesses: Mapping[str, Iterable[MaskPrediction]],  # noqa: ARG001
    folds: Sequence[Collection[str]] = (),  # noqa: ARG001
) -> dict[str, Any]:
    """Return nothing: every epoch's figures say it, and trivial answers stand beside them."""
    return {}


def write(
    predictions: Iterable[MaskPrediction],
    prepared: Prepared,  # noqa: ARG001  the seam's
    out: Path,
    **decision: Any,
) -> list[Path]:
    """Write out/masks_preds/IMG_*_mask_sys.tiff, uint8 {0, 1}, the photo's (H, W), never empty, all in one step.

    `decision` are the options of to_mask: threshold, largest, fill_holes.

    Afterwards the folder holds the masks of these predictions only: older ones under official names are gone,
    as the official scorer and `package` would take them for predictions of this split.

    Raises:
        DataError: a prediction is no mask, or the folder cannot be written.
    """
    names = []
    with replace_results(out, (MASKS,), f"*{SUFFIX}") as folder:
        for prediction in predictions:
            mask: Mask = to_mask(prediction, **decision)
            names.append(f"{MASKS}/{mask_name(prediction.id)}")
            write_mask(folder / names[-1], mask)
        run_record.begin(out / run_record.FILE)
    return [out / name for name in names]
