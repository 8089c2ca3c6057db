"""Artefacts on drawn photos of skin: each detector finds its own, none finds anything on bare skin or a lesion."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tiny_dataset import make_prepared

from magic_cli.data.imaging.artefacts import ARTEFACTS
from magic_cli.data.imaging.artefacts.cases import artefacts_by_case
from magic_cli.data.imaging.artefacts.detect import measured
from magic_cli.data.prepared import open_prepared


def skin(side: int = 384) -> Image.Image:
    """A lesion on noisy skin."""
    noise = np.random.default_rng(0).normal(0, 3, (side, side, 3))
    photo = Image.fromarray(np.clip(np.array([205, 160, 140]) + noise, 0, 255).astype(np.uint8))
    middle = side / 2
    ImageDraw.Draw(photo).ellipse(
        [middle - side / 8, middle - side / 8, middle + side / 8, middle + side / 8], (110, 70, 55)
    )
    return photo


def ruler(draw: ImageDraw.ImageDraw) -> None:
    draw.line([60, 340, 320, 325], (30, 30, 30), 2)
    for number in range(0, 261, 13):
        at = (60 + number, 340 - 15 * number / 260)
        draw.line([*at, at[0] - 0.5, at[1] - 9], (30, 30, 30), 2)


def pen(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse([90, 90, 300, 300], outline=(70, 60, 160), width=6)


def hair(draw: ImageDraw.ImageDraw) -> None:
    for number in range(8):
        draw.arc([-300 + 20 * number, -200, 300 + 30 * number, 900], 270, 359, (45, 34, 28), 3)


def corners(draw: ImageDraw.ImageDraw) -> None:
    mask = Image.new("L", (384, 384), 0)
    ImageDraw.Draw(mask).ellipse([-10, -10, 394, 394], fill=255)
    draw.bitmap((0, 0), mask.point(lambda value: 255 - value), fill=(8, 6, 6))


def patch(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse([320, 100, 470, 250], (40, 150, 190))


@pytest.mark.parametrize("drawn", [ruler, pen, hair, corners, patch], ids=lambda drawn: drawn.__name__)
def test_each_artefact_is_found_alone(drawn: Callable[[ImageDraw.ImageDraw], None]) -> None:
    photo = skin()
    drawn(ImageDraw.Draw(photo))
    assert measured(photo).found == {drawn.__name__}
    assert drawn.__name__ in ARTEFACTS


@pytest.mark.parametrize("side", [384, 97, 700])
def test_bare_skin_has_none(side: int) -> None:
    assert measured(skin(side)).found == frozenset()


def test_thin_blue_light_is_no_ink() -> None:
    for colour, is_ink in (((70, 60, 160), True), ((170, 190, 250), False)):  # ink takes green away, light does not
        photo = skin()
        ImageDraw.Draw(photo).ellipse([90, 90, 300, 300], outline=colour, width=6)
        assert ("pen" in measured(photo).found) == is_ink


def test_photos_of_any_mode_and_size_are_measured() -> None:
    for photo in (Image.new("L", (3, 200), 120), Image.new("RGBA", (1, 1)), Image.new("RGB", (500, 40), (255, 0, 0))):
        assert measured(photo).found <= set(ARTEFACTS)


def test_cases_have_the_artefacts_of_all_their_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "prepared"))
    images = {name: replace(record, sha256="") for name, record in prepared.images.items()}
    prepared = replace(prepared, images=images)
    one, *two = prepared.images_of("train")  # a case of one photo, and one of two
    for record, drawn in ((one, patch), (two[0], hair)):
        photo = skin()
        drawn(ImageDraw.Draw(photo))
        Path(str(record.path)).parent.mkdir(exist_ok=True)
        photo.save(str(record.path), quality=95)
    found = artefacts_by_case(prepared, "train")
    assert found == {one.case_id: {"patch"}, two[0].case_id: {"hair"}}
    assert f"artefacts of {two[1].image_id} are not known" in capsys.readouterr().err
