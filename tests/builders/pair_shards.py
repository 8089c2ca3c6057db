"""Shards of pairs: tars as WebDataset, open_clip and img2dataset write them, and Parquet files."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MAKE_ROW: Mapping[str, object] = {
    "caption": "Psoriasis of the elbow. Red plaque with scale.",
    "truncated_caption": "Psoriasis of the elbow.",
    "ontology_caption": "This is a skin photo diagnosed as inflammatory, psoriasis.",
    "visual_concept_caption": "This skin photo shows plaque, scale.",
    "subcaption_1": "Psoriasis of the elbow",
    "subcaption_2": "Red plaque with scale",
    "sub_caption_mask": "[1, 1, 0, 0, 0, 0, 0, 0]",
    "knowledge_masks": "[1, 1, 1]",
}


def jpeg(number: int, side: int = 16, orientation: int = 0) -> bytes:
    """Return a JPEG of one colour that the number chooses."""
    colour = tuple(np.random.default_rng(number).integers(0, 255, 3).tolist())
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (side, side // 2), colour).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> Path:
    """Write a tar of named members in a format of tarfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            add(tar, name, data)
    return path


def pair(key: str, number: int = 0, text: str | None = "plaque", meta: object = None) -> list[tuple[str, bytes]]:
    """Return the members of a pair in the order of img2dataset: photo, JSON, text; None for no such member."""
    members = [(f"{key}.jpg", jpeg(number))]
    members += [] if meta is None else [(f"{key}.json", json.dumps(meta).encode())]
    return members + ([] if text is None else [(f"{key}.txt", text.encode())])


def write_pairs(path: Path, count: int, first: int = 0) -> Path:
    """Write a tar of pairs with captions that tell their numbers."""
    numbers = range(first, first + count)
    return write_tar(path, [m for n in numbers for m in pair(f"{n:06}", n, f"plaque {n}")])
