"""Search results over drawn photos: cases of four classes, one of them rare, with regions and attributes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from magic_cli.data.sources.synthetic.cases import KINDS
from magic_cli.data.sources.synthetic.drawing import draw_photo
from magic_cli.report.search.result import SearchHit, SearchResult, agreement

CLASSES = ("melanoma", "nevus", "seborrheic keratosis", "nevus", "nevus", "dermatofibroma")
STATED = {"pigment_network": "atypical", "blue_whitish_veil": "present", "streaks": "irregular", "elevation": "flat"}
PARTS = ("global_l", "local_l", "global_m", "local_m", "global_h", "local_h")
SIZE = (150, 200)


def make_result(folder: Path, hits: int = 12, k: int = 8, size: tuple[int, int] = SIZE) -> SearchResult:
    """Draw photos into `folder` and return a result: the first hit is the query's own photo, the third its patient."""
    rng = np.random.default_rng(5)
    paths = []
    for number in range(hits + 2):
        paths.append(folder / f"photo-{number}.jpg")
        look = KINDS[number % len(KINDS)].look
        Image.fromarray(draw_photo(rng, look, number % 4, False, size).pixels).save(paths[-1], quality=88)
    cases = [_hit(rng, number, paths[number], k) for number in range(hits + 1)]
    nearest: dict[str, SearchHit] = {}
    for hit in cases:
        if not hit.is_known:
            nearest.setdefault(hit.fields["diagnosis"], hit)
    rare = _hit(rng, hits, paths[-1], k)
    nearest["Merkel cell carcinoma"] = replace(
        rare, rank=143, score=0.31, fields={"diagnosis": "Merkel cell carcinoma"}
    )
    return SearchResult(
        query_image=paths[0],
        text="A male patient with a flat lesion on the back. Dermoscopy: atypical pigment network, irregular streaks.",
        attributes=STATED,
        quality=("The photo is not sharp.",),
        query_regions=_regions(rng, k),
        hits=tuple(cases[:hits]),
        nearest=nearest,
        prior={
            "nevus": 575,
            "melanoma": 252,
            "seborrheic keratosis": 45,
            "dermatofibroma": 20,
            "Merkel cell carcinoma": 2,
        },
        low_score=0.42,
        provenance={
            "model": "sha256 3f1c9a4b77d2",
            "index": "894 cases, made 2026-11-28, version 3",
            "licence": "CC0-1.0",
            "citation": "https://doi.org/10.1109/ISBI.2018.8363547",
            "beta and k": f"0.6, {k} regions",
            "command": "magic search --image /home/someone/secret.jpg --text ... -k 12 --html page.html",
        },
    )


def _hit(rng: np.random.Generator, number: int, path: Path, k: int) -> SearchHit:
    own = {name: value for name, value in STATED.items() if rng.random() < 0.7}
    fields = {"diagnosis": CLASSES[number % len(CLASSES)], "site": "back", "sex": ("male", "female")[number % 2]}
    fields |= {"age": str(35 + 3 * number), "patient": f"PATIENT-{number}", **own}
    fields |= [{"biopsy": "yes"}, {"biopsy": "no"}, {}][number % 3]
    if number % 2 and "streaks" in fields:
        fields["streaks"] = "regular"
    return SearchHit(
        rank=number + 1,
        id=f"ISIC_{number:07d}",
        score=0.97 - 0.04 * number,
        parts={name: round(float(0.95 - 0.05 * number + rng.uniform(-0.05, 0.04)), 3) for name in PARTS},
        fields=fields,
        agreement=agreement(STATED, fields),
        thumb=path,
        regions=_regions(rng, k),
        is_duplicate=number == 0,
        same_group=number == 2,
    )


def _regions(rng: np.random.Generator, k: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    y, x = np.mgrid[0:7, 0:7] / 6
    centres, widths = rng.uniform(0, 1, (k, 2)), rng.uniform(0.05, 0.2, k)
    maps = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / w) for (cy, cx), w in zip(centres, widths, strict=True)]
    return np.stack(maps).astype(np.float32) if k else np.zeros((0, 7, 7), np.float32)
