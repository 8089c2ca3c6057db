"""How predictions change when photos are worse than those of the dataset: one table of stresses, for seg or cvqa.

    python tests/benchmarks/stress.py seg RUN/best.pt PREPARED [--split valid] [--limit N] [--tta none] [--only NAME]
    python tests/benchmarks/stress.py cvqa RUN/best.pt PREPARED ...

Every photo of the split is altered in memory, predicted as `magic predict` does it, and scored against the same gold;
the dataset and the user's cache are left alone. The table is Markdown: scores, and the paired difference to the
unaltered photos with its 95 % interval over encounters, in bold where this excludes 0.

Strengths are relative to the photo: blur to its shorter side, so that small and large photos look alike to a model;
JPEG and the resizing work on its pixels as they are, which matters less the larger the photo is. Brightness is a factor
of the stored values, contrast one of their distance from the photo's mean, both cut at 0 and 255; warm and cool are
+15 % of one and -15 % of the other of red and blue. A photo is turned on a canvas on which all of it fits, its corners
are filled with reflections, and the predicted mask is turned back: gold stays as it is. As the photo is smaller on that
canvas, "reflected margins" shows what the canvas of 30 degrees does without any turn. All photos, unaltered ones as
well, are decoded at full size: `magic predict` lets a large JPEG be decoded at a fraction where that is enough.
"""

import argparse
import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from magic_cli import tasks
from magic_cli.commands.predict import PredictOptions, predictions
from magic_cli.data.imaging.images import open_record
from magic_cli.data.imaging.probability_maps import Map
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.metrics import bootstrap
from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import EncounterSums, ImageRecord, PackedPhoto, Prediction, TaskScores
from magic_cli.tasks.seg.decide import MaskPrediction, full_map
from magic_cli.training.runtime import RuntimeOptions
from magic_cli.training.task import Task, of_class

SHOWN = {
    "seg": {"dice_meanofmax": "Dice, mean of max", "dice": "Dice, pooled"},
    "cvqa": {"accuracy_all": "accuracy"},
}

POOR = 0.5  # Dice of a photo below which its mask is of no use

RESAMPLES = 2000

Alter = Callable[[Image.Image], Image.Image]

Cell = TypeVar("Cell", bound=np.generic)


def _blurred(photo: Image.Image, share: float) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(share * min(photo.size)))


