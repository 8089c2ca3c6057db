"""The gallery of a report: a card of each photo with its outlines and scores, what it is sorted and filtered by."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import MaskGold
from magic_cli.errors import DataError
from magic_cli.io.progress import track
from magic_cli.records import Mask, TaskScores
from magic_cli.report import overlays
from magic_cli.report.gallery.outlines import UNITS, outline
from magic_cli.report.gallery.photos import Photo, PhotoStore, Quality, quality_for
from magic_cli.report.score_report import PhotoChoice
from magic_cli.report.score_text import is_defined
from magic_cli.report.verdict import LOW

Row = Mapping[str, Any]

Masks = Mapping[str, Callable[[], Mask]]

Small = NDArray[np.bool_]

WORST = 24  # photos of --photos worst, and those that are printed

MOST = 1_000  # photos of a gallery: more would make a page that no browser likes

_MANY = 40  # photos from which a progress bar is of use

_AGREE = 0.7  # mean Dice of annotators below which they disagree

_APART = 0.1  # difference of two systems' Dice that is worth a look


@dataclass(frozen=True, slots=True)
class Layer:
    """Outlines that are switched on and off together: CSS class, name for people, and how they are drawn."""

    key: str
    name: str
    line: overlays.Line


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to sort or to filter: the id of its button, its label, and the number of photos that it leaves."""

    key: str
    label: str
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A photo of the gallery.

    Attributes:
        number: its place, worst first; `image` and `encounter` are its ids.
        photo: the embedded photo, None without one. size: (width, height) of the picture in pixels.
        outlines: class of the layer, path of SVG, and number of the path, of each mask that is not empty.
        scores: name of each system and its Dice with the best annotator, None if it is not defined.
        fault: why the first system's mask counts as zero, "".
        gain: Dice of the first system less that of the second; None without.
        annotators: name, how it is drawn, and the first system's Dice against it.
        agreement: mean Dice of all pairs of annotators, None of a single one.
        lesion, predicted: shares of the photo; the mean over annotators, and of the first system.
        classes: which filters keep it. order: CSS properties that it is sorted by.
        link: relative URL of the photo's file, "" without.
    """

    number: int
    image: str
    encounter: str
    photo: Photo | None
    size: tuple[int, int]
    outlines: tuple[tuple[str, str, int], ...]
    scores: tuple[tuple[str, float | None], ...]
    fault: str
    gain: float | None
    annotators: tuple[tuple[str, overlays.Line, float | None], ...]
    agreement: float | None
    lesion: float | None
    predicted: float | None
    classes: str
    order: str
    link: str

    @property
    def units(self) -> tuple[int, int]:
        """Width and height in the units of the paths."""
        return UNITS * self.size[0], UNITS * self.size[1]

    def has_layer(self, key: str) -> bool:
        """Return whether any outline of a layer is on this photo."""
        return any(layer == key for layer, _, _ in self.outlines)


@dataclass(frozen=True, slots=True)
class Gallery:
    """The photos of a task with masks.

    Attributes:
        cards: worst first.
        layers: of systems, then of annotators. systems: names, the first is the one that cards are sorted by.
        sorts, filters: ways to look at them. total: photos that are scored.
        choice: "all", "worst" or "none". worst: ids, the worst first, at most WORST.
    """

    cards: tuple[Card, ...]
    layers: tuple[Layer, ...]
    annotators: tuple[Layer, ...]
    systems: tuple[str, ...]
    sorts: tuple[Choice, ...]
    filters: tuple[Choice, ...]
    total: int
    choice: PhotoChoice
    ids: tuple[str, ...]

    @property
    def has_photos(self) -> bool:
        """Whether any photo is shown, not only outlines."""
        return any(card.photo for card in self.cards)


def gallery(
    systems: Mapping[str, TaskScores],
    gold: MaskGold,
    masks: Mapping[str, Masks],
    store: PhotoStore,
    choice: PhotoChoice,
    link: Callable[[str | None], str],
) -> Gallery:
    """Return the gallery of a task with masks.

    Args:
        systems: scores by system; the first one is shown in detail.
        gold: the annotators' masks and the photos of the report's gold.
        masks: by system, readers of its masks, (H, W) uint8 {0, 1}, by image.
        store: the page's photos, to which those of the gallery are added.
        choice: which photos are shown.
        link: gives the relative URL of a photo's file, "" without one.
    """
    names = tuple(systems)[: len(overlays.SYSTEMS)]
    rows = {name: {item["image"]: item for item in systems[name].per_item} for name in names}
    ranked = sorted(rows[names[0]].values(), key=lambda item: (_dice(item, -1.0), item["image"]))
    shown = {"all": ranked[:MOST], "worst": ranked[:WORST], "none": []}[choice]
    quality = quality_for(len(shown))
    small = _small_lesions(ranked)
    layers = tuple(Layer(f"s{n}", name, overlays.SYSTEMS[n]) for n, name in enumerate(names))
    builder = _Builder(gold, masks, rows, layers, store, quality, small, link)
    wanted: Iterable[Row] = track(shown, "drawing photos", len(shown)) if len(shown) > _MANY else shown
    cards = tuple(card for n, item in enumerate(wanted) if (card := builder.card(n, item)) is not None)
    return Gallery(
        cards=cards,
        layers=layers,
        annotators=_annotator_layers(cards),
        systems=names,
        sorts=tuple(_sorts(names, cards)),
        filters=tuple(_filters(cards, names)),
        total=len(ranked),
        choice=choice,
        ids=tuple(item["image"] for item in ranked[:WORST]),
    )


def _dice(item: Row, other: float) -> float:
    return item["dice_max"] if is_defined(item["dice_max"]) else other


def _small_lesions(items: Sequence[Row]) -> float:
    """Return the lesion size, a share of the photo, up to which a quarter of the lesions is."""
    sizes = sorted(item["lesion"] for item in items if (item["lesion"] or 0) > 0)
    return sizes[(len(sizes) - 1) // 4] if sizes else 0.0


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes cards; `rows` has the report's row of each image by system, `small` is the size of a small lesion."""

    gold: MaskGold
    masks: Mapping[str, Masks]
    rows: Mapping[str, Mapping[str, Row]]
    layers: tuple[Layer, ...]
    store: PhotoStore
    quality: Quality
    small: float
    link: Callable[[str | None], str]

    def card(self, number: int, item: Row) -> Card | None:
        """Return the card of a photo; None where its gold cannot be read, which scoring has already reported."""
        image = item["image"]
        drawn = self._annotators(image)
        if drawn is None:
            return None
        size, people = drawn
        outlines = [
            (layer.key, outline(mask)) for layer in self.layers if (mask := self._mask(layer, image, size)) is not None
        ]
        outlines += [(f"a{_number(name, k)}", outline(mask)) for k, (name, mask) in enumerate(people.items())]
        path = self.gold.photos.get(image)
        picture = overlays.photo_at(path, size, self.gold.upright.get(image)) if self.store.are_shown else None
        scores = [(layer.name, self._score(layer, image)) for layer in self.layers]
        gain = None
        if len(scores) > 1 and scores[0][1] is not None and scores[1][1] is not None:
            gain = scores[0][1] - scores[1][1]
        agreement = _agreement(list(people.values()))
        return Card(
            number=number,
            image=image,
            encounter=item["encounter"],
            photo=None if picture is None else self.store.add(image, picture, self.quality, number),
            size=(size[1], size[0]),
            outlines=tuple((key, path, k) for k, (key, path) in enumerate(outlines) if path),
            scores=tuple(scores),
            fault=item["fault"].partition(": ")[0],  # the rest names the file
            gain=gain,
            annotators=tuple(
                (name, overlays.line_of(_number(name, k)), item.get(f"dice_{name}")) for k, name in enumerate(people)
            ),
            agreement=agreement,
            lesion=item["lesion"],
            predicted=item.get("predicted"),
            classes=" ".join(self._classes(item, gain, agreement)),
            order=_order([value for _, value in scores], item["lesion"], gain, agreement),
            link="" if picture is None else self.link(path),
        )

    def _annotators(self, image: str) -> tuple[tuple[int, int], dict[str, Small]] | None:
        """Return the (height, width) of the picture, and the annotators' masks at this size; None without masks."""
        found = self.gold.images.get(image)
        if found is None:
            return None
        size: tuple[int, int] | None = None
        small = {}
        try:
            for name, mask in zip(found.annotators, found.masks(), strict=False):
                size = size or overlays.picture_size((mask.shape[0], mask.shape[1]), self.quality.side)
                small[name] = overlays.shrink(mask, size)
        except DataError:
            return None
        return None if size is None else (size, small)

    def _mask(self, layer: Layer, image: str, size: tuple[int, int]) -> Small | None:
        """Return a system's mask at the picture's size; None where it has none of the photo's proportions."""
        readers = self.masks.get(layer.name, {})
        if image not in readers or self.rows[layer.name].get(image, {}).get("fault"):
            return None
        try:
            return overlays.shrink(readers[image](), size)
        except DataError:
            return None

    def _score(self, layer: Layer, image: str) -> float | None:
        item = self.rows[layer.name].get(image)
        return item["dice_max"] if item is not None and is_defined(item["dice_max"]) else None

    def _classes(self, item: Row, gain: float | None, agreement: float | None) -> Iterator[str]:
        if _dice(item, 1.0) < LOW:
            yield "low"
        if 0 < (item["lesion"] or 0) <= self.small:
            yield "small"
        if item.get("predicted") == 0:
            yield "empty"
        if agreement is not None and agreement < _AGREE:
            yield "disagree"
        if item["fault"]:
            yield "fault"
        if gain is not None and abs(gain) >= _APART:
            yield "apart"


