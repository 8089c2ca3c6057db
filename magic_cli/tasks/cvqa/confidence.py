"""How sure closed answers are and whether they are right, and the temperature at which right ones are likeliest."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import AnswerGold
from magic_cli.metrics.calibration import best_temperature, confidence_scores, ece, tempered
from magic_cli.metrics.row_scores import RowScores
from magic_cli.records import Prediction, Submitted
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.training.task import ChosenSettings

_LEAST = 1e-12  # of a probability: the logarithm of 0 is infinite


def answer_confidence(gold: AnswerGold, predictions: Iterable[Prediction | Submitted]) -> RowScores | None:
    """Return confidence and correctness of the answers of files with probabilities; None if no file has them.

    An answer is the option set of a parent question. It is right if it is the gold set, whole. Its confidence is the
    lowest probability of the options that its slots were answered with: a set is as sure as its least sure part.
    """
    questions = gold.questions
    encounters, confidence, correct = list[str](), list[float](), list[bool]()
    for row in predictions:
        if not isinstance(row, SubmittedRow) or row.id not in gold.answers:
            continue
        if not row.probabilities.keys() >= questions.by_qid.keys() or not row.values.keys() >= questions.by_qid.keys():
            continue
        predicted, right = questions.to_sets(row.values), questions.to_sets(gold.answers[row.id])
        for parent, qids in questions.parents.items():
            encounters.append(row.id)
            confidence.append(min(row.probabilities[qid][row.values[qid]] for qid in qids))
            correct.append(predicted[parent] == right[parent])
    return confidence_scores(encounters, np.array(confidence), np.array(correct)) if encounters else None


def chosen_temperature(
    datasets: Sequence[tuple[AnswerGold, Iterable[AnswerPrediction]]], fixed: float
) -> ChosenSettings | None:
    """Return the temperature at which the gold options of validation answers are likeliest; None without answers.

    One for all slots, over the slots of all datasets. `before` and `after` are the expected calibration error over
    slots (tasks/cvqa/validation.py), which falls; `after` is optimistic.

    Args:
        datasets: gold and predictions, made at the temperature `fixed`.
        fixed: the temperature in the settings.
    """
    rows, gold = list[NDArray[np.floating]](), list[int]()
    for truth, predictions in datasets:
        for prediction in predictions:
            if prediction.id in truth.answers:
                right = truth.questions.canonical(truth.answers[prediction.id])
                for qid, values in prediction.probabilities.items():
                    rows.append(values)
                    gold.append(right[qid])
    if not rows:
        return None
    options = [len(row) for row in rows]
    logits, truths = list[NDArray[np.float64]](), list[NDArray[np.intp]]()
    for count in sorted(set(options)):
        same = [at for at, size in enumerate(options) if size == count]
        logits.append(fixed * np.log(np.maximum(np.stack([rows[at] for at in same]), _LEAST)))
        truths.append(np.array([gold[at] for at in same]))
    best = round(best_temperature(logits, truths), 3)
    before, after = (_error([tempered(row, by) for row in rows], gold) for by in (1.0, best / fixed))
    return ChosenSettings({"temperature": best}, "calibration_error", fixed, before, after)


def _error(rows: Sequence[NDArray[np.floating]], gold: Sequence[int]) -> float:
    sure = np.array([row.max() for row in rows])
    return ece(sure, np.array([int(row.argmax()) == index for row, index in zip(rows, gold, strict=True)]))
