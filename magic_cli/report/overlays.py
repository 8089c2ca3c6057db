"""Overlays: contours of masks on a photo, each with its own colour and line style.

Contours follow the edges between pixels at the thumbnail's resolution, are smoothed a little, and have a dark outline,
so that they are visible on any skin. The colours resemble those of Okabe and Ito, which people with any colour vision
can distinguish.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from magic_cli.data.imaging.images import open_photo
from magic_cli.errors import DataError

GREY = (200, 200, 200)

_FINE = 2  # drawn at this many times the size, then shrunk: smooth lines without a graphics library

_SAME_PROPORTIONS = 0.02


@dataclass(frozen=True, slots=True)
class Line:
    """How a contour is drawn: colour (#rrggbb), width and dashes (drawn, left out, ...) in thumbnail pixels."""

    colour: str
    width: float
    dashes: tuple[float, ...] = ()


SYSTEMS = (Line("#f0e442", 3.4), Line("#ffffff", 2.6), Line("#ff7f7f", 2.6), Line("#c7a8ff", 2.6))

PREDICTION = SYSTEMS[0]

ANNOTATORS = (
    Line("#56b4e9", 2.2, (9, 4)),
    Line("#ff9d3a", 2.6, (4, 4.5)),
    Line("#3ee0ae", 2.2, (10, 4, 3.5, 4)),
    Line("#f09fd0", 1.6),
)

_HALO = "#101418"

_VEIL, _OPACITY = "#1f9bff", 0.2  # no skin is blue: it shows on all tones, and the texture of the lesion through it

FULL = 1280  # pixels of the longer side of an overlay as a file

_FOR_LINES = 560  # pixels of the longer side for which the widths of lines are made

_THINNEST, _THICKEST = 0.6, 1.2  # how much these widths change at most: a line must not hide the border of a lesion


def line_of(number: int) -> Line:
    """Return the line of annotator `number`, 0-based; from the fifth on they start again."""
    return ANNOTATORS[number % len(ANNOTATORS)]


def overlay(
    photo: str | Path | None,
    gold: Sequence[NDArray[Any]],
    prediction: NDArray[Any] | None,
    side: int = 480,
    upright: bool | None = None,
) -> Image.Image:
    """Return a photo with the contours of its masks, RGB, no side above `side` pixels.

    Args:
        photo: path. The background is plain grey if it is None, cannot be read, or has other proportions than the
            masks.
        gold: masks of the annotators in their order, (H, W) uint8 {0, 1} or bool, of one size.
        prediction: the system's mask; it is not drawn if its size differs from that of the annotators' masks.
        side: longer side of the picture; smaller masks are not enlarged, unless to half of it.
        upright: apply the photo's EXIF orientation (ImageRecord.upright); None: only if it does not fit as stored.

    Raises:
        ValueError: there is no mask at all.
    """
    masks = list(gold) if gold else [prediction] if prediction is not None else []
    if not masks:
        raise ValueError("no mask to lay on the photo")
    height, width = masks[0].shape
    size = picture_size((height, width), side)
    picture = photo_at(photo, size, upright) or Image.new("RGB", (size[1], size[0]), GREY)
    lines = [(shrink(mask, size), line_of(number)) for number, mask in enumerate(gold)]
    if prediction is not None and prediction.shape == (height, width):
        lines.insert(0, (shrink(prediction, size), PREDICTION))  # below: it is the thickest
    layer = Image.new("RGBA", (size[1] * _FINE, size[0] * _FINE))
    for mask, line in lines:
        _draw(layer, mask, line)
    layer = layer.resize((size[1], size[0]), Image.Resampling.BOX)
    picture.paste(layer, mask=layer.getchannel("A"))
    return picture


def filled_overlay(photo: str | Path | None, mask: NDArray[Any], upright: bool, side: int = FULL) -> Image.Image:
    """Return a photo with a predicted mask as a half-transparent colour and a contour, RGB, no side above `side`.

    Args:
        photo: path; plain grey if it is None or cannot be read.
        mask: (H, W) uint8 {0, 1} or bool, of the photo's size.
        upright: apply the photo's EXIF orientation (ImageRecord.upright).
        side: longer side of the picture in pixels; smaller photos are not enlarged.
    """
    height, width = mask.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture = photo_at(photo, size, upright) or Image.new("RGB", (size[1], size[0]), GREY)
    small = shrink(mask, size)
    veil = Image.new("RGB", picture.size, _VEIL)
    picture.paste(veil, mask=Image.fromarray(small * np.uint8(round(255 * _OPACITY))))
    thick = min(max(_THINNEST, max(size) / _FOR_LINES), _THICKEST)
    layer = Image.new("RGBA", (size[1] * _FINE, size[0] * _FINE))
    _draw(layer, small, Line(PREDICTION.colour, PREDICTION.width * thick), thick)
    layer = layer.resize(picture.size, Image.Resampling.BOX)
    picture.paste(layer, mask=layer.getchannel("A"))
    return picture


def picture_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the (height, width) of a picture for masks of `size`: at most `side`, and at least half of it."""
    longest = max(size)
    scale = max(min(longest, side), side / 2) / longest  # on a tiny picture, lines would hide everything
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrink(mask: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask at `size` (height, width), foreground where at least half is; a tiny lesion does not vanish."""
    if mask.shape == size:
        return np.asarray(mask, bool)
    grey = Image.fromarray(np.asarray(mask, bool).astype(np.uint8) * 255)
    share = np.asarray(grey.resize((size[1], size[0]), Image.Resampling.BOX))
    small = share >= 128
    return small if small.any() else share > 0


def photo_at(path: str | Path | None, size: tuple[int, int], upright: bool | None = None) -> Image.Image | None:
    """Return a photo at the `size` (height, width) of its masks, RGB; None where the file is not such a photo.

    Args:
        path: of the photo; None: there is none.
        size: of the picture. A photo of other proportions is not that of the masks.
        upright: apply the EXIF orientation; None: the first of as stored and turned that has these proportions.
    """
    for turned in (False, True) if upright is None else (upright,):
        try:
            if path is None:
                break
            picture = open_photo(path, turned, at_least=max(size))
        except DataError:
            break
        if abs(picture.width / picture.height * size[0] / size[1] - 1) < _SAME_PROPORTIONS:
            return picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return None


def _draw(layer: Image.Image, mask: NDArray[np.bool_], line: Line, scale: float = 1.0) -> None:
    pen = ImageDraw.Draw(layer)
    paths = [smooth(loop) * _FINE for loop in contours(mask)]
    pieces = [piece for path in paths for piece in _dashed(path, tuple(d * _FINE for d in line.dashes))]
    for colour, width in ((_HALO, line.width + 1.6 * scale), (line.colour, line.width)):
        for piece in pieces:
            pen.line([tuple(point) for point in piece.tolist()], colour, round(width * _FINE), "curve")


def contours(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """Yield the closed edges of a mask's foreground as (n, 2) corners (x, y), first and last the same.

    Corners are those of pixels: (0, 0) is the upper left of the mask. The foreground lies to the right of the
    direction of travel, around holes too; pixels that touch only at a corner have separate edges.
    """
    inside = np.pad(np.asarray(mask, bool), 1)
    centre = inside[1:-1, 1:-1]
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # per side of a pixel: the neighbour there, and the corners from and to, as (x, y) offsets
    for dy, dx, start, end in (
        (-1, 0, (0, 0), (1, 0)),
        (0, 1, (1, 0), (1, 1)),
        (1, 0, (1, 1), (0, 1)),
        (0, -1, (0, 1), (0, 0)),
    ):
        rows, columns = inside.shape
        neighbour = inside[1 + dy : rows - 1 + dy, 1 + dx : columns - 1 + dx]
        ys, xs = np.nonzero(centre & ~neighbour)
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
            edges.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    while edges:
        first = corner = next(iter(edges))
        loop, step = [first], (0, 0)
        while True:
            ends = edges[corner]
            # where two edges leave, the right turn stays with this pixel: y points down
            end = next((e for e in ends if _turns_right(step, corner, e)), ends[0])
            ends.remove(end)
            if not ends:
                del edges[corner]
            step, corner = (end[0] - corner[0], end[1] - corner[1]), end
            loop.append(end)
            if end == first:
                break
        yield np.array(loop, float)


def _turns_right(step: tuple[int, int], corner: tuple[int, int], end: tuple[int, int]) -> bool:
    return step[0] * (end[1] - corner[1]) - step[1] * (end[0] - corner[0]) > 0


def smooth(loop: NDArray[np.float64], reach: int = 3) -> NDArray[np.float64]:
    """Return a closed path without its stairs: the mean of 2 * reach + 1 corners; short loops stay as they are."""
    if len(loop) < 8 * reach:
        return loop
    ring = loop[:-1]
    mean = np.mean([np.roll(ring, shift, 0) for shift in range(-reach, reach + 1)], 0)
    return np.concatenate([mean, mean[:1]])


def _dashed(path: NDArray[np.float64], dashes: tuple[float, ...]) -> Iterator[NDArray[np.float64]]:
    """Yield the drawn pieces of a path; all of it where there are no dashes or it is shorter than two periods."""
    steps = np.hypot(*np.diff(path, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    if not dashes or length[-1] < 2 * sum(dashes):
        yield path
        return
    ends = np.cumsum(np.resize(dashes, int(length[-1] / sum(dashes) + 1) * len(dashes)))
    starts = np.concatenate([[0.0], ends[:-1]])
    for start, end in list(zip(starts, ends, strict=True))[::2]:
        inner = path[(length > start) & (length < end)]
        tips = [[np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])] for at in (start, end)]
        if start < length[-1]:
            yield np.concatenate([tips[:1], inner, tips[1:]])
