"""Composed case retrieval: a photo and words in, proven cases out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from magic_cli.data.gold import Gold, TaskGold
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.queries import labelled_samples, query_of, retrieval_gold
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.errors import DataError, EmptySplit, problem
from magic_cli.records import Prediction, Rules, Sample, Submitted, TaskScores
from magic_cli.submission import rankings
from magic_cli.tasks.retrieve.score import MONITOR, Ranking, score, trivial_scores
from magic_cli.training.task import RULES, Decision, Task, of_class

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.tasks.retrieve.config import RetrieveConfig
    from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
    from magic_cli.training.case_encoder import CaseEncoder
    from magic_cli.training.task_model import TaskModel


class RetrieveTask(Task):
    """Retrieval of cases by a photo and words."""

    name = "retrieve"
    title = "case retrieval"
    unit = "queries"
    count_score = "number_of_queries"
    monitor = MONITOR
    headline_scores = ("macro_map", "balanced_acc@1", "map", "acc@1")
    outputs = rankings.FILES
    deliverable = "rankings"
    whole_batches = True

    @property
    def config_class(self) -> type[RetrieveConfig]:
        """The class of the settings."""
        from magic_cli.tasks.retrieve.config import RetrieveConfig

        return RetrieveConfig

    def training_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample per photo whose case has a class; raises EmptySplit if there are none."""
        samples = labelled_samples(prepared, split)
        if not samples:
            got, expected = f"none in split {split!r}", "photos with a class"
            raise EmptySplit(problem(prepared.root, got, expected, f"see its {MANIFEST}"))
        return samples

    def prediction_samples(self, prepared: Prepared, split: str, config: Config) -> Sequence[Sample]:
        """Return one sample per photo, with a class or without; raises EmptySplit if there are none."""
        samples = pair_samples(prepared, split, needs_text=False)
        if not samples:
            raise EmptySplit(problem(prepared.root, f"none in split {split!r}", "photos", f"see its {MANIFEST}"))
        return samples

    def build(self, config: Config, questions: QuestionSchema) -> TaskModel:
        """Return the untrained model; imports torch."""
        from magic_cli.tasks.retrieve.model import build

        return build(of_class(config, self.config_class))

    def batch_classes(self, samples: Sequence[Sample], config: Config) -> tuple[Sequence[str], int] | None:
        """Return the classes, unless `cases_per_class` is 0."""
        least = of_class(config, self.config_class).cases_per_class
        return ([class_of(sample.case) for sample in samples], least) if least else None

    def score(
        self, gold: TaskGold, predictions: Iterable[Prediction | Submitted], rules: Rules = RULES, workers: int = 1
    ) -> TaskScores:
        """Score rankings; see tasks/retrieve/score.py."""
        return score(of_class(gold, RetrievalGold), cast("Iterable[Ranking]", predictions), rules)

    def write(
        self, predictions: Iterable[Prediction], prepared: Prepared, out: Path, decision: Decision | None = None
    ) -> list[Path]:
        """Write similarities, the run and the relevant photos (submission/rankings.py) to the folder `out`."""
        from magic_cli.tasks.retrieve.write import save

        rest = iter(cast("Iterable[RetrievalPrediction]", predictions))
        first = next(rest)
        gold = self.gold(prepared, prepared.images[first.id].split)
        return save(chain([first], rest), gold, out)

    def gold(self, prepared: Prepared, split: str) -> RetrievalGold:
        """Return the photos of a split as queries, which rank those of split train; without a class one only asks."""
        queries = pair_samples(prepared, split, needs_text=False)
        return retrieval_gold(f"{prepared.root} (split {split})", queries, labelled_samples(prepared, "train"), "train")

    def gold_in(self, gold: Gold) -> TaskGold:
        """Return the relevant photos in a user's file or folder."""
        return RetrievalGold(gold.source) if gold.rankings is None else of_class(gold.rankings, RetrievalGold)

    def fold_gold(self, gold: TaskGold, ids: Collection[str]) -> TaskGold:
        """Return the gold with what the fold holds out as queries, and the other folds as gallery."""
        return gold.only(ids)

    def before_predicting(
        self, model: TaskModel, gold: Callable[[], TaskGold], decision: Decision | None = None
    ) -> None:
        """Set the gallery; raises DataError if there is none."""
        from magic_cli.tasks.retrieve.model import RetrieveModel

        asked = of_class(gold(), RetrievalGold)
        if not asked.gallery:
            got, expected = "no photo to rank", "photos of split train with a class"
            raise DataError(problem(asked.source, got, expected, f"see its {MANIFEST}"))
        of_class(model, RetrieveModel).ask(asked)

    def case_encoder(self, model: TaskModel) -> CaseEncoder:
        """Return the model as an encoder of cases."""
        from magic_cli.tasks.retrieve.model import RetrieveModel
        from magic_cli.tasks.retrieve.model.case_encoder import RetrievalEncoder

        return RetrievalEncoder(of_class(model, RetrieveModel))

    def baseline_scores(self, train: Sequence[Sample], gold: TaskGold) -> Mapping[str, float]:
        """Return the score that chooses the epoch for a random ranking, and for the commonest class first."""
        return trivial_scores(of_class(gold, RetrievalGold))

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> Sequence[str]:
        """Return how many queries have no words."""
        silent = sum(not query_of(sample.case) for sample in samples)
        return (f"{silent:,} of {len(samples):,} queries have no words: they are their photo alone",) if silent else ()

    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> Mapping[str, Sequence[str]]:
        """Return the class of each case."""
        return {sample.case.case_id: (class_of(sample.case),) for sample in samples}


TASK = RetrieveTask()
