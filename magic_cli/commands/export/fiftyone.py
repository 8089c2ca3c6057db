"""`magic score --export fiftyone`: photos, annotators' masks, predictions and scores as a dataset that FiftyOne reads.

    fiftyone.Dataset.from_dir("report/fiftyone", dataset_type=fiftyone.types.FiftyOneDataset)

metadata.json               the fields of the dataset, in the words of FiftyOne 1.0
samples.json                a sample per photo: where it lies, its masks, and its scores
fields/FIELD/IMAGE.png      masks as grey PNGs of 0 and 255; a FIELD is ground_truth_ann0, prediction, prediction_2, ...

Photos are not copied: their paths are relative to the folder, where they are on the same disk.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.gold import Gold, GoldImage
from magic_cli.errors import DataError, problem
from magic_cli.io.json_files import write_json
from magic_cli.io.progress import log
from magic_cli.records import Mask
from magic_cli.report.score_report import ScoreReport

NAME = "fiftyone"

METADATA, SAMPLES = "metadata.json", "samples.json"

_VERSION = "1.0.0"  # of FiftyOne, whose later versions read it too

_LESION = 255

_SCORES = ("dice_max", "dice_mean", "jaccard_max", "jaccard_mean")

Document = Mapping[str, object]


@dataclass(frozen=True)
class _System:
    """A system's predictions: its field, its masks by photo, and the row of its scores by photo."""

    field: str
    masks: Mapping[str, Callable[[], Mask]]
    scores: Mapping[str, Mapping[str, object]]

    def score_fields(self) -> dict[str, str]:
        """Return the field of each score."""
        suffix = self.field.removeprefix("prediction")
        return {name: f"{name}{suffix}" for name in _SCORES}


def write_dataset(
    report: ScoreReport, gold: Gold, masks: Sequence[Mapping[str, Callable[[], Mask]]], folder: Path
) -> None:
    """Write the dataset of a score report.

    Args:
        report: with scores of masks.
        gold: what it was scored against, with the places of the photos.
        masks: readers of each system's masks, by photo.
        folder: where to write, below the folder that will be `report.files.out`.

    Raises:
        DataError: no photo of a scored mask is known, or the folder cannot be written.
    """
    images = {name: image for name, image in gold.masks.images.items() if name in gold.masks.photos}
    if not images or report.files.out is None:
        got, expected = "no masks of photos whose place is known", "a prepared dataset with masks as gold"
        raise DataError(problem("--export", got, expected, "give it, or leave --export out"))
    systems = list(_systems(report, masks))
    if not any(system.scores for system in systems):
        got, expected = "predictions without masks", "masks, whose scores FiftyOne shows"
        raise DataError(problem("--export", got, expected, "give some, or leave --export out"))
    annotators = sorted({name for image in images.values() for name in image.annotators})
    place = report.files.out / NAME
    made = [
        _sample(name, image, (gold.masks.photos[name], report.split), systems, (folder, place))
        for name, image in images.items()
    ]
    write_json(folder / METADATA, _metadata(report, annotators, systems))
    write_json(folder / SAMPLES, {"samples": made})
    if len(images) < len(gold.masks.images):
        log(f"{place}: {len(gold.masks.images) - len(images)} photos are left out, as their place is not known")


def _systems(report: ScoreReport, masks: Sequence[Mapping[str, Callable[[], Mask]]]) -> Iterator[_System]:
    for number, (readers, system) in enumerate(zip(masks, report.systems, strict=True), 1):
        rows = [row for scores in system.tasks for row in scores.per_item if "dice_max" in row and "image" in row]
        field = "prediction" if number == 1 else f"prediction_{number}"
        yield _System(field, readers, {str(row["image"]): row for row in rows})


