"""The files of a prepared dataset that a run reads, with their SHA-256: what its run.json lists as inputs."""

import os
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from magic_cli.data.prepared import IMAGES, MANIFEST, TABLES
from magic_cli.io.json_files import each_row
from magic_cli.io.run_record import Hashed, hashed

MOST_PHOTOS = 20_000  # that a record lists; of more, images.jsonl has the SHA-256, and stands for them


def table_files(prepared: Path) -> Hashed:
    """Yield the files of a prepared dataset except its masks; nothing if the folder is not one."""
    if (prepared / MANIFEST).is_file():
        yield from hashed(prepared / name for name in TABLES)


def image_files(
    prepared: Path,
    splits: Collection[str],
    masks: Literal["none", "annotators", "all"] = "none",
    known: Mapping[str, str] | None = None,
) -> Hashed:
    """Yield the photos of splits with their recorded SHA-256, and their annotators' masks or also the merged ones.

    `known` has the SHA-256 of masks that were read already, by their path. Of a dataset with more than 20,000 photos
    nothing is yielded: its tables (`table_files`, or as outputs of `prepare`) are recorded anyway.
    """
    root = prepared.resolve()
    with (prepared / IMAGES).open("rb") as file:
        if sum(1 for _ in islice(file, MOST_PHOTOS + 1)) > MOST_PHOTOS:
            return
    for row in each_row(prepared / IMAGES):
        if row["split"] not in splits:
            continue
        photo = Path(os.path.normpath(root / (row["path"] or ".")))
        if photo.is_file():
            yield photo, row["sha256"]
        names = [row["mask"]] if masks == "all" and row["mask"] else []
        names += [] if masks == "none" else row["annotators"].values()
        for path in (os.path.normpath(root / name) for name in names):
            digest = known.get(path) if known else None
            yield from [(Path(path), digest)] if digest else hashed([Path(path)])
