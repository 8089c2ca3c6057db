"""Closed questions: one row of option indices per encounter; scored per parent question over option sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from magic_cli.data.gold import AnswerGold, Gold, TaskGold, answer_gold
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.texts.prompt_ladder import refuse_gold_prompts
from magic_cli.data.texts.rewording import QUERY_RULES, QUESTION_WORDINGS, reworded_case
from magic_cli.errors import ConfigError, DataError, EmptySplit, problem, shorten
from magic_cli.records import Case, ImageRecord, Prediction, Review, Sample, Submitted
from magic_cli.submission.answers import SubmittedRow
from magic_cli.submission.bottleneck import BOTTLENECK_FILE
from magic_cli.submission.neighbours import NEIGHBOURS_FILE
from magic_cli.submission.probabilities import PROBABILITIES_FILE
from magic_cli.submission.reader import ANSWERS
from magic_cli.tasks.bottleneck import BesidePredictions
from magic_cli.tasks.cvqa.answers import AnswerPrediction, Decode, by_encounter, decide
from magic_cli.tasks.cvqa.score import MONITOR, score, trivial_scores
from magic_cli.tasks.cvqa.write import save
from magic_cli.training.task import ChosenSettings, Decision, NeighbourWeight, Similar, Task, Validated, of_class

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.models.export.graph import ExportGraph, GraphOptions
    from magic_cli.setting import SettingValue
    from magic_cli.tasks.cvqa.config import CvqaConfig
    from magic_cli.tasks.cvqa.neighbours import Distributions
    from magic_cli.training.task_model import TaskModel


@dataclass(frozen=True)
class CvqaDecision(Decision):
    """How probabilities become answers, in what words the model is asked, and what is asked of a concept bottleneck.

    Attributes:
        decode: "slot", "set", or None for the way that most of the models were trained for.
        reword: a rule for the query, or a wording of the questions; None: as they are.
        what_if: an id and concepts, as tasks/bottleneck.py reads them.
    """

    decode: Decode | None = None
    reword: str | None = None
    what_if: str | None = None

    def __post_init__(self) -> None:
        """Refuse another way, and another rewording."""
        rules = (*QUERY_RULES, *QUESTION_WORDINGS)
        if self.reword not in (None, *rules):
            expected = f"{', '.join(rules)} for cvqa"
            raise ConfigError(problem("--reword", self.reword, expected, "choose one of these"))
        if self.decode not in (None, *get_args(Decode)):
            raise ConfigError(problem("--decode", self.decode, " or ".join(get_args(Decode)), "choose one of these"))


class CvqaTask(Task):
    """The closed questions about an encounter, for one command perhaps in other words (`reword`)."""

    name = "cvqa"
    title = "closed questions"
    unit = "encounters"
    count_score = "number_cvqa_instances"
    decision_class = CvqaDecision
    monitor = MONITOR
    headline_scores = (MONITOR,)
    outputs = (ANSWERS, PROBABILITIES_FILE, NEIGHBOURS_FILE, BOTTLENECK_FILE)
    deliverable = "answers"
    uses_questions = True
    supports_vote = True
    supports_neighbours = True
    score = staticmethod(score)

    def __init__(self, reword: str | None = None) -> None:
        self.reword = reword

    @property
    def config_class(self) -> type[CvqaConfig]:
        """The class of the settings."""
        from magic_cli.tasks.cvqa.config import CvqaConfig

        return CvqaConfig

    def training_samples(self, prepared: Prepared, split: str, config: Config) -> tuple[Sample, ...]:
        """Return one sample per encounter that has answers, with its photos and all questions.

        The setting `modality` "text" leaves photos out; without text at least one per sample is needed. `sample_unit`
        "question" makes one train sample per encounter and slot instead, as in the paper.

        Raises:
            EmptySplit: there are no such encounters.
            DataError: the dataset has no closed questions, or encounters lack photos that the modality needs (one
                line for all of them).
        """
        settings = of_class(config, self.config_class)
        encounters = [case for case in _asked(prepared, split) if case.answers is not None]
        if not encounters:
            got, remedy = f"none in split {split!r}", f"see its {MANIFEST}"
            raise EmptySplit(problem(prepared.root, got, "encounters with answers", remedy))
        photos = {e.case_id: _photos(prepared, e, settings.modality) for e in encounters}
        without = [encounter for encounter, records in photos.items() if not records]
        if without and not settings.reads_text:
            got = f"{len(without)} encounters without a photo ({shorten(without)})"
            raise DataError(problem(prepared.root, got, "one or more", "use --modality both or text"))
        qids = tuple(prepared.questions.by_qid)
        # The paper trains on one question at a time; in prediction, each photo would be encoded 27 times.
        units = [(qid,) for qid in qids] if settings.sample_unit == "question" and split == "train" else [qids]
        return tuple(Sample(e.case_id, e, photos[e.case_id], unit) for e in encounters for unit in units)

    def prediction_samples(self, prepared: Prepared, split: str, config: Config) -> tuple[Sample, ...]:
        """Return one sample per encounter, with answers or without, with its photos and all questions.

        The setting `modality` "text" leaves photos out. An encounter without a photo has a sample with any modality:
        the model answers with the mean photo of its training instead (head "options": with no photo).

        Raises:
            EmptySplit: there are no encounters. DataError: the dataset has no closed questions.
        """
        modality = of_class(config, self.config_class).modality
        encounters, qids = _asked(prepared, split), tuple(prepared.questions.by_qid)
        if self.reword in QUERY_RULES:
            encounters = tuple(reworded_case(case, self.reword) for case in encounters)
        return tuple(Sample(e.case_id, e, _photos(prepared, e, modality), qids) for e in encounters)

    def configured(self, settings: Mapping[str, SettingValue], decision: Decision | None = None) -> CvqaTask:
        """Return the task with the words that the options name."""
        return self if decision is None else CvqaTask(of_class(decision, CvqaDecision).reword)

    def facts(self) -> Mapping[str, SettingValue]:
        """Return in what words the model is asked, where an option says so."""
        return {} if self.reword is None else {"reword": self.reword}

    def before_predicting(
        self, model: TaskModel, gold: Callable[[], TaskGold], decision: Decision | None = None
    ) -> None:
        """Have a model read its questions in the words that the options name; raises ConfigError if it reads none."""
        if self.reword is not None:
            from magic_cli.tasks.cvqa.model import CvqaModel
            from magic_cli.tasks.cvqa.rewording import reword

            reword(of_class(model, CvqaModel), self.reword)

    def prediction_warnings(
        self, prepared: Prepared, split: str, samples: Sequence[Sample], config: Config
    ) -> list[str]:
        """Return a line that names the encounters which a model that reads photos alone answers without one."""
        without = [sample.id for sample in samples if not sample.images]
        if not without or of_class(config, self.config_class).reads_text:
            return []
        got = f"{len(without)} of {len(samples)} encounters of split {split} have no photo ({shorten(without)})"
        return [f"{got}; this model reads photos alone, and answers them all alike, as it learned them on average"]

    def build(self, config: Config, questions: QuestionSchema) -> TaskModel:
        """Return the untrained model; imports torch."""
        from magic_cli.tasks.cvqa.model import build

        return build(of_class(config, self.config_class), questions)

    def graph(self, model: TaskModel, options: GraphOptions) -> ExportGraph:
        """Return the model as a graph of tensors, for `magic export --onnx`."""
        from magic_cli.tasks.cvqa.graph import build_graph

        return build_graph(model, options)

    def write(
        self,
        predictions: Iterable[Prediction],
        prepared: Prepared,
        out: Path,
        decision: Decision | None = None,
        beside: SideFiles | None = None,
    ) -> list[Path]:
        """Write out/data_cvqa_sys.json: one row of 0-based indices per predicted encounter, in prepared order.

        Also writes predictions.jsonl with the answers as text and the probabilities that they were decided from.

        Raises:
            DataError: an encounter lacks a question, or the folder cannot be written.
        """
        chosen = of_class(decision or CvqaDecision(), CvqaDecision)
        predicted = by_encounter(cast(Iterable[AnswerPrediction], predictions))
        order = [encounter for encounter in prepared.cases if encounter in predicted]
        beside = _with_bottleneck(predicted, prepared.questions, chosen, beside)
        rows = {encounter: decide(predicted[encounter], prepared.questions, chosen.decode) for encounter in order}
        everything = (prediction for group in predicted.values() for prediction in group)
        return save(out, rows, everything, prepared.questions, beside)

    def with_neighbours(
        self, predictions: Iterable[Prediction], similar: Similar, prepared: Prepared, weight: float
    ) -> Iterator[Prediction]:
        """Yield predictions with the answers of similar cases weighed in; see tasks/cvqa/neighbours.py."""
        from magic_cli.tasks.cvqa import neighbours

        answers = cast(Iterable[AnswerPrediction], predictions)
        return neighbours.weighed(answers, similar, _prior(prepared), prepared.questions, weight)

    def neighbour_weight(
        self, validated: Validated, similar: Similar, prepared: Prepared, decision: Decision
    ) -> NeighbourWeight:
        """Return the weight of the neighbours' answers with the highest accuracy on the validation cases."""
        from magic_cli.tasks.cvqa import neighbours

        gold, decode = of_class(validated[0], AnswerGold), of_class(decision, CvqaDecision).decode
        answers = cast(Iterable[AnswerPrediction], validated[1])
        decided = [row if decode is None else replace(row, decode=decode) for row in answers]
        return neighbours.best_weight(gold, decided, similar, _prior(prepared))

    def gold(self, prepared: Prepared, split: str) -> AnswerGold:
        """Return the closed answers of a split."""
        return answer_gold(prepared, split)

    def gold_in(self, gold: Gold) -> AnswerGold:
        """Return the answers in a user's file or folder."""
        return gold.answers

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> list[str]:
        """Return warnings about inconsistent option texts, answers, texts and photos; see tasks/cvqa/data_checks.py."""
        from magic_cli.tasks.cvqa import data_checks

        return data_checks.data_warnings(prepared, samples, of_class(config, self.config_class))

    def choose_settings(self, validated: Sequence[Validated], config: Config) -> ChosenSettings | None:
        """Choose the temperature of the probabilities if the setting `temperature_for` is "valid"."""
        settings = of_class(config, self.config_class)
        if settings.temperature_for == "none":
            return None
        datasets = [(of_class(gold, AnswerGold), cast(Iterable[AnswerPrediction], found)) for gold, found in validated]
        from magic_cli.tasks.cvqa.confidence import chosen_temperature

        return chosen_temperature(datasets, settings.temperature)

    def validation_review(
        self,
        gold: TaskGold,
        predictions: Iterable[Prediction | Submitted],
        baselines: Mapping[str, Iterable[Prediction]],
        folds: Sequence[Collection[str]] = (),
    ) -> Review:
        """Return accuracy and calibration per parent question, and warnings; see tasks/cvqa/validation.py."""
        answers = cast(Iterable[AnswerPrediction | SubmittedRow], predictions)
        trivial = cast(Mapping[str, Iterable[AnswerPrediction]], baselines)
        from magic_cli.tasks.cvqa import validation

        return validation.validation_review(of_class(gold, AnswerGold), answers, trivial, folds)

    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> dict[str, tuple[str, ...]]:
        """Return each encounter's answers as labels."""
        from magic_cli.tasks.cvqa.baselines import answer_labels

        return answer_labels(samples, questions)

    def baseline_predictions(
        self, parts: Sequence[Sequence[Sample]], questions: QuestionSchema
    ) -> Mapping[str, Iterable[Prediction]]:
        """Return the majority answers of the other parts for the samples of each part."""
        from magic_cli.tasks.cvqa import validation
        from magic_cli.tasks.cvqa.baselines import majority_answers

        return {validation.MAJORITY: majority_answers(parts, questions)}

    def baseline_scores(self, train: Sequence[Sample], gold: TaskGold) -> dict[str, float]:
        """Return the scores on `gold` of the majority answers of `train` and of constant answers."""
        return trivial_scores(train, of_class(gold, AnswerGold))


