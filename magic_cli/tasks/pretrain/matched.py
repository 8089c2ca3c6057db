"""Predictions beside their gold: photos by id or file name, classes and concepts by name, never by position."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.issues import counted
from magic_cli.data.pair_gold import PairGold
from magic_cli.data.prompts import name_key
from magic_cli.errors import DataError, problem, shorten
from magic_cli.submission.pairs import SubmittedPair, Vector
from magic_cli.tasks.pretrain.predictions import PairPrediction

Pair = PairPrediction | SubmittedPair


@dataclass(frozen=True, eq=False)
class Classes:
    """Zero-shot classification of n photos.

    Attributes:
        ids: of the photos.
        names: of the C classes.
        scores: float32 (n, C).
        gold: int64 (n,), the photos' classes.
        are_ranked: False where only the chosen class is known, so that there is no AUROC.
    """

    ids: Sequence[str]
    names: tuple[str, ...]
    scores: NDArray[np.float32]
    gold: NDArray[np.int64]
    are_ranked: bool = True


@dataclass(frozen=True, eq=False)
class Concepts:
    """Concept scores (n, K) of n photos; `positive` says whether they are seen, `known` whether that is known, bool."""

    ids: Sequence[str]
    names: tuple[str, ...]
    scores: NDArray[np.float32]
    positive: NDArray[np.bool_]
    known: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Vectors (n, d) of n photos and of their texts, and the texts themselves."""

    ids: Sequence[str]
    images: Vector
    vectors: Vector
    texts: Sequence[str]


@dataclass(frozen=True, eq=False)
class Matched:
    """What can be scored; None for what the predictions or the gold lack.

    `presence` are the classes as concepts: of each photo its own class is there, all others are not. `heat` are maps
    of photos in files, (h, w); those of a training are not scored.
    """

    ids: Sequence[str]
    classes: Classes | None
    concepts: Concepts | None
    retrieval: Retrieval | None
    notes: tuple[str, ...]
    presence: Concepts | None = None
    heat: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def matched(gold: PairGold, predictions: Iterable[Pair]) -> Matched:
    """Return predictions beside their gold.

    Raises:
        DataError: a photo is predicted twice, no photo of the gold is predicted, nothing of the gold was asked for; or,
            with gold that `is_closed`, one of its classes or concepts was not.
    """
    pairs = _by_photo(gold, predictions)
    notes = list(_missing(gold, pairs))
    classes = _classes(gold, pairs, notes)
    concepts = _concepts(gold, pairs, notes)
    rows = [(name, pair.image, pair.text) for name, pair in pairs.items() if name in gold.texts]
    found = [(name, image, text) for name, image, text in rows if image is not None and text is not None]
    retrieval = None
    if len(found) > 1:
        ids, images, texts = zip(*found, strict=True)
        retrieval = Retrieval(ids, np.stack(images), np.stack(texts), [gold.texts[name] for name in ids])
    if classes is None and concepts is None and retrieval is None:
        got = f"nothing that these predictions are about{''.join(f'; {note}' for note in notes)}"
        expected = "classes, concepts or texts of the predicted photos"
        raise DataError(problem(gold.source, got, expected, "predict what this gold holds, or give another one"))
    heat = {n: pair.heat for n, pair in pairs.items() if isinstance(pair, SubmittedPair) and pair.heat is not None}
    return Matched(tuple(pairs), classes, concepts, retrieval, tuple(notes), _presence(classes, pairs), heat)


def _by_photo(gold: PairGold, predictions: Iterable[Pair]) -> dict[str, Pair]:
    names = _Photos(gold)
    pairs: dict[str, Pair] = {}
    others = 0
    for pair in predictions:
        name = names.find(pair.id)
        if name is None:
            others += 1
        elif name in pairs:
            raise DataError(problem(pair.id, "a photo that is predicted twice", "once", "remove one of them"))
        else:
            pairs[name] = pair
    if not pairs and others:
        got = f"none of the {others} predicted photos ({len(gold.groups)} others)"
        raise DataError(
            problem(
                gold.source, got, "the same ids or file names", "give the --split that was predicted, or another gold"
            )
        )
    return pairs


class _Photos:
    """Finds photos of a gold by their ids, paths, or names with or without suffix, where these are one photo's only."""

    def __init__(self, gold: PairGold) -> None:
        self._ids = gold.groups.keys()
        written = [(name, name) for name in gold.groups] + [(path, name) for name, path in gold.photos.items()]
        self._shorter: dict[str, str] = {}
        for level in (_file_name, _stem):
            keys = {(level(path), name) for path, name in written}
            counts = Counter(key for key, _ in keys)
            self._shorter |= {key: name for key, name in keys if counts[key] == 1 and key not in self._shorter}

    def find(self, written: str) -> str | None:
        """Return the id of a photo as predictions write it, None for a photo of no gold."""
        if written in self._ids:
            return written
        found = (self._shorter.get(key) for key in (_file_name(written), _stem(written)))
        return next(filter(None, found), None)


def _file_name(path: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(PureWindowsPath(path).as_posix()).name)


def _stem(path: str) -> str:
    return PurePosixPath(_file_name(path)).stem


def _missing(gold: PairGold, pairs: Mapping[str, Pair]) -> Iterator[str]:
    known = gold.classes.keys() | gold.concepts.keys() | gold.texts.keys()
    missing = sorted(known - pairs.keys())
    if missing:
        of = f"{len(missing)} of {len(known)} photos with gold have no prediction ({shorten(missing, most=3)})"
        yield f"{of}: the scores are of the others only, and not comparable with those of all photos"


