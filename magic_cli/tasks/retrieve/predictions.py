"""The prediction for one query: how similar every photo of the gallery is to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalPrediction(Prediction):
    """The similarities of one query; `id` is its image id.

    Attributes:
        gallery: ids of the photos of the gallery; queries share one tuple.
        scores: similarity of each, float32 (gallery,), higher is nearer; NaN for photos that are not ranked: those of
            the query's own group.
    """

    gallery: tuple[str, ...]
    scores: NDArray[np.float32]

    @classmethod
    def mean_of(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean similarities.

        Raises:
            ValueError: the galleries differ.
        """
        first = predictions[0]
        if any(prediction.gallery != first.gallery for prediction in predictions[1:]):
            raise ValueError("predictions over other galleries cannot be averaged")
        return replace(first, scores=np.mean(np.stack([p.scores for p in predictions]), 0, dtype=np.float32))
