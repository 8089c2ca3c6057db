"""Closed questions: one row of option indices an encounter; scored per parent question over option sets."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magic_cli.data.gold import Gold
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import DataError, EmptySplit, problem, shorten
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.cvqa.answers import AnswerPrediction, Decode, by_encounter, decide
from magic_cli.tasks.cvqa.baselines import guesses as guesses
from magic_cli.tasks.cvqa.baselines import strata as strata
from magic_cli.tasks.cvqa.data_checks import checks as checks
from magic_cli.tasks.cvqa.score import MONITOR as MONITOR
from magic_cli.tasks.cvqa.score import baselines as baselines
from magic_cli.tasks.cvqa.score import score as score
from magic_cli.tasks.cvqa.validation import review as review
from magic_cli.tasks.cvqa.write import save

if TYPE_CHECKING:
    from magic_cli.tasks.cvqa.config import CvqaConfig
    from magic_cli.training.task_model import TaskModel


def samples(prepared: Prepared, split: str, config: "CvqaConfig") -> tuple[Sample, ...]:
    """Return one sample an encounter with its photos and all questions; train and valid: of those with answers.

    `config.modality` "text" leaves photos away; "image" needs at least one a sample. `config.sample_unit`
    "question" gives train one sample an encounter and slot instead (the paper's).

    Raises:
        DataError: no such encounter, or encounters without photos where photos are needed, all at once.
    """
    if not prepared.questions.slots:
        raise DataError(problem(prepared.root, "no closed questions", "a dataset that has some", "choose another task"))
    encounters = [e for e in prepared.cases_of(split) if split == "test" or e.answers is not None]
    if not encounters:
        expected = "encounters" if split == "test" else "encounters with answers"
        raise EmptySplit(problem(prepared.root, f"none in split {split!r}", expected, "see its prepare.json"))
    photos = {e.case_id: _photos(prepared, e, config.modality) for e in encounters}
    bare = [encounter for encounter, found in photos.items() if not found]
    if bare and config.modality == "image":
        got = f"{len(bare)} encounters without a photo ({shorten(bare)})"
        raise DataError(problem(prepared.root, got, "one or more", "use --modality both or text"))
    qids = tuple(prepared.questions.by_qid)
    # One a question is how the paper learns; predicted one by one, the questions would ask for each photo 27 times.
    units = [(qid,) for qid in qids] if config.sample_unit == "question" and split == "train" else [qids]
    return tuple(Sample(e.case_id, e, photos[e.case_id], unit) for e in encounters for unit in units)


def _photos(prepared: Prepared, encounter: Case, modality: str) -> tuple[ImageRecord, ...]:
    if modality == "text":
        return ()
    records = [prepared.images[image] for image in encounter.image_ids if image in prepared.images]
    return tuple(record for record in records if record.path is not None)


def build(config: "CvqaConfig", questions: QuestionSchema) -> "TaskModel":
    """Make the model; torch is imported here and not before."""
    from magic_cli.tasks.cvqa.model import build as make

    return make(config, questions)


def choose(gold: Gold, predictions: Iterable[AnswerPrediction], config: "CvqaConfig") -> dict[str, Any]:  # noqa: ARG001
    """Choose nothing after training: answers are the likeliest options."""
    return {}


def write(
    predictions: Iterable[AnswerPrediction], prepared: Prepared, out: Path, decode: Decode | None = None
) -> list[Path]:
    """Write out/data_cvqa_sys.json: a row of 0-based indices for every predicted encounter, in prepared order.

    Beside it, predictions.jsonl holds the same as text, with the probabilities that were decided from. `decode` is
    that of cvqa_answers.decide.

    Raises:
        DataError: an encounter lacks a question, or the folder cannot be written.
    """
    found = by_encounter(predictions)
    order = [encounter for encounter in prepared.cases if encounter in found]
    rows = {encounter: decide(found[encounter], prepared.questions, decode) for encounter in order}
    return save(out, rows, (one for some in found.values() for one in some), prepared.questions)
