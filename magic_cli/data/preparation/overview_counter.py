"""Count what the overview of a dataset tells, while its cases and photos pass by; memory does not grow with them."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from magic_cli.data.imaging.lesion_share import LesionShare
from magic_cli.data.preparation.overview import (
    LESION_EDGES,
    AnswerBalance,
    AttributeBalance,
    Histogram,
    Overview,
    PhotoSizes,
    even_edges,
    histogram,
)
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.sources.cells import number
from magic_cli.data.sources.source import CONCEPTS, LESION, PATIENT
from magic_cli.data.texts.pair_texts import has_text
from magic_cli.records import SPLITS, Case, ImageRecord

MOST_KINDS = 1_000  # different values of an attribute that are told apart

_ATTRIBUTES, _LISTED, _LONGEST = 200, 40, 60  # attributes, values of one that are listed, characters of such a value

_SIZES, _FREQUENT = 10_000, 6  # sizes of photos that are told apart, and that are listed

_FEW = 12  # numbers of so many kinds, such as a skin type, are listed like words


class OverviewCounter:
    """Counts of answers, attributes, photos per case and their sizes; photos come in the order of their cases."""

    def __init__(self, questions: QuestionSchema) -> None:
        """`questions` are the closed questions, none for data without."""
        self._questions = questions
        self._cases = Counter[str]()
        self._described = Counter[str]()
        self._answered = Counter[str]()
        self._options = {parent: Counter[tuple[str, int]]() for parent in questions.parents}
        self._first: dict[str, frozenset[int] | None] = {}  # of all cases so far, None once they differ
        self._attributes: dict[str, _Values] = {}
        self._sides = {split: Counter[int]() for split in SPLITS}
        self._sizes = Counter[tuple[int, int]]()
        self._per_case = {split: Counter[int]() for split in SPLITS}
        self._last: tuple[str, str, int] | None = None  # the case of the photos that pass by, its split, their number

    def add_case(self, case: Case) -> None:
        """Count a case."""
        split = case.split
        self._cases[split] += 1
        self._described[split] += bool(case.image_ids) and has_text(case)
        if case.answers is not None:
            self._answered[split] += 1
            for parent, given in self._questions.to_sets(case.answers).items():
                options = given - {self._questions.not_mentioned(parent)} or given  # it pads slots that are left over
                self._options[parent].update((split, option) for option in options)
                if self._first.setdefault(parent, options) != options:
                    self._first[parent] = None
        for name, value in case.attributes.items():
            if value and (name in self._attributes or len(self._attributes) < _ATTRIBUTES):
                self._attributes.setdefault(name, _Values(name)).add(value, split)

    def add_image(self, image: ImageRecord) -> None:
        """Count a photo."""
        self._sides[image.split][min(image.height, image.width)] += 1
        size = image.width, image.height
        if size in self._sizes or len(self._sizes) < _SIZES:
            self._sizes[size] += 1
        if self._last is not None and self._last[0] == image.case_id:
            self._last = image.case_id, image.split, self._last[2] + 1
        else:
            self._end_case()
            self._last = image.case_id, image.split, 1

    def _end_case(self) -> None:
        if self._last is not None:
            self._per_case[self._last[1]][self._last[2]] += 1
        self._last = None

    def overview(self, shares: Mapping[str, Iterable[LesionShare]]) -> Overview:
        """Return what was counted; `shares` are those of all masks, by split."""
        self._end_case()
        marked = {split: Counter(mask.share for mask in shares.get(split, ())) for split in SPLITS}
        return Overview(
            answers=self._balance() if self._answered else {},
            attributes={name: values.balance(self._cases) for name, values in sorted(self._attributes.items())},
            photos_per_case=self._photos_per_case(),
            with_text=_by_split(self._described),
            photos=self._photos(),
            lesions=histogram(marked, LESION_EDGES) if any(marked.values()) else None,
        )

    def _balance(self) -> dict[str, AnswerBalance]:
        found = {}
        for parent, qids in self._questions.parents.items():
            options = tuple(self._questions.option(qids[0], k) for k in range(self._questions.by_qid[qids[0]].size))
            counted = self._options[parent]
            found[parent] = AnswerBalance(
                question=self._questions.wording(parent),
                options=options,
                cases=_by_split(self._answered),
                counts={split: tuple(counted[split, k] for k in range(len(options))) for split in SPLITS},
                only=tuple(options[k] for k in sorted(self._first.get(parent) or ())),
            )
        return found

    def _photos_per_case(self) -> dict[str, dict[str, int]]:
        for split, numbers in self._per_case.items():
            numbers[0] = self._cases[split] - sum(number for size, number in numbers.items() if size)
        sizes = sorted({size for numbers in self._per_case.values() for size, number in numbers.items() if number})
        return {str(size): {split: self._per_case[split][size] for split in SPLITS} for size in sizes}

    def _photos(self) -> PhotoSizes | None:
        sides = sorted((self._sides["train"] + self._sides["valid"] + self._sides["test"]).items())
        if not sides:
            return None
        shortest, longest = sides[0][0], sides[-1][0]
        frequent = sorted(self._sizes.items(), key=lambda item: (-item[1], item[0]))[:_FREQUENT]
        return PhotoSizes(
            kinds=len(self._sizes),
            frequent={f"{width} x {height}": photos for (width, height), photos in frequent},
            shortest=shortest,
            median=_median(sides),
            longest=longest,
            shorter_sides=histogram(self._sides, even_edges(0, longest)),
        )


class _Values:
    """The values of an attribute that passed by: of each the cases by split."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._present = Counter[str]()
        self._counts: dict[str, Counter[str]] = {}
        self._said = 0

    def add(self, value: str, split: str) -> None:
        """Count the value of a case; of concepts, each one that it lists."""
        self._present[split] += 1
        for one in value.split("; ") if self._name == CONCEPTS else (value,):
            self._said += 1
            if one in self._counts or len(self._counts) < MOST_KINDS:
                self._counts.setdefault(one, Counter())[split] += 1

    def balance(self, cases: Mapping[str, int]) -> AttributeBalance:
        """Return the balance; `cases` are all of the dataset, by split."""
        kinds = len(self._counts)
        without = {split: cases.get(split, 0) - self._present[split] for split in SPLITS}
        numbers = self._numbers() if _FEW < kinds < MOST_KINDS and self._name not in (PATIENT, LESION) else None
        listed = self._counts if self._is_listed and numbers is None else {}
        ranked = sorted(listed.items(), key=lambda item: (-item[1].total(), item[0]))
        return AttributeBalance(kinds, {value: _by_split(counted) for value, counted in ranked}, without, numbers)

    @property
    def _is_listed(self) -> bool:
        """Whether the values are classes: few, short, and each of several cases on average; no names, no free text."""
        if self._name in (PATIENT, LESION) or len(self._counts) > _LISTED or 2 * len(self._counts) > self._said:
            return False
        return max(map(len, self._counts)) <= _LONGEST

    def _numbers(self) -> Histogram | None:
        """Return the histogram of values that are all numbers; None of others."""
        read = {value: number(value) for value in self._counts}
        numbers = [value for value in read.values() if value is not None]
        if len(numbers) < len(read):
            return None
        values = {split: Counter[float]() for split in SPLITS}
        for value, counted in self._counts.items():
            for split, cases in counted.items():
                values[split][read[value] or 0.0] += cases
        return histogram(values, even_edges(min(numbers), max(numbers)))


def _by_split(counted: Mapping[str, int]) -> dict[str, int]:
    return {split: counted.get(split, 0) for split in SPLITS}


def _median(counts: Iterable[tuple[int, int]]) -> float:
    """Return the median of sorted values with their numbers."""
    values, numbers = zip(*counts, strict=True)
    ends = np.cumsum(numbers)
    middle = (ends[-1] - 1) // 2, ends[-1] // 2
    return float(np.mean([values[int(np.searchsorted(ends, place, side="right"))] for place in middle]))
