"""Review of predictions for held-out encounters: constant answers, accuracy against the majority, calibration."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from magic_cli.data.gold import AnswerGold
from magic_cli.errors import shorten
from magic_cli.io.json_files import finite
from magic_cli.metrics.calibration import BINS, ece
from magic_cli.records import AnswerReview, ParentReview, Review
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.cvqa.answers import AnswerPrediction, by_encounter, rows_of
from magic_cli.tasks.cvqa.score import MONITOR, score

MOST_CONSTANT = 0.9

MAJORITY = "training majority"


@dataclass(frozen=True)
class Constant:
    """Slots that a model answered identically for all encounters although their gold answers vary.

    Slots whose gold never varies are left out: a constant answer is correct there (mostly the padding of sets).
    `varying` is the number of slots whose gold varies over the `encounters`.
    """

    slots: tuple[str, ...]
    varying: int
    encounters: int

    @property
    def share(self) -> float:
        """Fraction of the varying slots with a constant answer, in [0, 1]; 0 if no slot varies."""
        return len(self.slots) / self.varying if self.varying else 0.0

    @property
    def too_many(self) -> bool:
        """Whether more than nine in ten varying slots have a constant answer."""
        return self.share > MOST_CONSTANT

    def __str__(self) -> str:
        return f"{len(self.slots)} of {self.varying} slots get one answer for all {self.encounters} held-out encounters"


def constant(gold: AnswerGold, rows: Mapping[str, Mapping[str, int]], own: Collection[str] | None = None) -> Constant:
    """Return the slots that have the same answer for all encounters.

    Args:
        gold: the gold answers; encounters without gold are left out.
        rows: canonical rows {encounter: {qid: index}}.
        own: the encounters that this model answered, if several models answered `rows`; None for all.
    """
    questions = gold.questions
    answered = rows.keys() if own is None else rows.keys() & set(own)
    encounters = [encounter for encounter in gold.answers if encounter in answered]
    truth = [questions.canonical(gold.answers[encounter]) for encounter in encounters]
    varying = [qid for qid in questions.by_qid if len({row[qid] for row in truth}) > 1]
    same = tuple(qid for qid in varying if len({rows[encounter].get(qid) for encounter in encounters}) == 1)
    return Constant(same, len(varying), len(encounters))


def collapsed(models: Sequence[Constant]) -> list[str]:
    """Return a line if models give nearly constant answers, with the slots of the first such model and a remedy."""
    bad = [number for number, model in enumerate(models, 1) if model.too_many]
    if not bad:
        return []
    worst = models[bad[0] - 1]
    where = f"fold {', '.join(map(str, bad))} of {len(models)}: " if len(models) > 1 else ""
    remedy = "lower lr and encoder_lr (--set), and is the encounter's text in the input (--encounter-text)?"
    return [f"{where}{worst}, though the right answers differ ({shorten(worst.slots)}); {remedy}"]


def validation_review(
    gold: AnswerGold,
    predictions: Iterable[AnswerPrediction | SubmittedRow],
    baselines: Mapping[str, Iterable[AnswerPrediction]],
    folds: Sequence[Collection[str]] = (),
) -> Review:
    """Return accuracy, calibration and the training majority's accuracy per parent question, and warnings.

    Args:
        gold: the held-out answers.
        predictions: of the held-out encounters; without probabilities the calibration is None.
        baselines: trivial answers by name; "training majority" is the one compared with.
        folds: the encounters that each of several models answered; each model is checked for constant answers.
    """
    answered = [p for p in predictions if p.id in gold.answers]
    ours = score(gold, answered).scores
    trivial = score(gold, [p for p in baselines[MAJORITY] if p.id in gold.answers]).scores
    confidences = _confidences(gold, answered)
    rows = {encounter: group[0].values for encounter, group in rows_of(answered, gold.questions).items()}
    models = [constant(gold, rows, own) for own in folds] or [constant(gold, rows)]
    parents = tuple(
        ParentReview(
            parent,
            len(gold.answers),
            finite(ours[f"accuracy_{parent}"]),
            finite(trivial[f"accuracy_{parent}"]),
            _ece([confidences[qid] for qid in qids if qid in confidences]),
        )
        for parent, qids in gold.questions.parents.items()
    )
    answers = AnswerReview(
        encounters=len(gold.answers),
        accuracy=finite(ours[MONITOR]),
        majority=finite(trivial[MONITOR]),
        ece=_ece(list(confidences.values())),
        bins=BINS,
        constant_slots=sum(len(model.slots) for model in models),
        varying_slots=sum(model.varying for model in models),
        models=len(models),
        parents=parents,
    )
    return Review((*collapsed(models), *_below(ours[MONITOR], trivial[MONITOR])), answers)


def _below(ours: float, majority: float) -> list[str]:
    if ours >= majority:
        return []
    what = "what always giving the training majority scores"
    return [f"{MONITOR} {ours:.4f} is below {majority:.4f}, {what}; train longer, or otherwise"]


Confidences = tuple[list[float], list[bool]]


def _confidences(gold: AnswerGold, predictions: Sequence[AnswerPrediction | SubmittedRow]) -> dict[str, Confidences]:
    """Return, per slot, the probabilities of the likeliest options, and whether they are the canonical gold options."""
    confidences: dict[str, Confidences] = {}
    for encounter, group in by_encounter(predictions).items():
        truth = gold.questions.canonical(gold.answers[encounter])
        slots = {qid: values for prediction in group for qid, values in prediction.probabilities.items()}
        for qid in (qid for qid in truth if qid in slots):  # the order of a set differs between processes
            values = np.asarray(slots[qid])
            confidence, correct = confidences.setdefault(qid, ([], []))
            confidence.append(float(values.max()))
            correct.append(int(values.argmax()) == truth[qid])
    return confidences


def _ece(slots: Sequence[Confidences]) -> float | None:
    """Return the expected calibration error over some slots, in [0, 1]; None without probabilities."""
    confidence = [p for slot, _ in slots for p in slot]
    error: float | None = finite(
        ece(np.array(confidence), np.array([right for _, slot in slots for right in slot], bool))
    )
    return error
