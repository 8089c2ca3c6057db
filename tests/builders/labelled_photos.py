"""A small prepared dataset of labelled photos with texts, in which colours tell the classes apart."""

from pathlib import Path

import numpy as np
from PIL import Image

from magic_cli.commands.prepare import PrepareOptions, prepare

CLASSES = {"melanoma": (60, 40, 40), "eczema": (200, 90, 90), "vitiligo": (230, 220, 210)}


def make_labelled(root: Path, patients: int = 5) -> Path:
    """Write root/raw, two photos of each patient and class, and return root/prepared; splits are by patient."""
    raw = root / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(5)
    lines = ["file,dx,note,patient,split"]
    for split, count in (("train", patients), ("val", 3)):
        for number in range(count):
            for name, colour in CLASSES.items():
                for photo in range(2):
                    file = f"{split}{number}{name}{photo}.png"
                    pixels = np.clip(np.array(colour) + rng.normal(0, 12, (40, 48, 3)), 0, 255)
                    Image.fromarray(pixels.astype(np.uint8)).save(raw / file)
                    seen = "It itches and shows a red plaque" if number % 2 else "It is flat and brown"
                    text = f"A {name} spot number {number}. {seen}."
                    lines.append(f"{file},{name},{text},{split}{number}{name},{split}")
    (raw / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    mapping = ("image=file", "label=dx", "text=note", "group=patient", "split=split")
    prepare(raw, root / "prepared", PrepareOptions(mapping=mapping))
    return root / "prepared"
