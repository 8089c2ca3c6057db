"""The prepared dataset: the one format that train, predict, score and package read.

prepared/encounters.jsonl   one encounter a line          schemas/encounter.schema.json
prepared/images.jsonl       one photo a line              schemas/image.schema.json
prepared/questions.json     the closed questions          schemas/definitions.schema.json
prepared/masks/             merged masks at full size     uint8 {0, 1} TIFF
prepared/prepare.json       what was found and done       schemas/prepared.schema.json
prepared/mean_mask.png      mean of the train masks       64 x 64 8-bit grey, 255 = all; absent without any
prepared/index.html         a page to look at             read by people only
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any

from magic_cli.data.limits import MAX_PIXELS
from magic_cli.data.prompts import whole
from magic_cli.data.questions import QuestionSchema, parse_questions
from magic_cli.errors import DataError, printable, problem
from magic_cli.io import schema
from magic_cli.io.files import each_row, read_json
from magic_cli.records import SPLITS, Case, ImageRecord

ENCOUNTERS, IMAGES, QUESTIONS, MANIFEST = "encounters.jsonl", "images.jsonl", "questions.json", "prepare.json"

MEAN_MASK, PAGE = "mean_mask.png", "index.html"

_NO_TEXTS: Mapping[str, Any] = {"title": {}, "content": {}, "responses": (), "question": "", "answer": ""}


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset in memory: text and paths, no pixels.

    `encounters` and `images` keep file order. An encounter's `image_ids` are those of the challenge's file; an
    id that is not in `images` belongs to a photo that is absent or was left out. `sha256` is that of prepare.json.
    """

    root: Path
    manifest: Mapping[str, Any]
    questions: QuestionSchema
    cases: Mapping[str, Case]
    images: Mapping[str, ImageRecord]
    sha256: str

    @cached_property
    def _by_split(self) -> dict[str, tuple[tuple[Case, ...], tuple[ImageRecord, ...]]]:
        return {
            split: (
                tuple(e for e in self.cases.values() if e.split == split),
                tuple(i for i in self.images.values() if i.split == split),
            )
            for split in SPLITS
        }

    def _of(self, split: str) -> tuple[tuple[Case, ...], tuple[ImageRecord, ...]]:
        if split not in SPLITS:
            raise DataError(problem("--split", split, " or ".join(SPLITS), "choose one of these"))
        return self._by_split[split]

    def cases_of(self, split: str) -> tuple[Case, ...]:
        """Return the encounters of a split in file order; DataError for a split other than train, valid, test."""
        return self._of(split)[0]

    def images_of(self, split: str) -> tuple[ImageRecord, ...]:
        """Return the photos of a split in file order; DataError for a split other than train, valid, test."""
        return self._of(split)[1]


def link(target: str, root: Path) -> str:
    """Return `target` as written into a row: relative to `root`, absolute on another drive; "/" everywhere."""
    try:
        return Path(os.path.relpath(target, root)).as_posix()
    except ValueError:
        return Path(target).as_posix()


def _resolve(root: Path, written: str) -> str:
    return os.path.normpath(root / written)


def encounter_row(encounter: Case) -> dict[str, Any]:
    """Return the line of encounters.jsonl that holds an encounter."""
    return {
        "encounter_id": encounter.case_id,
        "split": encounter.split,
        "image_ids": list(encounter.image_ids),
        "title": dict(encounter.title),
        "content": dict(encounter.content),
        "responses": [dict(response) for response in encounter.responses],
        "question": encounter.question,
        "answer": encounter.answer,
        "answers": None if encounter.answers is None else dict(encounter.answers),
    }


def image_row(image: ImageRecord, root: Path) -> dict[str, Any]:
    """Return the line of images.jsonl that holds a photo, with paths relative to `root`."""
    return {
        "image_id": image.image_id,
        "encounter_id": image.case_id,
        "split": image.split,
        "path": None if image.path is None else link(image.path, root),
        "height": image.height,
        "width": image.width,
        "upright": image.upright,
        "mask": None if image.mask is None else link(image.mask, root),
        "annotators": {name: link(path, root) for name, path in image.annotators.items()},
        "sha256": image.sha256,
    }


def _encounter(row: Mapping[str, Any], texts: bool) -> Case:
    answers = None if row["answers"] is None else _once(row["answers"])
    found = {key: value for key, value in row.items() if key != "encounter_id"} | {"case_id": row["encounter_id"]}
    found |= {"image_ids": tuple(row["image_ids"]), "split": intern(row["split"]), "answers": answers}
    if not texts:
        return Case(**{**found, **_NO_TEXTS})
    found["responses"] = tuple(_texts(response) for response in row["responses"])
    found |= {name: _texts(row[name]) for name in ("title", "content")}
    return Case(**{**found, **{name: whole(row[name]) for name in ("question", "answer")}})


