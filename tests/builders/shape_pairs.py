"""Eight photos of coloured shapes with their texts, and trainings on them: what a tiny contrastive model can learn."""

import hashlib
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw

from magic_cli.config import resolve
from magic_cli.data.pair_gold import PairGold
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.pretrain import TASK
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.training.parts import Data, Part
from magic_cli.training.trainer import Trainer

SIDE = 64
COLOURS = {"red": (180, 30, 40), "blue": (40, 60, 170)}
SHAPES = ("square", "disc", "bars", "cross")


def draw(shape: str, colour: tuple[int, int, int]) -> Image.Image:
    photo = Image.new("RGB", (SIDE, SIDE), (225, 185, 160))
    pen = ImageDraw.Draw(photo)
    match shape:
        case "square":
            pen.rectangle((8, 8, 55, 55), fill=colour)
        case "disc":
            pen.ellipse((20, 20, 44, 44), fill=colour)
        case "bars":
            for top in range(4, SIDE, 8):
                pen.rectangle((0, top, SIDE, top + 3), fill=colour)
        case "cross":
            pen.rectangle((28, 0, 35, SIDE), fill=colour)
            pen.rectangle((0, 28, SIDE, 35), fill=colour)
    return photo


def shape_pairs(folder: Path) -> list[Sample]:
    """Write the photos to a folder, and return them with a raw, a disease and a concept text and up to two subtexts."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for shape, colour in product(SHAPES, COLOURS):
        name = f"{colour}-{shape}"
        path = folder / f"{name}.png"
        draw(shape, COLOURS[colour]).save(path)
        texts = {
            "raw": f"A {colour} patch, shaped as a {shape}.",
            "disease": f"This is a skin photo diagnosed as {shape}.",
            "concept": f"This skin photo shows {colour}.",
            "subtext-1": f"A {colour} patch",
            "subtext-2": f"shaped as a {shape}",
        }
        if shape == "bars":
            del texts["subtext-2"]
        if name == "red-cross":
            del texts["disease"], texts["subtext-1"], texts["subtext-2"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        image = ImageRecord(name, name, "train", str(path), SIDE, SIDE, sha256=digest)
        case = Case(name, "train", (name,), {role: {"en": text} for role, text in texts.items()})
        samples.append(Sample(name, case, (image,)))
    return samples


def shape_trainer(folder: Path, out: Path, *settings: str) -> Trainer:
    """Return a training on the shapes that are in a folder, or are drawn into it, without validation."""
    return trainer_of(Part(shape_pairs(folder), [], PairGold("none")), out, *settings)


def trainer_of(part: Part, out: Path, *settings: str) -> Trainer:
    """Return a training on a dataset."""
    out.mkdir(parents=True, exist_ok=True)
    config = resolve(PretrainConfig, "tiny", ("finetune=all", "adam_eps=1e-4", *settings))
    data = Data(TASK, [part], NO_QUESTIONS, "shapes")
    return Trainer("pretrain", data, config, out, "cpu", None)
