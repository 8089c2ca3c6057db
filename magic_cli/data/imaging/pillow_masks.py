"""Masks that tifffile cannot read, read with Pillow: TIFFs as tifffile would with imagecodecs, pictures as shown.

Pillow turns a TIFF by its orientation tag, inverts white-is-zero, scales 2 and 4 bits to 255 and takes signed bytes for
unsigned ones; all of this is undone. What is not known to agree with tifffile is refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.imaging.appearance import (
    AS_STORED,
    ORIENTATION,
    PALETTE,
    PHOTOMETRIC,
    WHITE_IS_ZERO,
    Appearance,
    shows_inverted,
)
from magic_cli.data.limits import COMPRESSION
from magic_cli.errors import DataError, problem

_BITS, _SAMPLES, _PREDICTOR, _FORMAT = 258, 277, 317, 339

_PACKBITS = 32773

_GREY = (0, 1)  # white-is-zero, black-is-zero

_SCALES = {2: 85, 4: 17}  # bits a pixel to the factor by which Pillow stretches them to 0..255

# orientation to what undoes the turn that Pillow makes by it
_BACK: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda array: array,
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.T,
    6: lambda array: np.rot90(array),
    7: lambda array: array[::-1, ::-1].T,
    8: lambda array: np.rot90(array, -1),
}

# (bits a pixel, sample format: unsigned, signed, float) to dtype, of what Pillow reads as tifffile does
_DTYPES = {
    (1, 1): "?",
    (2, 1): "u1",
    (4, 1): "u1",
    (8, 1): "u1",
    (8, 2): "i1",
    (16, 1): "u2",
    (16, 2): "i2",
    (32, 1): "u4",
    (32, 2): "i4",
    (32, 3): "f4",
}


def tiff_as_stored(image: Image.Image, where: str) -> tuple[NDArray[Any], Appearance]:
    """Return the pixels of an open TIFF as stored, (H, W), and how viewers show them.

    Raises:
        DataError: several pages of one size, several channels, or a kind of pixels that Pillow reads otherwise.
    """
    tags = dict(image.tag_v2)  # type: ignore[attr-defined]  # a TiffImageFile
    _refuse_pages(image, where)
    photometric, samples = tags.get(PHOTOMETRIC, 0), tags.get(_SAMPLES, 1)
    if samples != 1:
        raise DataError(problem(where, f"{samples} channels", "one", "store one binary mask per file"))
    (bits, *_), (kind, *_) = _numbers(tags.get(_BITS, 1)), _numbers(tags.get(_FORMAT, 1))
    dtype = _DTYPES.get((bits, kind))
    # libtiff swaps the bytes of big-endian pixels and Pillow does so again; Pillow's own decoders know no predictor
    swapped = bits > 8 and image.tag_v2.prefix == b"MM"  # type: ignore[attr-defined]
    predicted = tags.get(_PREDICTOR, 1) != 1 and tags.get(COMPRESSION, 1) in (1, _PACKBITS)
    if dtype is None or photometric not in (*_GREY, 3) or swapped or predicted:
        got = f"{bits}-bit pixels of format {kind}, photometric {photometric}"
        raise DataError(problem(where, got, "8-bit grey", "write it uncompressed or with zlib"))
    orientation = _orientation(image)
    array = _BACK[orientation](np.array(image))
    if photometric == 0 and image.mode in ("1", "L"):
        array = ~array if array.dtype == bool else 255 - array
    if photometric != 3 and image.mode == "L":
        array = array // np.uint8(_SCALES.get(bits, 1))
    array = np.ascontiguousarray(array)
    array = array.view(dtype) if array.itemsize == np.dtype(dtype).itemsize else array.astype(dtype)
    if photometric == 3:
        return array, Appearance(PALETTE if shows_inverted(array, _colours(image)) else None, orientation)
    return array, Appearance(WHITE_IS_ZERO if photometric == 0 else None, orientation)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _refuse_pages(image: Image.Image, where: str) -> None:
    """Refuse pages that tifffile stacks into one array, those of one size; a thumbnail behind the mask is not read."""
    size, mode = image.size, image.mode
    for number in range(1, getattr(image, "n_frames", 1)):
        image.seek(number)
        if image.size == size and image.mode == mode:
            raise DataError(problem(where, "several pages", "one", "keep the first page"))
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)


def picture_as_shown(image: Image.Image, where: str) -> tuple[NDArray[Any], Appearance]:
    """Return the pixels of an open PNG, BMP or GIF as shown, and whether viewers turn it.

    A palette's indices are returned if the foreground, 1 or more, is the brighter colour; black and white colours the
    other way round are returned as 0 and 255.

    Raises:
        DataError: several frames, or a palette of other colours in which 0 is the brighter one.
    """
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(problem(where, "several pages", "one", "keep the first page"))
    array = np.array(image)
    orientation = _orientation(image)
    appearance = AS_STORED if orientation == 1 else Appearance(None, orientation)
    if image.mode != "P":
        return array, appearance
    colours = _colours(image)
    if not shows_inverted(array, colours):
        return array, appearance
    light = colours.sum(1)[array]
    if not ((light == 0) | (light == 765)).all() or (light[0, 0] == light).all() != (array[0, 0] == array).all():
        got = "a palette whose colours do not show which index is the lesion"
        raise DataError(problem(where, got, "black and white", "write it as grey, 0 and 255"))
    return np.where(light == 0, 0, 255).astype(np.uint8), appearance


def _colours(image: Image.Image) -> NDArray[np.int64]:
    return np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged tag: nothing turns by it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
