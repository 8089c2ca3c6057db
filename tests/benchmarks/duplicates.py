"""Time of finding duplicates: python tests/benchmarks/duplicates.py [--photos 20000] [--work FOLDER]

Draws JPEG photos of 512 x 512 (random light, texture and a lesion, tests/builders/drawn_copies.py, drawn at 128 pixels
and enlarged, with noise); one in ten is a copy of another one: another noise, half the size, cropped, or brighter. Then
times what `magic prepare` does: reading and checking all photos with their fingerprints, on as many threads as it uses,
and finding the duplicates. Prints how many of the copies are found, and how many photos are taken for a copy of another
one. The photos are drawn on all cores before the clock starts.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builders"))

from drawn_copies import COPIES, draw_skin

from magic_cli.data.imaging.images import check_photo
from magic_cli.data.preparation.duplicates import close_pairs, find_duplicates

KINDS = ("half the size", "cropped by 2 %", "brighter", "noise")


def original(number: int) -> int:
    """Return the number of the photo that a photo is a copy of; its own for most."""
    return number - 9 if number % 10 == 9 else number


def draw(task: tuple[Path, int]) -> None:
    """Write a photo."""
    folder, number = task
    source = original(number)
    small = draw_skin(source, 128).resize((512, 512), Image.Resampling.BICUBIC)
    photo = Image.blend(small, Image.effect_noise((512, 512), 60).convert("RGB"), 0.1)
    kind = KINDS[number // 10 % len(KINDS)]
    if source != number and kind != "noise":
        photo = COPIES[kind](photo)
    photo.save(folder / f"{number}.jpg", quality=88)


def main() -> None:
    """Draw, read, find, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        with ProcessPoolExecutor() as pool:
            list(pool.map(draw, ((work, number) for number in range(options.photos)), chunksize=50))
        measure(work, options.photos)
    finally:
        shutil.rmtree(work)


def measure(work: Path, number: int) -> None:
    """Time reading and finding, and compare what is found with how the photos were drawn."""
    start = time.perf_counter()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        paths = [str(work / f"{n}.jpg") for n in range(number)]
        checked = list(pool.map(lambda path: check_photo(path, path), paths))
    read = time.perf_counter() - start
    digests = np.array([list(bytes.fromhex(photo.sha256)) for photo in checked], np.uint8)
    hashes = np.array([photo.fingerprint.hash or 0 for photo in checked], np.uint64)
    known = np.array([photo.fingerprint.hash is not None for photo in checked])
    thumbnails = np.array([list(photo.fingerprint.thumbnail) for photo in checked], np.uint8)
    start = time.perf_counter()
    found = find_duplicates(digests, hashes, known, thumbnails)
    search = time.perf_counter() - start
    candidates = sum(len(pairs) for pairs in close_pairs(hashes[known]))
    copies = [n for n in range(number) if original(n) != n]
    right = sum(int(found.cluster[n] == original(n)) for n in copies)
    wrong = sum(int(found.cluster[n] not in (n, original(n))) for n in range(number))
    print(f"{number:,} photos on {os.cpu_count()} cores: read {read:.1f} s, duplicates {search:.1f} s")
    print(f"copies found: {right:,} of {len(copies):,}; photos taken for a copy of another one: {wrong:,}")
    print(f"pairs of similar hashes: {candidates:,}")


if __name__ == "__main__":
    main()
