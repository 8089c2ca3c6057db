"""Shapes as annotation files write them, checked: what is no number, or no outline, is refused in one line."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.imaging.drawn_masks import MOST_POINTS, DrawnMask, Ring, RunLengths
from magic_cli.data.limits import MAX_PIXELS
from magic_cli.errors import DataError, problem, redact

_LARGEST = 1e9  # of a coordinate

LEFT_OUT = "fix the shape; the mask is left out"  # remedy of a problem


@dataclass(frozen=True, slots=True)
class Shape:
    """One annotation of a photo.

    label: what it marks, as the source words it; "" where it does not say.
    mask: its pixels; None for a kind without an area, such as a point.
    kind: the word of the source for such a kind.
    """

    label: str
    mask: DrawnMask | None
    kind: str = ""


def numbers(value: object, where: str) -> NDArray[np.float64]:
    """Return a list of finite numbers as float64.

    Raises:
        DataError: it is anything else, such as a list with text, NaN or infinity.
    """
    if not isinstance(value, list | tuple) or len(value) > 2 * MOST_POINTS:
        got = f"{len(value):,} numbers" if isinstance(value, list | tuple) else redact(value)
        raise DataError(problem(where, got, f"a list of at most {2 * MOST_POINTS:,} numbers", LEFT_OUT))
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float) or not -_LARGEST < item < _LARGEST:
            raise DataError(problem(where, f"{redact(item)} for a coordinate", "a number of pixels", LEFT_OUT))
    return np.array(value, np.float64)


def number(value: object, where: str) -> float:
    """Return a finite number; raises DataError as `numbers`."""
    return float(numbers([value], where)[0])


def outline(pairs: object, where: str) -> Ring:
    """Return the ring of a list of [x, y]; raises DataError for anything else, and for fewer than three."""
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise DataError(problem(where, redact(pairs), "a list of [x, y]", LEFT_OUT))
    return flat_outline([value for pair in pairs for value in pair], where)


def flat_outline(values: object, where: str) -> Ring:
    """Return the ring of a list x, y, x, y, ...; raises DataError for anything else, and for fewer than three pairs."""
    flat = numbers(values, where)
    if len(flat) % 2 or len(flat) < 6:
        raise DataError(problem(where, f"an outline of {len(flat)} numbers", "x and y of three or more", LEFT_OUT))
    return flat.reshape(-1, 2)


def size_of(height: object, width: object, where: str) -> tuple[int, int] | None:
    """Return (height, width) of a photo as its annotation declares it; None if it does not.

    Raises:
        DataError: no whole numbers above 0, or more than 200 megapixels.
    """
    if height is None and width is None:
        return None
    sides = []
    for side in (height, width):
        is_whole = isinstance(side, int | float) and not isinstance(side, bool) and 0 < side <= MAX_PIXELS
        if not is_whole or side != int(side):  # type: ignore[call-overload]
            got = f"a photo of {redact(height)} x {redact(width)}"
            raise DataError(problem(where, got, "whole numbers of pixels", "fix its size"))
        sides.append(int(side))  # type: ignore[call-overload]
    if sides[0] * sides[1] > MAX_PIXELS:
        raise DataError(problem(where, f"a photo of {sides[0]} x {sides[1]}", "at most 200 megapixels", "fix its size"))
    return sides[0], sides[1]


def known_size(height: object, width: object, where: str) -> tuple[int, int]:
    """Return `size_of`; raises DataError if it is not declared."""
    size = size_of(height, width, where)
    if size is None:
        raise DataError(problem(where, "no height and width", "those of the photo", "add them to its row"))
    return size


def counts(values: object, where: str) -> NDArray[np.int64]:
    """Return run lengths; raises DataError for anything but a list of whole numbers from 0 to 200 million."""
    if isinstance(values, list) and len(values) <= MAX_PIXELS + 1:
        is_sound = all(isinstance(item, int) and not isinstance(item, bool) for item in values)
        if is_sound and (not values or (min(values) >= 0 and max(values) <= MAX_PIXELS)):
            return np.array(values, np.int64)
    raise DataError(problem(where, f"run lengths of {redact(values)}", "a list of whole numbers", LEFT_OUT))


def pasted(picture: object, corner: tuple[int, int], size: tuple[int, int], where: str) -> RunLengths:
    """Return the mask of a PNG in base64 whose upper left pixel lies at `corner`, x and y, in a photo of this size.

    Raises:
        DataError: it is no such PNG, or does not lie within the photo.
    """
    expected = "a PNG mask in base64 within the photo"
    try:
        data = base64.b64decode(picture if isinstance(picture, str) else "", validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width > size[1] or image.height > size[0]:
                raise DataError(problem(where, f"{image.height} x {image.width} pixels", expected, LEFT_OUT))
            marked = np.asarray(image.convert("L")) > 0
    except DataError:
        raise
    except Exception as error:  # decoders have no common base class of errors
        raise DataError(problem(where, f"damage ({type(error).__name__})", expected, LEFT_OUT)) from None
    flat = np.concatenate([[False], marked.ravel()])
    ends = np.concatenate([np.flatnonzero(flat[1:] != flat[:-1]), [marked.size]])
    lengths = np.diff(ends, prepend=0).astype(np.int64)
    return RunLengths(lengths, size, by_columns=False, box=(*corner, marked.shape[1], marked.shape[0]))