def _classes(gold: PairGold, pairs: Mapping[str, Pair], notes: list[str]) -> Classes | None:
    rows = {name: pair for name, pair in pairs.items() if name in gold.classes}
    scored = {name: pair for name, pair in rows.items() if pair.class_scores is not None}
    if not scored:
        return _chosen(
            gold, {n: pair for n, pair in rows.items() if isinstance(pair, SubmittedPair) and pair.predicted}
        )
    names = next(iter(scored.values())).classes
    place = _places(names, "classes", gold.source)
    if gold.is_numbered and not {name_key(label) for label in gold.classes.values()} & place.keys():
        place = {str(number): number for number in range(len(names))}
        notes.append("the gold's classes are numbers: places in the predictions' list of classes, from 0")
    usable = _usable(gold, "classes", {gold.classes[name] for name in scored}, place, notes)
    lost = [name for name in scored if gold.classes[name] not in usable]
    if lost:
        counts = counted(len(lost), "photo of these classes is", "photos of these classes are")
        notes.append(f"{counts} in no score of classes, which has {len(scored) - len(lost):,} photos")
    kept = {name: pair for name, pair in scored.items() if gold.classes[name] in usable}
    if len(names) < 2 or not kept:
        return None
    scores = np.stack([pair.class_scores for pair in kept.values() if pair.class_scores is not None])
    truth = np.array([place[name_key(gold.classes[name])] for name in kept], np.int64)
    return Classes(tuple(kept), names, scores, truth)


def _presence(classes: Classes | None, pairs: Mapping[str, Pair]) -> Concepts | None:
    if classes is None or not classes.are_ranked:
        return None
    rows = [pairs[name].presence for name in classes.ids]
    there = [row for row in rows if row is not None]
    if len(there) < len(rows):
        return None
    positive = np.arange(len(classes.names)) == classes.gold[:, None]
    return Concepts(classes.ids, classes.names, np.stack(there), positive, np.ones_like(positive))


def _chosen(gold: PairGold, rows: Mapping[str, SubmittedPair]) -> Classes | None:
    """Return classes of which only the chosen one is known, scored 1, among all that are chosen or gold."""
    keys = {name_key(gold.classes[name]): gold.classes[name] for name in rows}
    keys |= {key: pair.predicted for pair in rows.values() if (key := name_key(pair.predicted)) not in keys}
    order = sorted(keys)
    if len(order) < 2:
        return None
    place = {key: number for number, key in enumerate(order)}
    scores = np.zeros((len(rows), len(order)), np.float32)
    for row, pair in enumerate(rows.values()):
        scores[row, place[name_key(pair.predicted)]] = 1
    truth = np.array([place[name_key(gold.classes[name])] for name in rows], np.int64)
    return Classes(tuple(rows), tuple(keys[key] for key in order), scores, truth, are_ranked=False)


def _concepts(gold: PairGold, pairs: Mapping[str, Pair], notes: list[str]) -> Concepts | None:
    rows = {n: pair for n, pair in pairs.items() if n in gold.concepts and pair.concept_scores is not None}
    if not rows:
        return None
    names = next(iter(rows.values())).concepts
    place = _places(names, "concepts", gold.source)
    usable = _usable(gold, "concepts", gold.concept_names, place, notes)
    if not usable:
        return None
    order = sorted(usable, key=lambda name: place[name_key(name)])
    columns = [place[name_key(name)] for name in order]
    scores = np.stack([pair.concept_scores for pair in rows.values() if pair.concept_scores is not None])[:, columns]
    positive = _flags(order, [gold.concepts[name] for name in rows])
    unknown = _flags(order, [gold.unknown.get(name, frozenset()) for name in rows])
    return Concepts(tuple(rows), tuple(order), scores, positive, ~unknown)


def _flags(names: Sequence[str], rows: Sequence[Collection[str]]) -> NDArray[np.bool_]:
    flags = np.zeros((len(rows), len(names)), np.bool_)
    place = {name_key(name): number for number, name in enumerate(names)}
    for row, seen in enumerate(rows):
        flags[row, [place[key] for key in map(name_key, seen) if key in place]] = True
    return flags


def _places(names: Sequence[str], kind: str, source: str) -> dict[str, int]:
    place = {name_key(name): number for number, name in enumerate(names)}
    if len(place) < len(names):
        got = f"predicted {kind} whose names differ in capitals or blanks only"
        raise DataError(problem(source, got, "names that differ", "predict again with other names"))
    return place


def _usable(
    gold: PairGold, kind: str, wanted: Collection[str], place: Mapping[str, int], notes: list[str]
) -> Collection[str]:
    """Return the names of the gold that were asked for; a note or an error tells the others."""
    is_known: Callable[[str], bool] = lambda name: name_key(name) in place  # noqa: E731
    usable, lost = {n for n in wanted if is_known(n)}, sorted(n for n in wanted if not is_known(n))
    if lost and gold.is_closed:
        got, option = f"{kind} that were not asked for ({shorten(lost, most=5)})", f"--{kind}"
        raise DataError(problem(gold.source, got, "the names in the predictions", f"predict with {option}, or rename"))
    if lost:
        counts = counted(len(lost), f"of the gold's {kind} was", f"of the gold's {kind} were")
        notes.append(f"{counts} not asked for: {shorten(lost, most=5)}")
    return usable
