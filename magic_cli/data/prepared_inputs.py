"""The files of a prepared dataset that a run reads, with their SHA-256: what its run.json lists as inputs."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from magic_cli.data.prepared import CASES, IMAGES, MANIFEST, MEAN_MASK, QUESTIONS
from magic_cli.io.json_files import each_row
from magic_cli.io.run_record import Hashed, hashed


def table_files(prepared: Path) -> Hashed:
    """Yield the files of a prepared dataset except its masks; nothing if the folder is not one."""
    if (prepared / MANIFEST).is_file():
        yield from hashed(prepared / name for name in (MANIFEST, CASES, IMAGES, QUESTIONS, MEAN_MASK))


def image_files(
    prepared: Path, splits: Collection[str], masks: Literal["none", "annotators", "all"] = "none"
) -> Hashed:
    """Yield the photos of splits with their recorded SHA-256, and their annotators' masks or also the merged ones."""
    root = prepared.resolve()
    for row in each_row(prepared / IMAGES):
        if row["split"] not in splits:
            continue
        photo = Path(os.path.normpath(root / (row["path"] or ".")))
        if photo.is_file():
            yield photo, row["sha256"]
        names = [row["mask"]] if masks == "all" and row["mask"] else []
        names += [] if masks == "none" else row["annotators"].values()
        yield from hashed(Path(os.path.normpath(root / name)) for name in names)
