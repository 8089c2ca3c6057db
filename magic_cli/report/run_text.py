"""Results of prediction and cross-validation, as JSON and as text: scores, how to judge them, the next command."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from magic_cli.data.issues import counted
from magic_cli.data.retrieval.gold import PROTOCOLS
from magic_cli.errors import printable
from magic_cli.io.json_files import finite
from magic_cli.io.run_record import RecordedResult
from magic_cli.metrics.bootstrap import FEWEST, Difference
from magic_cli.records import AnswerReview, Review
from magic_cli.report.next_command import after_folds
from magic_cli.report.score_text import between, interval, number, signed
from magic_cli.report.table import Table
from magic_cli.training.seen import Exposure, exposure_lines
from magic_cli.training.task import NeighbourWeight

Settings = Mapping[str, bool | int | float | str]

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class PhotosRead:
    """What `predict` says of photos that are of no prepared dataset.

    Attributes:
        read: how many could be read.
        cases: how many cases they are.
        unreadable: a line for each of the others.
        seconds: for all of them, encoding and writing included; 0 where nothing was predicted.
        answers: questions with their answers in words.
        predicted: how many of those that could be read were predicted; None: all.
    """

    read: int
    cases: int
    unreadable: tuple[str, ...] = ()
    seconds: float = 0.0
    answers: tuple[str, ...] = ()
    predicted: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return `photos` of schemas/predicted.schema.json."""
        made = {"read": self.read, "cases": self.cases, "seconds": round(self.seconds, 3)}
        return {**made, "unreadable": list(self.unreadable)}


@dataclass(frozen=True)
class PredictResult(RecordedResult):
    """Result of `predict`; after a dry run, `samples` is the number of samples that it would predict.

    `following` is the command to type next; "" if there is none. `neighbours` is what the answers of similar cases
    weigh, None without them; of the index, `unknown` photos are of none that has answers. `exposure` tells how many
    samples the models have seen; None after a dry run. `facts` is what else the predictions depend on: of retrieval,
    gallery and class. `photos` is None unless photos of no prepared dataset were predicted; then there is no split.
    """

    task: str
    split: str
    out: str
    checkpoints: tuple[str, ...]
    files: int = 0
    samples: int | None = None
    dry_run: bool = False
    following: str = ""
    neighbours: NeighbourWeight | None = None
    unknown: int = 0
    exposure: Exposure | None = None
    facts: Settings = field(default_factory=dict)
    photos: PhotosRead | None = None

    def to_json(self) -> dict[str, object]:
        """Return schemas/predicted.schema.json without its header."""
        made: dict[str, object] = {"task": self.task, "split": None if self.photos else self.split, "out": self.out}
        made |= {} if self.photos is None else {"photos": self.photos.to_json()}
        made["checkpoints"] = list(self.checkpoints)
        counted = {} if self.samples is None else {"samples": self.samples}
        similar = {} if self.neighbours is None else {**self.neighbours.to_json(), "unknown": self.unknown}
        seen = {} if self.exposure is None else {"exposure": self.exposure.to_json()}
        weighed = {"neighbours": similar} if similar else {}
        return made | counted | {"files": self.files} | weighed | seen | dict(self.facts)

    def lines(self) -> list[str]:
        """Return what the models have seen, what else counts, what was written, and the next command."""
        seen = [] if self.exposure is None else exposure_lines(self.exposure.to_json())
        more = (*_fact_lines(self.facts), *_neighbour_lines(self.neighbours))
        if self.photos is None:
            return [*(f"note: {line}" for line in seen), *more, _written(self)]
        return [*(f"note: {line}" for line in seen), *self.photos.answers, *_photo_lines(self, self.photos)]


def _photo_lines(result: PredictResult, photos: PhotosRead) -> Iterator[str]:
    total = photos.read + len(photos.unreadable)
    yield from (f"not predicted: {line}" for line in photos.unreadable)
    counts = f"{photos.read} of {counted(total, 'photo', 'photos')}, {counted(photos.cases, 'case', 'cases')}"
    if result.dry_run:
        yield f"{counts}: {result.samples} samples; nothing written (--dry-run)"
        return
    predicted = photos.read if photos.predicted is None else photos.predicted
    if predicted < photos.read:
        counts = f"the first {predicted} of {counted(total, 'photo', 'photos')} (--limit)"
    each = f"{photos.seconds:.1f} s, {photos.seconds / max(predicted, 1):.2f} s a photo"
    look = f"; look at {result.out}/overlays/" if Path(result.out, "overlays").is_dir() else ""
    yield f"{result.out}: {counted(result.files, 'file', 'files')} from {counts}; {each}{look}"