def _as_jpeg(photo: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _resized(photo: Image.Image, divisor: int) -> Image.Image:
    small = (max(1, photo.width // divisor), max(1, photo.height // divisor))
    return photo.resize(small, Image.Resampling.BOX).resize(photo.size, Image.Resampling.BICUBIC)


def _cast(photo: Image.Image, warmth: float) -> Image.Image:
    gains = np.array([1 + warmth, 1, 1 - warmth])
    return Image.fromarray((np.asarray(photo) * gains).round().clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Turn:
    """A photo turned counterclockwise on a canvas of the same centre; quarter turns need no canvas.

    `canvas` is the angle for which the canvas has room; below, angles are in degrees, 0 to 90.
    """

    degrees: int
    canvas: int

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of the canvas for a photo of this size."""
        if self.degrees == 90:
            return width, height
        down, across = _margins((height, width), (height, width), self.canvas)
        return height + 2 * down, width + 2 * across

    def there(self, photo: Image.Image) -> Image.Image:
        """Return the turned photo."""
        if self.degrees == 90:
            return photo.transpose(Image.Transpose.ROTATE_90)
        size = (photo.height, photo.width)
        shape = self.shape(*size)
        down, across = _margins(size, shape, self.degrees)  # so that nothing on the canvas lies outside
        wide = np.pad(np.asarray(photo), ((down, down), (across, across), (0, 0)), mode="symmetric")
        turned = Image.fromarray(wide).rotate(self.degrees, Image.Resampling.BICUBIC)
        return Image.fromarray(_middle(np.asarray(turned), shape))

    def back(self, canvas: Map, shape: tuple[int, int]) -> Map:
        """Return a map of the canvas, float32, on the photo of this (height, width)."""
        if self.degrees == 90:
            return np.ascontiguousarray(np.rot90(canvas, -1))
        turned = Image.fromarray(canvas).rotate(-self.degrees, Image.Resampling.BILINEAR)
        return _middle(np.asarray(turned, np.float32), shape)


def _margins(inner: tuple[int, int], outer: tuple[int, int], degrees: int) -> tuple[int, int]:
    """Return how many rows and columns a side `inner` lacks to cover `outer` after it was turned."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    needed = (outer[0] * cos + outer[1] * sin, outer[1] * cos + outer[0] * sin)
    down, across = (max(0, math.ceil((need - have) / 2)) for need, have in zip(needed, inner, strict=True))
    return down, across


def _middle(array: NDArray[Cell], shape: tuple[int, int]) -> NDArray[Cell]:
    top, left = ((have - want) // 2 for have, want in zip(array.shape, shape, strict=False))
    return np.ascontiguousarray(array[top : top + shape[0], left : left + shape[1]])


TURNS = {
    "turned by 10°": Turn(10, 10),
    "turned by 30°": Turn(30, 30),
    "reflected margins as for 30°": Turn(0, 30),
    "turned by 90°": Turn(90, 90),
}

STRESSES: dict[str, Alter] = {
    "none": lambda photo: photo,
    "brightness -30 %": lambda photo: ImageEnhance.Brightness(photo).enhance(0.7),
    "brightness +30 %": lambda photo: ImageEnhance.Brightness(photo).enhance(1.3),
    "contrast -40 %": lambda photo: ImageEnhance.Contrast(photo).enhance(0.6),
    "contrast +40 %": lambda photo: ImageEnhance.Contrast(photo).enhance(1.4),
    "blur, σ 0.5 % of the side": partial(_blurred, share=0.005),
    "blur, σ 1.5 % of the side": partial(_blurred, share=0.015),
    "JPEG, quality 30": partial(_as_jpeg, quality=30),
    "JPEG, quality 10": partial(_as_jpeg, quality=10),
    "resized to 1/4 and back": partial(_resized, divisor=4),
    **{name: turn.there for name, turn in TURNS.items()},
    "warm light": partial(_cast, warmth=0.15),
    "cool light": partial(_cast, warmth=-0.15),
}


@dataclass(frozen=True, slots=True)
class Altered(PackedPhoto):
    """A photo under a stress, altered whenever it is read."""

    record: ImageRecord
    stress: str

    @property
    def place(self) -> str:
        """The photo's path, and the stress."""
        return f"{self.record.path} ({self.stress})"

    @property
    def key(self) -> str:
        """The photo's own, and the stress."""
        return f"{self.record.content_key} {self.record.upright} {self.stress}"

    def read(self) -> bytes:
        """Return it as BMP, which loses nothing and takes no time; raises DataError."""
        buffer = io.BytesIO()
        STRESSES[self.stress](open_record(self.record)).save(buffer, "BMP")
        return buffer.getvalue()


def stressed(prepared: Prepared, split: str, stress: str) -> Prepared:
    """Return the dataset with the photos of a split under a stress; masks are left out."""
    images = dict(prepared.images)
    for record in prepared.images_of(split):
        if record.path is not None:
            size = (record.height, record.width)
            height, width = TURNS[stress].shape(*size) if stress in TURNS else size
            altered = replace(record, height=height, width=width, upright=False, packed=Altered(record, stress))
            images[record.image_id] = replace(altered, mask=None, annotators={})
    return replace(prepared, images=images)


def turned_back(found: Iterable[Prediction], prepared: Prepared, stress: str) -> Iterator[Prediction]:
    """Yield predictions for the photos as they lay before a stress; answers have no direction."""
    for prediction in found:
        if stress in TURNS and isinstance(prediction, MaskPrediction):
            shape = (prepared.images[prediction.id].height, prepared.images[prediction.id].width)
            own = TURNS[stress].back(full_map(prediction), shape)
            yield replace(prediction, probability=own, shape=shape)
        else:
            yield prediction


def scores(task: Task, ckpt: Path, prepared: Prepared, split: str, stress: str, options: PredictOptions) -> TaskScores:
    """Predict the split under a stress and score what has gold."""
    gold = task.gold(prepared, split)
    found = turned_back(predictions(task, [ckpt], stressed(prepared, split, stress), split, options), prepared, stress)
    labelled = [row for row in found if len(gold.only({row.id}))]
    return task.score(gold.only({row.id for row in labelled}), labelled)


def table(task: str, systems: Iterable[tuple[str, TaskScores]]) -> Iterator[str]:
    """Yield the lines of the Markdown table as systems come; the first one is what others are compared to."""
    shown, is_seg = SHOWN[task], task == "seg"
    poor = [f"photos below {POOR}"] if is_seg else []
    header = ["photos", *(cell for title in shown.values() for cell in (title, "difference")), *poor]
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    first: EncounterSums | None = None
    for name, system in systems:
        own = of_class(system.encounter_sums, EncounterSums)
        pairs = {} if first is None else bootstrap.paired(own, first, RESAMPLES)
        first, cells = first or own, [name]
        for score in shown:
            cells += [f"{system.scores[score]:.3f}", _cell(pairs[score]) if pairs else ""]
        if is_seg:
            cells.append(str(sum(row["dice_max"] < POOR for row in system.per_item if row["dice_max"] is not None)))
        yield f"| {' | '.join(cells)} |"
    encounters = 0 if first is None else len(first.ids)
    yield ""
    yield f"{encounters} encounters. {bootstrap.remark_on_few(encounters)}".rstrip()


def _cell(found: Difference) -> str:
    value = f"{found.difference:+.3f}"
    if math.isnan(found.low):
        return value
    value = f"**{value}**" if found.low > 0 or found.high < 0 else value
    return f"{value} ({found.low:+.3f} to {found.high:+.3f})"


def main(words: Sequence[str] | None = None) -> None:
    """Parse, predict under every stress, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=list(SHOWN))
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--limit", type=int, help="the first so many photos or encounters only")
    parser.add_argument(
        "--tta", choices=("none", "own"), default="own", help="one view and look, or those of the run's settings"
    )
    parser.add_argument("--only", nargs="+", default=list(STRESSES), choices=list(STRESSES), metavar="NAME")
    given = parser.parse_args(words)
    task, prepared = tasks.get(given.task), open_prepared(given.data)
    with tempfile.TemporaryDirectory() as cache:
        is_one = given.tta == "none"
        tta, zoom = False if is_one else None, 0.0 if is_one and task.name == "seg" else None
        options = PredictOptions(tta=tta, zoom=zoom, limit=given.limit, runtime=RuntimeOptions(cache_dir=cache))
        names = dict.fromkeys(["none", *given.only])
        systems = ((name, scores(task, given.ckpt, prepared, given.split, name, options)) for name in names)
        for line in table(task.name, systems):
            print(line, flush=True)


if __name__ == "__main__":
    main()
