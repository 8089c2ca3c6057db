"""All texts of a photo, and all photos of a text, as matches of one row (SupCon, NeurIPS 2020; UniCL, CVPR 2022)."""

from dataclasses import replace

import torch
from torch import Tensor

from magic_cli.models.contrastive.features import ContrastiveOptions
from magic_cli.models.contrastive.multi_aspect import text_to_image
from magic_cli.models.contrastive.same_text import texts_of_images
from magic_cli.models.contrastive.share import Share, by_rows, floor_of


def multi_positive(share: Share, weights: Tensor, scale: Tensor, options: ContrastiveOptions) -> tuple[Tensor, Tensor]:
    """Return the loss from text to image and from image to text whose targets are all matches, in equal parts.

    A text matches the photos that have the very same one or are of the same case, and a photo the texts of these, each
    by its weight. Matches compete with one another: with m of them the least value of a row is log m. With one text
    per photo and no repetition this is CLIP's loss.

    Args:
        weights: (N, C), of all texts; they weigh rows from text to image, and targets from image to text.
    """
    options = replace(options, same_text="positive", ontology_beta=0)
    t2i = text_to_image(share, share.of_batch(share.rows.images), 0, scale, options)
    texts, all_weights = share.of_batch(share.rows.texts).flatten(0, 1), share.gather(weights).flatten()

    def losses(images: Tensor, text_ids: Tensor, mask: Tensor, case_ids: Tensor) -> Tensor:
        logits = scale * images @ texts.T
        competing = share.columns.mask.flatten().expand_as(logits)
        targets = all_weights * texts_of_images(text_ids, mask, case_ids, share.columns).flatten(1)
        targets = targets / targets.sum(1, keepdim=True).clamp(min=1)
        total = torch.logsumexp(logits.masked_fill(~competing, floor_of(logits)), 1)
        return torch.where(mask.any(1), total - (targets * logits).sum(1), 0.0)

    own = share.own
    i2t = by_rows(losses, (share.rows.images, own.text_ids, own.mask, own.case_ids), options.chunk_rows)
    return share.mean(t2i, weights), share.mean(i2t, own.mask.any(1).to(i2t.dtype))
