"""prepare.json: what `magic prepare` read, did and left out. No date, no absolute path: same inputs, same bytes."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from magic_cli.data.imaging.lesion_share import LesionShares
from magic_cli.data.preparation.overview import Overview, overview_of_row
from magic_cli.data.prompt_lengths import PromptLengths, PromptStatistics, PromptWindow
from magic_cli.records import SPLITS

FORMAT = 2  # of prepared/, written as "schema"

# Cases, photos, annotators' masks and cases with closed answers.
# Source: examples/challenge-data.md, "Published counts".
PUBLISHED: Mapping[str, Mapping[str, int]] = {
    "train": {"cases": 842, "images": 2474, "masks": 7448, "answered": 300},
    "valid": {"cases": 56, "images": 157, "masks": 472, "answered": 56},
    "test": {"cases": 100, "images": 314, "masks": 944},
}

BINS = 20  # of the histogram of agreement, over 0..1

LOWEST = 30  # photos of least agreement that are listed


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """The options of `magic prepare` that change the dataset.

    `source` is the adapter's name. `split_rule` says where splits are from (data/preparation/splits.py): "official",
    "dealt", or "valid from train", with the group that is never divided ("" for the source's own), the shares of valid
    and test, and the seed. `knowledge` to `query_attributes` are the options of texts (data/preparation/case_texts.py);
    `text_files` are the SHA-256 of the ontology and of answers made elsewhere. `duplicates` says what was done with
    duplicate photos. Datasets of earlier versions have the
    defaults.
    """

    merge: str
    prompt: str
    responses: bool
    source: str = "dermavqa"
    split_rule: str = "official"
    split_by: str = ""
    valid: float = 0.15
    test: float = 0.15
    seed: int = 0
    knowledge: bool = False
    overflow: str = "drop"
    query_from: str = "attributes"
    query_attributes: str = ""
    text_files: str = ""
    duplicates: str = "keep"
    label_captions: int = 0


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Counts of one split.

    `listed` photos are named by the cases, `images` of them are usable. `annotators` maps a number of masks, as text,
    to the number of photos with so many masks; `answered` cases have closed answers.
    """

    cases: int
    listed: int
    images: int
    masks: int
    annotators: Mapping[str, int]
    answered: int

    def number(self, key: str) -> int:
        """Return the number under a key of `PUBLISHED`: cases, images, masks or answered."""
        return {"cases": self.cases, "images": self.images, "masks": self.masks, "answered": self.answered}[key]


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Cases by label and split.

    `kinds` is the number of labels; `counts` maps the 500 most frequent ones to cases by split, most frequent
    first; `without` counts the cases that have none.
    """

    kinds: int
    counts: Mapping[str, Mapping[str, int]]
    without: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DuplicatePhoto:
    """A photo of a cluster of duplicates, its case, its split ("" if it is left out) and the label of its case."""

    image: str
    case: str
    split: str
    label: str | None


@dataclass(frozen=True, slots=True)
class DuplicateCluster:
    """Photos that are duplicates of each other, up to 8 of `total`.

    `same_bytes`: they are the same file; else they are nearly the same picture. `conflict`: their labels differ.
    """

    photos: tuple[DuplicatePhoto, ...]
    total: int
    same_bytes: bool
    conflict: bool


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Duplicate photos (data/preparation/duplicates.py).

    `bits` and `correlation` are the thresholds of near duplicates. `exact` and `near` count the photos that have an
    earlier duplicate, by its kind; `clusters` and `conflicts` the clusters, and those of several labels; `across` pairs
    of a photo and an earlier split that has it too, `across_near` those of them that are nearly the same picture;
    `dropped` the photos that were left out. `shown` are up to 200 clusters of several cases: those with conflicts
    first, then those across splits.
    """

    bits: int
    correlation: float
    exact: int
    near: int
    clusters: int
    conflicts: int
    across: int
    dropped: int
    shown: tuple[DuplicateCluster, ...] = ()
    across_near: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """The published counts per split and `difference`, counted minus published."""

    counts: Mapping[str, Mapping[str, int]]
    difference: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ImageAgreement:
    """Mean Dice over the pairs of annotators of one photo."""

    image: str
    dice: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of annotators over the photos with two or more masks: Dice in [0, 1], a histogram of 20 bins."""

    images: int
    mean_dice: float
    median_dice: float
    histogram: tuple[int, ...]
    lowest: tuple[ImageAgreement, ...]


@dataclass(frozen=True, slots=True)
class Orientation:
    """Photos with an EXIF orientation: how many match their masks as stored ("raw"), how many when turned upright.

    The masks of `undecided` photos match both or neither; `rule` ("raw" or "upright") is how these are read.
    """

    photos: int = 0
    raw: int = 0
    upright: int = 0
    undecided: int = 0
    rule: str = "raw"


@dataclass(frozen=True, slots=True)
class Digest:
    """Number of files, and one SHA-256 over all of them."""

    count: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """SHA-256 of the inputs: of each table by its path in the source, of all photos, of all masks."""

    files: Mapping[str, str]
    photos: Digest
    masks: Digest


@dataclass(frozen=True, slots=True)
class PrepareManifest:
    """prepare.json (schemas/prepared.schema.json).

    `counts` maps each split to its counts, `left_out` the kinds of lost data (cases, images, masks, answers) to
    numbers, `mask_values` the kinds of values in masks to numbers of masks, `lesion` each split to how much of its
    photos the masks mark (None without masks; empty if an earlier version wrote it). `problems` are losses, `notes`
    choices and facts, one line each. `published` is None for data other than the challenge's, `agreement` if no photo
    has two masks, `prompts` if tokens could not be counted, `labels` if no case has one, `duplicates`
    and `overview` if an earlier version wrote it.
    """

    settings: PrepareSettings
    counts: Mapping[str, SplitCounts]
    published: Published | None
    left_out: Mapping[str, int]
    agreement: Agreement | None
    mask_values: Mapping[str, int]
    orientation: Orientation
    prompts: PromptStatistics | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    inputs: Inputs
    lesion: Mapping[str, LesionShares | None] = field(default_factory=dict)
    labels: LabelCounts | None = None
    duplicates: DuplicateReport | None = None
    overview: Overview | None = None

    @classmethod
    def of_counts(cls, settings: PrepareSettings, counts: Mapping[str, SplitCounts]) -> "PrepareManifest":
        """Return the manifest of data of which nothing but the settings and counts is known; `replace` says more."""
        return cls(
            settings,
            counts,
            published=None,
            left_out={},
            agreement=None,
            mask_values={},
            orientation=Orientation(),
            prompts=None,
            problems=(),
            notes=(),
            inputs=Inputs({}, digest(()), digest(())),
        )

    def to_json(self) -> dict[str, object]:
        """Return the content of prepare.json."""
        return {"schema": FORMAT, "format": "magic-prepared", **_to_json(self)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "PrepareManifest":
        """Return the manifest of a parsed prepare.json that schemas/prepared.schema.json allows."""
        published, agreement_row, inputs = row["published"], row["agreement"], row["inputs"]
        labels, duplicates, overview = row.get("labels"), row.get("duplicates"), row.get("overview")
        return cls(
            settings=PrepareSettings(**row["settings"]),
            counts={split: SplitCounts(**counts) for split, counts in row["counts"].items()},
            published=None if published is None else Published(**published),
            left_out=row["left_out"],
            agreement=None if agreement_row is None else _agreement(agreement_row),
            mask_values=row["mask_values"],
            orientation=Orientation(**row["orientation"]),
            prompts=None if row["prompts"] is None else _prompts(row["prompts"]),
            problems=tuple(row["problems"]),
            notes=tuple(row["notes"]),
            inputs=Inputs(inputs["files"], Digest(**inputs["photos"]), Digest(**inputs["masks"])),
            lesion={
                split: None if shares is None else LesionShares(**shares)
                for split, shares in row.get("lesion", {}).items()
            },
            labels=None if labels is None else LabelCounts(**labels),
            duplicates=None if duplicates is None else _duplicates(duplicates),
            overview=None if overview is None else overview_of_row(overview),
        )


def _to_json(value: Any) -> Any:
    """Convert dataclasses and mappings to dicts and tuples to lists; keys are field names, in field order."""
    if is_dataclass(value):
        return {item.name: _to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_to_json(inner) for inner in value]
    return value


def _agreement(row: Mapping[str, Any]) -> Agreement:
    lowest = tuple(ImageAgreement(**image) for image in row["lowest"])
    return Agreement(row["images"], row["mean_dice"], row["median_dice"], tuple(row["histogram"]), lowest)


def _duplicates(row: Mapping[str, Any]) -> DuplicateReport:
    shown = (
        DuplicateCluster(**{**cluster, "photos": tuple(DuplicatePhoto(**photo) for photo in cluster["photos"])})
        for cluster in row["shown"]
    )
    return DuplicateReport(**{**row, "shown": tuple(shown)})


def _prompts(row: Mapping[str, Any]) -> PromptStatistics:
    lengths = row["lengths"]
    histograms = (tuple(lengths[split]) for split in SPLITS)
    windows = tuple(PromptWindow(**window) for window in row["windows"])
    return PromptStatistics(row["tokenizer"], windows, PromptLengths(lengths["width"], *histograms))


def against_published(counts: Mapping[str, SplitCounts]) -> Published | None:
    """Return the published counts and the difference, counted minus published; None for other data.

    Data counts as the challenge's if every split in it has the published number of cases.
    """
    splits = [split for split in SPLITS if counts[split].cases]
    if not splits or any(counts[split].cases != PUBLISHED[split]["cases"] for split in splits):
        return None
    difference = {
        split: {key: counts[split].number(key) - number for key, number in PUBLISHED[split].items()} for split in splits
    }
    return Published({split: dict(PUBLISHED[split]) for split in splits}, difference)


def agreement(dices: Mapping[str, float]) -> Agreement | None:
    """Return how well annotators agree: mean, median, histogram (20 bins over 0..1), the 30 lowest photos.

    `dices` maps each photo with two or more masks to the mean Dice over pairs of annotators. None if there is none.
    """
    if not dices:
        return None
    values = list(dices.values())
    lowest = sorted(dices.items(), key=lambda item: (item[1], item[0]))[:LOWEST]
    return Agreement(
        images=len(values),
        mean_dice=round(float(np.mean(values)), 6),
        median_dice=round(float(np.median(values)), 6),
        histogram=tuple(int(number) for number in np.histogram(values, BINS, (0, 1))[0]),
        lowest=tuple(ImageAgreement(image_id, round(value, 6)) for image_id, value in lowest),
    )


def digest(lines: Iterable[str]) -> Digest:
    """Return the number of lines "NAME SHA256", one per file and sorted, and one SHA-256 over them."""
    number, total = 0, hashlib.sha256()
    for line in lines:
        total.update(f"\n{line}".encode() if number else line.encode())
        number += 1
    return Digest(number, total.hexdigest())
