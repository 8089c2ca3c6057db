"""Frozen dataclasses that are passed between packages: cases, photos, predictions, scores."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")
TITLE, CONTENT, RESPONSE = "title", "content", "response-"  # roles of texts; a number from 1 follows the last


@dataclass(frozen=True, slots=True)
class Question:
    """One slot of the closed questions: a row of the definitions file.

    `text` and `options` map a language ("en", "zh") to the wording; option indices are 0-based.
    """

    qid: str
    parent: str
    text: Mapping[str, str]
    options: Mapping[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """Number of options."""
        return len(next(iter(self.options.values())))


@dataclass(frozen=True, slots=True)
class PackedPhoto(ABC):
    """A photo whose bytes lie inside a larger file, such as a tar (data/shards/); small, and picklable."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for messages."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What tells its content from that of all others, wherever the file lies: part of cache keys."""

    @abstractmethod
    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DataError: they cannot be read, or the file is not the one that was indexed; one line.
        """


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photo. `height` and `width` are those of its masks, after the EXIF rule (data/imaging/orientation.py).

    A photo in a shard is `packed`: its bytes are a part of `path`; its size and its SHA-256 are not known (0, "").
    Paths are absolute and stored as text: with five per photo, `Path` objects would take half of a dataset's memory.
    `path` is None if the photo is missing. `sha256` is the hex digest of its bytes ("" without), part of cache keys.
    `upright` says whether the EXIF orientation has to be applied to get (height, width).
    `mask` is the merged mask, `annotators` maps "ann0".."ann3" to the annotators' own files.
    `box` is the part that is looked at: left, top, right, bottom as fractions of the upright photo; None for all of it.
    """

    image_id: str
    case_id: str
    split: str
    path: str | None
    height: int
    width: int
    upright: bool = False
    mask: str | None = None
    annotators: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    packed: PackedPhoto | None = None
    box: tuple[float, float, float, float] | None = None

    @property
    def content_key(self) -> str:
        """What tells the photo's content from that of all others: part of cache keys."""
        key = self.sha256 if self.packed is None else self.packed.key
        return f"{key} {self.box}" if key and self.box else key


_EMPTY: Mapping[str, Any] = {}  # shared: separate empty dicts would take 64 bytes per case and field


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a dataset: its photos, its texts, its labels and answers.

    `texts` maps a role to a language to the text as it was written. Roles: "title", "content" (what the patient
    wrote), "response-1", "response-2", ... (what clinicians answered, in the order of the source); a dataset may
    have others. `question` and `answer` are the cleaned halves of the prompt (either may be ""), which
    `magic prepare` made from the texts.

    `answers` maps every qid of the closed questions to an option index; None if the case has no closed answers.
    `label` is its class, None without one; `attributes` maps names to values, as the source words both.
    `group_id` names what must not be divided between training and evaluation, such as a patient; "" means the case
    itself. `licence` is that of the source, "" if it names none.
    """

    case_id: str
    split: str
    image_ids: tuple[str, ...]
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: _EMPTY)
    question: str = ""
    answer: str = ""
    answers: Mapping[str, int] | None = None
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    group_id: str = ""
    licence: str = ""

    def text(self, role: str) -> Mapping[str, str]:
        """Return language to text of a role; empty without that role."""
        return self.texts.get(role, _EMPTY)

    @property
    def responses(self) -> tuple[Mapping[str, str], ...]:
        """Language to text of each response, in order."""
        return tuple(text for role, text in self.texts.items() if role.startswith(RESPONSE))


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example or one item to predict: a case, photos of it, closed questions about it.

    `id` is the id of the prediction: an image id (seg) or a case id (cvqa).
    """

    id: str
    case: Case
    images: tuple[ImageRecord, ...]
    qids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A case that is like another one: the most similar of its photos, its similarity in [-1, 1], and its answers."""

    case_id: str
    image_id: str
    similarity: float
    answers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Prediction(ABC):
    """A model's output for one sample; every task has a subclass. Its counterpart in files is `Submitted`.

    `id` is the sample's: an image id (seg) or an encounter id (cvqa).
    """

    id: str

    @classmethod
    @abstractmethod
    def mean_of(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean of predictions for the same sample, by several models or from several views of a photo."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A prediction for one sample as read from a file; every task has a subclass (submission/).

    `id` is the sample's, as written in the file. `problem` says why the item counts as zero, "" if it does not.
    """

    id: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of the strict scores for cases that the official scorer handles badly or not at all.

    `empty`: an empty mask against an empty one counts "one", "zero", or is left out ("skip").
    `accept_255`: masks of 0 and 255 are read as 0 and 1; otherwise they are rejected and count as zero.
    `group_identical`: in retrieval, any photo with the very same text is a hit; otherwise only the own one is.
    """

    empty: str = "one"
    accept_255: bool = False
    group_identical: bool = True


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval; NaN if resampling gives none."""

    low: float
    high: float


