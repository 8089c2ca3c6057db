"""What turns cases into vectors for an index, and queries into vectors to compare with them; imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.index.base import Part
from magic_cli.records import Sample

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query as a model sees it.

    Attributes:
        vector: float32 (p,), of which the inner product with a photo's vector, divided by `weight`, is the similarity.
        unit: float32 (p,), the same with every part of unit length: the cosines of single parts follow from it.
        weight: largest inner product: 3 for a model with three levels, 1 for one vector.
        regions: region masks of its photo, float32 (k, h, w) in [0, 1]; None for a model without.
    """

    vector: Vectors
    unit: Vectors
    weight: float
    regions: Vectors | None = None


class CaseEncoder(Protocol):
    """A finished model as an encoder of cases.

    Attributes:
        parts: the parts of a photo's vector, in order, each of unit length.
        beta: share of the local parts in a similarity.
        class_share: share of the agreement of class probabilities in a similarity, 0 for none.
        region_count: how many region masks it has, 0 for none.
        preprocessing: what photos go through before they are encoded, for people and for comparison.
        side: height and width of photos in the model, in pixels.
        needs_photo: whether a query has to have a photo.
    """

    parts: tuple[Part, ...]
    beta: float
    class_share: float
    region_count: int
    preprocessing: str
    side: int
    needs_photo: bool

    def photos(self, samples: Sequence[Sample]) -> Vectors:
        """Return the vectors of the samples' first photos, float32 (n, p)."""

    def query(self, photo: Image.Image | None, text: str, beta: float | None = None) -> EncodedQuery:
        """Return a query from an RGB photo, words, or both; `beta` instead of the model's own."""

    def regions(self, photos: Sequence[Image.Image]) -> list[Vectors]:
        """Return the region masks of photos of an index, each float32 (k, h, w); [] for a model without."""
