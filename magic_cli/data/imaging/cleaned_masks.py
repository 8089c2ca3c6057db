"""Masks that are binary to the eye but not in their values: grey edges, JPEG noise, colours, transparency.

A picture is reduced to one channel, which is the brightest of its colours, or its opacity where only that varies. It is
a mask if it has two values of which one is 0, or if nearly all of it is black or white; half of white is the threshold.
A map of several classes is refused, not merged: which of them are the lesion is for its maker to say.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.imaging.images import quiet
from magic_cli.data.limits import COMPRESSION, FAX, MAX_PIXELS
from magic_cli.errors import DataError, problem
from magic_cli.records import Mask

TWO_VALUES, GREYS, OPACITY = "two other values", "greys between black and white", "transparency"

CLEANED = frozenset((TWO_VALUES, GREYS, OPACITY))

CLEANING = "cleaned by a threshold at half, and written as 0 and 1 below masks/annotators"

_FORMATS = ("TIFF", "PNG", "BMP", "GIF", "JPEG", "WEBP")  # not all that Pillow knows: its EPS would start Ghostscript

_LOW, _HIGH = 25, 230  # black and white: within 10 % of the ends of 0..255

_SHARE = 0.95  # of the pixels that are black or white

_FEW = 8  # colours; noise and smooth edges have more, maps of classes rarely

_ALIKE = 50  # steps of a channel within which the lesion has one colour

_EXPECTED, _REMEDY = "black and white", "write it as grey, 0 and 255"


def clean_mask(data: bytes, where: str) -> tuple[Mask, str]:
    """Return the mask, (H, W) uint8 {0, 1}, in the bytes of a picture, and what its values were, one of `CLEANED`.

    The picture is not turned by an orientation tag.

    Raises:
        DataError: one line, for what is no picture, and for one that is not nearly black and white.
    """
    colours, opacity = _pixels(data, where)
    value = colours if colours.ndim == 2 else colours.max(2)
    kind = GREYS
    if opacity is not None and opacity.min() < opacity.max():
        is_plain = bool((colours == colours[:1, :1]).all())
        value = opacity if is_plain else (value.astype(np.uint16) * opacity // 255).astype(np.uint8)
        colours, kind = value, OPACITY
    counts = np.bincount(value.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    _refuse_classes(colours, where)
    if len(present) <= 2 and present[0] == 0:
        _refuse_colours(colours, value > 0, where)
        return (value > 0).astype(np.uint8), kind if kind == OPACITY else TWO_VALUES
    share = float(counts[: _LOW + 1].sum() + counts[_HIGH:].sum()) / value.size
    if share < _SHARE or present[-1] < _HIGH:
        white = "" if present[-1] >= _HIGH else " and nothing white"
        got = f"a picture of which {1 - share:.0%} is neither black nor white{white}"
        raise DataError(problem(where, got, _EXPECTED, _REMEDY))
    is_lesion = value >= 128
    _refuse_colours(colours, is_lesion, where)
    return is_lesion.astype(np.uint8), kind


def _pixels(data: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return the colours, (H, W) or (H, W, 3), and the opacity, (H, W), None without."""
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                pixels = f"{image.width * image.height / 1e6:.0f} megapixels"
                raise DataError(problem(where, pixels, "at most 200", "check the file"))
            tags = getattr(image, "tag_v2", {})
            if tags.get(COMPRESSION) in FAX or getattr(image, "n_frames", 1) > 1:
                got = "several pages, or CCITT (fax) compression"
                raise DataError(problem(where, got, "one, without", "write it as PNG"))
            return _channels(image, where)
    except DataError:
        raise
    except Exception as error:  # decoders have no common base class of errors
        got = f"an unreadable file ({type(error).__name__})"
        raise DataError(problem(where, got, "a whole mask", "copy or download it again")) from None


def _channels(image: Image.Image, where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image)
        top = values.max()
        if not np.isfinite(values).all() or values.min() < 0 or not top:
            raise DataError(problem(where, "values below 0, or NaN", _EXPECTED, _REMEDY))
        return (values / top * 255).astype(np.uint8), None
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "PA":
        image = image.convert("RGBA")
    elif image.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    array = np.asarray(image.convert("L") if image.mode == "1" else image)
    if array.ndim == 2:
        return array, None
    opacity = array[..., -1] if array.shape[2] in (2, 4) else None
    colours = array[..., :-1] if opacity is not None else array
    return (colours[..., 0] if colours.shape[2] == 1 else colours), opacity


def _refuse_classes(colours: NDArray[np.uint8], where: str) -> None:
    """Refuse a picture of few colours of which more than two fill squares of 3 x 3 pixels: edges do not."""
    codes = colours.astype(np.int32)
    if codes.ndim == 3:
        codes = (codes[..., 0] << 16) | (codes[..., 1] << 8) | codes[..., 2]
    found = np.unique(codes)
    if not 2 < len(found) <= _FEW:
        return
    across = (codes[:, 2:] == codes[:, 1:-1]) & (codes[:, 1:-1] == codes[:, :-2])
    same = codes[1:-1, 1:-1] == codes[:-2, 1:-1]
    same &= (codes[1:-1, 1:-1] == codes[2:, 1:-1]) & across[:-2] & across[1:-1] & across[2:]
    solid = len(np.unique(codes[1:-1, 1:-1][same]))
    if solid > 2:
        got = f"a map of {solid} classes"
        raise DataError(problem(where, got, "one lesion in a mask", "write that class alone, as 0 and 255"))


def _refuse_colours(colours: NDArray[np.uint8], is_lesion: NDArray[np.bool_], where: str) -> None:
    """Refuse a lesion of several colours."""
    if colours.ndim == 2 or not is_lesion.any():
        return
    lesion = colours[is_lesion].astype(np.int16)
    is_odd = (np.abs(lesion - np.median(lesion, axis=0)) > _ALIKE).any(1)
    if np.count_nonzero(is_odd) > (1 - _SHARE) * len(lesion):
        raise DataError(problem(where, "lesions of several colours", "one lesion in a mask", _REMEDY))
