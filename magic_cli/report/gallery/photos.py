"""The photos of a page, each embedded once as a JPEG and drawn wherever it is shown, and how large they may be."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from magic_cli.data.gold import MaskGold
from magic_cli.data.imaging.images import open_photo, open_record
from magic_cli.data.prepared import Prepared
from magic_cli.errors import DataError
from magic_cli.report import page

_BUDGET = 4_400_000  # bytes of all JPEGs of a gallery: with base64, outlines and captions, 314 photos take below 8 MB

_SMALL, _SMALL_BYTES = 200, 5_000  # of photos that no gallery shows

_MOST_SMALL = 120  # of these

_OF_CASE = 3  # photos of a case that are shown beside an answer


@dataclass(frozen=True, slots=True)
class Quality:
    """How photos are embedded: the longer side in pixels, and the bytes of a JPEG, at most."""

    side: int
    most: int


def quality_for(count: int) -> Quality:
    """Return how `count` photos of a gallery are embedded, the more the smaller.

    >>> quality_for(20), quality_for(314)
    (Quality(side=800, most=60000), Quality(side=480, most=14012))
    """
    most = min(60_000, max(4_000, _BUDGET // max(count, 1)))
    side = (
        800 if most >= 60_000 else 560 if most >= 30_000 else 480 if most >= 12_000 else 400 if most >= 8_000 else 320
    )
    return Quality(side, most)


@dataclass(frozen=True, slots=True)
class Photo:
    """An embedded photo: `number` names it in the page, `size` is (width, height), `source` a data URI.

    `image` is its id, `card` the number of its card in the gallery, which has an enlarged view; None: it has none.
    """

    number: int
    image: str
    size: tuple[int, int]
    source: str
    card: int | None


class PhotoStore:
    """The photos of a page: those of the gallery, and small ones of cases that it does not show.

    Args:
        gold: annotators' masks, for the photos that they are of.
        prepared: the dataset of the gold, for photos without masks; None: there are none.
        are_shown: False keeps all photos out of the page.
    """

    def __init__(self, gold: MaskGold, prepared: Prepared | None, are_shown: bool) -> None:
        self._gold, self._prepared, self.are_shown = gold, prepared, are_shown
        self._photos: dict[str, Photo | None] = {}
        self._small = 0

    @property
    def photos(self) -> list[Photo]:
        """All embedded photos, in order of their numbers."""
        return [photo for photo in self._photos.values() if photo is not None]

    def add(self, image: str, picture: Image.Image, quality: Quality, card: int) -> Photo:
        """Embed the photo of a card of the gallery at its size."""
        source = page.data_uri(picture, quality.side, quality.most, is_photo=True)
        photo = self._photos[image] = Photo(len(self._photos), image, picture.size, source, card)
        return photo

    def of_image(self, image: str) -> Photo | None:
        """Return an image's photo, embedded when it is asked for; None where it is not known or cannot be read."""
        if image not in self._photos:
            picture = self._open(image) if self.are_shown and self._small < _MOST_SMALL else None
            self._photos[image] = None if picture is None else self._embed(image, picture)
        return self._photos[image]

    def of_case(self, case: str) -> tuple[Photo, ...]:
        """Return the first photos of a case, those with an enlarged view before others."""
        images = dict.fromkeys((*self._of_case.get(case, ()), *self._of_prepared(case)))
        photos = (photo for image in images if (photo := self.of_image(image)) is not None)
        return tuple(photo for photo, _ in zip(photos, range(_OF_CASE), strict=False))

    def _embed(self, image: str, picture: Image.Image) -> Photo:
        picture.thumbnail((_SMALL, _SMALL))
        self._small += 1
        source = page.data_uri(picture, _SMALL, _SMALL_BYTES, is_photo=True)
        return Photo(len(self._photos), image, picture.size, source, None)

    @cached_property
    def _of_case(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for image, masks in self._gold.images.items():
            found.setdefault(masks.case_id, []).append(image)
        return found

    def _of_prepared(self, case: str) -> Iterator[str]:
        if self._prepared is not None and case in self._prepared.cases:
            yield from self._prepared.cases[case].image_ids

    def _open(self, image: str) -> Image.Image | None:
        """Return the photo of an image that no gallery shows; the page is of use without it."""
        record = None if self._prepared is None else self._prepared.images.get(image)
        try:
            if record is not None and record.path is not None:
                return open_record(record, at_least=_SMALL)
            path = self._gold.photos.get(image)
            return None if path is None else open_photo(path, self._gold.upright.get(image, True), at_least=_SMALL)
        except DataError:
            return None


def relative_link(path: str | Path | None, folder: Path | None) -> str:
    """Return the relative URL of a photo's file from the folder of the page; "" unless both are in the working folder.

    A link that leaves the working folder would name other folders of the user's machine.
    """
    if path is None or folder is None:
        return ""
    here = Path.cwd()
    target, start = (Path(os.path.normpath(here / place)) for place in (path, folder))  # links are kept as they are
    if not (target.is_relative_to(here) and start.is_relative_to(here)):
        return ""
    return quote(Path(os.path.relpath(target, start)).as_posix())
