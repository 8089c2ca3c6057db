"""Answers of similar cases as a prior of the closed questions: retrieval beside a model's own probabilities.

As in retrieval-augmented diagnosis (MedDr, He et al. 2024; DermAgent): what the nearest cases were answered is told
beside what the model says. Here both are distributions over options, and the share of the neighbours is chosen on the
validation cases.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import AnswerGold
from magic_cli.data.questions import QuestionSchema
from magic_cli.records import Neighbour
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.tasks.cvqa.score import MONITOR, score
from magic_cli.training.task import NeighbourWeight, Similar

Distributions = Mapping[str, NDArray[np.float64]]

WEIGHTS = tuple(tenth / 10 for tenth in range(11))

TEMPERATURE = 0.1  # of the softmax over similarities: a case that is 0.1 more similar counts e times as much

_PRIOR_CASES = 1.0  # what the prior of the training weighs, in neighbours

_TIE = 1e-9  # scores closer than this are equal: the smaller weight is taken


def training_prior(rows: Iterable[Mapping[str, int]], questions: QuestionSchema) -> dict[str, NDArray[np.float64]]:
    """Return how often each option is the answer to each slot, {qid: float64 (options,)} that sum to 1.

    Args:
        rows: complete answers, which are put into canonical slot order; every option counts once more (Laplace).
        questions: of the dataset.
    """
    counts = {qid: np.ones(question.size) for qid, question in questions.by_qid.items()}
    for row in rows:
        for qid, option in questions.canonical(row).items():
            counts[qid][option] += 1
    return {qid: count / count.sum() for qid, count in counts.items()}


def shares(similarities: Sequence[float]) -> NDArray[np.float64]:
    """Return what each neighbour counts, float64 (n,) that sum to 1: the softmax of similarity / TEMPERATURE."""
    scaled = np.asarray(similarities, np.float64) / TEMPERATURE
    raised = np.exp(scaled - scaled.max())
    return np.asarray(raised / raised.sum())


def answers_of(
    neighbours: Sequence[Neighbour], prior: Distributions, questions: QuestionSchema
) -> dict[str, NDArray[np.float64]]:
    """Return what neighbours answer to each slot, {qid: float64 (options,)} that sum to 1, smoothed by the prior.

    Args:
        neighbours: one or more, with complete answers, which are put into canonical slot order.
        prior: of `training_prior`; it counts as much as one neighbour.
        questions: of the dataset.
    """
    counts = {qid: _PRIOR_CASES * prior[qid] for qid in questions.by_qid}
    weights = len(neighbours) * shares([neighbour.similarity for neighbour in neighbours])
    for neighbour, weight in zip(neighbours, weights, strict=True):
        for qid, option in questions.canonical(neighbour.answers).items():
            counts[qid][option] += weight
    return {qid: count / (_PRIOR_CASES + len(neighbours)) for qid, count in counts.items()}


def weighed(
    predictions: Iterable[AnswerPrediction],
    similar: Similar,
    prior: Distributions,
    questions: QuestionSchema,
    weight: float,
) -> Iterator[AnswerPrediction]:
    """Yield (1 - weight) * model + weight * neighbours for every slot of a prediction, float32, and the neighbours.

    A prediction without neighbours stays as it is; with weight 0, all probabilities do, bit for bit. What a concept
    bottleneck saw is no longer all that is answered from, and left out.
    """
    for prediction in predictions:
        neighbours = tuple(similar.get(prediction.id, ()))
        if not neighbours or not weight:
            yield replace(prediction, neighbours=neighbours)
            continue
        theirs = answers_of(neighbours, prior, questions)
        mixed = {
            qid: np.asarray((1 - weight) * np.asarray(own, np.float64) + weight * theirs[qid], np.float32)
            for qid, own in prediction.probabilities.items()
        }
        yield replace(prediction, probabilities=mixed, neighbours=neighbours, seen=())


def best_weight(
    gold: AnswerGold, predictions: Sequence[AnswerPrediction], similar: Similar, prior: Distributions
) -> NeighbourWeight:
    """Return the weight, in tenths, with the highest accuracy on `gold`; of equal ones the smallest."""
    reached = {
        weight: score(gold, list(weighed(predictions, similar, prior, gold.questions, weight))).scores[MONITOR]
        for weight in WEIGHTS
    }
    highest = max(reached.values())
    chosen = next(weight for weight, value in reached.items() if value >= highest - _TIE)
    return NeighbourWeight(chosen, MONITOR, reached[0.0], reached[chosen])