def _number(name: str, place: int) -> int:
    """Return the number in an annotator's name, which decides the colour; the place without one."""
    digits = name.removeprefix("ann")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else place


def _agreement(masks: Sequence[Small]) -> float | None:
    """Return the mean Dice of all pairs of annotators, at the size of the picture; None of a single one."""
    if len(masks) < 2:
        return None
    areas = [int(mask.sum()) for mask in masks]
    pairs = [
        2 * int((masks[i] & masks[k]).sum()) / (areas[i] + areas[k]) if areas[i] + areas[k] else 1.0
        for i, k in combinations(range(len(masks)), 2)
    ]
    return sum(pairs) / len(pairs)


def _order(scores: Sequence[float | None], lesion: float | None, gain: float | None, agreement: float | None) -> str:
    """Return the CSS properties of a card that it is sorted by, whole numbers; what is not defined comes first."""
    values = [(f"d{k}", score, 1e4) for k, score in enumerate(scores)]
    values += [("size", lesion, 1e6), ("gain", gain, 1e4), ("agree", agreement, 1e4)]
    return ";".join(f"--{name}:{round(value * unit)}" for name, value, unit in values if value is not None)


def _sorts(systems: Sequence[str], cards: Sequence[Card]) -> Iterator[Choice]:
    several = len(systems) > 1
    for k, name in enumerate(systems):
        of = f" of {name}" if several else ""
        yield Choice(f"d{k}", f"Dice{of}, lowest first")
        if k == 0:
            yield Choice("best", f"Dice{of}, highest first")
    if any(card.lesion for card in cards):
        yield Choice("size", "smallest lesion first")
    if several:
        yield Choice("lost", f"{systems[0]} most below {systems[1]} first")
        yield Choice("won", f"{systems[0]} most above {systems[1]} first")
    if any(card.agreement is not None for card in cards):
        yield Choice("agree", "annotators disagree most first")


def _filters(cards: Sequence[Card], systems: Sequence[str]) -> Iterator[Choice]:
    labels = {
        "low": f"Dice below {LOW}",
        "small": "smallest quarter of lesions",
        "empty": "empty prediction",
        "disagree": f"annotators disagree (Dice below {_AGREE})",
        "apart": f"systems differ by {_APART} or more" if len(systems) > 1 else "",
        "fault": "mask counts as zero",
    }
    yield Choice("every", "all", len(cards))
    for key, label in labels.items():
        count = sum(key in card.classes.split() for card in cards)
        if count:
            yield Choice(key, label, count)


def _annotator_layers(cards: Sequence[Card]) -> tuple[Layer, ...]:
    """Return a layer per annotator that any card shows, by number."""
    found: dict[int, Layer] = {}
    for card in cards:
        for place, (name, line, _) in enumerate(card.annotators):
            found.setdefault(_number(name, place), Layer(f"a{_number(name, place)}", name, line))
    return tuple(found[number] for number in sorted(found))