def _fact_lines(facts: Settings) -> Iterator[str]:
    if "gallery" in facts:
        yield PROTOCOLS[str(facts["gallery"])]
    if facts.get("classes"):
        yield f"the class of a case is its attribute {printable(facts['classes'])}"


def _neighbour_lines(chosen: NeighbourWeight | None) -> list[str]:
    if chosen is None:
        return []
    if chosen.reached is None or chosen.without is None:
        return [f"neighbours: weight {chosen.weight:g}, as given"]
    gain = f"{chosen.score} {chosen.reached:.4f} on split valid, {chosen.without:.4f} without neighbours"
    return [f"neighbours: weight {chosen.weight:g}: {gain}; optimistic, as the weight was chosen there"]


@dataclass(frozen=True)
class VoteResult(RecordedResult):
    """Result of `vote`: of `answers` parent questions over all `samples`, `ties` were decided by the order of files.

    `following` is the command to type next; "" if there is none.
    """

    task: str
    split: str
    out: str
    voted: tuple[str, ...]
    samples: int
    ties: int
    answers: int
    files: int
    dry_run: bool = False
    following: str = ""

    def to_json(self) -> dict[str, object]:
        """Return schemas/predicted.schema.json without its header."""
        made = {"task": self.task, "split": self.split, "out": self.out, "voted": list(self.voted)}
        return made | {"samples": self.samples, "ties": self.ties, "answers": self.answers, "files": self.files}

    def lines(self) -> list[str]:
        """Return how many answers were tied, what was written, and the next command."""
        tied = f"{self.ties} of {self.answers} answers were tied: decided by the file listed first"
        return [f"{self.samples} encounters of {len(self.voted)} files; {tied}", _written(self)]


def _written(result: PredictResult | VoteResult) -> str:
    if result.dry_run:
        return f"{result.samples} samples of split {result.split}; nothing written (--dry-run)"
    return with_next(
        f"{result.out}: {counted(result.files, 'file', 'files')} of split {result.split}", result.following
    )


def with_next(line: str, following: str) -> str:
    return f"{line}; next: {following}" if following else line


@dataclass(frozen=True)
class Fold:
    """One fold: the encounters that it held out, how long it trained, and its scores on those encounters alone.

    `fold` counts from 1. `epochs`, `loss` (of the last epoch) and `scores` are None before it is trained and scored.
    """

    fold: int
    encounters: tuple[str, ...]
    train_samples: int
    held_samples: int
    epochs: int | None = None
    loss: float | None = None
    scores: Scores | None = None

    def to_json(self) -> dict[str, object]:
        """Return an element of `parts` in schemas/folds.schema.json."""
        row: dict[str, object] = {
            "fold": self.fold,
            "encounters": list(self.encounters),
            "train_samples": self.train_samples,
            "held_samples": self.held_samples,
        }
        row |= {} if self.epochs is None else {"epochs": self.epochs, "loss": self.loss}
        return row | ({} if self.scores is None else {"figures": finite(self.scores)})


@dataclass(frozen=True)
class PooledScore:
    """A score over all encounters with the bounds of its 95 % interval, and its mean and sd (n - 1) over the folds."""

    value: float
    low: float
    high: float
    mean: float
    sd: float


