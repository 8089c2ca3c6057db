"""Predictions of case retrieval in files: similarities of a gallery to queries, TREC runs and judgements."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import Submitted


@dataclass(frozen=True, slots=True, eq=False)
class SubmittedRanking(Submitted):
    """The ranking of one query as read from a file; `id` is the query's.

    Attributes:
        gallery: ids of the photos that are ranked; queries may share one tuple.
        scores: similarity of each, float32 (gallery,), higher is nearer; NaN for photos that are not ranked.
    """

    gallery: tuple[str, ...] = ()
    scores: NDArray[np.float32] | None = None
