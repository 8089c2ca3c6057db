"""Files that `magic predict` writes beside a task's own: overlays, probabilities, and a list of own photos."""

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.commands.prediction.options import DEPTHS, PredictOptions
from magic_cli.data.imaging.orientation import turned_back
from magic_cli.data.imaging.regions import region_count
from magic_cli.data.own_photos.dataset import OwnPhotos
from magic_cli.data.prepared import Prepared
from magic_cli.errors import ConfigError
from magic_cli.io.files import write_text
from magic_cli.io.json_files import read_jsonl, write_jsonl
from magic_cli.records import Mask
from magic_cli.report.overlays import filled_overlay
from magic_cli.submission.probabilities import PROBABILITIES_FILE
from magic_cli.submission.reader import MASKS, mask_name
from magic_cli.training.task import Task

OVERLAYS, PROBABILITIES, PICTURES = "overlays", "probabilities", "masks"
"""Folders of PNG: photos with their masks, probabilities, and masks of 0 and 255 for people and other programs."""

PHOTOS, ANSWERS = "photos.jsonl", "answers.csv"
"""Lists of own photos (schemas/photo.schema.json), and of answers in words."""

OUTPUTS = (*(f"{folder}/*.png" for folder in (OVERLAYS, PROBABILITIES, PICTURES)), PHOTOS, ANSWERS)

_DIGITS = 6

_COMPRESSION = 4  # of PNG: a third of the time of the default, a few per cent larger


@dataclass
class PredictionFiles:
    """The files beside those of a task (data/own_photos/side_files.py).

    Attributes:
        prepared: the dataset that is predicted.
        overlays: whether each photo with its mask is written.
        depth: bits of a pixel of probabilities; None for none.
        answers: rows of answers in words, as they were written: case, question, answer, probability.
    """

    prepared: Prepared
    overlays: bool = False
    depth: int | None = None
    answers: list[tuple[str, ...]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _facts: dict[str, Mapping[str, object]] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    def mask(self, folder: Path, image_id: str, mask: Mask, probabilities: NDArray[np.float32] | None) -> Mask:
        """Write overlay, probabilities and, of an own photo, its mask as a picture; return the mask as stored.

        An own photo's mask and probabilities lie on the pixels as its file stores them; the overlay is upright.
        """
        own = isinstance(self.prepared, OwnPhotos)
        orientation = self.prepared.orientations.get(image_id, 1) if isinstance(self.prepared, OwnPhotos) else 1
        stored = turned_back(mask, orientation)
        if own:
            self._save(folder, PICTURES, image_id, Image.fromarray(stored * np.uint8(255)))
        if self.overlays:
            image = self.prepared.images[image_id]
            self._save(folder, OVERLAYS, image_id, filled_overlay(image.path, mask, image.upright))
        if self.depth is not None and probabilities is not None:
            grey = _grey(turned_back(probabilities, orientation), self.depth)
            self._save(folder, PROBABILITIES, image_id, Image.fromarray(grey))
        if own:
            self._facts[image_id] = self._seen(image_id, mask, probabilities)
        return stored

    def finish(self, folder: Path) -> Sequence[str]:
        """Write the list of own photos and the table of answers; return the names of all files."""
        if isinstance(self.prepared, OwnPhotos):
            write_jsonl(folder / PHOTOS, self._rows(self.prepared))
            self._names.append(PHOTOS)
            if (folder / PROBABILITIES_FILE).is_file():
                self._write_answers(folder)
        return self._names

    def _save(self, folder: Path, kind: str, image_id: str, picture: Image.Image) -> None:
        name = f"{kind}/{image_id}.png"
        (folder / kind).mkdir(exist_ok=True)
        picture.save(folder / name, "PNG", compress_level=_COMPRESSION)
        self._names.append(name)

    def _seen(self, image_id: str, mask: Mask, probabilities: NDArray[np.float32] | None) -> Mapping[str, object]:
        """Return what the list says about a photo's mask."""
        last, self._last = self._last, time.monotonic()
        mean = None if probabilities is None else float(probabilities[mask > 0].mean())
        return {
            "lesion_share": round(float(np.count_nonzero(mask) / mask.size), _DIGITS),
            "regions": region_count(mask),
            "mean_probability": None if mean is None else round(mean, _DIGITS),
            "mask": f"{MASKS}/{mask_name(image_id)}",
            "overlay": f"{OVERLAYS}/{image_id}.png" if self.overlays else None,
            "seconds": round(self._last - last, 3),
        }

    def _rows(self, photos: OwnPhotos) -> Iterator[Mapping[str, object]]:
        for name, image in photos.images.items():
            orientation = photos.orientations.get(name, 1)
            turned = orientation >= 5  # the sides of the file's pixels are swapped
            height, width = (image.width, image.height) if turned else (image.height, image.width)
            row = {"image_id": name, "case_id": image.case_id, "file": photos.shown[name]}
            size = {"height": height, "width": width, "orientation": orientation}
            if name in self._facts or not self._facts:  # `--limit` leaves out the others
                yield {**row, **size, **self._facts.get(name, {})}

    def _write_answers(self, folder: Path) -> None:
        """Write the answers that were just written as codes in words, a row for each question of each case."""
        questions = self.prepared.questions
        for line in read_jsonl(folder / PROBABILITIES_FILE):
            for parent, qids in questions.parents.items():
                found = {line["answers"][qid]["index"]: line["answers"][qid] for qid in reversed(qids)}
                unknown = questions.not_mentioned(parent)
                chosen = {index: answer for index, answer in sorted(found.items()) if index != unknown} or found
                cells = ("; ".join(a["text"] for a in chosen.values()), " ".join(map(str, chosen)))
                sure = " ".join(f"{answer['probability']:.2f}" for answer in chosen.values())
                self.answers.append((line["encounter_id"], parent, questions.wording(parent), *cells, sure))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("case_id", "question_id", "question", "answer", "options", "probabilities"))
        table.writerows(self.answers)
        write_text(folder / ANSWERS, text.getvalue())
        self._names.append(ANSWERS)


def names_beside(task: Task, options: PredictOptions) -> tuple[str, ...]:
    """Return patterns of the files that are written beside those of a task, () where none are.

    Raises:
        ConfigError: overlays or probabilities of a task without masks.
    """
    is_of_masks = options.overlays is not None or options.probabilities is not None
    if is_of_masks and task.deliverable != "masks":
        raise ConfigError(f"--overlays, --probabilities: of another task than '{task.name}'; leave them out")
    return OUTPUTS if options.images or options.overlays or options.probabilities is not None else ()


def files_beside(task: Task, prepared: Prepared, options: PredictOptions) -> PredictionFiles | None:
    """Return what is written beside the files of a task, None for nothing; raises as `names_beside`."""
    overlays = bool(options.images) if options.overlays is None else options.overlays
    return PredictionFiles(prepared, overlays, options.probabilities) if names_beside(task, options) else None


def _grey(probabilities: NDArray[np.float32], depth: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return probabilities as whole numbers, uint8 0 to 255 or uint16 0 to 65535."""
    most = (1 << depth) - 1
    values = np.rint(probabilities.clip(0, 1) * most)
    return np.asarray(values, np.uint8) if depth == DEPTHS[0] else np.asarray(values, np.uint16)
