"""Retrieval by example: photos with their nearest texts and similarity maps, texts with their nearest photos.

These show photos and words of patients; the page says so.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.imaging.images import open_photo
from magic_cli.data.pair_gold import PairGold
from magic_cli.errors import DataError
from magic_cli.records import TaskScores
from magic_cli.report import page
from magic_cli.report.pairs.heat import heat, limits
from magic_cli.submission.pairs import MapFile, PairFiles, Vectors, read_vectors

KINDS = ("Found", "Typical", "Failed")

SHOWN = 2  # of each kind and direction: at most a dozen photos and texts

NEAREST = 5

MOST_MAPS = 6  # of a photo

LONGEST = 260  # characters of a text

_SIDE, _SMALL = 300, 200

Item = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A text near to a photo, or a photo near to a text: its cosine, and whether it is the own one.

    `photos` is the number of photos that share a text, `source` a photo's data URI, "" without one.
    """

    cosine: float
    is_own: bool
    text: str = ""
    photos: int = 1
    image: str = ""
    source: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A similarity map over the photo: the text that it is of, and its own lowest and highest value."""

    role: str
    text: str
    source: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PhotoExample:
    """A photo, its nearest texts, the rank of its own, and its maps on one scale from `low` to `high`."""

    image: str
    label: str
    source: str
    rank: int
    nearest: tuple[Neighbour, ...]
    own: Neighbour
    maps: tuple[HeatMap, ...]
    more: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, its nearest photos, and the rank of its own; `own` is None where it is among the nearest."""

    image: str
    text: str
    rank: int
    nearest: tuple[Neighbour, ...]
    own: Neighbour | None


@dataclass(frozen=True, slots=True)
class RetrievalContent:
    """Examples by kind, both ways.

    Attributes:
        photos, texts: pairs of a kind and its examples.
        size: photos in the gallery; `distinct` texts are among theirs.
        chosen_from: photos that examples are chosen from.
        quartiles: of the ranks, photo to text and text to photo.
        chance: the median rank of a random order, None where it is unknown.
    """

    photos: tuple[tuple[str, tuple[PhotoExample, ...]], ...]
    texts: tuple[tuple[str, tuple[TextExample, ...]], ...]
    size: int
    distinct: int
    chosen_from: int
    quartiles: tuple[tuple[float, float, float], tuple[float, float, float]]
    chance: float | None

    @property
    def has_maps(self) -> bool:
        """Whether any photo has similarity maps."""
        return any(example.maps for _, examples in self.photos for example in examples)


def retrieval_content(
    scores: TaskScores, gold: PairGold, files: PairFiles | None, group_identical: bool = True
) -> RetrievalContent | None:
    """Return examples of retrieval, None without vectors or without texts.

    Examples are chosen by rank among the photos whose maps are kept, which are a random part of all
    (tasks/pretrain/write.py); each has another text.

    Args:
        scores: of the system, whose rows per item have the ranks.
        gold: texts and photos, by image id.
        files: of the system.
        group_identical: whether every photo with the very same text counts as the own one.

    Raises:
        SubmissionError: vectors or maps are damaged.
    """
    if files is None or files.vectors is None:
        return None
    vectors = read_vectors(files.vectors)
    gallery = _Gallery(vectors, gold, [item for item in scores.per_item if "i2t_rank" in item], group_identical)
    if not gallery.items:
        return None
    maps = MapFile(files.maps)
    kept = [item for item in gallery.items if item["image"] in maps.ids] or gallery.items
    photos = choose(kept, lambda item: gallery.rank(item, "i2t_rank"), gallery.text)
    texts = choose(kept, lambda item: gallery.rank(item, "t2i_rank"), gallery.text)
    return RetrievalContent(
        photos=tuple((kind, tuple(_photo_example(item, gallery, maps) for item in items)) for kind, items in photos),
        texts=tuple((kind, tuple(_text_example(item, gallery) for item in items)) for kind, items in texts),
        size=len(gallery.items),
        distinct=len(gallery.texts),
        chosen_from=len(kept),
        quartiles=(gallery.quartiles("i2t_rank"), gallery.quartiles("t2i_rank")),
        chance=scores.baselines.get("chance", {}).get("i2t_median_rank"),
    )


def choose(
    items: Sequence[Item], rank: Callable[[Item], int], text: Callable[[Item], str]
) -> list[tuple[str, list[Item]]]:
    """Return the examples of each kind, each of another text: the first, those around the median, the last by rank.

    Equal ranks are in the order of a hash of the image id, so that nobody picks.
    """
    ranked = sorted(items, key=lambda item: (rank(item), hashlib.sha256(str(item["image"]).encode()).digest()))
    middle = len(ranked) // 2
    around = sorted(range(len(ranked)), key=lambda place: (abs(place - middle), place))
    orders = ranked, ranked[::-1], [ranked[place] for place in around]
    used: set[str] = set()
    found = []
    for order in orders:
        kept: list[Item] = []
        for item in order:
            if len(kept) < SHOWN and text(item) not in used:
                used.add(text(item))
                kept.append(item)
        found.append(kept)
    good, failed, typical = found
    return [pair for pair in zip(KINDS, (good, typical, failed), strict=True) if pair[1]]


