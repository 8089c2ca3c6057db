"""Numbers of prepare.json: counts per split, the published ones, agreement, and the short text for the terminal."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from magic_cli.records import SPLITS, Case, ImageRecord

# Encounters, photos, annotators' masks and encounters with closed answers.
# Source: examples/challenge-data.md, "Published counts".
PUBLISHED: Mapping[str, Mapping[str, int]] = {
    "train": {"cases": 842, "images": 2474, "masks": 7448, "answered": 300},
    "valid": {"cases": 56, "images": 157, "masks": 472, "answered": 56},
    "test": {"cases": 100, "images": 314, "masks": 944},
}

BINS = 20  # of the histogram of agreement, over 0..1

LOWEST = 30  # photos that are named


def count(cases: Iterable[Case], images: Iterable[ImageRecord]) -> dict[str, dict[str, Any]]:
    """Return the counts of each split: cases, photos listed and usable, masks, masks per photo, answered."""
    counts: dict[str, dict[str, Any]] = {
        split: {"cases": 0, "listed": 0, "images": 0, "masks": 0, "annotators": Counter(), "answered": 0}
        for split in SPLITS
    }
    for case in cases:
        row = counts[case.split]
        row["cases"] += 1
        row["listed"] += len(case.image_ids)
        row["answered"] += case.answers is not None
    for image in images:
        row = counts[image.split]
        row["images"] += 1
        row["masks"] += len(image.annotators)
        row["annotators"][str(len(image.annotators))] += 1
    for row in counts.values():
        row["annotators"] = dict(sorted(row["annotators"].items()))
    return counts


def against_published(counts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the published counts and `difference`, found minus published; None for other data.

    Data is the challenge's when every split that it has is of the published number of cases.
    """
    splits = [split for split in SPLITS if counts[split]["cases"]]
    if not splits or any(counts[split]["cases"] != PUBLISHED[split]["cases"] for split in splits):
        return None
    difference = {
        split: {key: counts[split][key] - number for key, number in PUBLISHED[split].items()} for split in splits
    }
    return {"counts": {split: dict(PUBLISHED[split]) for split in splits}, "difference": difference}


def agreement(dices: Mapping[str, float]) -> dict[str, Any] | None:
    """Return how well annotators agree: mean, median, histogram of 20 bins over 0..1, the 30 photos lowest in it.

    `dices` maps the photos of two or more annotators to the mean Dice over pairs of them. None without any.
    """
    if not dices:
        return None
    values = list(dices.values())
    lowest = sorted(dices.items(), key=lambda item: (item[1], item[0]))[:LOWEST]
    return {
        "images": len(values),
        "mean_dice": round(float(np.mean(values)), 6),
        "median_dice": round(float(np.median(values)), 6),
        "histogram": [int(number) for number in np.histogram(values, BINS, (0, 1))[0]],
        "lowest": [{"image": image_id, "dice": round(value, 6)} for image_id, value in lowest],
    }


def digest(lines: Iterable[str]) -> dict[str, Any]:
    """Return how many files there are, and one SHA-256 over their lines "NAME SHA256", sorted."""
    ordered, whole = sorted(lines), hashlib.sha256()
    for number, line in enumerate(ordered):
        whole.update(f"\n{line}".encode() if number else line.encode())
    return {"count": len(ordered), "sha256": whole.hexdigest()}