TASK = CvqaTask()


def _with_bottleneck(
    predicted: Mapping[str, Sequence[AnswerPrediction]],
    questions: QuestionSchema,
    decision: CvqaDecision,
    beside: SideFiles | None,
) -> SideFiles | None:
    """Return what is written beside answers, with bottleneck.json if the models are concept bottlenecks.

    Raises:
        ConfigError: `--what-if` of other models, or of what is not there.
    """
    seen = {name: group[0].seen for name, group in predicted.items() if group[0].seen}
    if not seen:
        if decision.what_if is not None:
            expected = "a model that was trained with modality=concepts"
            raise ConfigError(problem("--what-if", "a model without concepts", expected, "train one, or leave it out"))
        return beside
    from magic_cli.tasks.cvqa.what_if import bottleneck_file

    decode = decision.decode or next(iter(predicted.values()))[0].decode
    return BesidePredictions(bottleneck_file(seen, questions, decode, decision.what_if), beside)


def _prior(prepared: Prepared) -> Distributions:
    from magic_cli.tasks.cvqa import neighbours

    answered = (case.answers for case in prepared.cases_of("train") if case.answers is not None)
    return neighbours.training_prior(answered, prepared.questions)


def _asked(prepared: Prepared, split: str) -> tuple[Case, ...]:
    """Return the encounters of a split.

    Raises:
        DataError: the dataset has no closed questions, or texts that tell the answers. EmptySplit: no encounters.
    """
    refuse_gold_prompts(prepared)
    if not prepared.questions.slots:
        got, expected = "no closed questions", "a dataset with closed questions"
        raise DataError(problem(prepared.root, got, expected, "choose another task"))
    encounters = prepared.cases_of(split)
    if not encounters:
        raise EmptySplit(problem(prepared.root, f"none in split {split!r}", "encounters", f"see its {MANIFEST}"))
    return encounters


def _photos(prepared: Prepared, encounter: Case, modality: str) -> tuple[ImageRecord, ...]:
    """Return the photos of an encounter that exist; none with modality "text"."""
    if modality == "text":
        return ()
    records = [prepared.images[image] for image in encounter.image_ids if image in prepared.images]
    return tuple(record for record in records if record.path is not None)