class _Gallery:
    """Photos and texts that are compared, each distinct text once."""

    def __init__(self, vectors: Vectors, gold: PairGold, items: Sequence[Item], group_identical: bool) -> None:
        place = {name: row for row, name in enumerate(vectors.ids) if vectors.text_of[row] >= 0}
        self.items = [item for item in items if item["image"] in place and item["image"] in gold.texts]
        self.gold, self.group_identical = gold, group_identical
        self.names = [str(item["image"]) for item in self.items]
        rows = [place[name] for name in self.names]
        self.images = vectors.images[rows]
        self.texts: dict[str, list[int]] = {}  # of each distinct text, the photos that have it
        for number, name in enumerate(self.names):
            self.texts.setdefault(gold.texts[name], []).append(number)
        first = [rows[numbers[0]] for numbers in self.texts.values()]
        self.vectors = vectors.texts[vectors.text_of[first]]
        self._number = {name: number for number, name in enumerate(self.names)}
        self._place = {text: number for number, text in enumerate(self.texts)}
        self._labels = {str(item["image"]): str(item.get("class", "")) for item in self.items}

    def text(self, item: Item) -> str:
        return self.gold.texts[str(item["image"])]

    def rank(self, item: Item, way: str) -> int:
        return round(float(str(item[way])))

    def quartiles(self, way: str) -> tuple[float, float, float]:
        low, middle, high = np.quantile([self.rank(item, way) for item in self.items], (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    def label(self, name: str) -> str:
        return self._labels[name]

    def near_texts(self, item: Item) -> tuple[list[Neighbour], Neighbour]:
        """Return the nearest texts of a photo, and its own."""
        own = self.text(item)
        cosines = self.vectors @ self.images[self._number[str(item["image"])]]
        texts = list(self.texts)

        def neighbour(place: int) -> Neighbour:
            text = texts[place]
            return Neighbour(float(cosines[place]), text == own, cut(text), len(self.texts[text]))

        return [neighbour(place) for place in _highest(cosines)], neighbour(self._place[own])

    def near_photos(self, item: Item) -> tuple[list[Neighbour], Neighbour | None]:
        """Return the nearest photos of a text; and its own, None if it is among these."""
        text, name = self.text(item), str(item["image"])
        cosines = self.images @ self.vectors[self._place[text]]
        own = set(self.texts[text]) if self.group_identical else {self._number[name]}

        def neighbour(place: int) -> Neighbour:
            image = self.names[place]
            source = page.data_uri(photo, _SMALL, 12_000) if (photo := self.photo(image, _SMALL)) else ""
            return Neighbour(float(cosines[place]), place in own, image=image, source=source, label=self.label(image))

        places = _highest(cosines)
        best = max(own, key=lambda place: cosines[place])
        return [neighbour(place) for place in places], None if own.intersection(places) else neighbour(best)

    def photo(self, name: str, side: int) -> Image.Image | None:
        """Return a photo, no side above `side`; None if there is no file that can be read."""
        path = self.gold.photos.get(name)
        if path is None:
            return None
        try:
            photo = open_photo(path, name in self.gold.upright, at_least=side)
        except DataError:
            return None
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        return photo


def _highest(cosines: NDArray[np.float32]) -> list[int]:
    places: list[int] = np.argsort(-cosines, kind="stable")[:NEAREST].tolist()
    return places


def cut(text: str) -> str:
    """Return a text that is not too long for the page."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _photo_example(item: Item, gallery: _Gallery, maps: MapFile) -> PhotoExample:
    name = str(item["image"])
    nearest, own = gallery.near_texts(item)
    photo = gallery.photo(name, _SIDE)
    values = maps.maps(name) if name in maps.ids else None
    shown: tuple[HeatMap, ...] = ()
    low = high = 0.0
    if values is not None and photo is not None:
        low, high = limits(list(values[:MOST_MAPS]))
        shown = tuple(_maps(values, photo, gallery.gold.subtexts.get(name, ()), cut(gallery.text(item))))
    return PhotoExample(
        image=name,
        label=gallery.label(name),
        source=page.data_uri(photo, _SIDE) if photo else "",
        rank=gallery.rank(item, "i2t_rank"),
        nearest=tuple(nearest),
        own=own,
        maps=shown,
        more=0 if values is None or photo is None else len(values) - len(shown),
        low=low,
        high=high,
    )


def _maps(values: NDArray[np.float32], photo: Image.Image, subtexts: Sequence[str], whole: str) -> Iterator[HeatMap]:
    """Yield the map of the whole text and of each sentence; sentences are named if there is one for each map."""
    low, high = limits(list(values[:MOST_MAPS]))
    small = photo.copy()
    small.thumbnail((_SMALL, _SMALL), Image.Resampling.LANCZOS)
    for number, each in enumerate(values[:MOST_MAPS]):
        text = whole if not number else cut(subtexts[number - 1]) if len(subtexts) == len(values) - 1 else ""
        source = page.data_uri(heat(small, each, low, high), _SMALL, 12_000)
        role = f"sentence {number}" if number else "whole text"
        yield HeatMap(role, text, source, float(each.min()), float(each.max()))


def _text_example(item: Item, gallery: _Gallery) -> TextExample:
    nearest, own = gallery.near_photos(item)
    return TextExample(
        image=str(item["image"]),
        text=cut(gallery.text(item)),
        rank=gallery.rank(item, "t2i_rank"),
        nearest=tuple(nearest),
        own=own,
    )
