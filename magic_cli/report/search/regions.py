"""Region masks as pictures: where a model looked, k maps over one photo side by side in one picture.

One picture for all maps of a photo: a page shows one tile of it at a time, without a script.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.report import page
from magic_cli.report.pairs.heat import heat

MOST_REGIONS = 12  # that a page shows

TILE = 184  # pixels of the longer side of a tile

Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Strip:
    """The tiles of a photo: a data URI, and the size of one tile in pixels."""

    source: str
    width: int
    height: int
    tiles: int


def ranges(maps: Iterable[Maps | None]) -> tuple[tuple[float, float], ...]:
    """Return the lowest and the highest value of each region over all photos: the ends of its colours.

    Args:
        maps: of each photo (k, h, w), or None; those with fewer regions count for what they have.
    """
    given = [_finite(each) for each in maps if each is not None and each.ndim == 3]
    most = min(MOST_REGIONS, max((len(each) for each in given), default=0))
    columns = ([each[number] for each in given if len(each) > number] for number in range(most))
    return tuple((min(float(m.min()) for m in column), max(float(m.max()) for m in column)) for column in columns)


def strip(photo: Image.Image, maps: Maps, limits: Sequence[tuple[float, float]], most: int) -> Strip:
    """Return the tiles of a photo.

    Args:
        photo: of any mode and size.
        maps: float32 (k, h, w), which cover the whole photo evenly.
        limits: the ends of the colours of each region; at most so many are drawn.
        most: maximal bytes of the picture.
    """
    small = photo.convert("RGB")
    small.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    shown = [heat(small, each, *ends) for each, ends in zip(_finite(maps), limits, strict=False)]
    width, height = small.size
    sheet = Image.new("RGB", (width * len(shown), height))
    for number, tile in enumerate(shown):
        sheet.paste(tile, (number * width, 0))
    return Strip(page.data_uri(sheet, max(sheet.size), most), width, height, len(shown))


def _finite(maps: Maps) -> Maps:
    return np.nan_to_num(np.asarray(maps, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
