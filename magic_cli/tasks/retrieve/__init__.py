"""Composed case retrieval: a photo and words in, proven cases out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from magic_cli.data.gold import Gold, TaskGold
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.judgements import BEIR, BEIR_FILES, write_beir
from magic_cli.data.retrieval.queries import labelled_samples, photo_samples, query_of, query_parts, retrieval_gold
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.errors import ConfigError, DataError, EmptySplit, printable, problem, shorten
from magic_cli.io.progress import log
from magic_cli.records import Prediction, Rules, Sample, Submitted, TaskScores
from magic_cli.submission import rankings
from magic_cli.tasks.retrieve.score import MONITOR, Ranking, score, trivial_scores
from magic_cli.training.task import RULES, Decision, Task, of_class

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.models.export.graph import ExportGraph, GraphOptions
    from magic_cli.setting import SettingValue
    from magic_cli.tasks.retrieve.config import RetrieveConfig
    from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
    from magic_cli.training.case_encoder import CaseEncoder
    from magic_cli.training.task_model import TaskModel


CONTROLS = "controls"
"""The folder of controls, within that of predictions."""


@dataclass(frozen=True)
class RetrieveDecision(Decision):
    """Options of `RetrieveTask.write`.

    Attributes:
        gallery: "train", split train, or "loo", the queries' own split without their own group; None: "train".
        controls: also write the rankings of controls, a folder each.
        beir: also write a BEIR folder.
    """

    gallery: str | None = None
    controls: bool = False
    beir: bool = False


@dataclass(frozen=True, eq=False)
class RetrieveTask(Task):
    """Retrieval of cases by a photo and words.

    Attributes:
        classes: the attribute that is the class of a case; "": its diagnosis.
        gallery: "train" or "loo" (`RetrieveDecision`).
        models: those whose vectors of photos controls are made of; they come with `before_predicting`.
    """

    classes: str = ""
    gallery: str = "train"
    models: list[TaskModel] = field(default_factory=list)

    name = "retrieve"
    title = "case retrieval"
    unit = "queries"
    count_score = "number_of_queries"
    monitor = MONITOR
    headline_scores = ("macro_map", "balanced_acc@1", "map", "acc@1")
    outputs = (*rankings.FILES, f"{CONTROLS}/*/*", *(f"{BEIR}/{name}" for name in BEIR_FILES))
    decision_class = RetrieveDecision
    deliverable = "rankings"
    whole_batches = True
    no_own_photos = "`magic search --image PHOTO` finds the cases of an index that are most like a photo"

    @property
    def config_class(self) -> type[RetrieveConfig]:
        """The class of the settings."""
        from magic_cli.tasks.retrieve.config import RetrieveConfig

        return RetrieveConfig

    def training_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample per photo whose case has a class; raises EmptySplit if there are none."""
        classes = of_class(config, self.config_class).classes
        samples = labelled_samples(prepared, split, classes)
        if not samples:
            got, expected, remedy = f"none in split {split!r}", "photos with a class", f"see its {MANIFEST}"
            if classes:
                names = dict.fromkeys(name for case in prepared.cases_of(split) for name in case.attributes)
                expected = f"photos of cases with attribute {classes!r}, their class"
                remedy = f"--set classes= one of {shorten(names, 20)}" if names else "leave out --set classes="
            raise EmptySplit(printable(problem(prepared.root, got, expected, remedy)))
        return samples

    def prediction_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample per photo, with a class or without; raises EmptySplit if there are none."""
        samples = photo_samples(prepared, split, of_class(config, self.config_class).classes)
        if not samples:
            raise EmptySplit(problem(prepared.root, f"none in split {split!r}", "photos", f"see its {MANIFEST}"))
        return samples

    def build(self, config: Config, questions: QuestionSchema) -> TaskModel:
        """Return the untrained model; imports torch."""
        from magic_cli.tasks.retrieve.model import build

        return build(of_class(config, self.config_class))

    def graph(self, model: TaskModel, options: GraphOptions) -> ExportGraph:
        """Return the model as a graph of tensors, for `magic export --onnx`."""
        from magic_cli.tasks.retrieve.graph import build_graph

        return build_graph(model, options)

    def batch_classes(self, samples: Sequence[Sample], config: Config) -> tuple[Sequence[str], int] | None:
        """Return the classes, unless `cases_per_class` is 0."""
        least = of_class(config, self.config_class).cases_per_class
        return ([class_of(sample.case) for sample in samples], least) if least else None

    def score(
        self, gold: TaskGold, predictions: Iterable[Prediction | Submitted], rules: Rules = RULES, workers: int = 1
    ) -> TaskScores:
        """Score rankings; see tasks/retrieve/score.py."""
        return score(of_class(gold, RetrievalGold), cast("Iterable[Ranking]", predictions), rules)

    def configured(self, settings: Mapping[str, SettingValue], decision: Decision | None = None) -> RetrieveTask:
        """Return the task with the class that the settings name, and the gallery of the options."""
        asked = of_class(decision or RetrieveDecision(), RetrieveDecision)
        return RetrieveTask(str(settings.get("classes", "")), asked.gallery or "train")

    def facts(self) -> Mapping[str, SettingValue]:
        """Return how the gallery is chosen, and what the class is."""
        return {"gallery": self.gallery, "classes": self.classes}

    def write(
        self,
        predictions: Iterable[Prediction],
        prepared: Prepared,
        out: Path,
        decision: Decision | None = None,
        beside: SideFiles | None = None,
    ) -> list[Path]:
        """Write similarities, the run and the relevant photos (submission/rankings.py) to the folder `out`.

        As the options say, with controls (controls/NAME/) and as a BEIR folder (beir/).
        """
        from magic_cli.tasks.retrieve.write import save
        from magic_cli.tasks.retrieve.write_controls import write_controls

        asked = of_class(decision or RetrieveDecision(), RetrieveDecision)
        rest = iter(cast("Iterable[RetrievalPrediction]", predictions))
        first = next(rest)
        split = prepared.images[first.id].split
        gold = self.gold(prepared, split)

        def write_more(folder: Path, queries: tuple[str, ...]) -> None:
            kept, known = replace(gold, queries=queries), {s.id: s for s in photo_samples(prepared, split)}
            samples = [known[query] for query in queries]
            if asked.controls:
                missing = write_controls(folder / CONTROLS, kept, samples, [self.case_encoder(m) for m in self.models])
                reasons = ", ".join(f"{name} ({why})" for name, why in missing.items())
                log(f"note: controls left out: {reasons or 'none'}")
            if asked.beir:
                (folder / BEIR).mkdir()
                words = {sample.id: query_of(sample.case) for sample in (*gold.samples, *samples)}
                write_beir(kept, words, folder / BEIR)

        return save(chain([first], rest), gold, out, write_more)

    def gold(self, prepared: Prepared, split: str) -> RetrievalGold:
        """Return the photos of a split as queries, and the gallery that they rank; without a class one only asks."""
        queries = photo_samples(prepared, split, self.classes)
        gallery = labelled_samples(prepared, split if self.gallery == "loo" else "train", self.classes)
        return retrieval_gold(f"{prepared.root} (split {split})", queries, gallery, self.gallery, self.classes)

    def gold_in(self, gold: Gold) -> TaskGold:
        """Return the relevant photos in a user's file or folder."""
        return RetrievalGold(gold.source) if gold.rankings is None else of_class(gold.rankings, RetrievalGold)

    def fold_gold(self, gold: TaskGold, ids: Collection[str]) -> TaskGold:
        """Return the gold with what the fold holds out as queries, and the other folds as gallery."""
        return gold.only(ids)

    def before_predicting(
        self, model: TaskModel, gold: Callable[[], TaskGold], decision: Decision | None = None
    ) -> None:
        """Set the gallery; raises DataError if there is none, ConfigError for a model of another class."""
        from magic_cli.tasks.retrieve.model import RetrieveModel

        asked, retriever = of_class(gold(), RetrievalGold), of_class(model, RetrieveModel)
        if retriever.config.classes != asked.classes:
            got = f"models of classes={asked.classes} and classes={retriever.config.classes}"
            raise ConfigError(printable(problem("--ckpt", got, "models of one class", "predict with each by itself")))
        if not asked.gallery:
            got, expected = "no photo to rank", "photos of the gallery with a class"
            raise DataError(problem(asked.source, got, expected, f"see its {MANIFEST}"))
        retriever.ask(asked)
        if decision is not None and of_class(decision, RetrieveDecision).controls:
            self.models.append(model)

    def case_encoder(self, model: TaskModel) -> CaseEncoder:
        """Return the model as an encoder of cases."""
        from magic_cli.tasks.retrieve.model import RetrieveModel
        from magic_cli.tasks.retrieve.model.case_encoder import RetrievalEncoder

        return RetrievalEncoder(of_class(model, RetrieveModel))

    def baseline_scores(self, train: Sequence[Sample], gold: TaskGold) -> Mapping[str, float]:
        """Return the score that chooses the epoch for a random ranking, and for the commonest class first."""
        return trivial_scores(of_class(gold, RetrievalGold))

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> Sequence[str]:
        """Return how many queries have no words, and how many of them tell the class."""
        silent = sum(not query_of(sample.case) for sample in samples)
        lines = [f"{silent:,} of {len(samples):,} queries have no words: they are their photo alone"] if silent else []
        classes = of_class(config, self.config_class).classes
        telling = sum(any(part.name == classes for part in query_parts(s.case)) for s in samples) if classes else 0
        if telling:
            lines.append(
                f"{telling:,} of {len(samples):,} queries tell {printable(classes)}, their class, in words:"
                " scores say nothing; prepare without it (--query-attributes)"
            )
        return lines

    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> Mapping[str, Sequence[str]]:
        """Return the class of each case."""
        return {sample.case.case_id: (class_of(sample.case),) for sample in samples}


TASK = RetrieveTask()
