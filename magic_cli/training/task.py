"""The interface between a task and everything that drives it: training, prediction, scoring; imports no torch.

A task is a class with its facts as attributes. Its abstract methods are `training_samples`, `prediction_samples`,
`build`, `score`, `write`, `gold` and `gold_in`; the defaults of the others suit a task that does not need them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from magic_cli.data.gold import Gold, TaskGold
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import ConfigError, problem
from magic_cli.records import Neighbour, Prediction, Review, Rules, Sample, Submitted, TaskScores

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.models.export.graph import ExportGraph, GraphOptions
    from magic_cli.setting import SettingValue
    from magic_cli.training.case_encoder import CaseEncoder
    from magic_cli.training.runtime import Probed, Runtime
    from magic_cli.training.task_model import TaskModel

T = TypeVar("T")
RULES = Rules()

Validated = tuple[TaskGold, Iterable[Prediction]]
"""The gold of a dataset's validation samples, and the predictions for them."""


@dataclass(frozen=True)
class Decision:
    """Options of `Task.write`: how probabilities become a decision; None means as the model was trained.

    Every field of a subclass has a default, and is an option of `magic predict` under the same name.
    """


@dataclass(frozen=True)
class ChosenSettings:
    """Settings that a task chose on the validation samples after training.

    `score` names the score that they maximise, `fixed` is the setting's value in the config. `before` is the score
    with that value; `after`, with the chosen one, is optimistic: it is the highest of many on these samples.
    """

    settings: Mapping[str, SettingValue]
    score: str
    fixed: float
    before: float
    after: float

    def to_json(self) -> dict[str, object]:
        """Return `chosen` of schemas/checkpoint.schema.json."""
        chosen = {"settings": dict(self.settings), "figure": self.score, "fixed": self.fixed}
        return chosen | {"before": self.before, "after": self.after}


@dataclass(frozen=True)
class NeighbourWeight:
    """What the answers of similar cases weigh beside a model's, in [0, 1].

    Attributes:
        weight: their share of the probabilities.
        score: name of the score that it maximises on the validation cases; "" where it was given.
        without: that score with weight 0; None where it was given.
        reached: that score with the weight: optimistic, as it is the highest of eleven on these cases.
    """

    weight: float
    score: str = ""
    without: float | None = None
    reached: float | None = None

    def to_json(self) -> dict[str, SettingValue | None]:
        """Return the weight, and how it was chosen, for schemas/predicted.schema.json."""
        given: dict[str, SettingValue | None] = {"weight": self.weight, "chosen": bool(self.score)}
        return given | ({"figure": self.score, "without": self.without, "with": self.reached} if self.score else {})


Similar = Mapping[str, Sequence[Neighbour]]
"""The neighbours of each sample, by its id, the most similar one first."""


