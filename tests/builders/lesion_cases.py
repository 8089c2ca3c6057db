"""Twelve photos of three classes with words, and trainings on them: what a tiny retrieval model can learn."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from magic_cli.config import resolve
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.data.retrieval.queries import retrieval_gold
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.retrieve import TASK
from magic_cli.tasks.retrieve.config import RetrieveConfig
from magic_cli.training.parts import Data, Part
from magic_cli.training.trainer import Trainer

SIDE = 64
CLASSES = {
    "melanoma": ((60, 40, 45), "atypical pigment network"),
    "nevus": ((130, 85, 60), "typical pigment network"),
    "keratosis": ((175, 130, 90), "milia-like cysts"),
}


def lesion_cases(folder: Path, per_class: int = 4, same_photos: bool = False) -> list[Sample]:
    """Write dermoscopy-like photos to a folder, and return them, one group each; the words tell the class apart.

    With `same_photos` all photos look alike, whatever their class: only the words tell it.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    samples = []
    for label, (colour, seen) in CLASSES.items():
        for number in range(per_class):
            name = f"{label}-{number}"
            path = folder / f"{name}.png"
            photo = Image.new("RGB", (SIDE, SIDE), (225, 185, 160))
            shift, side = int(rng.integers(0, 8)), int(rng.integers(34, 44))
            drawn = (120, 80, 60) if same_photos else colour
            ImageDraw.Draw(photo).ellipse((10 + shift, 8 + shift, 10 + shift + side, 8 + shift + side - 6), fill=drawn)
            photo.save(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            image = ImageRecord(name, name, "train", str(path), SIDE, SIDE, sha256=digest)
            attributes = {"sex": "male" if number % 2 else "female", "site": "back"}
            query = f"A {attributes['sex']} patient with a lesion on the back. Dermoscopy: {seen}."
            case = Case(name, "train", (name,), {}, question=query, label=label, attributes=attributes)
            samples.append(Sample(name, case, (image,)))
    return samples


def lesion_trainer(samples: list[Sample], out: Path, *settings: str) -> Trainer:
    """Return a training on cases, without validation."""
    out.mkdir(parents=True, exist_ok=True)
    config = resolve(RetrieveConfig, "tiny", ("finetune=all", "batch_size=12", *settings))
    gold = retrieval_gold("drawn", samples, tuple(samples), "loo")
    return Trainer("retrieve", Data(TASK, [Part(samples, (), gold)], NO_QUESTIONS, "drawn"), config, out, "cpu", None)
