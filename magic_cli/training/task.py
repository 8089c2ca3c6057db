"""The interface between tasks and everything that drives them; imports no torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from magic_cli.data.gold import Gold
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.records import Prediction, Rules, Sample, TaskScores
from magic_cli.training.task_model import TaskModel


class Task(Protocol):
    """A module of tasks/: what its samples, model, score and deliverable are."""

    MONITOR: str

    def samples(self, prepared: Prepared, split: str, config: Any) -> Sequence[Sample]: ...
    def build(self, config: Any, questions: QuestionSchema) -> TaskModel: ...
    def score(
        self, gold: Gold, predictions: Iterable[Prediction], rules: Rules = ..., workers: int = ...
    ) -> TaskScores: ...
    def baselines(self, train: Sequence[Sample], gold: Gold) -> Mapping[str, float]: ...
    def choose(self, gold: Gold, predictions: Iterable[Prediction], config: Any) -> Mapping[str, Any]: ...
    def checks(self, prepared: Prepared, samples: Sequence[Sample], config: Any) -> Sequence[str]: ...
    def review(
        self,
        gold: Gold,
        predictions: Iterable[Prediction],
        guesses: Mapping[str, Iterable[Prediction]],
        folds: Sequence[Collection[str]] = ...,
    ) -> Mapping[str, Any]: ...
    def write(
        self, predictions: Iterable[Prediction], prepared: Prepared, out: Path, **decision: Any
    ) -> list[Path]: ...
    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> Mapping[str, Sequence[str]]: ...
    def guesses(
        self, parts: Sequence[Sequence[Sample]], questions: QuestionSchema
    ) -> Mapping[str, Iterable[Prediction]]: ...
