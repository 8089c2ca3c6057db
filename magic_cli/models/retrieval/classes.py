"""Classes of photos and of queries: a classifier on their global vectors, and whether two are of one class.

The probability that two photos are of one class is the inner product of their class probabilities. It is not a cosine:
a photo whose class is doubtful agrees less with everything. To be a part of an index, whose vectors have length 1,
probabilities are coded by random signs, of which those of two classes are nearly orthogonal, and the photo's vector is
filled up by one coordinate that the query's does not have: the inner product stays (Bachrach et al., RecSys 2014).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BUCKETS = 1021  # hashed classes

WIDTH = 64  # signs of the code of a class; two classes agree by 0 +- 1 / sqrt(WIDTH)

_SCALE = 16.0  # of logits of unit vectors


class ClassAgreement(nn.Module):
    """A linear classifier of hashed classes, and its probabilities as vectors.

    Args:
        width: of the features, global vectors of all levels side by side.
    """

    codes: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(width, BUCKETS)
        signs = torch.randint(0, 2, (BUCKETS, WIDTH), generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.register_buffer("codes", signs / WIDTH**0.5)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of features (N, width) with hashes of classes, int64 (N,)."""
        return F.cross_entropy(self._logits(features), labels % BUCKETS)

    def query(self, features: Tensor) -> Tensor:
        """Return the coded probabilities of queries, float32 (N, WIDTH + 1); the last coordinate is 0."""
        return F.pad(self._coded(features), (0, 1))

    def photo(self, features: Tensor) -> Tensor:
        """Return the coded probabilities of photos, float32 (N, WIDTH + 1) of length 1."""
        coded = self._coded(features)
        rest = (1 - coded.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
        return torch.cat([coded, rest], -1)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features) * _SCALE
        return logits

    def _coded(self, features: Tensor) -> Tensor:
        return self._logits(features).float().softmax(-1) @ self.codes
