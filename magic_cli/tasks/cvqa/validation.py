"""What held-out answers say about a run: are they one constant, above the majority, as sure as they are right?"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from magic_cli.data.gold import Gold
from magic_cli.errors import shorten
from magic_cli.io.files import finite
from magic_cli.metrics.calibration import BINS, ece
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.cvqa.answers import AnswerPrediction, by_encounter, rows_of
from magic_cli.tasks.cvqa.score import MONITOR, score

MOST_CONSTANT = 0.9

MAJORITY = "training majority"


@dataclass(frozen=True)
class Constant:
    """Of the slots whose gold answers vary over the encounters, those that a model gave one answer for all encounters.

    Slots whose gold never varies are left out: one answer is right there (padding of sets, mostly).
    """

    slots: tuple[str, ...]
    varying: int
    encounters: int

    @property
    def share(self) -> float:
        """Part of the varying slots that got one answer, in [0, 1]; 0 where none varies."""
        return len(self.slots) / self.varying if self.varying else 0.0

    @property
    def too_many(self) -> bool:
        """Whether more than nine in ten slots got one answer."""
        return self.share > MOST_CONSTANT

    def __str__(self) -> str:
        return f"{len(self.slots)} of {self.varying} slots get one answer for all {self.encounters} held-out encounters"


def constant(gold: Gold, rows: Mapping[str, Mapping[str, int]], own: Collection[str] | None = None) -> Constant:
    """Return which slots of canonical rows {encounter: {qid: index}} hold one answer; encounters without gold aside.

    `own` are the encounters that one of several models answered; None for all.
    """
    questions = gold.questions
    there = [encounter for encounter in gold.answers if encounter in (rows if own is None else rows.keys() & set(own))]
    truth = [questions.canonical(gold.answers[encounter]) for encounter in there]
    varying = [qid for qid in questions.by_qid if len({row[qid] for row in truth}) > 1]
    same = tuple(qid for qid in varying if len({rows[encounter].get(qid) for encounter in there}) == 1)
    return Constant(same, len(varying), len(there))


def collapsed(models: Sequence[Constant]) -> list[str]:
    """Return the line that says that a model, or some of several, answers all encounters alike."""
    bad = [number for number, one in enumerate(models, 1) if one.too_many]
    if not bad:
        return []
    worst = models[bad[0] - 1]
    where = f"fold {', '.join(map(str, bad))} of {len(models)}: " if len(models) > 1 else ""
    remedy = "lower lr and encoder_lr (--set), and is the encounter's text in the input (--encounter-text)?"
    return [f"{where}{worst}, though the right answers differ ({shorten(worst.slots)}); {remedy}"]


def review(
    gold: Gold,
    predictions: Iterable[AnswerPrediction | SubmittedRow],
    guesses: Mapping[str, Iterable[AnswerPrediction]],
    folds: Sequence[Collection[str]] = (),
) -> dict[str, Any]:
    """Return what schemas/review.schema.json describes: a row a parent question, calibration, warnings.

    Args:
        gold: the held-out answers.
        predictions: of the held-out encounters; the calibration is null where they have no probabilities.
        folds: the encounters that each of several models answered: whether all get one answer is asked of each model.
        guesses: trivial answers by name (the seam's `guesses`); their "training majority" is compared with.
    """
    found = [p for p in predictions if p.id in gold.answers]
    ours = score(gold, found).scores
    trivial = score(gold, [p for p in guesses[MAJORITY] if p.id in gold.answers]).scores
    sure = _sure(gold, found)
    rows = {encounter: same[0].values for encounter, same in rows_of(found, gold.questions).items()}
    models = [constant(gold, rows, own) for own in folds] or [constant(gold, rows)]
    same, varying = sum(len(one.slots) for one in models), sum(one.varying for one in models)
    parents = [
        {
            "parent": parent,
            "n": len(gold.answers),
            "accuracy": ours[f"accuracy_{parent}"],
            "majority": trivial[f"accuracy_{parent}"],
            "ece": _ece([sure[qid] for qid in qids if qid in sure]),
        }
        for parent, qids in gold.questions.parents.items()
    ]
    result: dict[str, Any] = finite(
        {
            "encounters": len(gold.answers),
            "accuracy": ours[MONITOR],
            "majority": trivial[MONITOR],
            "ece": _ece(list(sure.values())),
            "bins": BINS,
            "constant": {
                "slots": same,
                "of": varying,
                "share": same / varying if varying else 0.0,
                "models": len(models),
            },
            "parents": parents,
            "warnings": [*collapsed(models), *_below(ours[MONITOR], trivial[MONITOR])],
        }
    )
    return result


def _below(ours: float, majority: float) -> list[str]:
    if ours >= majority:
        return []
    what = "what always giving the training majority scores"
    return [f"{MONITOR} {ours:.4f} is below {majority:.4f}, {what}; train longer, or otherwise"]


Sure = tuple[list[float], list[bool]]


def _sure(gold: Gold, predictions: Sequence[AnswerPrediction | SubmittedRow]) -> dict[str, Sure]:
    """Return, of each slot with probabilities, that of its likeliest option and whether it is the canonical gold's."""
    sure: dict[str, Sure] = {}
    for encounter, group in by_encounter(predictions).items():
        truth = gold.questions.canonical(gold.answers[encounter])
        slots = {qid: values for prediction in group for qid, values in prediction.probabilities.items()}
        for qid in (qid for qid in truth if qid in slots):  # of a set, the order would differ between processes
            values = np.asarray(slots[qid])
            confidence, correct = sure.setdefault(qid, ([], []))
            confidence.append(float(values.max()))
            correct.append(int(values.argmax()) == truth[qid])
    return sure


def _ece(slots: Sequence[Sure]) -> float:
    confidence = [p for one, _ in slots for p in one]
    return ece(np.array(confidence), np.array([right for _, some_ in slots for right in some_], bool))