def _sample(
    name: str, image: GoldImage, about: tuple[str, str], systems: Sequence[_System], folders: tuple[Path, Path]
) -> Document:
    """Return a photo's sample, and write its masks.

    Args:
        name: id of the photo.
        image: its gold.
        about: the place of the photo, and the split.
        systems: with their masks.
        folders: where masks are written, and where the folder will be.
    """
    photo, split = about
    stage, place = folders
    sample: dict[str, object] = {
        "_id": _id(name),
        "filepath": _relative(photo, place),
        "tags": [split],
        "_media_type": "image",
        "_rand": 0.9999,
        "image_id": name,
        "encounter_id": image.case_id,
    }
    for annotator, mask in zip(image.annotators, image.masks(), strict=True):
        sample[f"ground_truth_{annotator}"] = _segmentation(stage, f"ground_truth_{annotator}", name, mask)
    for system in systems:
        row = system.scores.get(name, {})
        if name in system.masks and not row.get("fault"):
            sample[system.field] = _segmentation(stage, system.field, name, system.masks[name]())
        sample |= {field: row[score] for score, field in system.score_fields().items() if row.get(score) is not None}
    return sample


def _id(*words: str) -> Document:
    """Return an id that follows from words, as MongoDB writes ids in JSON."""
    return {"$oid": hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]}


def _relative(photo: str, place: Path) -> str:
    """Return the path of a photo from the dataset's folder; as it is where it lies on another disk."""
    try:
        return Path(os.path.relpath(Path(photo).resolve(), place.resolve())).as_posix()
    except ValueError:  # Windows: another drive
        return str(Path(photo).resolve())


def _segmentation(stage: Path, field: str, name: str, mask: NDArray[np.uint8 | np.bool_]) -> Document:
    """Write a mask, and return its label."""
    path = Path("fields") / field / f"{name}.png"
    (stage / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(bool) * np.uint8(_LESION)).save(stage / path)
    return {"_id": _id(field, name), "_cls": "Segmentation", "tags": [], "mask_path": path.as_posix()}


def _metadata(report: ScoreReport, annotators: Sequence[str], systems: Sequence[_System]) -> Document:
    masks = [*(f"ground_truth_{name}" for name in annotators), *(system.field for system in systems)]
    scores = [field for system in systems for field in system.score_fields().values()]
    fields = [
        _field("id", "ObjectIdField", db_field="_id"),
        _field("filepath", "StringField"),
        _field("tags", "ListField", subfield="StringField"),
        _field("metadata", "EmbeddedDocumentField", document="fiftyone.core.metadata.ImageMetadata"),
        _field("image_id", "StringField"),
        _field("encounter_id", "StringField"),
        *(_mask_field(name) for name in masks),
        *(_field(name, "FloatField") for name in scores),
    ]
    names = {system.field: _without_place(row.name) for system, row in zip(systems, report.systems, strict=True)}
    return {
        "name": NAME,
        "version": _VERSION,
        "media_type": "image",
        "tags": [],
        "info": {"systems": names, "split": report.split, "made_by": "magic score"},
        "mask_targets": {name: {str(_LESION): "lesion"} for name in masks},
        "sample_fields": fields,
    }


def _without_place(name: str) -> str:
    """Return a system's name; of an absolute path, which tells names of users, the last two parts."""
    return "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name


def _field(
    name: str, kind: str, document: str | None = None, subfield: str | None = None, db_field: str | None = None
) -> dict[str, object]:
    """Return the description of a field."""
    return {
        "name": name,
        "ftype": f"fiftyone.core.fields.{kind}",
        "embedded_doc_type": document,
        "subfield": None if subfield is None else f"fiftyone.core.fields.{subfield}",
        "fields": [],
        "db_field": db_field or name,
        "description": None,
        "info": None,
    }


def _mask_field(name: str) -> Document:
    inner = [
        _field("id", "ObjectIdField", db_field="_id"),
        _field("tags", "ListField", subfield="StringField"),
        _field("mask", "ArrayField"),
        _field("mask_path", "StringField"),
    ]
    field = _field(name, "EmbeddedDocumentField", document="fiftyone.core.labels.Segmentation")
    return {**field, "fields": inner}
