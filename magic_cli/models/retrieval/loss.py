"""Losses of retrieval: queries with photos of their class, by label; terms are the levels' local and global cosines.

The paper states no loss. Cross-entropy over the batch with the own target as the only positive, as the cited code has
it (ComqueryFormer, Xu et al., IEEE TMM 2023), makes photos of the same class negatives, against Eq. 1 of the paper:
with few classes about half of all pairs. The default takes all photos of the query's class as positives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Objective = Literal["multi_positive", "batch", "classifier"]


@dataclass(frozen=True)
class Terms:
    """Vectors of unit length, one pair of tensors per term: queries (B, d) and photos (N, d), and the term's weight."""

    queries: Sequence[Tensor]
    photos: Sequence[Tensor]
    weights: Sequence[float]

    def similarities(self) -> list[Tensor]:
        """Return the cosines (B, N) of each term."""
        return [query @ photo.T for query, photo in zip(self.queries, self.photos, strict=True)]


def multi_positive(similarity: Tensor, positive: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over queries of -mean over positives of log softmax, and the number of queries that have one.

    Args:
        similarity: scaled, (B, N).
        positive: bool (B, N), photos of the query's class.
        allowed: bool (B, N), photos that are compared at all: not the query's own, nor of its group.
    """
    kept = positive & allowed
    log = similarity.float().masked_fill(~allowed, float("-inf")).log_softmax(-1)
    count = kept.sum(1)
    rows = -log.masked_fill(~kept, 0).sum(1) / count.clamp(min=1)
    has = count > 0
    return torch.where(has, rows, 0.0).sum(), has.sum()


def partners(positive: Tensor, allowed: Tensor) -> Tensor:
    """Return the photo that is each query's target, int64 (B,): the next one of its class after it, -1 for none."""
    kept = positive & allowed
    count, width = kept.shape
    places = torch.arange(width, device=kept.device)
    after = (places[None] - torch.arange(count, device=kept.device)[:, None]) % width
    nearest = torch.where(kept, after, width).argmin(1)
    return torch.where(kept.any(1), nearest, -1)


def batch_classification(similarity: Tensor, positive: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy, summed over queries, of the own target among the targets of all; and their number.

    Arguments as of `multi_positive`. Targets of other queries are negatives, those of the same class included.
    """
    targets = partners(positive, allowed)
    has = targets >= 0
    logits = similarity.float()[:, targets.clamp(min=0)].masked_fill(~has[None], float("-inf"))
    own = torch.arange(len(targets), device=targets.device)
    rows = F.cross_entropy(torch.where(has[:, None], logits, 0.0), own, reduction="none")
    return torch.where(has, rows, 0.0).sum(), has.sum()


def retrieval_sum(
    terms: Terms, positive: Tensor, allowed: Tensor, scale: Tensor, objective: Objective, on_terms: bool
) -> tuple[Tensor, Tensor]:
    """Return the loss summed over queries, and the number of queries with a positive.

    Args:
        terms: of the levels.
        positive, allowed: see `multi_positive`.
        scale: of cosines, a scalar.
        objective: "multi_positive" or "batch".
        on_terms: a loss per term, added up by weight, as in the cited code; else one loss of the weighted similarity.
    """
    compare = batch_classification if objective == "batch" else multi_positive
    similarities = terms.similarities()
    if not on_terms:
        total = torch.stack([w * s for w, s in zip(terms.weights, similarities, strict=True)]).sum(0)
        return compare(scale * total, positive, allowed)
    results = [compare(scale * similarity, positive, allowed) for similarity in similarities]
    losses = [weight * loss for weight, (loss, _) in zip(terms.weights, results, strict=True)]
    return torch.stack(losses).sum(), results[0][1]
