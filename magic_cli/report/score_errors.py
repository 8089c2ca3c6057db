"""The part of report.html about the most confident wrong answers: each with the similar cases that were looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from magic_cli.data.imaging.images import open_record
from magic_cli.data.prepared import Prepared
from magic_cli.errors import DataError
from magic_cli.report import page
from magic_cli.report.score_images import Row

_SIDE, _BYTES = 160, 5_000  # at most twenty wrong answers with six photos each: 800 kB of base64

_AGREES = {
    "gold": ("good", "as the gold"),
    "part": ("", "part of the gold"),
    "option": ("warning", "as answered"),
    "neither": ("", "neither"),
}


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small photo: a data URI and its (width, height)."""

    source: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A similar case: its row of the report, how its answer compares in words, their CSS class, and its photo."""

    row: Row
    words: str
    kind: str
    photo: Thumbnail | None


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """A wrong answer: its row of the report, the encounter's first photo, and the similar cases, () if unknown."""

    row: Row
    photo: Thumbnail | None
    similar: tuple[SimilarCase, ...]


def wrong_answers(errors: Sequence[Row], prepared: Prepared | None) -> tuple[WrongAnswer, ...]:
    """Return the wrong answers with their similar cases; photos only where there are such cases.

    Args:
        errors: rows of `TaskScores.errors`.
        prepared: the dataset that photos are read from; None: there are none.
    """
    photos = _Photos(prepared)
    return tuple(
        WrongAnswer(
            row,
            photos.of_case(row["encounter"]) if row.get("neighbours") else None,
            tuple(_similar(near, photos) for near in row.get("neighbours", ())),
        )
        for row in errors
    )


def _similar(row: Row, photos: "_Photos") -> SimilarCase:
    kind, words = _AGREES[row["agrees"]] if row["answer"] else ("", "answer unknown")
    return SimilarCase(row, words, kind, photos.of_image(row["image_id"]))


class _Photos:
    """Thumbnails of a dataset's photos, each made once."""

    def __init__(self, prepared: Prepared | None) -> None:
        self._prepared = prepared
        self.of_image = cache(self._of_image)

    def of_case(self, case: str) -> Thumbnail | None:
        return next((photo for name in self._images(case) if (photo := self.of_image(name)) is not None), None)

    def _images(self, case: str) -> Iterator[str]:
        if self._prepared is not None and case in self._prepared.cases:
            yield from self._prepared.cases[case].image_ids

    def _of_image(self, name: str) -> Thumbnail | None:
        record = None if self._prepared is None else self._prepared.images.get(name)
        if record is None or record.path is None:
            return None
        try:
            picture = open_record(record, at_least=_SIDE)
        except DataError:
            return None  # the page is of use without it
        picture.thumbnail((_SIDE, _SIDE))
        return Thumbnail(page.data_uri(picture, _SIDE, _BYTES), picture.size)
