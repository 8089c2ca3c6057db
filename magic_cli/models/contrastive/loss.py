"""The loss of a batch of photos with their texts: one objective over all of them, and the local loss beside it."""

from dataclasses import replace

import torch
from torch import Tensor

from magic_cli.models.contrastive import single_text
from magic_cli.models.contrastive.features import SUBTEXTS, ContrastiveLoss, ContrastiveOptions, PairFeatures
from magic_cli.models.contrastive.local import local_loss
from magic_cli.models.contrastive.multi_aspect import image_to_text, text_to_image
from magic_cli.models.contrastive.multi_positive import multi_positive
from magic_cli.models.contrastive.share import Share, share_of
from magic_cli.models.contrastive.weighting import text_weights
from magic_cli.models.gather import ALONE, Gather


def contrastive_loss(
    features: PairFeatures,
    scale: Tensor,
    options: ContrastiveOptions,
    gather: Gather = ALONE,
    bias: Tensor | None = None,
) -> ContrastiveLoss:
    """Return the loss of a batch of photos with their texts: MAKE (MICCAI 2025), Eq. 3 to 8, or another objective.

    The total is (t2i + i2t) / 2 + lambda local; t2i + i2t + lambda local for DHN-NCE. Half precision is computed as
    float32, also within autocast. Plain CLIP is the objective infonce with local_weight 0.

    Args:
        features: this process's share of the batch; the vectors of other processes' are gathered with gradient.
        scale: scalar, 1 / temperature.
        options: which loss.
        gather: the processes that share the batch; all call this at the same time.
        bias: scalar, for siglip.

    Raises:
        ValueError: there is no photo on any process, or only one for dhn, or a tensor that the options need is missing.
    """
    gather = gather.sized(len(features.images), features.images.device)
    _check(sum(gather.rows or ()), features, options, bias)
    if not options.subtexts:
        features = _without_subtexts(features)
    with torch.autocast(features.images.device.type, enabled=False):
        share = share_of(features, gather)
        weights = text_weights(share.rows, options.weighting)
        if options.objective in ("mkcl", "multi_positive"):
            t2i, i2t = _all_texts(share, weights, scale, options)
        else:
            t2i, i2t = _one_text(share_of(single_text.first_texts(features), gather), scale, options, bias)
        total = t2i + i2t if options.objective == "dhn" else (t2i + i2t) / 2
        local = torch.zeros_like(t2i)
        if options.local_weight and weights.shape[1] > SUBTEXTS:
            local = local_loss(share, weights, scale, options)
            total = total + options.local_weight * local
    return ContrastiveLoss(total, t2i, i2t, local)


def _check(photos: int, features: PairFeatures, options: ContrastiveOptions, bias: Tensor | None) -> None:
    if not photos:
        raise ValueError("a contrastive loss needs at least one photo")
    if options.objective == "dhn" and photos == 1:
        raise ValueError("dhn needs at least two photos: it compares with negatives alone")
    if options.objective == "siglip" and bias is None:
        raise ValueError("siglip needs a bias")
    if options.objective == "mkcl" and options.ontology_beta and features.paths is None:
        raise ValueError("ontology_beta needs the paths of diseases")


def _all_texts(share: Share, weights: Tensor, scale: Tensor, options: ContrastiveOptions) -> tuple[Tensor, Tensor]:
    if options.objective == "multi_positive":
        return multi_positive(share, weights, scale, options)
    images = share.of_batch(share.rows.images)
    t2i = share.mean(text_to_image(share, images, 0, scale, options), weights)
    if options.denominator == "image":
        return t2i, t2i
    return t2i, share.mean(image_to_text(share, scale, options), weights)


def _one_text(share: Share, scale: Tensor, options: ContrastiveOptions, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    if options.objective == "siglip" and bias is not None:
        both = single_text.siglip(share, scale, bias, options)
        return both, both
    if options.objective == "soft":
        return single_text.soft(share, scale, options)
    if options.objective == "dhn":
        return single_text.dhn(share, scale, options)
    return single_text.infonce(share, scale, options)


def _without_subtexts(features: PairFeatures) -> PairFeatures:
    return replace(
        features,
        texts=features.texts[:, :SUBTEXTS],
        mask=features.mask[:, :SUBTEXTS],
        text_ids=features.text_ids[:, :SUBTEXTS],
    )
