"""Counts of cases, photos, masks and labels that pass by, by split."""

from collections import Counter

from magic_cli.data.manifest import LabelCounts, SplitCounts
from magic_cli.records import SPLITS, Case, ImageRecord

LABELS = 500  # labels whose cases are counted one by one


class Counts:
    """Counts of cases and photos that pass by, by split."""

    def __init__(self) -> None:
        self._totals: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._annotators: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._labels: Counter[tuple[str | None, str]] = Counter()
        self.cases = self.listed = self.images = 0
        self.has_text = False

    def add_case(self, case: Case) -> None:
        """Count a case."""
        total, listed = self._totals[case.split], len(case.image_ids)
        total["cases"] += 1
        total["listed"] += listed
        total["answered"] += case.answers is not None
        self._labels[case.label, case.split] += 1
        self.cases += 1
        self.listed += listed
        self.has_text = self.has_text or any(any(text.values()) for text in case.texts.values())

    def add_image(self, image: ImageRecord) -> None:
        """Count a photo."""
        total, annotators = self._totals[image.split], len(image.annotators)
        total["images"] += 1
        total["masks"] += annotators
        self._annotators[image.split][str(annotators)] += 1
        self.images += 1

    def by_split(self) -> dict[str, SplitCounts]:
        """Return the counts of each split."""
        return {
            split: SplitCounts(
                cases=total["cases"],
                listed=total["listed"],
                images=total["images"],
                masks=total["masks"],
                annotators=dict(sorted(self._annotators[split].items())),
                answered=total["answered"],
            )
            for split, total in self._totals.items()
        }

    def by_label(self) -> LabelCounts | None:
        """Return the cases by label; None if no case has one."""
        totals = Counter[str]()
        for (label, _), number in self._labels.items():
            if label is not None:
                totals[label] += number
        if not totals:
            return None
        frequent = sorted(totals, key=lambda label: (-totals[label], label))[:LABELS]
        counts = {label: {split: self._labels[label, split] for split in SPLITS} for label in frequent}
        return LabelCounts(len(totals), counts, {split: self._labels[None, split] for split in SPLITS})
