"""Contrastive pretraining: photos and their texts in one space, for zero-shot use and as encoders of other tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from magic_cli.data.gold import Gold, TaskGold
from magic_cli.data.pair_gold import PairGold, pair_gold
from magic_cli.data.pairs import pair_notes, pair_samples
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import EmptySplit, problem
from magic_cli.records import Prediction, Rules, Sample, Submitted, TaskScores
from magic_cli.training.task import RULES, Decision, Task, of_class

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.tasks.pretrain.config import PretrainConfig
    from magic_cli.tasks.pretrain.predictions import PairPrediction
    from magic_cli.training.task_model import TaskModel


@dataclass(frozen=True)
class PretrainDecision(Decision):
    """What is asked of the photos, instead of what their gold says."""


class PretrainTask(Task):
    """Contrastive pretraining on photos and texts."""

    name = "pretrain"
    title = "contrastive pretraining"
    unit = "photos"
    count_score = "number_of_photos"
    decision_class = PretrainDecision
    monitor = "mean_of_tasks"
    headline_scores = ("mean_of_tasks", "balanced_accuracy", "recall@10")
    deliverable = "pairs"
    whole_batches = True
    reads_shards = True

    @property
    def config_class(self) -> type[PretrainConfig]:
        """The class of the settings."""
        from magic_cli.tasks.pretrain.config import PretrainConfig

        return PretrainConfig

    def training_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample per photo whose case has a text; raises EmptySplit if there are none."""
        return _filled(pair_samples(prepared, split), prepared, split)

    def prediction_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample per photo, with a text or without; raises EmptySplit if there are none."""
        return _filled(pair_samples(prepared, split, needs_text=False), prepared, split)

    def build(self, config: Config, questions: QuestionSchema) -> TaskModel:
        """Return the untrained model; imports torch."""
        from magic_cli.tasks.pretrain.model import build

        return build(of_class(config, self.config_class))

    def score(
        self, gold: TaskGold, predictions: Iterable[Prediction | Submitted], rules: Rules = RULES, workers: int = 1
    ) -> TaskScores:
        """Score zero-shot classes, concepts and retrieval; see tasks/pretrain/score.py."""
        from magic_cli.tasks.pretrain.score import score

        return score(of_class(gold, PairGold), cast("Iterable[PairPrediction]", predictions))

    def write(
        self, predictions: Iterable[Prediction], prepared: Prepared, out: Path, decision: Decision | None = None
    ) -> list[Path]:
        """Write the predictions to the folder `out` in one step."""
        raise NotImplementedError

    def gold(self, prepared: Prepared, split: str) -> PairGold:
        """Return classes, concepts and texts of a split's photos."""
        return pair_gold(f"{prepared.root} (split {split})", pair_samples(prepared, split, needs_text=False))

    def gold_in(self, gold: Gold) -> PairGold:
        """Return the pairs in a user's file or folder."""
        return PairGold(gold.source)

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> Sequence[str]:
        """Return what makes no pair and, of shards, what is damaged and how they were split."""
        return [line for split in ("train", "valid") for line in pair_notes(prepared, split)]

    def before_predicting(self, model: TaskModel, gold: TaskGold, decision: Decision | None = None) -> None:
        """Ask for the classes and concepts of the gold."""
        from magic_cli.tasks.pretrain.model import PretrainModel
        from magic_cli.tasks.pretrain.model.zero_shot import Asked, Concept

        known = of_class(gold, PairGold)
        concepts = tuple(Concept(name, (name,)) for name in known.concept_names)
        of_class(model, PretrainModel).ask(Asked(classes=known.class_names, concepts=concepts))


TASK = PretrainTask()


def _filled(samples: Sequence[Sample], prepared: Prepared, split: str) -> Sequence[Sample]:
    if not samples:
        got, expected = f"none in split {split!r}", "photos with texts"
        raise EmptySplit(problem(prepared.root, got, expected, f"see its {MANIFEST}"))
    return samples
