"""Raw folders of other datasets in miniature: tables as text, drawn photos, and masks of 0 and 255."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from challenge_folders import draw_lesion, draw_photo, save_photo
from PIL import Image

from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions

SIZE = (24, 32)


def make_folder(root: Path, tables: Mapping[str, str], photos: Iterable[str] = (), masks: Iterable[str] = ()) -> Path:
    """Write tables, photos, each another, and masks, all by their path below `root`; return `root`."""
    for name, text in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for number, name in enumerate(photos):
        save_photo(root / name, draw_photo(SIZE, number))
    for name in masks:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_lesion(SIZE) * np.uint8(255)).save(path)
    return root


def read_folder(root: Path, source: str = "") -> tuple[RawDataset, dict[str, RawCase]]:
    """Open a folder by recognizing it, or as `source`, and return the dataset and its cases by id."""
    dataset = open_source(root, ReadOptions(), source)
    cases = list(dataset.cases)
    assert len({raw.case.case_id for raw in cases}) == len(cases)
    return dataset, {raw.case.case_id: raw for raw in cases}