class EncounterScores(ABC):
    """Scores of a set of encounters (or of other groups, such as patients), whatever weight each of them has.

    Resampling draws whole encounters (metrics/bootstrap.py); `ids` names them, `names` the scores. Scores that follow
    from sums are `EncounterSums`; others, as those of ranks, are in metrics/row_scores.py.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]

    @abstractmethod
    def over(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Return the scores of these encounters only, by their position in `ids`: (len(names),), NaN if undefined."""

    @abstractmethod
    def weighted(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores for weights (R, encounters), (R, len(names)); an encounter of weight 2 is there twice."""

    @abstractmethod
    def ordered(self, order: Sequence[int]) -> Self:
        """Return the same with the encounters in this order."""

    @abstractmethod
    def beside(self, other: Self) -> Self:
        """Return both systems' results as if of one system: first all encounters of self, then those of other."""


@dataclass(frozen=True, eq=False)
class EncounterSums(EncounterScores):
    """Sums per encounter from which every score can be computed, for resampling encounters.

    `sums` is (encounters, terms) float64, rows as in `ids`; `scores` maps sums (..., terms) to values
    (..., len(names)), in [0, 1]; scores(sums.sum(0)) are the task's own scores.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    sums: NDArray[np.float64]
    scores: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def over(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Return the scores of the sums over these encounters."""
        return self.scores(self.sums[list(rows)].sum(0))

    def weighted(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores of the weighted sums."""
        return self.scores(weights @ self.sums)

    def ordered(self, order: Sequence[int]) -> Self:
        """Return the same rows in this order."""
        return replace(self, ids=tuple(self.ids[at] for at in order), sums=self.sums[list(order)])

    def beside(self, other: Self) -> Self:
        """Return the rows of both."""
        return replace(self, ids=(*self.ids, *other.ids), sums=np.concatenate([self.sums, other.sums]))


@dataclass(frozen=True, slots=True)
class TaskScores:
    """The scores of one system on one task.

    `scores` are the strict scores under the official keys, in the official order; `official` those that the
    official scorer prints, NaN included, None if it stops or does not apply. `official_errors` lists what it stops
    at, `differences` gives one line per reason why the two differ, `rejected` lists the items that count as zero.
    `summary_rows` is a table for people (a row per annotator or parent question), `per_item` has a row per image, or
    per encounter and parent; all rows are flat except for the confusion of a parent. `notes` are remarks for the
    reader. `extra` holds scores that the official scorer does not have.
    `errors` are the wrong answers with the highest probability, if predictions come with probabilities (cvqa).
    `baselines` are the scores of trivial answers, `agreement` those of annotators scored as if they were systems.
    `agreement_sums` are those of the system and of the annotators on the photos of `agreement`, for resampling.
    `intervals` are 95 % intervals of `scores` and `extra` by name, if there are `encounter_sums`; NaN if undefined.
    `has_official` is False for tasks that are not the challenge's; `confidence` is of answers with probabilities.

    report.json calls these fields `figures`, `stops`, `refused`, `rows` and `items` (schemas/report.schema.json).
    """

    task: str
    scores: Mapping[str, float]
    summary_rows: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)
    official: Mapping[str, float] | None = None
    official_errors: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    per_item: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[Mapping[str, Any], ...] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    agreement: Mapping[str, Any] | None = None
    agreement_sums: tuple[EncounterScores, EncounterScores] | None = None
    encounter_sums: EncounterScores | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    has_official: bool = True
    confidence: EncounterScores | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The training run that an encoder's weights come from.

    Attributes:
        run, sha256: its best.pt, as it was named; hex SHA-256 of that file.
        encoder: the kind of encoder, as settings name it.
        size: the run's image size in pixels, or text window in tokens.
    """

    run: str
    sha256: str
    encoder: str
    size: int


@dataclass(frozen=True, slots=True)
class CheckpointMeta:
    """Metadata of best.pt (schemas/checkpoint.schema.json).

    `chosen`: what the task chose after training; `origins`: runs that weights are from; `interval`: 95 %, of `score`.
    """

    format: int
    task: str
    config: Mapping[str, Any]
    questions: tuple[Mapping[str, Any], ...]
    encoders: Mapping[str, str]
    history: tuple[Mapping[str, Any], ...]
    score: float | None
    seed: int
    manifest_sha256: str
    versions: Mapping[str, str]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ParentReview:
    """How a parent question was answered on held-out encounters; scores in [0, 1], None if undefined.

    `n` is the number of encounters, `majority` the accuracy of always answering with the training majority, `ece` the
    expected calibration error of slot probabilities.
    """

    parent: str
    n: int
    accuracy: float | None
    majority: float | None
    ece: float | None


@dataclass(frozen=True, slots=True)
class AnswerReview:
    """How all questions were answered on held-out encounters; see ParentReview.

    `bins` is the number of bins of the calibration error. Of the `varying_slots`, whose gold answers differ between
    encounters, `constant_slots` got the same answer for all encounters; with several `models` both are sums over them.
    """

    encounters: int
    accuracy: float | None
    majority: float | None
    ece: float | None
    bins: int
    constant_slots: int
    varying_slots: int
    models: int
    parents: tuple[ParentReview, ...]

    def to_json(self) -> dict[str, object]:
        """Return schemas/review.schema.json without `warnings`."""
        share = self.constant_slots / self.varying_slots if self.varying_slots else 0.0
        counts = {"slots": self.constant_slots, "of": self.varying_slots, "share": share, "models": self.models}
        return {
            "encounters": self.encounters,
            "accuracy": self.accuracy,
            "majority": self.majority,
            "ece": self.ece,
            "bins": self.bins,
            "constant": counts,
            "parents": [asdict(parent) for parent in self.parents],
        }


@dataclass(frozen=True, slots=True)
class Review:
    """Warnings about the data of a run and about its predictions for held-out samples.

    `warnings` are lines for people; `answers` is None unless the task answers closed questions. A run on several
    datasets has `datasets`, the review of each by its name, instead of `answers`.
    """

    warnings: tuple[str, ...] = ()
    answers: AnswerReview | None = None
    datasets: Mapping[str, "Review"] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return schemas/review.schema.json."""
        answers = {} if self.answers is None else self.answers.to_json()
        each = {"datasets": {name: review.to_json() for name, review in self.datasets.items()}} if self.datasets else {}
        return {**answers, "warnings": list(self.warnings), **each}


Mask = NDArray[np.uint8]
