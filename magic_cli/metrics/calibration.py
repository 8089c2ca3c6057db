"""Calibration: whether answers with probability p are right in a share p of the cases, and whether the sure ones are.

Both need a probability of each answer and whether it is right. The expected calibration error compares the two in bins
of the probability; selective prediction asks how many answers would be wrong if only the surest were given.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics.row_scores import Columns, Groups, RowScores, Scorer

BINS = 15

COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""Shares of the answers that are given, at which the risk is drawn."""

Floats = NDArray[np.float64]


def ece(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error, in [0, 1]; NaN without answers.

    Confidences are put into bins of equal width, ((m - 1) / bins, m / bins], 0 into the first; the error is the mean
    over answers of |share of correct answers - mean confidence| of their bin. Equal width and 15 bins as in Guo et al.,
    On Calibration of Modern Neural Networks (ICML 2017), equation 3 and section 5.

    Args:
        confidence: (N,), probability of the chosen answer, in [0, 1].
        correct: (N,), whether it was correct.
        bins: number of bins.

    >>> ece(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    if not len(confidence):
        return float("nan")
    bin_index = _bin_of(confidence, bins)
    gap = np.bincount(bin_index, correct, bins) - np.bincount(bin_index, confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))


def _bin_of(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    index: NDArray[np.int64] = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    return index


class Bin(NamedTuple):
    """Answers with a confidence in (low, high]: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    answers: int
    confidence: float
    correct: float


def reliability(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS) -> tuple[Bin, ...]:
    """Return the bins of `ece` that have an answer, by rising confidence; their gaps, weighted, sum to it."""
    index = _bin_of(confidence, bins)
    counts = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, values, bins) for values in (confidence, correct)]
    return tuple(
        Bin(k / bins, (k + 1) / bins, int(n), float(sums[0][k] / n), float(sums[1][k] / n))
        for k, n in enumerate(counts)
        if n
    )


def confidence_scores(encounters: Sequence[str], confidence: NDArray[np.floating], correct: NDArray[Any]) -> RowScores:
    """Return calibration and selective prediction for resampling whole encounters.

    Scores, by name: `accuracy`; `ece`; `aurc`, the area under the risk-coverage curve (Geifman and El-Yaniv, Selective
    Classification for Deep Neural Networks, NeurIPS 2017): the mean over k of the share of wrong answers among the k
    surest; `aurc_random`, that of an order by chance, which is the share of wrong answers; `aurc_oracle`, that of an
    order with all wrong answers last, which no confidence beats; `gain`, aurc_random - aurc; and `risk@c`, the share
    of wrong answers among the surest share c, for c of COVERAGES. Answers of equal confidence are in random order: the
    scores are their expected values.

    Args:
        encounters: of each answer.
        confidence: (N,) in [0, 1].
        correct: (N,), whether the answer is right.
    """
    groups = Groups.of(list(encounters))
    columns = (np.asarray(confidence, np.float64), np.asarray(correct, bool))
    names = ("accuracy", "ece", "aurc", "aurc_random", "aurc_oracle", "gain", *(f"risk@{c:g}" for c in COVERAGES))
    return RowScores(groups.ids, names, groups.index, columns, _scorer, (-1.0, 1.0))


def _scorer(columns: Columns, index: NDArray[np.intp]) -> Scorer:
    """Return what maps weights (encounters, R), counts of each encounter, to scores (R, names)."""
    confidence, wrong = columns[0], 1.0 - columns[1]
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(confidence[order]) != 0])  # blocks of equal confidence
    bins = _bin_of(confidence, BINS)
    place = np.eye(BINS)[bins]

    def scores(weights: Floats) -> Floats:
        rows = weights[index]
        gaps = np.abs(place.T @ (rows * (1.0 - wrong - confidence)[:, None])).sum(0)
        size = np.add.reduceat(rows[order], starts)
        errors = np.add.reduceat((rows * wrong[:, None])[order], starts)
        total, lost = rows.sum(0), (rows * wrong[:, None]).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            area, oracle, risk = _area(size, errors) / total, _oracle(total, lost) / total, lost / total
            rest = [1 - risk, gaps / total, area, risk, oracle, risk - area]
        return np.column_stack([*rest, _risks(size, errors)])

    return scores


def _harmonic(most: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 1))])


def _area(size: Floats, errors: Floats) -> Floats:
    """Return (R,): the sum over k of the expected share of errors among the first k, block by block.

    In a block of m answers with e errors after W answers with E errors, the j-th has (E + j e / m) / (W + j), which
    sums to e + (E - W e / m) (H(W + m) - H(W)) with the harmonic numbers H.
    """
    after, lost = np.rint(size.cumsum(0)).astype(int), errors.cumsum(0)
    before, wrong = after - np.rint(size).astype(int), lost - errors
    sums = _harmonic(int(after.max(initial=0)))
    share = np.divide(errors, size, out=np.zeros_like(errors), where=size > 0)
    return np.asarray((errors + (wrong - before * share) * (sums[after] - sums[before])).sum(0), np.float64)


def _oracle(total: Floats, lost: Floats) -> Floats:
    """Return (R,): the sum over k of the share of errors among the first k, if all errors come last."""
    whole, right = np.rint(total).astype(int), np.rint(total - lost).astype(int)
    sums = _harmonic(int(whole.max(initial=0)))
    return np.asarray(lost - right * (sums[whole] - sums[right]), np.float64)


def _risks(size: Floats, errors: Floats) -> Floats:
    """Return (R, coverages): the share of errors among the surest answers; a part of a block has its share of them."""
    given, lost = np.vstack([np.zeros(size.shape[1]), size.cumsum(0)]), errors.cumsum(0)
    wrong = np.vstack([np.zeros(size.shape[1]), lost])
    wanted = np.array(COVERAGES)
    rows = []
    for column in range(size.shape[1]):
        asked = wanted * given[-1, column]
        with np.errstate(invalid="ignore", divide="ignore"):
            rows.append(np.interp(asked, given[:, column], wrong[:, column]) / asked)
    return np.array(rows)


def best_temperature(logits: Sequence[NDArray[np.floating]], gold: Sequence[NDArray[np.integer]]) -> float:
    """Return the temperature that makes right answers likeliest: softmax(logits / T), T in [0.1, 10], to 1 %.

    One parameter for all questions, chosen by the mean negative log-likelihood (Guo et al. 2017, section 4.2); the
    likeliest option of each stays the likeliest. The mean is over answers of all questions. 1.0 without answers.

    Args:
        logits: for each question, (N, options) unnormalised log-probabilities; N differs from question to question.
        gold: for each, (N,) indices of the right options.
    """
    pairs = [(np.asarray(rows, np.float64), truth) for rows, truth in zip(logits, gold, strict=True) if len(truth)]

    def loss(temperature: float) -> float:
        return sum(_negative_log_likelihood(rows / temperature, truth) for rows, truth in pairs)

    if not pairs:
        return 1.0
    low, high = np.log(0.1), np.log(10.0)
    ratio = (np.sqrt(5) - 1) / 2
    while high - low > 0.01:  # golden section: the loss has one minimum in 1 / T, as it is convex there
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(np.exp(left)) <= loss(np.exp(right)) else (left, high)
    return float(np.exp((low + high) / 2))


def _negative_log_likelihood(logits: Floats, gold: NDArray[np.integer]) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(gold)), gold]).sum())


def softmax(logits: Floats) -> Floats:
    """Return probabilities (..., options) of logits (..., options), float64, which sum to 1 over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float64)


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """Return (..., options) probabilities as softmax(log p / T): T above 1 makes them less sure, 1 changes nothing.

    >>> tuple(round(float(p), 3) for p in tempered(np.array([0.8, 0.2]), 2.0))
    (0.667, 0.333)
    """
    if temperature == 1.0:
        return probabilities
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-12)) / temperature
    found: NDArray[np.floating] = softmax(logits).astype(np.asarray(probabilities).dtype)
    return found
