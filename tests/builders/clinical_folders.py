"""Miniatures of datasets whose cases are rows of a CSV table beside small photos."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import RawCase, ReadOptions


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV table; its columns are those of the rows in order, and cells that a row does not have are empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names), restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_photos(folder: Path, *names: str, mode: str = "RGB") -> None:
    """Write a photo of 24 x 32 noise per name, each another one."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(path.name.encode()[-8:], "big")
        channels = len(mode)
        noise = np.random.default_rng(seed).integers(0, 256, (24, 32, channels), np.uint8)
        Image.fromarray(noise, mode=mode).save(path)


def read_cases(root: Path, source: str = "") -> tuple[dict[str, RawCase], IssueLog]:
    """Return the cases of a raw dataset by id, in order, and what was said about it."""
    raw = open_source(root, ReadOptions(), source)
    cases = {case.case.case_id: case for case in raw.cases}
    if source:
        assert raw.source == source
    return cases, raw.issues
