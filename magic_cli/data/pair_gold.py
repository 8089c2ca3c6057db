"""What contrastive pretraining is scored against: the classes, concepts and texts of photos."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from magic_cli.data.gold import MaskGold, TaskGold, mask_gold
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared
from magic_cli.data.prompts import name_key
from magic_cli.data.texts.pair_texts import class_of, concepts_of, pair_texts
from magic_cli.records import SPLITS, Case, Sample

T = TypeVar("T")


@dataclass(frozen=True)
class PairGold(TaskGold):
    """The gold of photos, by image id.

    Attributes:
        classes: class of each photo that has one, in words.
        concepts: what is seen on each photo of which that is known.
        texts: raw text of each photo that has one.
        subtexts: its sentences, in the order in which a model sees them.
        groups: what must not be resampled apart: the group of its case, else the case; the keys are all photos.
        photos: path of each photo that is a file of its own.
        upright: ids of the photos whose EXIF orientation has to be applied.
        unknown: concepts of which a photo's table does not say whether they are seen.
        known_classes: the classes to choose from where they are known beyond those of the photos, in their order.
        known_concepts: likewise.
        masks: the annotators' masks of the photos, and the training mean mask; None where they are not known.
        is_numbered: classes are numbers from 0 on, places in a list of classes that the gold does not have.
        is_closed: every class and concept is meant to be scored: predictions that lack one are refused.
        notes: remarks for the reader of the scores.
        majority: the most frequent class of the training photos, "" where these are not known.
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    concepts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    subtexts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    photos: Mapping[str, str] = field(default_factory=dict)
    upright: frozenset[str] = frozenset()
    unknown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    known_classes: tuple[str, ...] = ()
    known_concepts: tuple[str, ...] = ()
    masks: MaskGold | None = None
    is_numbered: bool = False
    is_closed: bool = False
    notes: tuple[str, ...] = ()
    majority: str = ""

    def __len__(self) -> int:
        """Return the number of photos that have a class, concepts or a text."""
        return len(self.classes.keys() | self.concepts.keys() | self.texts.keys())

    def only(self, ids: Collection[str]) -> Self:
        """Return the gold restricted to these photos."""
        return replace(
            self,
            classes=_kept(self.classes, ids),
            concepts=_kept(self.concepts, ids),
            texts=_kept(self.texts, ids),
            subtexts=_kept(self.subtexts, ids),
            groups=_kept(self.groups, ids),
            photos=_kept(self.photos, ids),
            upright=self.upright.intersection(ids),
            unknown=_kept(self.unknown, ids),
            masks=None if self.masks is None else self.masks.only(ids),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes to choose from: those that are known, else the distinct classes of the photos, sorted."""
        return self.known_classes or distinct_names(self.classes.values())

    @property
    def concept_names(self) -> tuple[str, ...]:
        """The concepts: those that are known, else the distinct concepts of the photos, sorted."""
        return self.known_concepts or distinct_names(concept for seen in self.concepts.values() for concept in seen)


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct names, sorted; of spellings of one name (`name_key`) the most frequent, else the first."""
    spellings: dict[str, Counter[str]] = {}
    for name in names:
        spellings.setdefault(name_key(name), Counter())[name] += 1
    return tuple(sorted(max(sorted(found), key=found.__getitem__) for found in spellings.values()))


def _kept(values: Mapping[str, T], ids: Collection[str]) -> dict[str, T]:
    return {key: value for key, value in values.items() if key in ids}


def prepared_pair_gold(prepared: Prepared, split: str) -> PairGold:
    """Return the gold of a prepared split; where it has no classes, those of the other splits are the known ones."""
    gold = pair_gold(f"{prepared.root} (split {split})", pair_samples(prepared, split, needs_text=False))
    gold = replace(gold, masks=mask_gold(prepared, split))
    if gold.classes:
        return replace(gold, majority=_most_frequent(prepared.cases_of("train")))
    others = (pair_samples(prepared, other, needs_text=False) for other in SPLITS if other != split)
    names = (name for samples in others for sample in samples if (name := class_of(sample.case)))
    return replace(gold, known_classes=distinct_names(names))


def _most_frequent(cases: Iterable[Case]) -> str:
    """Return the class of the most photos, the first by name of several; "" without any."""
    photos: Counter[str] = Counter()
    for case in cases:
        if name := class_of(case):
            photos[name_key(name)] += len(case.image_ids)
    return min(photos, key=lambda name: (-photos[name], name), default="")


def pair_gold(source: str, samples: Iterable[Sample]) -> PairGold:
    """Return the gold of samples whose cases have their pair texts; all that is missing is left out."""
    classes: dict[str, str] = {}
    concepts: dict[str, frozenset[str]] = {}
    texts: dict[str, str] = {}
    subtexts: dict[str, tuple[str, ...]] = {}
    groups: dict[str, str] = {}
    upright: set[str] = set()
    photos: dict[str, str] = {}
    for sample in samples:
        case, said = sample.case, pair_texts(sample.case)
        groups[sample.id] = case.group_id or case.case_id
        if name := class_of(case):
            classes[sample.id] = name
        if said.concept:
            concepts[sample.id] = frozenset(concepts_of(case))
        if said.raw:
            texts[sample.id], subtexts[sample.id] = said.raw, said.subtexts
        photo = sample.images[0]
        if photo.path is not None and photo.packed is None:
            photos[sample.id] = photo.path
            upright |= {sample.id} if photo.upright else set()
    return PairGold(source, classes, concepts, texts, subtexts, groups, photos, frozenset(upright))
