"""Contrastive pretraining: photos and their texts in one space, for zero-shot use and as encoders of other tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from magic_cli.data.gold import Gold, TaskGold
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.pair_gold import PairGold, prepared_pair_gold
from magic_cli.data.pairs import pair_notes, pair_samples
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.shards.dataset import ShardedDataset
from magic_cli.errors import DataError, EmptySplit, problem
from magic_cli.records import SPLITS, Prediction, Rules, Sample, Submitted, TaskScores
from magic_cli.submission import pairs
from magic_cli.submission.bottleneck import BOTTLENECK_FILE
from magic_cli.tasks.bottleneck import BesidePredictions
from magic_cli.tasks.pretrain.asked import PretrainDecision, asked
from magic_cli.tasks.pretrain.score import MONITOR, score, trivial_scores
from magic_cli.training.task import RULES, Decision, Task, of_class

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.models.export.graph import ExportGraph, GraphOptions
    from magic_cli.setting import SettingValue
    from magic_cli.tasks.pretrain.config import PretrainConfig
    from magic_cli.tasks.pretrain.matched import Pair
    from magic_cli.tasks.pretrain.predictions import PairPrediction
    from magic_cli.training.case_encoder import CaseEncoder
    from magic_cli.training.runtime import Probed, Runtime
    from magic_cli.training.task_model import TaskModel


class PretrainTask(Task):
    """Contrastive pretraining on photos and texts; `reword` names the wording of zero-shot prompts of one command."""

    name = "pretrain"
    title = "contrastive pretraining"
    unit = "photos"
    count_score = "number_of_photos"
    decision_class = PretrainDecision
    monitor = MONITOR
    headline_scores = ("mean_of_tasks", "balanced_accuracy", "concept_auroc", "recall@10")
    outputs = (*pairs.FILES, BOTTLENECK_FILE)
    deliverable = "pairs"
    whole_batches = True
    reads_shards = True

    def __init__(self, decision: PretrainDecision | None = None) -> None:
        self.decision = decision or PretrainDecision()

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

    def graph(self, model: TaskModel, options: GraphOptions) -> ExportGraph:
        """Return the model as a graph of tensors, for `magic export --onnx`."""
        from magic_cli.tasks.pretrain.graph import build_graph

        return build_graph(model, options)

    def training_notes(
        self, model: TaskModel, samples: Sequence[Sample], config: Config, processes: int, updates: int
    ) -> Sequence[str]:
        """Return what is compared with what, how long the warm-up is, and an estimate of the memory."""
        from magic_cli.tasks.pretrain.model import PretrainModel, training_notes

        return training_notes(of_class(model, PretrainModel), samples, processes, updates)

    def score(
        self, gold: TaskGold, predictions: Iterable[Prediction | Submitted], rules: Rules = RULES, workers: int = 1
    ) -> TaskScores:
        """Score zero-shot classes, concepts and retrieval; see tasks/pretrain/score.py."""
        return score(of_class(gold, PairGold), cast("Iterable[Pair]", predictions), rules)

    def write(
        self,
        predictions: Iterable[Prediction],
        prepared: Prepared,
        out: Path,
        decision: Decision | None = None,
        beside: SideFiles | None = None,
    ) -> list[Path]:
        """Write tables of scores, vectors and maps (submission/pairs.py) to the folder `out` in one step.

        Raises:
            ConfigError: what is asked cannot be read. DataError: the folder cannot be written.
        """
        from magic_cli.tasks.pretrain.write import save

        rest = iter(cast("Iterable[PairPrediction]", predictions))
        first = next(rest)
        split = _split_of(prepared, first.id)
        gold = self.gold(prepared, split)
        questions = asked(gold, of_class(decision or PretrainDecision(), PretrainDecision))
        return save(chain([first], rest), questions, gold, split, out, beside)

    def configured(self, settings: Mapping[str, SettingValue], decision: Decision | None = None) -> PretrainTask:
        """Return the task with the options of `magic predict`."""
        return PretrainTask(of_class(decision or PretrainDecision(), PretrainDecision))

    def facts(self) -> Mapping[str, SettingValue]:
        """Return in what words classes are asked for, or what they are read from, where an option says so."""
        given = {"reword": self.decision.reword, "classes_by": self.decision.classes_by}
        return {name: value for name, value in given.items() if value is not None}

    def probe(self, path: Path, prepared: Prepared, asked: Probed, out: Path, runtime: Runtime) -> list[Path]:
        """Write out/probe.json with what a logistic regression reads from frozen vectors; or out/attributes.json.

        With `classes_by`, predictions as `write` does, with the classes of a linear model instead of prompts.

        Raises:
            ConfigError: split train; an attribute that no case has. DataError: too few classes, or the folder cannot
                be written.
        """
        if asked.attributes:
            from magic_cli.tasks.pretrain.model.attribute_probe import attribute_probe
            from magic_cli.tasks.pretrain.probe_file import save_attributes

            return save_attributes(attribute_probe(path, prepared, asked.attributes, runtime, asked.weights), out)
        if self.decision.classes_by is None:
            from magic_cli.tasks.pretrain.model.probe import probe
            from magic_cli.tasks.pretrain.probe_file import save_probe

            return save_probe(probe(path, prepared, asked.split, runtime, asked.weights), out)
        from magic_cli.tasks.pretrain.model.linear_classes import classify
        from magic_cli.tasks.pretrain.write import save

        found = classify(path, prepared, asked.split, (runtime, asked.weights), self.decision)
        beside = None if found.file is None else BesidePredictions(found.file)
        return save(found.predictions, found.asked, self.gold(prepared, asked.split), asked.split, out, beside)

    def case_encoder(self, model: TaskModel) -> CaseEncoder:
        """Return the pair of encoders as an encoder of cases."""
        from magic_cli.tasks.pretrain.model import PretrainModel
        from magic_cli.tasks.pretrain.model.case_encoder import PairEncoder

        return PairEncoder(of_class(model, PretrainModel))

    def gold(self, prepared: Prepared, split: str) -> PairGold:
        """Return classes, concepts and texts of a split's photos."""
        return prepared_pair_gold(prepared, split)

    def gold_in(self, gold: Gold) -> PairGold:
        """Return the pairs in a user's file or folder."""
        return PairGold(gold.source) if gold.pairs is None else of_class(gold.pairs, PairGold)

    def baseline_scores(self, train: Sequence[Sample], gold: TaskGold) -> Mapping[str, float]:
        """Return the score that chooses the epoch at chance level."""
        return trivial_scores(of_class(gold, PairGold))

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> Sequence[str]:
        """Return what makes no pair, what is filtered and, of shards, what is damaged and how they were split."""
        from magic_cli.tasks.pretrain.pair_filters import filtered

        lines = [line for split in ("train", "valid") for line in pair_notes(prepared, split)]
        line = filtered(pair_samples(prepared, "train"), of_class(config, self.config_class)).line
        return [*lines, line] if line else lines

    def learned_from(self, samples: Sequence[Sample], config: Config) -> Sequence[Sample]:
        """Return the pairs that the filters of the settings keep (tasks/pretrain/pair_filters.py)."""
        from magic_cli.tasks.pretrain.pair_filters import filtered

        return filtered(samples, of_class(config, self.config_class)).samples

    def check_folds(self, prepared: Prepared) -> None:
        """Raise DataError for shards, and for photos without classes and concepts: folds have no joint retrieval."""
        if isinstance(prepared, ShardedDataset):
            got, remedy = "shards with --folds", "leave --folds out, or prepare the photos"
            raise DataError(problem(prepared.root, got, "a prepared dataset", remedy))
        asked_for = asked(self.gold(prepared, "train"))
        if not asked_for.classes and not asked_for.concepts:
            got, remedy = "no classes and no concepts in split 'train'", "leave --folds out"
            raise DataError(problem(prepared.root, got, "what models of several folds can be scored on", remedy))

    def held_out(self, prediction: Prediction) -> Prediction:
        """Return a prediction without its text's vector: vectors of different folds' models are in different spaces."""
        from magic_cli.tasks.pretrain.predictions import PairPrediction

        return replace(of_class(prediction, PairPrediction), text=None)

    def before_predicting(
        self, model: TaskModel, gold: Callable[[], TaskGold], decision: Decision | None = None
    ) -> None:
        """Ask for what a decision names, else for classes and concepts of the gold; raises ConfigError as `asked`."""
        from magic_cli.tasks.pretrain.model import PretrainModel

        questions = asked(of_class(gold(), PairGold), of_class(decision or PretrainDecision(), PretrainDecision))
        of_class(model, PretrainModel).ask(questions)


TASK = PretrainTask()


def _split_of(prepared: Prepared, first: str) -> str:
    """Return the split whose first predicted photo is `first`; predictions come in the order of the samples."""
    if first in prepared.images:
        return prepared.images[first].split
    found = ((split, pair_samples(prepared, split, needs_text=False)) for split in SPLITS)
    return next(split for split, samples in found if samples and samples[0].id == first)


def _filled(samples: Sequence[Sample], prepared: Prepared, split: str) -> Sequence[Sample]:
    if not samples:
        got, expected = f"none in split {split!r}", "photos with texts"
        raise EmptySplit(problem(prepared.root, got, expected, f"see its {MANIFEST}"))
    return samples