@dataclass(frozen=True)
class FoldScores:
    """Scores of a finished cross-validation.

    Attributes:
        monitor: name of the task's main score.
        encounters: how many were scored.
        parts: the folds, each with its own scores.
        pooled: by name of the score.
        baselines: scores of trivial answers, by name of the answer.
        differences: pooled score minus that of a learned trivial answer, paired by encounter.
        notes: remarks for the reader.
    """

    monitor: str
    encounters: int
    parts: tuple[Fold, ...]
    pooled: Mapping[str, PooledScore]
    baselines: Mapping[str, Scores]
    differences: Mapping[str, Mapping[str, Difference]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CrossValidationResult(RecordedResult):
    """Result of `cross_validate`, or its plan: `scores` is None until all folds are trained.

    Attributes:
        task: its name; `title` is its name for people.
        config: the settings, in full.
        data: SHA-256 of the prepared manifest.
        parts: the folds.
        review: warnings about the data, and the task's review of the held-out predictions.
        predictions: folder of the held-out predictions.
        prepared: folder of the data.
        scores: pooled scores, and those of trivial answers.
    """

    task: str
    title: str
    config: Settings
    data: str
    parts: tuple[Fold, ...]
    review: Review
    predictions: str
    prepared: str
    scores: FoldScores | None = None

    def to_json(self) -> dict[str, object]:
        """Return folds.json (schemas/folds.schema.json); NaN becomes null."""
        parts = self.parts if self.scores is None else self.scores.parts
        planned: dict[str, object] = {
            "schema": 1,
            "format": "magic-folds",
            "task": self.task,
            "config": dict(self.config),
            "data": self.data,
            "folds": len(parts),
            "finished": self.scores is not None,
            "parts": [part.to_json() for part in parts],
            "review": self.review.to_json(),
        }
        if self.scores is None:
            return planned
        scores = {
            "predictions": self.predictions,
            "prepared": self.prepared,
            "monitor": self.scores.monitor,
            "encounters": self.scores.encounters,
            "figures": {name: finite(asdict(score)) for name, score in self.scores.pooled.items()},
            "baselines": finite(self.scores.baselines),
            "differences": {
                label: {name: finite(asdict(gap)) for name, gap in gaps.items()}
                for label, gaps in self.scores.differences.items()
            },
            "notes": list(self.scores.notes),
        }
        return planned | scores

    def lines(self) -> list[str]:
        """Return pooled scores beside trivial answers, a row per fold, the review and the next command."""
        title = f"{self.title}: {len(self.parts)} folds"
        if self.scores is None:
            sizes = ", ".join(str(len(part.encounters)) for part in self.parts)
            return [f"{title} over encounters of split train, which hold out {sizes} of them (--dry-run)"]
        text = [*_score_lines(title, self.scores), "", *review_lines(self.review.answers)]
        text += [f"note: {note}" for note in self.scores.notes]
        made = "95 % intervals: bootstrap over encounters; " if self.scores.encounters >= FEWEST else ""
        text.append(f"{made}the sd over folds is not a standard error, as folds share data")
        folder = Path(self.predictions)
        return [*text, with_next(f"{folder.with_name('folds.json')}: written", after_folds(self.prepared, folder))]

    def with_scores(self, scores: FoldScores, review: Review) -> "CrossValidationResult":
        """Return the result of the finished cross-validation."""
        return replace(self, parts=scores.parts, scores=scores, review=review)


def _score_lines(title: str, scores: FoldScores) -> list[str]:
    head = ("", "pooled", "95 % interval", "mean of folds", "sd", *scores.baselines)
    rows = []
    for name, score in scores.pooled.items():
        value, low, high, mean, sd = finite((score.value, score.low, score.high, score.mean, score.sd))
        cells = (name, number(value), interval((low, high)), number(mean), number(sd))
        rows.append((*cells, *(number(finite(row.get(name))) for row in scores.baselines.values())))
    held_out = "each scored by the fold that held it out"
    pooled = f"{title} over {scores.encounters} encounters of split train, {held_out}"
    text = [*Table(pooled, head, tuple(rows)).lines(), ""]
    columns = ("fold", "encounters", "training samples", "epochs", "last loss", scores.monitor)
    folds = tuple(_fold_row(part, scores.monitor) for part in scores.parts)
    text += Table("no fold chose its epoch by the encounters that it held out", columns, folds).lines()
    for label, gaps in scores.differences.items():
        difference, low, high, p = finite(list(asdict(gaps[scores.monitor]).values()))
        sure = ", ".join(filter(None, (between(low, high), f"p {number(p)}")))
        text.append(f"{scores.monitor} minus that of {label}: {signed(difference)} ({sure})")
    return text


def _fold_row(part: Fold, monitor: str) -> tuple[str, ...]:
    counts = (part.fold, len(part.encounters), part.train_samples, part.epochs)
    value = finite((part.scores or {}).get(monitor))
    return (*map(str, counts), number(part.loss), number(value))


def review_lines(answers: AnswerReview | None, dataset: str = "") -> Iterator[str]:
    """Yield the table of parent questions and the calibration, of tasks that have them; `dataset`: of several."""
    if answers is None:
        return
    head = ("", "encounters", "accuracy", "training majority", "calibration error")
    rows = [
        (parent.parent, str(parent.n), number(parent.accuracy), number(parent.majority), number(parent.ece))
        for parent in answers.parents
    ]
    total = ("all", str(answers.encounters), number(answers.accuracy), number(answers.majority), number(answers.ece))
    title = "held-out answers by parent question" + (f", {dataset}" if dataset else "")
    yield from Table(title, head, (*rows, total)).lines()
    bins = f"{answers.bins} bins of equal width (Guo et al. 2017)"
    yield f"calibration error: of slot probabilities, {bins}; 0 is perfect"
    each = f" of a fold; {answers.models} folds together" if answers.models > 1 else ""
    counts = f"{answers.constant_slots} of {answers.varying_slots}"
    yield f"{counts} slots whose right answers differ get one answer for all encounters{each}"
