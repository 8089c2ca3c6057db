"""How time and memory of `magic prepare` grow with the rows of a table: Derm1M-like CSV of any size.

    python tests/benchmarks/stream.py [--rows 41300 413000] [--photos shared own] [--work DIR]

The table has the columns of Derm1M v2 with captions, labels, concepts and sites of a few invented words, all drawn by
seeded code; one row in fifty names a photo of VQA/, one in a thousand one that is not there. `--photos`:

    shared   300 small JPEGs, each named by many rows
    links    300 small JPEGs, each row with its own name: a hard link to one of them
    own      a JPEG of its own for each row, of other bytes and other pixels

Each run is a process of its own. Printed: wall and CPU seconds, rows a second, the highest memory of the process and
its children together, and how many bytes each further row takes between the sizes.
"""

import argparse
import csv
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from load import Cost, run
from PIL import Image

PHOTOS, PER_FOLDER, HEIGHT, WIDTH = 300, 1000, 24, 32

PATHS = (
    "inflammatory, non-infectious, psoriasis",
    "inflammatory, infectious, tinea corporis",
    "neoplastic, malignant, melanoma",
    "neoplastic, benign, seborrheic keratosis",
    "hereditary, ichthyosis",
    "No definitive diagnosis",
)

CONCEPTS = ("plaque", "scale", "erythema", "papule", "nodule", "crust", "ulcer", "macule", "No visual concepts")

SITES = ("arm", "leg", "trunk", "face", "scalp", "hand", "foot", "No body location information")

WORDS = "the skin of this patient shows a red round itchy area that grew slowly within some weeks and bleeds at times"

COLUMNS = (
    *("filename", "caption", "truncated_caption", "source", "source_type", "disease_label"),
    *("hierarchical_disease_label", "skin_concept", "body_location", "symptoms", "age", "gender"),
)

ROUND = 65536


def jpeg(rng: np.random.Generator) -> bytes:
    """Return a small JPEG of coarse noise, unlike all others."""
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def name_of(row: int, photos: str) -> str:
    """Return the path that a row names; every row its own unless photos are shared."""
    if row % 50 == 49:
        return f"VQA/{row}.jpg"
    if row % 1000 == 500:
        return f"lost/{row}.jpg"
    return f"edu/{row % PHOTOS}.jpg" if photos == "shared" else f"edu/{row // PER_FOLDER:03}/{row}.jpg"


def draw_photos(root: Path, rows: int, photos: str) -> None:
    """Write the photos that the rows name, less those that are to be missing."""
    rng = np.random.default_rng(7)
    pool = [jpeg(rng) for _ in range(PHOTOS)]
    (root / "edu").mkdir(parents=True)
    for number, data in enumerate(pool):
        (root / f"edu/{number}.jpg").write_bytes(data)
    for row in range(0 if photos == "shared" else rows):
        name = name_of(row, photos)
        if not name.startswith("edu/"):
            continue
        path = root / name
        if row % PER_FOLDER == 0:
            path.parent.mkdir()
        if photos == "links":
            os.link(root / f"edu/{row % PHOTOS}.jpg", path)
        else:
            path.write_bytes(jpeg(rng))


def table_rows(rows: int, photos: str) -> Iterator[list[str]]:
    """Yield the rows of the table."""
    rng = np.random.default_rng(8)
    words, numbers = WORDS.split(), rng.integers(0, ROUND, (rows, 8))
    for row, dice in enumerate(numbers.tolist()):
        path, concept = PATHS[dice[0] % len(PATHS)], CONCEPTS[dice[1] % len(CONCEPTS)]
        turned = words[dice[3] % len(words) :] + words[: dice[4] % len(words)]
        label = path.rpartition(", ")[2]
        caption = f"{' '.join(turned)}, {concept} {row}. {' '.join(turned[::-1])}. It is {label}."
        age = f"{dice[5] % 90} years old" if dice[5] % 3 else "No age information"
        site, gender = SITES[dice[2] % len(SITES)], ("male", "female", "No gender information")[dice[6] % 3]
        head = [name_of(row, photos), caption, caption.partition(".")[0], "edu", "knowledge", label]
        yield [*head, path, concept, site, "itch", age, gender]


def draw(root: Path, rows: int, photos: str) -> None:
    """Write a folder as people have Derm1M: a table to train on, a hundredth as many rows to validate, photos."""
    draw_photos(root, rows, photos)
    written = table_rows(rows, photos)
    for name, number in (("pretrain", rows - rows // 100), ("validation", rows // 100)):
        with (root / f"Derm1M_v2_{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(next(written) for _ in range(number))


def measure(work: Path, rows: int, photos: str, words: list[str]) -> Cost:
    """Draw the data, unless it is there, prepare it, and return what that took."""
    raw = work / f"{photos}-{rows}"
    if not raw.is_dir():
        shutil.rmtree(raw.with_suffix(".part"), ignore_errors=True)
        draw(raw.with_suffix(".part"), rows, photos)
        raw.with_suffix(".part").rename(raw)
    here = Path(__file__).resolve()
    environment = dict(os.environ) | {"PYTHONPATH": str(here.parents[2]), "HF_HUB_OFFLINE": "1"}
    shutil.rmtree(work / "prepared", ignore_errors=True)
    command = [sys.executable, "-m", "magic_cli", "prepare", "--data", str(raw), "--out", str(work / "prepared")]
    cost = run([*command, *words], work, environment, work / "last.log")
    speed = f"{rows / cost.wall:,.0f} rows a second"
    print(f"{photos}, {rows:,} rows: {cost.wall:.1f} s, CPU {cost.cpu:.1f} s, {speed}, {cost.peak:.1f} MiB", flush=True)
    return cost


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[41_300, 413_000])
    parser.add_argument("--photos", nargs="+", choices=("shared", "links", "own"), default=["shared", "links"])
    parser.add_argument("--work", type=Path, help="folder to keep data and results in; a temporary one otherwise")
    options, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for photos in options.photos:
            peaks = {rows: measure(work, rows, photos, words).peak for rows in sorted(options.rows)}
            first, last = min(peaks), max(peaks)
            if last > first:
                each = (peaks[last] - peaks[first]) * 2**20 / (last - first)
                print(f"{photos}: {each:.0f} bytes a further row", flush=True)


if __name__ == "__main__":
    main()
