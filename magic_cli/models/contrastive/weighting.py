"""Diagnosis knowledge-guided weighting (dkw): subtexts near the disease text of their photo count more."""

import torch
from torch import Tensor

from magic_cli.models.contrastive.features import DISEASE, SUBTEXTS, PairFeatures, Weighting


def text_weights(features: PairFeatures, kind: Weighting) -> Tensor:
    """Return the weights (N, C) in [0, 1] of texts, without gradient: 1 for the knowledge set, 0 where masked.

    With s the cosines of a photo's subtexts to its disease text: "max" is Eq. 7 of MAKE, s / max s, with negative s as
    0, since the printed formula gives negative weights, and flips signs if the maximum is negative; "softmax" is what
    the authors' code has, softmax(s) / max softmax(s). Weights are 1 without disease text, with "none", and where no s
    is positive. The largest weight of a photo's subtexts is always 1.

    Args:
        features: with zeros at masked texts.
    """
    weights = features.mask.to(features.texts.dtype)
    count = features.mask.shape[1]
    if kind == "none" or count <= SUBTEXTS:
        return weights
    texts, mask = features.texts.detach(), features.mask[:, SUBTEXTS:]
    similarity = torch.einsum("nd,nkd->nk", texts[:, DISEASE], texts[:, SUBTEXTS:])
    if kind == "max":
        similarity = similarity.clamp(min=0) * mask
        largest = similarity.amax(1, keepdim=True)
        relative = torch.where(largest > 0, similarity / largest, 1.0)
    else:
        largest = similarity.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
        relative = torch.exp(similarity - largest.masked_fill(~mask.any(1, keepdim=True), 0))
    relative = torch.where(features.mask[:, DISEASE, None], relative, 1.0)
    weights[:, SUBTEXTS:] *= torch.where(mask, relative, 0.0)
    return weights
