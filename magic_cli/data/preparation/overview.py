"""What a prepared dataset looks like: the balance of answers and attributes, the sizes of photos and of lesions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from magic_cli.records import SPLITS

LESION_EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # finer where most lesions are


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values of each split lie in [edges[k], edges[k + 1]); the last of these ranges includes its end."""

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]

    @property
    def total(self) -> tuple[int, ...]:
        """The counts of all splits together."""
        return tuple(map(sum, zip(*self.counts.values(), strict=True)))


@dataclass(frozen=True, slots=True)
class AnswerBalance:
    """The gold answers to one closed question, in the words of the definitions file.

    `cases` are answered, by split; `counts` are those whose answer has an option, by split and in the order of
    `options`: an answer may have several, and "Not mentioned" counts only where it is all. `only` are the options that
    every case has and no other, () if cases differ.
    """

    question: str
    options: tuple[str, ...]
    cases: Mapping[str, int]
    counts: Mapping[str, tuple[int, ...]]
    only: tuple[str, ...] = ()

    def untaught(self) -> list[str]:
        """Return the options that are an answer in valid or test and never in train, where train has answers."""
        if not self.cases["train"]:
            return []
        elsewhere = [sum(self.counts[split][k] for split in SPLITS[1:]) for k in range(len(self.options))]
        return [
            option
            for option, learned, asked in zip(self.options, self.counts["train"], elsewhere, strict=True)
            if asked and not learned
        ]


@dataclass(frozen=True, slots=True)
class AttributeBalance:
    """The values of one attribute of the cases.

    `kinds` is the number of different values, `MOST_KINDS` if there are as many or more; `without` are the cases that
    have none, by split. `counts` maps values to cases by split, most frequent first; it is empty for identifiers, free
    text, and whatever else has so many values that they hardly repeat. `numbers` is the histogram of numbers of many
    kinds, such as ages.
    """

    kinds: int
    counts: Mapping[str, Mapping[str, int]]
    without: Mapping[str, int]
    numbers: Histogram | None = None


@dataclass(frozen=True, slots=True)
class PhotoSizes:
    """Sizes in pixels: `kinds` of them, the most `frequent` ("640 x 480" to photos), and the shorter side of photos."""

    kinds: int
    frequent: Mapping[str, int]
    shortest: int
    median: float
    longest: int
    shorter_sides: Histogram


@dataclass(frozen=True, slots=True)
class Overview:
    """The balance of a prepared dataset.

    Attributes:
        answers: by closed question; {} without any answer.
        attributes: by name; {} without any.
        photos_per_case: a number of usable photos, as text, to cases by split; "0" for a case without.
        with_text: cases by split that have a photo and a text that it can be paired with.
        photos: None without any.
        lesions: share of a photo that a mask marks; None without any mask.
    """

    answers: Mapping[str, AnswerBalance] = field(default_factory=dict)
    attributes: Mapping[str, AttributeBalance] = field(default_factory=dict)
    photos_per_case: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    with_text: Mapping[str, int] = field(default_factory=dict)
    photos: PhotoSizes | None = None
    lesions: Histogram | None = None

    def constant(self) -> dict[str, tuple[str, ...]]:
        """Return the questions that have one answer throughout, with its options."""
        return {parent: balance.only for parent, balance in self.answers.items() if balance.only}


def histogram(
    values: Mapping[str, Mapping[int, int]] | Mapping[str, Mapping[float, int]], edges: Sequence[float]
) -> Histogram:
    """Return the histogram of values with their numbers, by split; values beyond the edges are left out.

    >>> histogram({"train": {0.5: 2, 1.0: 1, 2.0: 4}, "valid": {}, "test": {}}, (0, 1, 2)).counts["train"]
    (2, 5)
    """
    counts = {
        split: tuple(map(int, np.histogram(list(numbers), edges, weights=list(numbers.values()) or None)[0]))
        for split, numbers in values.items()
    }
    return Histogram(tuple(edges), counts)


def even_edges(lowest: float, highest: float, most: int = 16) -> tuple[float, ...]:
    """Return the edges of up to `most` ranges of one round width that hold all values from `lowest` to `highest`.

    >>> even_edges(5, 85), even_edges(0.2, 0.2)
    ((0, 10, 20, 30, 40, 50, 60, 70, 80, 90), (0.2, 0.3))
    """
    span = highest - lowest
    exponents = range(-9, 13) if span else (-1,)
    for width in (digit * 10.0**power for power in exponents for digit in (1, 2, 5)):
        first = int(np.floor(lowest / width + 1e-9))
        ranges = int(np.floor(highest / width + 1e-9)) + 1 - first
        if ranges <= most:
            edges = [round((first + k) * width, 9) for k in range(ranges + 1)]
            return tuple(int(edge) if edge == int(edge) else edge for edge in edges)
    return (lowest, highest)


def overview_of_row(row: Mapping[str, Any]) -> Overview:
    """Return the overview of a parsed prepare.json that schemas/prepared.schema.json allows."""
    photos = row["photos"]
    return Overview(
        answers={parent: _answers(balance) for parent, balance in row["answers"].items()},
        attributes={
            name: AttributeBalance(**{**balance, "numbers": _histogram(balance["numbers"])})
            for name, balance in row["attributes"].items()
        },
        photos_per_case=row["photos_per_case"],
        with_text=row["with_text"],
        photos=photos and PhotoSizes(**{**photos, "shorter_sides": _histogram(photos["shorter_sides"])}),
        lesions=_histogram(row["lesions"]),
    )


def _answers(row: Mapping[str, Any]) -> AnswerBalance:
    counts = {split: tuple(numbers) for split, numbers in row["counts"].items()}
    return AnswerBalance(row["question"], tuple(row["options"]), row["cases"], counts, tuple(row["only"]))


def _histogram(row: Mapping[str, Any] | None) -> Histogram | None:
    if row is None:
        return None
    return Histogram(tuple(row["edges"]), {split: tuple(numbers) for split, numbers in row["counts"].items()})
