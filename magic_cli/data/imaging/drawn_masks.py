"""Masks that annotation tools store as outlines or run lengths instead of pixels, and how they are drawn.

A pixel at column x and row y covers [x, x + 1) x [y, y + 1), as in COCO. It is marked if its centre is inside an
outline or on it; corners count to a quarter of a pixel. A square from 0 to 10 marks 10 x 10 pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from magic_cli.errors import DataError, redact
from magic_cli.records import Mask

Ring = NDArray[np.float64]

MOST_POINTS = 100_000  # of one outline: Pillow looks at all of them in every row

_FINE = 4  # canvas pixels per pixel and side; even, so that no centre lies on whole numbers

_CANVAS = 1 << 24  # pixels of a canvas: an outline is drawn in bands of rows

_SLACK = 0.1  # of the longer side: how far an outline may lead out of the photo, where it is cut


class DrawnMask(Protocol):
    """A mask that the source gives as polygons or run lengths."""

    @property
    def kind(self) -> str:
        """What it is made of, in the plural: "polygons" or "run lengths"."""
        ...

    def draw(self, height: int, width: int) -> Mask:
        """Return the mask, (height, width) uint8 {0, 1}; raises DataError, without a place, if it does not fit."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Polygons:
    """Closed outlines in pixels.

    Attributes:
        rings: (N, 2) float64 x and y of the corners; the last is joined with the first.
        size: (height, width) of the photo that was annotated; None if the source does not say.
        even_odd: rings inside others are holes; otherwise all that any ring encloses is marked.
    """

    rings: tuple[Ring, ...]
    size: tuple[int, int] | None = None
    even_odd: bool = False

    @property
    def kind(self) -> str:
        """Its kind, for counts."""
        return "polygons"

    def draw(self, height: int, width: int) -> Mask:
        """Return the mask, (height, width) uint8 {0, 1}.

        Raises:
            DataError: the photo has another size, or a corner is no number or far outside of it.
        """
        _check_size(self.size, height, width)
        mask = np.zeros((height, width), np.uint8)
        for ring in self.rings:
            _check_ring(ring, height, width)
            self._fill(mask, ring)
        return mask

    def _fill(self, mask: Mask, ring: Ring) -> None:
        height, width = mask.shape
        left, top = (max(0, int(value)) for value in np.floor(ring.min(0)))
        right, bottom = (int(value) for value in np.minimum(np.ceil(ring.max(0)), (width, height)))
        if left >= right or top >= bottom:
            return
        rows = max(1, _CANVAS // ((right - left) * _FINE**2))
        for first in range(top, bottom, rows):
            last = min(bottom, first + rows)
            canvas = Image.new("L", ((right - left) * _FINE, (last - first) * _FINE))
            corners = np.rint((ring - (left, first)) * _FINE).astype(np.int64)
            ImageDraw.Draw(canvas).polygon(corners.ravel().tolist(), fill=1)
            inside = np.asarray(canvas)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
            part = mask[first:last, left:right]
            np.bitwise_xor(part, inside, out=part) if self.even_odd else np.bitwise_or(part, inside, out=part)


@dataclass(frozen=True, eq=False, slots=True)
class RunLengths:
    """Lengths of runs, alternately background and foreground, beginning with background.

    Attributes:
        counts: (N,) int64, at least 0.
        size: (height, width) of the photo that was annotated.
        by_columns: runs go down the columns, as in COCO; otherwise along the rows, as in CVAT.
        box: left, top, width and height of the part that the runs cover; None for all of the photo.
    """

    counts: NDArray[np.int64]
    size: tuple[int, int]
    by_columns: bool = True
    box: tuple[int, int, int, int] | None = None

    @property
    def kind(self) -> str:
        """Its kind, for counts."""
        return "run lengths"

    def draw(self, height: int, width: int) -> Mask:
        """Return the mask, (height, width) uint8 {0, 1}.

        Raises:
            DataError: the photo has another size, or the runs do not cover what they should.
        """
        _check_size(self.size, height, width)
        left, top, across, down = self.box or (0, 0, width, height)
        if min(left, top, across, down) < 0 or left + across > width or top + down > height:
            raise DataError(f"got a box of {across} x {down} at {left}, {top}, expected one within {width} x {height}")
        if (self.counts < 0).any() or (self.counts > across * down).any() or self.counts.sum() != across * down:
            raise DataError(f"got runs of other than {across * down:,} pixels, expected {across} x {down}")
        flat = np.repeat(np.arange(len(self.counts), dtype=np.int64).astype(np.uint8) & 1, self.counts)
        mask = np.zeros((height, width), np.uint8)
        part = flat.reshape(across, down).T if self.by_columns else flat.reshape(down, across)
        mask[top : top + down, left : left + across] = part
        return mask


@dataclass(frozen=True, eq=False, slots=True)
class Brush:
    """A brush stroke as Label Studio stores it: the four channels of each pixel, run-length coded bit by bit.

    The code is that of @thi.ng/rle-pack; the last channel, opacity, is the mask.
    """

    data: bytes
    size: tuple[int, int]

    @property
    def kind(self) -> str:
        """Its kind, for counts."""
        return "run lengths"

    def draw(self, height: int, width: int) -> Mask:
        """Return the mask, (height, width) uint8 {0, 1}.

        Raises:
            DataError: the photo has another size, or the code ends early or is that of another number of pixels.
        """
        _check_size(self.size, height, width)
        values = _unpack(self.data, height * width * 4)
        return (values[3::4].reshape(height, width) > 0).astype(np.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class United:
    """What any of several masks marks: the instances of a photo."""

    parts: tuple[DrawnMask, ...]

    @property
    def kind(self) -> str:
        """Their kinds, for counts."""
        return " and ".join(sorted({part.kind for part in self.parts}))

    def draw(self, height: int, width: int) -> Mask:
        """Return the mask, (height, width) uint8 {0, 1}; raises DataError if any part does not fit."""
        mask = np.zeros((height, width), np.uint8)
        for part in self.parts:
            mask |= part.draw(height, width)
        return mask


def united(parts: Sequence[DrawnMask]) -> DrawnMask:
    """Return one mask of one or several."""
    return parts[0] if len(parts) == 1 else United(tuple(parts))


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    """Return the outline of a rectangle, (4, 2)."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def ellipse(x: float, y: float, across: float, down: float, angle: float = 0.0) -> Ring:
    """Return the outline of an ellipse with its centre at x, y, (360, 2).

    Args:
        x, y: centre.
        across, down: radii.
        angle: in radians, clockwise as seen.
    """
    turns = np.linspace(0, 2 * math.pi, 360, endpoint=False)
    along, beside = across * np.cos(turns), down * np.sin(turns)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([x + along * cos - beside * sin, y + along * sin + beside * cos], 1)


def coco_counts(text: str) -> NDArray[np.int64]:
    """Return the run lengths that COCO's compressed string stands for (pycocotools, rleFrString).

    Each is in digits of 5 bits, the lowest first; from the fourth on, it is the difference from the one two before.

    Raises:
        DataError: the text ends within a number, or has other characters.

    >>> coco_counts("52203").tolist()
    [5, 2, 2, 2, 5]
    """
    counts: list[int] = []
    value = shift = 0
    for char in text:
        digit = ord(char) - 48
        if not 0 <= digit < 64 or shift > 40:
            raise DataError(f"got {redact(text)}, expected COCO's compressed run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("got run lengths that end within a number, expected COCO's compressed run lengths")
    return np.array(counts, np.int64)


def _check_size(size: tuple[int, int] | None, height: int, width: int) -> None:
    if size is not None and size != (height, width):
        raise DataError(f"got a mask of {size[0]} x {size[1]}, expected {height} x {width}, as its photo")


def _check_ring(ring: Ring, height: int, width: int) -> None:
    if ring.ndim != 2 or ring.shape[1] != 2 or not 3 <= len(ring) <= MOST_POINTS:
        raise DataError(f"got an outline of {len(ring):,} points, expected 3 to {MOST_POINTS:,}")
    if not np.isfinite(ring).all():
        raise DataError("got an outline with NaN or infinity, expected numbers")
    slack = max(2.0, _SLACK * max(height, width))
    low, high = ring.min(0), ring.max(0)
    if low.min() < -slack or high[0] > width + slack or high[1] > height + slack:
        got = f"an outline from {low[0]:.0f}, {low[1]:.0f} to {high[0]:.0f}, {high[1]:.0f}"
        raise DataError(f"got {got}, expected one within {width} x {height}, the photo")


class _Bits:
    """Bits of a text, read in groups from the highest on."""

    def __init__(self, data: bytes) -> None:
        self._bits = bin(int.from_bytes(b"\1" + data, "big"))[3:]
        self._place = 0

    def read(self, number: int) -> int:
        end = self._place + number
        if end > len(self._bits):
            raise DataError("got a brush's code that ends early, expected Label Studio's run lengths")
        value = int(self._bits[self._place : end], 2)
        self._place = end
        return value


def _unpack(data: bytes, size: int) -> NDArray[np.uint8]:
    bits = _Bits(data)
    number, width = bits.read(32), bits.read(5) + 1
    if number != size or width > 8:
        raise DataError(f"got a brush's code of {number:,} values, expected {size:,}, four per pixel")
    lengths = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(number, np.uint8)
    place = 0
    while place < number:
        is_run = bits.read(1)
        end = place + 1 + bits.read(lengths[bits.read(2)])
        if end > number:
            raise DataError(f"got a brush's code of more than {number:,} values, expected no more")
        if is_run:
            values[place:end] = bits.read(width)
        else:
            values[place:end] = [bits.read(width) for _ in range(end - place)]
        place = end
    return values
