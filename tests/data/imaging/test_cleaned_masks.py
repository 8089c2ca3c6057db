"""Masks with grey edges, JPEG noise, colours or transparency are cleaned by one rule; other pictures are refused."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from magic_cli.data.imaging.cleaned_masks import GREYS, OPACITY, TWO_VALUES, clean_mask
from magic_cli.errors import DataError

SIZE = (96, 120)
DISC = np.fromfunction(lambda y, x: (y - 44) ** 2 + (x - 60) ** 2 < 900, SIZE)
GREY = Image.fromarray(DISC.astype(np.uint8) * 255)
SMOOTH = GREY.resize((240, 192)).resize((120, 96), Image.Resampling.BILINEAR)


def picture(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def coloured(*colours: tuple[int, int, int], small: int = 40) -> Image.Image:
    """Return a black picture with a square of each colour."""
    array = np.zeros((*SIZE, 3), np.uint8)
    for number, colour in enumerate(colours):
        array[5 : 5 + small, 5 + 45 * number : 5 + 45 * number + small] = colour
    return Image.fromarray(array)


def palette(array: np.ndarray, *colours: int) -> Image.Image:
    image = Image.fromarray(array.astype(np.uint8), "P")
    image.putpalette(list(colours))
    return image


def with_opacity(colour: Image.Image, opacity: Image.Image) -> Image.Image:
    image = colour.copy()
    image.putalpha(opacity)
    return image


BLACK = Image.new("RGB", GREY.size)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (picture(SMOOTH), GREYS),
        (picture(SMOOTH.convert("RGB")), GREYS),
        (picture(SMOOTH.convert("RGBA")), GREYS),
        (picture(GREY, "JPEG", quality=80), GREYS),
        (picture(GREY.convert("RGB"), "JPEG", quality=75), GREYS),
        (picture(Image.open(io.BytesIO(picture(GREY, "JPEG", quality=60)))), GREYS),  # a JPEG saved as PNG
        (picture(with_opacity(BLACK, GREY)), OPACITY),
        (picture(with_opacity(BLACK, SMOOTH)), OPACITY),
        (picture(with_opacity(Image.new("RGB", GREY.size, "white"), GREY)), OPACITY),
        (picture(with_opacity(GREY.convert("L"), GREY)), OPACITY),
        (picture(GREY.convert("RGB")), TWO_VALUES),
        (picture(GREY.convert("LA")), TWO_VALUES),
        (picture(Image.fromarray(DISC.astype(np.uint8) * 128)), TWO_VALUES),
        (picture(Image.fromarray(DISC.astype(np.uint16) * 65535)), TWO_VALUES),
        (picture(palette(DISC * 3, 0, 0, 0, 9, 9, 9, 9, 9, 9, 128, 0, 0)), TWO_VALUES),
        (picture(Image.fromarray(DISC.astype(np.float32) * 0.5), "TIFF"), TWO_VALUES),
    ],
)
def test_what_people_see_is_read(data: bytes, kind: str) -> None:
    mask, found = clean_mask(data, "m")
    assert (found, mask.dtype) == (kind, np.uint8)
    assert np.count_nonzero(mask != DISC) <= 25  # on the outline


@pytest.mark.parametrize("colour", [(255, 0, 0), (128, 0, 0), (0, 90, 200)])
def test_one_colour_on_black_is_the_lesion(colour: tuple[int, int, int]) -> None:
    mask, kind = clean_mask(picture(coloured(colour)), "m")
    assert (int(mask.sum()), kind) == (1600, TWO_VALUES)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (picture(Image.fromarray(np.digitize(np.arange(96 * 120).reshape(SIZE) % 120, [40, 80]).astype(np.uint8))), 3),
        (picture(coloured((1, 1, 1), (2, 2, 2))), 3),
        (picture(coloured((1, 1, 1), (255, 255, 255), small=6)), 3),
        (picture(coloured((255, 0, 0), (0, 255, 0), small=5)), 3),
    ],
)
def test_maps_of_classes_are_refused(data: bytes, got: int) -> None:
    with pytest.raises(DataError, match=rf"^m\.png: got a map of {got} classes, expected one lesion in a mask; write"):
        clean_mask(data, "m.png")


def gradient() -> Image.Image:
    return Image.fromarray(np.tile(np.arange(120, dtype=np.uint8) * 2, (96, 1)))


def dotted(image: Image.Image) -> Image.Image:
    """Return a picture with ten dots of ten colours in its last row: too many to be a map of classes."""
    for number in range(10):
        image.putpixel((number, 95), (number + 1, 0, 0))
    return image


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda: picture(gradient()), "a picture of which .* is neither black nor white"),
        (lambda: picture(Image.fromarray(DISC.astype(np.uint8) * 64 + 64)), "a picture of which 100% .* nothing white"),
        (lambda: picture(dotted(coloured((255, 0, 0), (0, 255, 0)))), "lesions of several colours"),
        (lambda: picture(GREY)[:150], "an unreadable file"),
        (lambda: picture(GREY, "JPEG")[:900], "an unreadable file"),
        (lambda: b"", "an unreadable file"),
        (lambda: picture(GREY, "TIFF", save_all=True, append_images=[GREY]), "several pages"),
        (lambda: picture(Image.fromarray(np.full(SIZE, np.nan, np.float32)), "TIFF"), "values below 0, or NaN"),
    ],
)
def test_other_pictures_are_refused(make: Callable[[], bytes], got: str) -> None:
    with pytest.raises(DataError, match=rf"^m: got {got}") as caught:
        clean_mask(make(), "m")
    assert len(caught.value.problems) == 1
