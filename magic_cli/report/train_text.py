"""The result of `magic train`, as JSON and as text: the best epoch beside trivial answers, dataset by dataset."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from magic_cli.io.json_files import finite
from magic_cli.io.run_record import RecordedResult
from magic_cli.records import Review
from magic_cli.report.run_text import Scores, Settings, review_lines, with_next
from magic_cli.report.score_text import ACCURACY, number
from magic_cli.report.table import Table


@dataclass(frozen=True)
class TrainedDataset:
    """One of several datasets of a training: its share in it, and its own scores at the best epoch.

    Attributes:
        name: what tells it from the others; `data` is its folder, as it was given.
        data: as above.
        weight: how often an epoch draws each training sample, on average.
        train_samples: number of training samples; an epoch draws `drawn`.
        drawn: as above.
        valid_samples: number of validation samples.
        best: its scores at the best epoch; None for undefined ones; {} after a dry run.
        baselines: scores of trivial answers, by name.
    """

    name: str
    data: str
    weight: float
    train_samples: int
    drawn: int
    valid_samples: int
    best: Scores = field(default_factory=dict)
    baselines: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return an element of `datasets` in schemas/trained.schema.json."""
        row = asdict(self)
        scores = {key: finite(row.pop(key)) for key in ("best", "baselines")}
        return row | (scores if self.best else {})


@dataclass(frozen=True)
class TrainResult(RecordedResult):
    """Result of `train`; after a dry run `checkpoint` is None and all fields after it are empty.

    Attributes:
        task: its name; `title` is its name for people.
        config: the settings, in full.
        parameters, parameters_total: number of trainable parameters, and of all.
        train_samples, valid_samples: numbers of samples.
        review: warnings about the data, and the task's review of the validation predictions.
        checkpoint: path of best.pt.
        datasets: the datasets, where several were trained on; () for a single one.
        best: row of the best epoch in metrics.jsonl; None for undefined scores; of several datasets, the means.
        epochs: number of epochs trained.
        baselines: scores of trivial answers, by name; of several datasets, the means.
        chosen: settings that were chosen after training, as in schemas/checkpoint.schema.json; {} for none.
        following: the command to type next; "" if there is none.
        monitor: name of the score that chose the best epoch, and that `baselines` are of.
    """

    task: str
    title: str
    config: Settings
    parameters: int
    train_samples: int
    valid_samples: int
    review: Review
    parameters_total: int = 0
    datasets: tuple[TrainedDataset, ...] = ()
    checkpoint: str | None = None
    best: Scores = field(default_factory=dict)
    epochs: int = 0
    baselines: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, object] = field(default_factory=dict)
    following: str = ""
    monitor: str = ""

    def to_json(self) -> dict[str, object]:
        """Return schemas/trained.schema.json without its header; NaN becomes null."""
        planned: dict[str, object] = {
            "task": self.task,
            "config": dict(self.config),
            "parameters": self.parameters,
            "parameters_total": self.parameters_total,
            "train_samples": self.train_samples,
            "valid_samples": self.valid_samples,
            "review": self.review.to_json(),
        }
        if self.datasets:
            planned["datasets"] = [dataset.to_json() for dataset in self.datasets]
        if self.checkpoint is None:
            return planned
        scores = {"best": finite(self.best), "epochs": self.epochs, "baselines": finite(self.baselines)}
        return planned | scores | {"chosen": dict(self.chosen), "checkpoint": self.checkpoint}

    def lines(self) -> list[str]:
        """Return the best epoch beside trivial answers, and the next command."""
        samples = f"{self.train_samples} training, {self.valid_samples} validation samples"
        if self.checkpoint is None:
            learning = f"{self.parameters:,} of {self.parameters_total:,} parameters learn"
            return [f"{self.title}: {samples}; {learning} (--dry-run)"]
        best = f"epoch {self.best['epoch']}" if "epoch" in self.best else "none"
        chosen = f"best: {best} of {self.epochs}"
        if self.epochs > 1 and "epoch" in self.best:
            chosen += ", chosen on the validation samples, where scores are optimistic"
        text = [f"{self.title}: {samples}; {chosen}"]
        reviews = self.review.datasets or {"": self.review}
        answers = {name: review.answers for name, review in reviews.items() if review.answers is not None}
        in_table = {ACCURACY + row.parent for own in answers.values() for row in own.parents}
        shown = [name for name, value in self.best.items() if isinstance(value, float) and name not in in_table]
        if self.datasets:
            text += _dataset_lines(self, shown)
        else:
            width = max(map(len, shown), default=0)
            text += [f"  {_title(name):<{max(20, width)}} {number(self.best[name])}" for name in shown]
            score = f"{self.monitor} " if self.monitor else ""
            text += [f"  {number(value)}  {score}if the answer were: {name}" for name, value in self.baselines.items()]
        text += self._remarks()
        text += [chosen_line(self.chosen)] if self.chosen else []
        for name, own in answers.items():
            text += review_lines(own, name)
        return [*text, with_next(f"{self.checkpoint}: saved", self.following)]

    def _remarks(self) -> list[str]:
        """Return a warning if a trivial answer is as good, and why predictions may score otherwise."""
        lines = []
        best, trivial = self.best.get(self.monitor), dict(self.baselines)
        name = max(trivial, key=trivial.__getitem__, default="")
        if isinstance(best, float) and name and best <= trivial[name]:
            found = f"{self.monitor} {number(best)} is not above the {number(trivial[name])} of '{name}'"
            lines.append(f"warning: {found}, which looks at no photo or text: this model has learned nothing of use")
        more = ["averages over flipped ones"] if self.config.get("tta", "none") != "none" else []
        more += ["looks again at small lesions"] if self.config.get("zoom") else []
        if self.best and more:
            lines.append(f"these are scores of one view; `magic predict` {' and '.join(more)}, and scores otherwise")
        return lines

    def with_scores(self, best: Scores, baselines: Mapping[str, Mapping[str, float]]) -> "TrainResult":
        """Return the result with the row of the best epoch, and the scores of trivial answers by dataset."""
        if not self.datasets:
            return replace(self, best=best, baselines=next(iter(baselines.values())))
        datasets = []
        for dataset in self.datasets:
            head = f"{dataset.name}/"
            own = {name.removeprefix(head): value for name, value in best.items() if name.startswith(head)}
            datasets.append(replace(dataset, best=own, baselines=baselines[dataset.name]))
        known = {name for dataset in datasets for name in dataset.best}
        means = {name: value for name, value in best.items() if name in {"epoch", "loss"} | known}
        return replace(self, datasets=tuple(datasets), best=means, baselines=_means(list(baselines.values())))


