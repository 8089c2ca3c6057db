"""Flags of a photo: sharp and plain ones have none; blur, a dark border and few pixels have one each."""

import numpy as np
import pytest
from challenge_folders import draw_photo
from PIL import Image, ImageDraw, ImageFilter

from magic_cli.data.imaging.quality import quality
from magic_cli.data.sources.synthetic.cases import KINDS
from magic_cli.data.sources.synthetic.drawing import TONES
from magic_cli.data.sources.synthetic.drawing import draw_photo as draw


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(draw(np.random.default_rng(1), KINDS[0].look, 1, False, (300, 400)).pixels)


def test_a_plain_photo_has_no_flag(photo: Image.Image) -> None:
    assert quality(photo).flags(224) == ()


def test_the_darkest_skin_is_no_border() -> None:
    dark = Image.fromarray(draw(np.random.default_rng(2), KINDS[0].look, len(TONES) - 1, False, (300, 400)).pixels)
    assert quality(dark).border < 0.05


def test_blur_is_flagged(photo: Image.Image) -> None:
    measured = quality(photo.filter(ImageFilter.GaussianBlur(4)))
    assert measured.sharpness < 4.5 < quality(photo).sharpness
    assert measured.flags() == ("The photo is not sharp: fine structures cannot be compared.",)


def test_a_dermatoscopes_circle_is_a_border(photo: Image.Image) -> None:
    square = photo.resize((300, 300))
    circle = Image.new("L", square.size, 0)
    ImageDraw.Draw(circle).ellipse((0, 0, 299, 299), fill=255)
    square.putalpha(circle)
    measured = quality(Image.composite(square.convert("RGB"), Image.new("RGB", square.size), circle))
    assert measured.border == pytest.approx(1 - np.pi / 4, abs=0.02)
    assert measured.flags() == ("A dark border covers 22 % of the photo: crop it.",)


def test_a_dark_lesion_in_the_middle_is_no_border() -> None:
    picture = Image.new("L", (100, 100), 180)
    picture.paste(0, (20, 20, 80, 80))
    assert quality(picture).border == 0


def test_few_pixels_are_flagged_only_below_what_the_model_sees() -> None:
    small = draw_photo((120, 90))
    assert "The photo has 90 x 120 pixels, fewer than the 224 a side that the model sees." in quality(small).flags(224)
    assert not any("pixels" in line for line in quality(small).flags(90))


@pytest.mark.parametrize(("mode", "size"), [("L", (1, 1)), ("RGBA", (2, 900)), ("P", (40, 40)), ("1", (9, 9))])
def test_any_mode_and_size(mode: str, size: tuple[int, int]) -> None:
    measured = quality(Image.new(mode, size))
    assert measured.sharpness in (0.0, float("inf"))
    assert measured.flags(1)
