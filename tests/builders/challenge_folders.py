"""Small drawn challenge folders: skin-coloured photos with an elliptic lesion, one to four annotators."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from magic_cli.data.questions import FALLBACK, load_questions
from magic_cli.records import Mask

DEFINITIONS = "closedquestions_definitions_imageclef2025.json"
SPLITS = {"train": 3, "valid": 2, "test": 2}
SIZE = (48, 64)
LAYOUTS = {
    "nested": ("", "images_final/images_{split}", "dermavqa-seg-trainvalid/dermavqa-segmentations/{split}"),
    "flat": ("", "", ""),
    "odd": (
        "2025 dataset [v1]",
        "images_final/images_final/images_{split}",
        "dermavqa-seg-trainvalid (2)/dermavqa-segmentations/{split}",
    ),
}


def draw_lesion(size: tuple[int, int] = SIZE, shift: int = 0) -> Mask:
    """Return an ellipse left of the middle, (H, W) uint8 {0, 1}; `shift` moves it right by as many pixels."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - height / 2) / (height / 4)) ** 2 + ((columns - width / 3 - shift) / (width / 5)) ** 2 <= 1
    return inside.astype(np.uint8)


def draw_photo(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Return an RGB photo: skin with a little noise, and a darker lesion where `draw_lesion` puts it.

    The light differs from place to place unless the seed is 0, so photos of two seeds are no near duplicates.
    """
    draw = np.random.default_rng(seed)
    noise = draw.integers(-6, 7, (*size, 3))
    light = Image.fromarray(draw.integers(0, 110 if seed else 1, (4, 4), np.uint8)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    skin = np.where(draw_lesion(size)[..., None] == 1, (120, 60, 50), (222, 178, 150)) + noise
    return Image.fromarray((skin - np.asarray(light, np.int64)[..., None]).clip(0, 255).astype(np.uint8))


def image_id(encounter: int, photo: int = 1) -> str:
    return f"IMG_ENC{encounter:05}_{photo:05}"


def save_photo(path: Path, photo: Image.Image, orientation: int = 1) -> None:
    """Save a photo; `orientation` is its EXIF orientation, 1..8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    photo.save(path, exif=exif) if orientation != 1 else photo.save(path)


def save_mask(path: Path, mask: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, mask, compression="zlib")


def encounter_row(number: int, images: list[str]) -> dict[str, Any]:
    return {
        "encounter_id": f"ENC{number:05}",
        "author_id": "U00001",
        "image_ids": images,
        "query_title_en": f"Rash number {number}",
        "query_content_en": "It itches<br>and grows.  EO <0.7 *10^9/L",
        "query_title_zh": "皮疹",
        "query_content_zh": "<季节性皮炎>",
        "responses": [
            {"author_id": "U1", "content_en": "Eczema.", "content_zh": "湿疹", "completeness": 1.0},
            {"author_id": "U2", "content_en": "", "content_zh": "银屑病"},
        ],
    }


def answers_row(number: int) -> dict[str, Any]:
    """Return complete closed answers that differ between encounters."""
    questions = load_questions(None)
    sets = questions.empty_sets() | {"CQID011": {number % 3, 3}, "CQID034": {number % 4}}
    return {"encounter_id": f"ENC{number:05}", **questions.to_slots(sets)}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def make_challenge(
    root: Path,
    *,
    splits: Mapping[str, int] = SPLITS,
    layout: str = "nested",
    size: tuple[int, int] = SIZE,
    high: int = 1,
    annotators: int = 2,
    suffix: str = ".jpg",
    photos: bool = True,
    definitions: bool = True,
) -> Path:
    """Write a small challenge folder to `root` and return it.

    Encounters are numbered through, ENC00001 first, train before valid before test. The first of each split has
    two photos, the others one. Masks (of `annotators` annotators, each moved a pixel; foreground `high`) and closed
    answers exist for train and valid. `layout` is "nested", "flat" or "odd" (brackets, blanks, doubled folders).
    """
    tables, images, masks = (root / folder for folder in LAYOUTS[layout])
    number = 0
    for split, encounters in splits.items():
        rows, answers = [], []
        for index in range(encounters):
            number += 1
            ids = [image_id(number, photo) for photo in ((1, 2) if index == 0 else (1,))]
            rows.append(encounter_row(number, [f"{name}{suffix}" for name in ids]))
            answers.append(answers_row(number))
            for name in ids if photos else ():
                place = Path(str(images).format(split=split)) / f"{name}{suffix}"
                save_photo(place, draw_photo(size, number))
            for name in ids if split != "test" else ():
                for annotator in range(annotators):
                    place = Path(str(masks).format(split=split)) / f"{name}_mask_ann{annotator}.tiff"
                    save_mask(place, draw_lesion(size, annotator) * np.uint8(high))
        write_json(tables / f"{split}.json", rows)
        if split != "test":
            write_json(tables / f"{split}_cvqa.json", answers)
    if definitions:
        shutil.copy(FALLBACK, tables / DEFINITIONS)
    return root
