"""Contrastive losses of photos and their texts, exact over several processes: MAKE and what it is compared with."""

from dataclasses import replace

import torch
from torch import Tensor

from magic_cli.models.contrastive.features import (
    SUBTEXTS,
    ContrastiveLoss,
    ContrastiveOptions,
    PairFeatures,
)
from magic_cli.models.contrastive.local import local_loss
from magic_cli.models.contrastive.multi_aspect import image_to_text, text_to_image
from magic_cli.models.contrastive.share import Share, share_of
from magic_cli.models.contrastive.weighting import text_weights
from magic_cli.models.gather import ALONE, Gather

__all__ = ["ContrastiveLoss", "ContrastiveOptions", "PairFeatures", "contrastive_loss"]


def contrastive_loss(
    features: PairFeatures,
    scale: Tensor,
    options: ContrastiveOptions,
    gather: Gather = ALONE,
    distances: Tensor | None = None,
) -> ContrastiveLoss:
    """Return the loss of a batch of photos with their texts: MAKE (MICCAI 2025), Eq. 3 to 8, or another objective.

    Half precision is computed as float32, also within autocast.

    Args:
        features: this process's share of the batch; the vectors of other processes' are gathered with gradient.
        scale: scalar, 1 / temperature.
        options: which loss.
        gather: the processes that share the batch; all call this at the same time.
        distances: (L, L) >= 0 between diseases, for `ontology_beta` > 0.

    Raises:
        ValueError: there is no photo on any process, or a tensor that the options need is missing.
    """
    gather = gather.sized(len(features.images), features.images.device)
    if not sum(gather.rows or ()):
        raise ValueError("a contrastive loss needs at least one photo")
    if not options.subtexts:
        features = _without_subtexts(features)
    with torch.autocast(features.images.device.type, enabled=False):
        share = share_of(features, gather)
        weights = text_weights(share.rows, options.weighting)
        if not options.ontology_beta:
            distances = None
        t2i, i2t = _multi_aspect(share, weights, scale, options, distances)
        local = torch.zeros_like(t2i)
        total = (t2i + i2t) / 2
        if options.local_weight and weights.shape[1] > SUBTEXTS:
            local = local_loss(share, weights, scale, options)
            total = total + options.local_weight * local
    return ContrastiveLoss(total, t2i, i2t, local)


def _multi_aspect(
    share: Share, weights: Tensor, scale: Tensor, options: ContrastiveOptions, distances: Tensor | None
) -> tuple[Tensor, Tensor]:
    texts = text_to_image(share, share.columns.images, 0, scale, options, distances)
    t2i = share.mean(texts, weights)
    if options.denominator == "image":
        return t2i, t2i
    return t2i, share.mean(image_to_text(share, scale, options, distances), weights)


def _without_subtexts(features: PairFeatures) -> PairFeatures:
    return replace(
        features,
        texts=features.texts[:, :SUBTEXTS],
        mask=features.mask[:, :SUBTEXTS],
        text_ids=features.text_ids[:, :SUBTEXTS],
    )
