"""A training sample, photo and mask as the model gets them, from the pixel store and decoded anew, in turn.

Drawn photos of 5 megapixels (JPEG, quality 90) with their merged masks, as `magic prepare` writes them; each photo is
read ROUNDS times, CPU time on one thread. Then features of a photo and of a text as the cache reads them, whole and
with their checksum compared, and mapped into memory as safetensors does, unchecked.

Run: python tests/benchmarks/stored_pixels.py [PHOTOS]
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from magic_cli.config import resolve
from magic_cli.data.imaging.masks import write_mask
from magic_cli.io.files import sha256
from magic_cli.models.cache import pixels
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.cache.store import touch
from magic_cli.records import ImageRecord
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.model import ROOM, SegModel

HEIGHT, WIDTH, ROUNDS = 1944, 2592, 5


def drawn(root: Path, number: int) -> ImageRecord:
    """Draw a photo of skin with an uneven lesion, with the fine grain that makes a camera's JPEG expensive."""
    random = np.random.default_rng(number)
    grain = random.normal(0, 9, (HEIGHT, WIDTH, 3))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    edge = 300 + 80 * np.sin(5 * np.arctan2(y - 900, x - 1300)) + 20 * random.standard_normal()
    mask = (np.hypot(y - 900, x - 1300) < edge).astype(np.uint8)
    photo = np.array([205, 165, 140]) - mask[..., None] * np.array([60, 70, 60]) + grain
    path, lesion = root / f"{number}.jpg", root / f"{number}.tiff"
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    write_mask(lesion, mask)
    return ImageRecord(f"IMG_{number}", "E", "train", str(path), HEIGHT, WIDTH, mask=str(lesion), sha256=sha256(path))


def timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def compare(count: int) -> None:
    """Print, per size, milliseconds of reading a photo with its mask anew and from the store."""
    torch.set_num_threads(1)
    pixels._memo.free = 0  # else what is decoded without a folder would be kept in memory
    with tempfile.TemporaryDirectory() as folder:
        records = [drawn(Path(folder), number) for number in range(count)]
        model = SegModel(resolve(SegConfig, "tiny", ["image_size=256", "crop=0.5"]))
        cache = FeatureCache(Path(folder) / "cache", "float16")
        for size in (256, 352):
            object.__setattr__(model.config, "image_size", size)
            model.cache = cache
            first = [timed(functools.partial(model._pair, record, ROOM)) for record in records]
            pairs = []
            for record in records * ROUNDS:
                read = functools.partial(model._pair, record, ROOM)
                model.cache = None
                anew, expected = timed(read), read()
                model.cache = cache
                pairs.append((anew, timed(read)))
                assert all(torch.equal(a, b) for a, b in zip(expected, read(), strict=True))
            anew, cached = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            figures = f"anew {anew:.1f} ms, stored at first {statistics.median(first):.1f} ms, then {cached:.2f} ms"
            print(f"{size} px ({round(ROOM * size)} kept): {figures}, ratio {ratio:.0f}")


def compare_features(count: int) -> None:
    """Print milliseconds of reading an item's features, mapped and unchecked, and from the cache."""
    photo = {"p0": (24, 64, 64), "p1": (40, 32, 32), "p2": (112, 16, 16), "p3": (320, 8, 8)}
    for label, shapes in (("photo of 256 px", photo), ("text", {"text": (384,)})):
        with tempfile.TemporaryDirectory() as folder:
            cache, keys = FeatureCache(Path(folder), "float16"), [f"{number:064x}" for number in range(count)]
            for key in keys:
                cache.write(key, {name: torch.randn(shape) for name, shape in shapes.items()})
            rounds = []
            for _ in range(ROUNDS):
                mapped = timed(functools.partial(_read_mapped, Path(folder)))
                rounds.append((mapped, timed(lambda cache=cache, keys=keys: [cache.read(key) for key in keys])))
            mapped, checked = (statistics.median(column) / count for column in zip(*rounds, strict=True))
            ratio = statistics.median(b / a for a, b in rounds)
            print(f"features of a {label}: mapped {mapped:.2f} ms, checked {checked:.2f} ms, ratio {ratio:.2f}")


def _read_mapped(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        touch(path)
        assert [tensor.float() for tensor in load_file(path).values()]


def main(words: Sequence[str] | None = None) -> None:
    """Parse, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=int, nargs="?", default=12)
    photos = parser.parse_args(words).photos
    compare(photos)
    compare_features(20 * photos)


if __name__ == "__main__":
    main()