class Task(ABC):
    """What the samples, model, scores and files of a task are.

    Attributes:
        name: the word on the command line and the folder in tasks/.
        title: the name for people, in lower case.
        unit: what `count_score` counts, in the plural.
        count_score: the score that is a number of units, not a quality.
        decision_class: class of the options of `write`.
        monitor: the score that chooses the best epoch unless the settings name another one.
        headline_scores: the scores to show first.
        outputs: names of the files that `write` makes in its folder, or glob patterns of them.
        deliverable: what a submission to the challenge holds for this task, or, "pairs" and "rankings", a folder
            of predictions.
        uses_questions: whether a model works only with the closed questions that it was trained on.
        supports_vote: whether finished predictions of several systems can be merged.
        whole_batches: whether the loss compares the samples of a batch with each other, so that every batch is whole
            (training/loader.py, `WholeBatches`).
        supports_neighbours: whether the answers of similar cases can be weighed in (`with_neighbours`).
        reads_shards: whether it trains on pairs in shards (data/shards/), whose samples `pair_samples` gives.
        no_own_photos: what to do instead, where photos of any folder cannot be predicted; "" where they can.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    count_score: ClassVar[str]
    decision_class: ClassVar[type[Decision]] = Decision
    monitor: ClassVar[str]
    headline_scores: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]] = ()
    deliverable: ClassVar[Literal["masks", "answers", "pairs", "rankings"]]
    uses_questions: ClassVar[bool] = False
    supports_vote: ClassVar[bool] = False
    supports_neighbours: ClassVar[bool] = False
    whole_batches: ClassVar[bool] = False
    reads_shards: ClassVar[bool] = False
    no_own_photos: ClassVar[str] = ""

    @property
    def trained_as(self) -> str:
        """Name of the task whose checkpoints are the models: this one, unless it is `configured` to use another's."""
        return self.name

    @property
    @abstractmethod
    def config_class(self) -> type[Config]:
        """The class of the settings."""

    @abstractmethod
    def training_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return the samples of a split to learn from or to validate on, in prepared order: those with gold.

        Several may have the same id, such as one per annotator of a photo.

        Raises:
            EmptySplit: there are none.
        """

    @abstractmethod
    def prediction_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample for each item of a split, with gold or without, in prepared order; no id comes twice.

        Raises:
            EmptySplit: there are none.
        """

    @abstractmethod
    def build(self, config: Config, questions: QuestionSchema) -> TaskModel:
        """Return the untrained model; imports torch."""

    @abstractmethod
    def score(
        self, gold: TaskGold, predictions: Iterable[Prediction | Submitted], rules: Rules = RULES, workers: int = 1
    ) -> TaskScores:
        """Score predictions strictly, and as the official scorer would.

        Args:
            gold: the gold to compare with; predictions for other samples are ignored.
            predictions: predictions of models, or contents of submitted files.
            rules: rules of the strict scores.
            workers: number of threads; it does not affect the scores.
        """

    @abstractmethod
    def write(
        self,
        predictions: Iterable[Prediction],
        prepared: Prepared,
        out: Path,
        decision: Decision | None = None,
        beside: SideFiles | None = None,
    ) -> list[Path]:
        """Write the files of the official submission layout to the folder `out` in one step, and return them.

        Args:
            predictions: predictions of models.
            prepared: the dataset.
            out: the folder.
            decision: an instance of this task's `decision_class`; None for its defaults.
            beside: what else is written; None for nothing.
        """

    @abstractmethod
    def gold(self, prepared: Prepared, split: str) -> TaskGold:
        """Return this task's gold of a split; empty if the split has none."""

    @abstractmethod
    def gold_in(self, gold: Gold) -> TaskGold:
        """Return this task's part of the gold in a user's file or folder."""

    def configured(self, settings: Mapping[str, SettingValue], decision: Decision | None = None) -> Task:
        """Return this task for one command: the task itself, unless its gold depends on settings or options.

        Args:
            settings: of the model; missing ones have their defaults.
            decision: options of `magic predict`; None in training.
        """
        return self

    def facts(self) -> Mapping[str, SettingValue]:
        """Return what predictions depend on beside model and data, for run.json and the result of `magic predict`."""
        return {}

    def shuffle_window(self, config: Config) -> int:
        """Return how many shards are shuffled together, 0 for all; only for `whole_batches`."""
        return 0

    def batch_classes(self, samples: Sequence[Sample], config: Config) -> tuple[Sequence[str], int] | None:
        """Return the class of each training sample and the fewest samples of a class in a batch (`ClassBatches`).

        None: batches are drawn whatever the classes; only for `whole_batches`.
        """
        return None

    def learned_from(self, samples: Sequence[Sample], config: Config) -> Sequence[Sample]:
        """Return the training samples that the settings keep; what is validated on or held out is never asked for."""
        return samples

    def fold_gold(self, gold: TaskGold, ids: Collection[str]) -> TaskGold:
        """Return what the model of a fold is told before it predicts the samples `ids` that the fold holds out."""
        return gold

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> Sequence[str]:
        """Return one line per suspicious property of the training data."""
        return ()

    def training_notes(
        self, model: TaskModel, samples: Sequence[Sample], config: Config, processes: int, updates: int
    ) -> Sequence[str]:
        """Return lines that are logged before a training: what its settings mean for these samples.

        Args:
            model: untrained.
            samples: to learn from.
            config: the settings.
            processes: that share each batch.
            updates: of the weights, in all epochs.
        """
        return ()

    def prediction_warnings(
        self, prepared: Prepared, split: str, samples: Sequence[Sample], config: Config
    ) -> Sequence[str]:
        """Return one line per kind of item of a split that cannot be predicted, or only from a part of its input.

        Args:
            prepared: the dataset.
            split: the split that is predicted.
            samples: its `prediction_samples`.
            config: the settings of the model.
        """
        return ()

    def check_folds(self, prepared: Prepared) -> None:
        """Refuse data on which a cross-validation could not be scored; raises DataError."""
        return

    def held_out(self, prediction: Prediction) -> Prediction:
        """Return what of a prediction can be scored beside those of other folds' models."""
        return prediction

    def before_predicting(
        self, model: TaskModel, gold: Callable[[], TaskGold], decision: Decision | None = None
    ) -> None:
        """Tell a model what its predictions will be scored against: the classes to choose from, say.

        Args:
            model: about to predict.
            gold: gives that of the samples that it will predict, or what is known of them; reading it takes long.
            decision: options of `magic predict`; None in training.
        """
        return

    def probe(self, path: Path, prepared: Prepared, asked: Probed, out: Path, runtime: Runtime) -> list[Path]:
        """Fit linear probes on what a checkpoint's encoder gives, and write their scores to the folder `out`.

        Args:
            path: the checkpoint.
            prepared: the dataset.
            asked: what is probed; out: the folder.
            runtime: device and cache.

        Raises:
            ConfigError: the task has no probe.
        """
        raise ConfigError(problem("--probe", f"task {self.name}", "a task with linear probes", "leave it out"))

    def case_encoder(self, model: TaskModel) -> CaseEncoder:
        """Return a trained model as an encoder of cases, for `magic index` and `magic search`.

        Raises:
            ConfigError: models of this task do not compare cases.
        """
        got, expected = f"a model of task {self.name}", "one that compares cases (magic train retrieve, or pretrain)"
        raise ConfigError(problem("--ckpt", got, expected, "give another one"))

    def graph(self, model: TaskModel, options: GraphOptions) -> ExportGraph:
        """Return what of a trained model `magic export --onnx` exports; raises ConfigError where it cannot be."""
        raise ConfigError(problem("--onnx", f"a model of task {self.name}", "one with a graph", "export another one"))

    def with_neighbours(
        self, predictions: Iterable[Prediction], similar: Similar, prepared: Prepared, weight: float
    ) -> Iterator[Prediction]:
        """Yield predictions with the answers of similar cases weighed in, and with these cases; only if supported.

        Args:
            predictions: of models; one without neighbours stays as it is.
            similar: the neighbours, whose answers count.
            prepared: the dataset, whose training answers are the prior of the neighbours'.
            weight: of the neighbours, in [0, 1]; with 0 the probabilities are those of the model.
        """
        raise NotImplementedError

    def neighbour_weight(
        self, validated: Validated, similar: Similar, prepared: Prepared, decision: Decision
    ) -> NeighbourWeight:
        """Return the weight of `with_neighbours` with the highest score on the validation cases; only if supported.

        Args:
            validated: their gold, and a model's predictions for them.
            similar: their neighbours.
            prepared: the dataset.
            decision: how probabilities become a decision.
        """
        raise NotImplementedError

    def choose_settings(self, validated: Sequence[Validated], config: Config) -> ChosenSettings | None:
        """Choose settings on the predictions for the validation samples; None if there is nothing to choose.

        Args:
            validated: the datasets, which count the same however many samples they have.
            config: the settings.
        """
        return None

    def validation_review(
        self,
        gold: TaskGold,
        predictions: Iterable[Prediction | Submitted],
        baselines: Mapping[str, Iterable[Prediction]],
        folds: Sequence[Collection[str]] = (),
    ) -> Review:
        """Return a review of predictions for held-out samples: scores and warnings.

        Args:
            gold: gold of the held-out samples.
            predictions: predictions of the best weights, or of all folds.
            baselines: the result of `baseline_predictions` for the same samples.
            folds: the ids of the cases that each of several models predicted; () for one model.
        """
        return Review()

    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> Mapping[str, Sequence[str]]:
        """Return labels per case id, which cross-validation spreads evenly over its folds."""
        return {sample.case.case_id: () for sample in samples}

    def baseline_predictions(
        self, parts: Sequence[Sequence[Sample]], questions: QuestionSchema
    ) -> Mapping[str, Iterable[Prediction]]:
        """Return trivial predictions for the samples of every part, learned from the other parts, by name."""
        return {}

    def baseline_scores(self, train: Sequence[Sample], gold: TaskGold) -> Mapping[str, float]:
        """Return the scores of trivial predictions on `gold`, by name; the score is the one that `monitor` names."""
        return {}

    def decision_from(self, options: Mapping[str, SettingValue | None]) -> Decision:
        """Make a `Decision` of options by name; None and False mean that an option was not given.

        Raises:
            ConfigError: an option was given that this task does not have.
        """
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        known = {field.name for field in fields(self.decision_class)}
        foreign = [f"--{name.replace('_', '-')}" for name in given if name not in known]
        if foreign:
            raise ConfigError(f"{', '.join(foreign)}: of another task than '{self.name}'; leave it out")
        return self.decision_class(**given)


def of_class(value: object, expected: type[T]) -> T:
    """Return `value` itself if it is an instance of `expected`.

    Raises:
        TypeError: it is not, such as another task's config.
    """
    if not isinstance(value, expected):
        raise TypeError(f"got {type(value).__name__}, expected {expected.__name__}")
    return value
