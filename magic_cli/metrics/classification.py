"""Scores of classification: accuracy, balanced accuracy, F1 and AUROC, with expected values under ties.

Classes that tie for a photo share its answer: of t classes with the highest score each is chosen with 1/t, so no score
depends on the order of classes, and a scorer that knows nothing gets chance level exactly. AUROC counts tied pairs as
half, which is the rank formula with mid ranks (Mann & Whitney 1947; Hanley & McNeil, Radiology 1982).
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError, problem

TOP = 5

SENSITIVITY = 0.9
"""At which the specificity of a class is told: of its photos, the least share that must be found."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassTerms:
    """Per-photo terms whose sums give all scores but AUROC; their layout depends only on the number of classes.

    The terms are: whether the gold class is among the first TOP; then for each class how often it is right, how often
    it is chosen, and how often it is gold.
    """

    classes: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what `scores` returns but for the recall of each class; top5 only with more than 5 classes."""
        top = ("top5",) if self.classes > TOP else ()
        return ("top1", *top, "balanced_accuracy", "weighted_f1")

    def terms(self, scores: NDArray[np.floating], gold: NDArray[np.integer]) -> Floats:
        """Return (N, 1 + 3 classes) float64.

        Args:
            scores: (N, classes) score of each class, of any range and sign; the highest is the answer.
            gold: (N,) class indices.
        """
        is_gold = np.arange(self.classes) == np.asarray(gold)[:, None]
        own = np.where(is_gold, scores, -np.inf).max(1, keepdims=True)
        above, size = (scores > own).sum(1), (scores == own).sum(1)
        chosen = scores == scores.max(1, keepdims=True)
        share = chosen / chosen.sum(1, keepdims=True)
        top = np.clip((TOP - above) / size, 0.0, 1.0)
        return np.hstack([top[:, None], share * is_gold, share, is_gold])

    def scores(self, sums: Floats) -> Floats:
        """Return (..., len(names) + classes): the scores of `names`, then each class's recall, all in [0, 1].

        Args:
            sums: (..., 1 + 3 classes) sums of `terms`.

        Balanced accuracy is the mean recall of the classes that have photos; weighted F1 weighs each class's F1 with
        its photos; both as in sklearn. NaN without any photo, and for the recall of a class without photos.
        """
        top, (right, chosen, gold) = sums[..., :1], np.split(sums[..., 1:], 3, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            photos = gold.sum(-1, keepdims=True)
            recall = right / gold
            balanced = np.nansum(recall, -1, keepdims=True) / (gold > 0).sum(-1, keepdims=True)
            f1 = (gold * 2 * right / np.where(gold > 0, chosen + gold, 1)).sum(-1, keepdims=True) / photos
            tops = [top / photos] if self.classes > TOP else []
            return np.concatenate([right.sum(-1, keepdims=True) / photos, *tops, balanced, f1, recall], -1)


@dataclass(frozen=True)
class Classification:
    """Scores of a classification, in [0, 1]; NaN where undefined.

    Attributes:
        scores: by name: top1, top5 (more than 5 classes only), balanced_accuracy, weighted_f1, macro_auroc.
        photos: of each class, how many have it as gold.
        recall: of each class.
        auroc: of each class against the rest, NaN if no photo or every photo has it. `macro_auroc` is the mean of the
            others, as in sklearn's one-versus-rest.
    """

    scores: dict[str, float]
    photos: tuple[int, ...]
    recall: tuple[float, ...]
    auroc: tuple[float, ...]


@dataclass(frozen=True)
class Chance:
    """What trivial answers get on the same photos: `uniform`, any class at random; `majority`, the most frequent."""

    uniform: Classification
    majority: Classification


def classify(scores: NDArray[np.floating], gold: NDArray[np.integer]) -> Classification:
    """Score the classification of photos.

    Args:
        scores: (N, C) score of each class. AUROC compares photos by one class's score, so give probabilities, not
            cosines, if photos differ in what all their scores have in common.
        gold: (N,) class indices in [0, C).

    Raises:
        DataError: a score is NaN. ValueError: shapes or class indices that do not fit.

    >>> result = classify(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    >>> result.scores["balanced_accuracy"], result.auroc
    (0.75, (1.0, 1.0))
    """
    scores, gold = _checked(scores, gold)
    terms = ClassTerms(scores.shape[1])
    values = terms.scores(terms.terms(scores, gold).sum(0)).tolist()
    by_class = auroc(scores, one_hot(gold, terms.classes))
    named = dict(zip(terms.names, values, strict=False)) | {"macro_auroc": float(mean_defined(by_class))}
    photos = tuple(np.bincount(gold, minlength=terms.classes).tolist())
    return Classification(named, photos, tuple(values[len(terms.names) :]), tuple(by_class.tolist()))


def chance(gold: NDArray[np.integer], classes: int) -> Chance:
    """Return the expected scores of answers that do not depend on the photo, computed for these gold classes."""
    gold = np.asarray(gold)
    frequent = np.bincount(gold, minlength=classes).astype(np.float64)
    uniform, majority = (np.tile(row, (len(gold), 1)) for row in (np.zeros(classes), frequent))
    return Chance(classify(uniform, gold), classify(majority, gold))


def one_hot(gold: NDArray[np.integer], classes: int) -> NDArray[np.bool_]:
    """Return (N, classes): whether the photo has the class."""
    return np.equal(np.asarray(gold)[:, None], np.arange(classes))


def mean_defined(values: Floats) -> Floats:
    """Return the mean over the last axis of the values that are not NaN; NaN if all are."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(-1) / defined.sum(-1), np.float64)


def auroc(scores: NDArray[Any], positive: NDArray[Any], known: NDArray[Any] | None = None) -> Floats:
    """Return the area under the receiver operating characteristic, in [0, 1], of one concept or of many.

    Args:
        scores: (N,) or (N, K) scores, of any range.
        positive: same shape, bool or 0/1: whether the photo has the concept.
        known: same shape: whether that is known; others count in no pair. All are known if None.

    Returns:
        float64 of shape () or (K,): the probability that a photo with the concept has a higher score than one without,
        half of that of equal scores added. NaN where one of both kinds is missing: no pair, no score.

    Raises:
        DataError: a score is NaN. ValueError: shapes differ.

    >>> float(auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])))
    0.875
    """
    known = np.ones(np.shape(scores), bool) if known is None else np.asarray(known)
    if not np.shape(scores) == np.shape(positive) == known.shape or np.ndim(scores) not in (1, 2):
        raise ValueError(f"scores {np.shape(scores)}, positive {np.shape(positive)}, known {known.shape}")
    shape = (len(known), *(known.shape[1:] or (1,)))
    columns = [np.asarray(array).reshape(shape) for array in (scores, positive, known)]
    weights = np.ones((len(known), 1))
    areas = [float(pairs.auroc(weights)[0]) for pairs in ordered_pairs(columns[0], columns[1], columns[2])]
    return np.array(areas, np.float64).reshape(known.shape[1:])


class OperatingPoint(NamedTuple):
    """A threshold of one class's score, from which on a photo is taken for the class, and what it reaches."""

    threshold: float
    sensitivity: float
    specificity: float


def operating_point(
    scores: NDArray[np.floating], positive: NDArray[Any], sensitivity: float = SENSITIVITY
) -> OperatingPoint:
    """Return the point of the ROC curve with the highest threshold that finds a share of the positive photos, or more.

    A threshold that is chosen on the photos it is judged on is optimistic, the more so with few positive ones.

    Args:
        scores: (N,), of any range.
        positive: (N,) bool or 0/1: whether the photo has the class.
        sensitivity: in (0, 1], at least.

    Returns:
        NaN throughout where all photos have the class, or none.

    >>> operating_point(np.array([0.9, 0.6, 0.7, 0.2]), np.array([1, 1, 0, 0]))
    OperatingPoint(threshold=0.6, sensitivity=1.0, specificity=0.5)
    """
    has_it = np.asarray(positive, bool)
    found, others = np.sort(np.asarray(scores, np.float64)[has_it])[::-1], np.asarray(scores, np.float64)[~has_it]
    if not len(found) or not len(others):
        return OperatingPoint(float("nan"), float("nan"), float("nan"))
    threshold = float(found[math.ceil(round(sensitivity * len(found), 9)) - 1])
    return OperatingPoint(threshold, float((found >= threshold).mean()), float((others < threshold).mean()))


@dataclass(frozen=True, eq=False)
class OrderedPairs:
    """The pairs of photos with and without a concept, ordered once for AUROC under many weights.

    Attributes:
        positive: (P,) rows with it. negative: (M,) rows without it, by ascending score.
        below, up_to: (P,) how many of the negative rows have a lower score, and a lower or equal one.
    """

    positive: NDArray[np.intp]
    negative: NDArray[np.intp]
    below: NDArray[np.intp]
    up_to: NDArray[np.intp]

    def auroc(self, weights: Floats) -> Floats:
        """Return (R,): the `auroc` for weights (rows, R), at least 0: a row of weight w counts as w rows."""
        total = np.zeros((len(self.negative) + 1, weights.shape[1]))
        np.cumsum(weights[self.negative], 0, out=total[1:])
        mine = weights[self.positive]
        won = np.einsum("ir,ir->r", mine, total[self.below]) + np.einsum("ir,ir->r", mine, total[self.up_to])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(won / (2 * mine.sum(0) * total[-1]), np.float64)


def ordered_pairs(scores: NDArray[Any], positive: NDArray[Any], known: NDArray[Any]) -> list[OrderedPairs]:
    """Return the pairs of each of K concepts; arguments (N, K) as in `auroc`, and raises as there."""
    pairs = []
    for concept, column in enumerate(scores.T):
        there, has_it = (array[:, concept].astype(bool) for array in (known, positive))
        if np.isnan(column[there]).any():
            raise DataError(problem("scores", f"NaN in column {concept + 1}", "numbers", "predict again"))
        with_it, without = np.flatnonzero(there & has_it), np.flatnonzero(there & ~has_it)
        without = without[np.argsort(column[without], kind="stable")]
        below, up_to = (np.searchsorted(column[without], column[with_it], side) for side in ("left", "right"))
        pairs.append(OrderedPairs(with_it, without, below, up_to))
    return pairs


def _checked(scores: NDArray[np.floating], gold: NDArray[np.integer]) -> tuple[Floats, NDArray[np.integer]]:
    scores, gold = np.asarray(scores), np.asarray(gold)
    if scores.ndim != 2 or gold.shape != scores.shape[:1] or not scores.shape[1]:
        raise ValueError(f"scores of shape {scores.shape} for gold of shape {gold.shape}")
    if len(gold) and (gold.min() < 0 or gold.max() >= scores.shape[1]):
        raise ValueError(f"gold classes from {gold.min()} to {gold.max()} of {scores.shape[1]}")
    bad = np.flatnonzero(np.isnan(scores).any(1))
    if len(bad):
        got = f"NaN in row {bad[0] + 1} (one of {len(bad)})"
        raise DataError(problem("class scores", got, "numbers", "predict it again"))
    return scores.astype(np.float64), gold
