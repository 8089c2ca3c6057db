"""The prediction for one photo: its vector, that of its text, and scores of classes and concepts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import Prediction

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PairPrediction(Prediction):
    """What a model says about one photo; `id` is the image id.

    Attributes:
        image: normalised vector of the photo, float32 (d,).
        text: normalised vector of its raw text, float32 (d,); None without a text.
        classes: the classes that were asked for.
        class_scores: probability of each, float32 (classes,), sum 1: softmax of 100 x cosine.
        concepts: the concepts that were asked for.
        concept_scores: score of each in [0, 1], float32 (concepts,); 0.5 where target and reference fit the same.
        maps: similarity of the patches to the raw text and to each subtext, float16 (1 + subtexts, h, w) in [-1, 1];
            None where there is no text.
        presence: the highest similarity of a patch to each class, float32 (classes,) in [-1, 1]; None unless asked.
    """

    image: Vector
    text: Vector | None = None
    classes: tuple[str, ...] = ()
    class_scores: Vector | None = None
    concepts: tuple[str, ...] = ()
    concept_scores: Vector | None = None
    maps: NDArray[np.float16] | None = None
    presence: Vector | None = None

    @classmethod
    def mean_of(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean of the scores; vectors are joined so that their product is the mean cosine."""
        first, root = predictions[0], np.sqrt(len(predictions))
        if len({(prediction.classes, prediction.concepts) for prediction in predictions}) > 1:
            raise ValueError("predictions of other classes or concepts cannot be averaged")
        image = joined([prediction.image for prediction in predictions])
        assert image is not None  # noqa: S101  every prediction has one
        return replace(
            first,
            image=(image / root).astype(np.float32),
            text=None if (text := joined([p.text for p in predictions])) is None else (text / root).astype(np.float32),
            class_scores=_mean([prediction.class_scores for prediction in predictions]),
            concept_scores=_mean([prediction.concept_scores for prediction in predictions]),
            presence=_mean([prediction.presence for prediction in predictions]),
        )


def joined(parts: Sequence[Vector | None]) -> Vector | None:
    """Return vectors as one; None unless all are there."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if len(there) == len(parts) else None


def _mean(parts: Sequence[Vector | None]) -> Vector | None:
    there = [part for part in parts if part is not None]
    return np.mean(np.stack(there), 0, dtype=np.float32) if len(there) == len(parts) else None
