"""What contrastive pretraining is scored against: the classes, concepts and texts of photos."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from magic_cli.data.gold import TaskGold
from magic_cli.data.texts.pair_texts import class_of, concepts_of, pair_texts
from magic_cli.records import Sample

T = TypeVar("T")


@dataclass(frozen=True)
class PairGold(TaskGold):
    """The gold of photos, by image id.

    Attributes:
        classes: class of each photo that has one, in words.
        concepts: what is seen on each photo whose case has a concept text.
        texts: raw text of each photo that has one.
        groups: what must not be resampled apart: the group of its case, else the case.
        photos: path of each photo that is a file of its own.
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    concepts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    photos: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.groups)

    def only(self, ids: Collection[str]) -> Self:
        """Return the gold restricted to these photos."""
        return replace(
            self,
            classes=_of(self.classes, ids),
            concepts=_of(self.concepts, ids),
            texts=_of(self.texts, ids),
            groups=_of(self.groups, ids),
            photos=_of(self.photos, ids),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The distinct classes, sorted."""
        return tuple(sorted(set(self.classes.values())))

    @property
    def concept_names(self) -> tuple[str, ...]:
        """The distinct concepts, sorted."""
        return tuple(sorted({concept for seen in self.concepts.values() for concept in seen}))


def _of(values: Mapping[str, T], ids: Collection[str]) -> dict[str, T]:
    return {key: value for key, value in values.items() if key in ids}


def pair_gold(source: str, samples: Iterable[Sample]) -> PairGold:
    """Return the gold of samples whose cases have their pair texts; all that is missing is left out."""
    classes: dict[str, str] = {}
    concepts: dict[str, frozenset[str]] = {}
    texts: dict[str, str] = {}
    groups: dict[str, str] = {}
    photos: dict[str, str] = {}
    for sample in samples:
        case, said = sample.case, pair_texts(sample.case)
        groups[sample.id] = case.group_id or case.case_id
        if name := class_of(case):
            classes[sample.id] = name
        if said.concept:
            concepts[sample.id] = frozenset(concepts_of(case))
        if said.raw:
            texts[sample.id] = said.raw
        photo = sample.images[0]
        if photo.path is not None and photo.packed is None:
            photos[sample.id] = photo.path
    return PairGold(source, classes, concepts, texts, groups, photos)