def _texts(row: Mapping[str, str]) -> dict[str, str]:
    return {intern(lang): whole(text) for lang, text in row.items()}


def _once(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose keys are those of other rows: as parsed, each line has its own, which are most of it."""
    return {intern(key): value for key, value in row.items()}


def _image(row: Mapping[str, Any], root: Path) -> ImageRecord:
    files = {key: None if row[key] is None else _resolve(root, row[key]) for key in ("path", "mask")}
    annotators = {intern(name): _resolve(root, path) for name, path in row["annotators"].items()}
    names = {"case_id": intern(row["encounter_id"]), "split": intern(row["split"])}
    rest = {key: value for key, value in row.items() if key != "encounter_id"}
    return ImageRecord(**{**rest, **files, **names, "annotators": annotators})


def valid_rows(name: str, rows: Iterable[Any], where: str, lines: list[str]) -> Iterator[Any]:
    """Yield the rows that schema `name` allows; `lines` gets one for each violation, with the row's number from 1."""
    for number, row in enumerate(rows, 1):
        faults = schema.problems(name, row, f"{where}:{number}")
        lines += faults
        if not faults:
            yield row


def open_prepared(root: Path, texts: bool = True) -> Prepared:
    """Read prepared/ and check every row of it; paths become absolute, photos and masks are not opened.

    Args:
        texts: False keeps no word of the encounters, for what needs none: they are most of what is held.

    Raises:
        DataError: no prepared dataset there, or it is damaged; all problems at once.
    """
    manifest_path = root / MANIFEST
    if not manifest_path.is_file():
        have = "no such folder" if not root.is_dir() else f"got a folder without {MANIFEST}"
        raise DataError(printable(f"{root}: {have}, expected a prepared dataset; run `magic prepare` first"))
    real = root.resolve()
    manifest = read_json(manifest_path)
    lines = schema.problems("prepared", manifest, str(manifest_path))
    # row by row: parsed rows take several times the memory of what is kept of them
    rows = valid_rows("encounter", each_row(root / ENCOUNTERS), str(root / ENCOUNTERS), lines)
    encounters = [_encounter(row, texts) for row in rows]
    rows = valid_rows("image", each_row(root / IMAGES), str(root / IMAGES), lines)
    images = [_image(row, real) for row in rows]
    _raise(lines)
    questions = parse_questions(read_json(root / QUESTIONS), str(root / QUESTIONS))
    _raise([*_lost(root, manifest, encounters, images), *_contradictions(root, encounters, images, questions)])
    return Prepared(
        root=real,
        manifest=manifest,
        questions=questions,
        cases={encounter.case_id: encounter for encounter in encounters},
        images={image.image_id: image for image in images},
        sha256=hashlib.sha256(manifest_path.read_bytes()).hexdigest(),
    )


def _raise(lines: list[str]) -> None:
    if lines:
        raise DataError([*lines, "these files were changed by hand or damaged: run `magic prepare --overwrite`"])


def _lost(
    root: Path, manifest: Mapping[str, Any], encounters: Sequence[Case], images: Sequence[ImageRecord]
) -> Iterator[str]:
    """Yield a line for each split with other numbers of rows than were written: a file cut at a line's end is valid."""
    splits = (
        (ENCOUNTERS, "encounters", [row.split for row in encounters]),
        (IMAGES, "images", [i.split for i in images]),
    )
    for name, key, rows in splits:
        for split in SPLITS:
            found, written = rows.count(split), manifest["counts"][split][key]
            if found != written:
                yield problem(root / name, f"{found} {key} of split {split}", f"{written}", "was the file cut off?")


def _contradictions(
    root: Path, encounters: Sequence[Case], images: Sequence[ImageRecord], questions: QuestionSchema
) -> Iterator[str]:
    """Yield a line for each repeated id, photo without its encounter and answer outside the questions."""
    splits: dict[str, str] = {}
    for number, row in enumerate(encounters, 1):
        where = f"{root / ENCOUNTERS}:{number}"
        if row.case_id in splits:
            yield problem(where, f"{row.case_id} twice", "once", "remove one row")
        splits[row.case_id] = row.split
        if row.answers is not None:
            yield from questions.faults(row.answers, f"{where}:answers")
    seen: set[str] = set()
    for number, image in enumerate(images, 1):
        where = f"{root / IMAGES}:{number}"
        if image.image_id in seen:
            yield problem(where, f"{image.image_id} twice", "once", "remove one row")
        seen.add(image.image_id)
        if image.height * image.width > MAX_PIXELS:
            yield problem(where, f"{image.height} x {image.width} pixels", "at most 200 megapixels", "prepare again")
        if splits.get(image.case_id) != image.split:
            got = f"{image.case_id} in {image.split}"
            yield problem(where, got, f"an encounter of {ENCOUNTERS}", "prepare again")