def _title(name: str) -> str:
    """Return the name of a score for people: all but the loss are of the validation samples."""
    return "training loss" if name == "loss" else name


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of the scores that all rows have."""
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: statistics.fmean(row[name] for row in rows) for name in shared}


def _dataset_lines(result: TrainResult, shown: Sequence[str]) -> list[str]:
    """Return the table of several datasets: a column for each, after the mean over them."""
    datasets = result.datasets
    rows = [
        ("weight", "", *(f"{dataset.weight:g}" for dataset in datasets)),
        ("training samples", str(result.train_samples), *(str(dataset.train_samples) for dataset in datasets)),
        ("drawn per epoch", str(sum(d.drawn for d in datasets)), *(str(dataset.drawn) for dataset in datasets)),
        ("validation samples", str(result.valid_samples), *(str(dataset.valid_samples) for dataset in datasets)),
    ]
    rows += [
        (_title(n), number(result.best[n]), *(number(d.best.get(n)) if n != "loss" else "" for d in datasets))
        for n in shown
    ]
    rows += [
        (f"if the answer were: {name}", number(value), *(number(dataset.baselines.get(name)) for dataset in datasets))
        for name, value in result.baselines.items()
    ]
    head = ("", "all", *(dataset.name for dataset in datasets))
    title = "scores of all are means over the datasets, which count the same; counts are sums"
    return Table(title, head, tuple(rows)).lines()


def chosen_line(chosen: Mapping[str, object]) -> str:
    """Return the settings that were chosen after training as a line; see schemas/checkpoint.schema.json."""
    values = chosen["settings"]
    settings = ", ".join(f"{name} {value:g}" for name, value in values.items()) if isinstance(values, Mapping) else ""
    gain = f"{chosen['before']:.4f} -> {chosen['after']:.4f}"
    return f"{settings} chosen on the validation samples: {chosen['figure']} {gain}, optimistic there"
