"""A drawn dataset in the challenge's layout: photos, annotators' masks, texts and closed answers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.questions import QuestionSchema, load_questions
from magic_cli.data.sources.synthetic.cases import Patient, make_patient
from magic_cli.data.sources.synthetic.drawing import Photo, draw_photo, outline
from magic_cli.io.files import write_atomic
from magic_cli.io.json_files import write_json
from magic_cli.io.progress import track

_SIZES = ((256, 336), (320, 256), (288, 288), (240, 320), (336, 264))

_CARE = (0.9, 0.7, 0.5, 0.8)  # of the four annotators; the first draws closest to the true border

_EXTENSIONS = {("train", 2): ".png", ("valid", 1): ".jpeg", ("test", 3): ".png"}  # all others are .jpg


def draw_dataset(root: Path, counts: Mapping[str, int], seed: int = 2025) -> dict[str, int]:
    """Write invented encounters in the challenge's layout to `root`; the same seed gives the same files.

    Returns the numbers of encounters, images and masks written. The test split has no masks and no answers.
    """
    codec = load_questions(None)
    write_json(root / "closedquestions_definitions_imageclef2025.json", codec.as_json())
    plan = [(split, index) for split, count in counts.items() for index in range(count)]
    made = {"encounters": len(plan), "images": 0, "masks": 0}
    texts: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    answers: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    for number, (split, index) in track(list(enumerate(plan, 1)), "drawing"):
        rng = np.random.default_rng((seed, number))
        patient, encounter = make_patient(rng, number), f"ENC{number:05d}"
        names = []
        for photo in range(1, patient.photos + 1):
            name = f"IMG_{encounter}_{photo:05d}"
            extension = _EXTENSIONS.get((split, index), ".jpg") if photo == 1 else ".jpg"
            drawn = draw_photo(rng, patient.look, patient.tone, patient.limb, _SIZES[rng.integers(len(_SIZES))])
            _save_photo(root / "images_final" / f"images_{split}" / f"{name}{extension}", drawn)
            made["masks"] += _save_masks(rng, root, split, name, drawn) if split != "test" else 0
            names.append(name + extension)
        made["images"] += len(names)
        texts[split].append(_as_query(patient, encounter, names))
        answers[split].append({"encounter_id": encounter} | _as_slots(codec, patient))
    for split in counts:
        write_json(root / f"{split}.json", texts[split])
        if split != "test":
            write_json(root / f"{split}_cvqa.json", answers[split])
    return made


def _save_photo(path: Path, photo: Photo) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(photo.pixels)
    image.save(buffer, "PNG") if path.suffix == ".png" else image.save(buffer, "JPEG", quality=88)

    def write(file: IO[bytes]) -> None:
        file.write(buffer.getvalue())

    write_atomic(path, write)


def _save_masks(rng: np.random.Generator, root: Path, split: str, name: str, photo: Photo) -> int:
    """Write the masks of two to four annotators, three as a rule; return how many."""
    folder = root / "dermavqa-seg-trainvalid" / "dermavqa-segmentations" / split
    chosen = sorted(rng.permutation(4)[: rng.choice((2, 3, 4), p=(0.1, 0.75, 0.15))])
    for annotator in chosen:
        mask = outline(rng, photo.fields, _CARE[annotator])
        write_mask(folder / f"{name}_mask_ann{annotator}.tiff", mask)
    return len(chosen)


def _as_query(patient: Patient, encounter: str, names: Sequence[str]) -> dict[str, Any]:
    return {
        "encounter_id": encounter,
        "author_id": f"U{int(encounter[3:]) % 37:05d}",
        "image_ids": list(names),
        "query_title_en": patient.title,
        "query_content_en": patient.content,
        "responses": [
            {"author_id": f"U9{number:04d}", "content_en": text} for number, text in enumerate(patient.responses)
        ],
    }


def _as_slots(codec: QuestionSchema, patient: Patient) -> dict[str, int]:
    sets = codec.empty_sets()
    for parent, texts in patient.answers.items():
        sets[parent] = frozenset(codec.index(codec.parents[parent][0], text) for text in texts)
    return codec.to_slots(sets)
