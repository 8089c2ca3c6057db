"""A small prepared dataset without pixels of photos, and valid submissions for it, which tests then break."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.manifest import PrepareManifest, PrepareSettings
from magic_cli.data.preparation.counts import Counts
from magic_cli.data.prepared import case_row, image_row
from magic_cli.data.questions import QuestionSchema, load_questions
from magic_cli.io.json_files import write_json, write_jsonl
from magic_cli.records import Case, ImageRecord, Mask

# encounter -> (split, sizes of its photos); nothing is square, so that transposing shows
ENCOUNTERS: dict[str, tuple[str, list[tuple[int, int]]]] = {
    "ENC00001": ("train", [(24, 32)]),
    "ENC00002": ("train", [(20, 30), (18, 26)]),
    "ENC00011": ("valid", [(24, 32), (40, 28)]),
    "ENC00012": ("valid", [(16, 20)]),
    "ENC00021": ("test", [(24, 32)]),
    "ENC00022": ("test", [(28, 20), (22, 34)]),
    "ENC00023": ("test", [(30, 18)]),
}
QUESTIONS = load_questions(None)
ANSWERS, MASKS = "data_cvqa_sys.json", "masks_preds"


def blob(shape: tuple[int, int], shift: int = 0) -> Mask:
    """Return a rectangle, moved right by `shift`; never empty, never full."""
    mask = np.zeros(shape, np.uint8)
    mask[4 : shape[0] // 2, 3 + shift : shape[1] // 2 + shift] = 1
    return mask


def image_id(encounter: str, number: int) -> str:
    return f"IMG_{encounter}_{number:05}"


def answers(encounter: str, questions: QuestionSchema = QUESTIONS) -> dict[str, int]:
    """Return a complete canonical row that differs between encounters."""
    seed = int(encounter[3:])
    return questions.to_slots({p: {(seed + i) % 3} for i, p in enumerate(questions.parents)})


def row(encounter: str) -> dict[str, Any]:
    return {"encounter_id": encounter, **answers(encounter)}


def make_prepared(root: Path, merge: str = "or", photos: bool = True) -> Path:
    """Write prepared/ with three annotators per train or valid photo; the photos do not exist."""
    records, cases = [], []
    for encounter, (split, sizes) in ENCOUNTERS.items():
        ids = tuple(image_id(encounter, n) for n in range(1, len(sizes) + 1))
        for image, (height, width) in zip(ids, sizes, strict=True):
            mask, annotators = None, {}
            if split != "test":
                for k in range(3):
                    annotators[f"ann{k}"] = str(root / "raw" / f"{image}_mask_ann{k}.tiff")
                    write_mask(Path(annotators[f"ann{k}"]), blob((height, width), k))
                mask = annotators["ann1"]
            path = str(root / "photos" / f"{image}.jpg") if photos else None
            records.append(ImageRecord(image, encounter, split, path, height, width, False, mask, annotators, "0" * 64))
        given = None if split == "test" else answers(encounter)
        texts = {"title": {"en": "t"}, "content": {"en": "c"}}
        cases.append(Case(encounter, split, ids, texts, "q", "a", given))
    write_jsonl(root / "cases.jsonl", [case_row(case) for case in cases])
    write_jsonl(root / "images.jsonl", [image_row(r, root) for r in records])
    write_json(root / "questions.json", QUESTIONS.as_json())
    counts = Counts()
    for case in cases:
        counts.add_case(case)
    for record in records:
        counts.add_image(record)
    manifest = PrepareManifest.of_counts(PrepareSettings(merge, "qa", responses=True), counts.by_split())
    write_json(root / "prepare.json", manifest.to_json())
    return root


def images_of(split: str) -> dict[str, tuple[int, int]]:
    return {
        image_id(encounter, n): size
        for encounter, (of, sizes) in ENCOUNTERS.items()
        for n, size in enumerate(sizes, 1)
        if of == split
    }


def tiff(mask: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, mask, **options)
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str = "TIFF", **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def files_of(split: str) -> dict[str, bytes]:
    """Return a valid submission of a split: bytes by member name."""
    rows = [row(encounter) for encounter, (of, _) in ENCOUNTERS.items() if of == split]
    masks = {f"{MASKS}/{image}_mask_sys.tiff": tiff(blob(size)) for image, size in images_of(split).items()}
    return {ANSWERS: json.dumps(rows).encode(), **masks}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
